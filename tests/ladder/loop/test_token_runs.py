"""A ladder that trains on token files where they lie: plain reading gives the same batches, damage ends the run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ladder.config import Data, Eval, Rung, Source
from ladder.data import tokenizer as tokenizers
from ladder.data.mixture import Mixture
from ladder.data.storage import retries, store
from ladder.data.storage.ranges import Storages
from ladder.data.tokens import indexing
from ladder.data.tokens.blocks import BLOCK
from ladder.errors import InputError
from ladder.loop.run import open_run
from ladder.rundir.record import Record
from launch import cli, epochs
from tests.ladder.data.tokens import written
from tests.ladder.loop.test_train import assert_same
from tests.ladder.loop.training import run

STEPS, BATCH, SEQ, EOS = 12, 16, 32, 255

pytestmark = pytest.mark.usefixtures("quick_compile")


def draw(n: int, low: int, seed: int) -> np.ndarray:
    """n ids from low to low + 9, a document every 100."""
    ids = np.random.default_rng(seed).integers(low, low + 10, n)
    ids[99::100] = EOS
    return ids


FLAT, HELD_OUT, DOCUMENTS = draw(1_500_000, 100, 0), draw(4_000, 100, 1), draw(20_000, 200, 2).reshape(-1, 100)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory) -> Path:
    """A .npy file of 46 blocks, whose index holds the tokenizer, and a Megatron pair, whose index does not."""
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "flat").mkdir()
    written.npy(folder / "flat" / "a.npy", FLAT, "uint16")
    written.npy(folder / "held-out.npy", HELD_OUT, "uint16")
    tokenizers.byte_tokenizer().save(folder)
    flat, held_out, tokenizer = folder / "flat", [folder / "held-out.npy"], str(folder / tokenizers.FILE)
    indexing.build([flat], tokenizer=tokenizer, validation_files=held_out, folder=flat / "ladder-index", workers=1)
    written.megatron(folder / "pair.bin", list(DOCUMENTS), "uint16")
    indexing.build([folder / "pair.bin"], validation=0.0, workers=1)
    return folder


def mixture(world, tokens) -> Data:
    sources = (
        Source("words", (str(world.text),), 0.4),
        Source("flat", (f"{tokens}/flat",), 0.4, format="tokens"),
        Source("pair", (f"{tokens}/pair.bin",), 0.2, format="tokens"),
    )
    return Data(sources=sources, validation=0.2)


def rung(world, steps: int = STEPS) -> Rung:
    length = {"batch_tokens": BATCH * SEQ, "tokens": steps * BATCH * SEQ, "save_every": 4}
    evaluation = Eval(every=steps, validation_tokens=2048)
    return world.rung(model=replace(world.rung().model, n_layers=1), eval=evaluation, **length)


@pytest.fixture(scope="module")
def uninterrupted(world, tokens, tmp_path_factory) -> Path:
    (directory,) = world([rung(world)], tmp_path_factory.mktemp("whole"), mixture(world, tokens))
    assert run(directory) == 0
    return directory


def test_batches_are_those_of_a_plain_reading(uninterrupted):
    data = open_run(Record(uninterrupted)).data
    plain = {1: FLAT, 2: DOCUMENTS.reshape(-1)}
    for step in range(STEPS):
        batch = data(step)["tokens"]
        sources, indices = Mixture(data.mixture.mixtures[0].shares).locate(step * BATCH + np.arange(BATCH))
        for row, source, i in zip(batch, sources.tolist(), indices.tolist(), strict=True):
            if source in plain:
                window = data.sources[source]._order[i]
                assert row.tolist() == plain[source][window * SEQ : (window + 1) * SEQ + 1].tolist()


def test_validation_is_of_the_sources_that_hold_something_out(uninterrupted):
    record = Record(uninterrupted)
    values = {(row["task"], row["metric"]): row["value"] for row in record.rows() if row["step"] == STEPS}
    of_sources = [values[f"validation/{name}", "loss"] for name in ("words", "flat")]
    assert values["validation", "loss"] == pytest.approx(np.mean(of_sources), rel=1e-4)  # shares are whole windows
    assert values["validation/flat", "bpb"] > 1 and ("validation/pair", "loss") not in values
    opened = open_run(record).data.sources[1].corpus
    assert opened.tokens["train"] == len(FLAT) and opened.bytes_per_token == pytest.approx(0.99, abs=0.03)


def test_a_flipped_bit_ends_the_run_and_the_restored_file_gives_the_same_bits(
    world, tokens, tmp_path, uninterrupted, capsys
):
    (directory,) = world([rung(world)], tmp_path / "runs", mixture(world, tokens))
    file = tokens / "flat" / "a.npy"
    start, content = file.stat().st_size - 2 * len(FLAT), file.read_bytes()
    data, first = open_run(Record(directory)).data, {}
    for step in range(STEPS):
        of_row, indices = data.mixture.locate(step * BATCH + np.arange(BATCH))
        for i in indices[of_row == 1].tolist():
            at = start + data.sources[1]._order[i] * SEQ * 2
            for block in (at // BLOCK, (at + 2 * SEQ) // BLOCK):
                first.setdefault(block, step)
    block = next(block for block, step in first.items() if step >= 9)
    try:
        damaged = bytearray(content)
        damaged[block * BLOCK + 77] ^= 4
        file.write_bytes(damaged)
        assert run(directory) == 2
        [line] = [line for line in capsys.readouterr().err.splitlines() if "bytes" in line]
        place = f"bytes {block * BLOCK:,} to {(block + 1) * BLOCK:,}"
        assert str(file) in line and place in line
        assert cli.main(["verify", str(directory.parent), "--json", str(tmp_path / "verified.json")]) == 1
        assert place in (tmp_path / "verified.json").read_text()
    finally:
        file.write_bytes(content)
    assert Record(directory).saved_steps() == [4, 8]
    assert run(directory) == 0
    assert_same(directory, uninterrupted)
    assert cli.main(["verify", str(directory.parent)]) == 0


@pytest.mark.slow
def test_token_files_in_a_bucket_are_the_same_run(world, tokens, tmp_path, uninterrupted, bucket, monkeypatch, capsys):
    folder = f"{bucket.url}/tokens"
    for path in tokens.rglob("*"):
        if path.is_file() and "pair.bin.ladder-index" not in str(path):
            Storages().of(folder).write(f"{folder}/{path.relative_to(tokens).as_posix()}", path.read_bytes())
    assert cli.main(["data", "index", f"{folder}/pair.bin", "--validation", "0"]) == 0
    assert f"{folder}/pair.bin.ladder-index" in capsys.readouterr().out
    (directory,) = world([rung(world)], tmp_path / "runs", mixture(world, folder))
    monkeypatch.setattr(retries, "PATIENCE", 0.1)
    with monkeypatch.context() as down:
        down.setattr(store, "TIMEOUT", 0.2)
        down.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
        assert run(directory) == 75
        [line] = [line for line in capsys.readouterr().err.splitlines() if "did not answer" in line]
        assert line.startswith(f"stopped: {folder}/flat/")
    assert run(directory) == 0
    assert directory.name == uninterrupted.name
    assert_same(directory, uninterrupted)
    assert cli.main(["verify", str(directory.parent)]) == 0
    a_file = f"{folder}/flat/a.npy"
    Storages().of(folder).write(a_file, (tokens / "flat" / "a.npy").read_bytes()[:-2] + b"\0\0")
    assert cli.main(["verify", f"{folder}/flat", "--json", str(tmp_path / "verified.json")]) == 1
    assert f"{a_file}: bytes 2,949,120 to 3,000,128: not the bytes" in (tmp_path / "verified.json").read_text()


def test_one_source_of_tokens_alone_has_no_validation_and_the_plan_says_so(world, tokens):
    data = Data(sources=(Source("pair", (str(tokens / "pair.bin"),), 1.0, format="tokens"),))
    built = world.build([rung(world, 4)], data)
    assert "names no tokenizer" in built.notes[0] and "no task validation/pair" in built.notes[1]
    assert built.ladder.all[0].data.content == built.ladder.all[0].data.sources[0].corpus


@pytest.mark.slow
def test_one_source_of_tokens_alone_trains_without_validation(world, tokens, tmp_path):
    data = Data(sources=(Source("pair", (str(tokens / "pair.bin"),), 1.0, format="tokens"),))
    (directory,) = world([rung(world, 4)], tmp_path, data)
    assert run(directory) == 0
    assert {row["task"] for row in Record(directory).rows()} == {"train"}


def test_the_plan_knows_the_tokens_from_the_index(world, tokens, tmp_path):
    built = world.build([rung(world)], mixture(world, tokens))
    [uses] = epochs.planned(built.ladder, None).values()
    expected = [None, (len(FLAT) - 1) // SEQ * SEQ, (DOCUMENTS.size - 1) // SEQ * SEQ]
    assert [use.unique_tokens for use in uses] == expected


def test_other_tokens_are_another_run_and_what_does_not_fit_is_one_line(world, tmp_path):
    def run_id(**changes) -> str:
        source = Source("own", (str(tmp_path / "own.npy"),), 1.0, format="tokens")
        return world.build([rung(world)], Data(sources=(source,), **changes)).ladder.all[0].run_id

    own, run_ids = tmp_path / "own.npy", []
    for seed in (0, 1):
        written.npy(own, draw(5_000, 100, seed), "uint16")
        indexing.build([own], eos=EOS, validation=0.1, workers=1)
        run_ids.append(run_id())
    assert len(set(run_ids)) == 2
    other = tokenizers.train(["a few words of text"] * 50, 300)
    other.save(tmp_path)
    indexing.build([own], eos=EOS, tokenizer=str(tmp_path / tokenizers.FILE), validation=0.1, workers=1)
    with pytest.raises(InputError, match=r"data.sources.own: .*made with the tokenizer \w+, but data.tokenizer is"):
        run_id()
    written.npy(own, draw(5_000, 100, 0) + 50, "uint16")
    indexing.build([own], eos=EOS + 50, validation=0.1, workers=1)
    with pytest.raises(InputError, match=r"data.sources.own: .*own.npy.*305"):
        run_id()
    with pytest.raises(InputError, match=r"source own is tokens already; set data.tokenizer to the tokenizer.json"):
        run_id(tokenizer="bpe:300")
    written.npy(tmp_path / "unindexed.npy", draw(5_000, 100, 0), "uint16")
    unindexed = Source("own", (str(tmp_path / "unindexed.npy"),), 1.0, format="tokens")
    with pytest.raises(InputError, match=r"no index of these token files; make it: `ladder data index .*unindexed.npy"):
        world.build([rung(world)], Data(sources=(unindexed,)))
    with pytest.raises(InputError, match=r'data.sources.own.field is for text, but .*format = "tokens"; leave it out'):
        replace(unindexed, field="body")
