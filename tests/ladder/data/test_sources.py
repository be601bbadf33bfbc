"""Sources and the batches of a mixture of them: shares, epochs, any access, and one tokenizer for all sources."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ladder.config import Data, Phase, Source
from ladder.data import corpus as corpora
from ladder.data import sources
from ladder.data import tokenizer as tokenizers
from ladder.data.batches import Batches
from ladder.data.mixture import Mixture
from ladder.errors import InputError

L, B = 8, 6
WEIGHTS = {"a": 0.62, "b": 0.3, "c": 0.08}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Data:
    """Three sources of odd sizes; every word of one begins with its name."""
    folder = tmp_path_factory.mktemp("text")
    for name, documents in zip(WEIGHTS, (23, 11, 7), strict=True):
        lines = [{"body": " ".join(f"{name}{i}-{j}" for j in range(30 + i))} for i in range(documents)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    listed = [Source(name, (str(folder / f"{name}.jsonl"),), w, field="body") for name, w in WEIGHTS.items()]
    return Data(sources=tuple(listed), validation=0.2)


@pytest.fixture(scope="module")
def built(data, tmp_path_factory) -> tuple[corpora.Corpus, ...]:
    return sources.build(data, L, tmp_path_factory.mktemp("corpora"), progress=False)


def mixed(data, built, rows=None, seed=3) -> Batches:
    return Batches(built, "train", B, seed, rows, Mixture(data.shares))


def windows(corpus: corpora.Corpus) -> list[tuple]:
    """All training windows of a corpus, in its own order."""
    read, step = corpus.reader("train"), corpus.windows_per_record
    records = [read(i) for i in range(-(-corpus.windows["train"] // step))]
    every = [tuple(row[s * L : s * L + L + 1].tolist()) for row in records for s in range(step)]
    return every[: corpus.windows["train"]]


def test_each_source_is_a_corpus_as_if_it_were_alone(data, built, tmp_path):
    for source, corpus in zip(data.sources, built, strict=True):
        alone = Data(text=source.text, field="body", validation=0.2)
        assert corpora.build(alone, L, tmp_path, progress=False).hash == corpus.hash


def test_every_window_of_an_epoch_of_a_source_is_seen_once_and_shares_hold(data, built):
    mixture, batches = Mixture(data.shares), mixed(data, built)
    steps = 2 * max(corpus.windows["train"] for corpus in built) // B
    rows = [tuple(row) for step in range(steps) for row in batches(step)["tokens"].tolist()]
    of_row, _ = mixture.locate(range(len(rows)))
    for i, corpus in enumerate(built):
        read = [row for row, source in zip(rows, of_row.tolist(), strict=True) if source == i]
        assert abs(len(read) - data.shares[i] / 65536 * len(rows)) <= 1
        n, every = corpus.windows["train"], Counter(windows(corpus))
        for epoch in range(len(read) // n):
            assert Counter(read[epoch * n : (epoch + 1) * n]) == every
        assert batches.epochs(steps)[i] == len(read) / n
    assert batches.epochs(steps)[2] != batches.epochs(steps)[1]


@pytest.mark.parametrize("rows", [[0, 1, 2], [3, 4, 5], [5], [0, 2, 4]])
def test_a_share_is_rows_of_the_global_batch_at_any_step(rows, data, built):
    whole, share = mixed(data, built), mixed(data, built, rows)
    for step in (10**9, 7, 0, 10_923, 31):  # 10,922 steps of 6 end a period of the mixture
        assert whole(step)["tokens"].dtype == np.int32
        np.testing.assert_array_equal(share(step)["tokens"], whole(step)["tokens"][rows])


def test_a_mixture_of_one_source_gives_the_batches_of_its_text(data, built):
    alone = replace(data, sources=data.sources[:1])
    one, short = mixed(alone, built[:1]), Batches(built[0], "train", B, 3)
    for step in (0, 5, 12_000):
        np.testing.assert_array_equal(one(step)["tokens"], short(step)["tokens"])


def test_sources_of_the_same_text_are_not_read_in_the_same_order(data, built):
    twice = replace(data, sources=tuple(replace(data.sources[0], name=name, weight=1.0) for name in "ab"))
    first = [tuple(row) for row in mixed(twice, [built[0]] * 2)(0)["tokens"].tolist()]
    assert len(set(first)) == B


def test_a_bpe_is_trained_once_on_all_sources(data, tmp_path, monkeypatch):
    bpe = replace(data, tokenizer="bpe:320")
    built = sources.build(bpe, L, tmp_path, progress=False)
    assert len({corpus.tokenizer_hash for corpus in built}) == 1
    text = "a1-2 b3-4 c5-6"
    assert built[0].tokenizer.decode(built[0].tokenizer.encode(text)) == text
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.name != "VERIFIED.json"}
    monkeypatch.setattr(tokenizers, "train", None)
    assert [c.hash for c in sources.build(bpe, L, tmp_path, progress=False)] == [c.hash for c in built]
    hashed = tuple(replace(source, corpus=c.hash) for source, c in zip(bpe.sources, built, strict=True))
    (gone := Path(data.sources[0].text[0])).rename(gone.with_suffix(".moved"))
    try:  # corpora that are named by their hashes need no text
        sources.build(replace(bpe, sources=hashed), L, tmp_path, progress=False)
    finally:
        gone.with_suffix(".moved").rename(gone)
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_other_weights_train_another_bpe(data, tmp_path):
    heavy = (data.sources[0], replace(data.sources[1], weight=30.0), *data.sources[2:])
    for listed in (data.sources, heavy):
        sources.build(replace(data, tokenizer="bpe:320", sources=listed), L, tmp_path, progress=False)
    assert len(list((tmp_path / "tokenizers").iterdir())) == 2


def test_phases_build_nothing_else(data, built, tmp_path):
    phases = (Phase((0.0, 0.0, 1.0)),)
    for tokenizer, folder in (("bytes", built[0].directory.parent), ("bpe:320", tmp_path)):
        one, other = (replace(data, tokenizer=tokenizer, phases=p) for p in ((), phases))
        hashes = [[c.hash for c in sources.build(d, L, folder, progress=False)] for d in (one, other)]
        assert hashes[0] == hashes[1]


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300"])
@pytest.mark.parametrize(
    "change, message",
    [
        ({"text": ("nowhere",)}, "data.sources.b.text: nowhere: no such file or folder"),
        ({"field": "text"}, "name the field: data.sources.b.field=NAME"),
        ({"max_bytes": 1}, "data.sources.b.text is one document"),
    ],
)
def test_what_is_wrong_with_a_source_names_it(change, message, tokenizer, data, tmp_path):
    wrong = (data.sources[0], replace(data.sources[1], **change))
    with pytest.raises(InputError) as raised:
        sources.build(replace(data, tokenizer=tokenizer, sources=wrong), L, tmp_path, progress=False)
    assert message in str(raised.value) and "\n" not in str(raised.value)
