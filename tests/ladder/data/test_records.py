"""Every record of a corpus is checked when it is read: damage is named, and no wrong token is returned."""

import itertools
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from ladder.config import Data
from ladder.data import corpus as corpora
from ladder.data import records, seal, sources
from ladder.errors import InputError

SEQ_LEN = 16
FOLDER = "ladder_corpus/1.0.0"


def build(folder: Path, first: int) -> corpora.Corpus:
    """Corpora of texts of one length: their shards differ in content only."""
    text = folder / "text"
    text.mkdir()
    for i in range(first, first + 60):
        (text / f"{i}.txt").write_text(" ".join(f"{i}-{j}" for j in range(100, 400)))
    return corpora.build(Data(text=(str(text),), validation=0.2), SEQ_LEN, folder / "corpora", progress=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> corpora.Corpus:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "SHARD_BYTES", 1 << 14)
        return build(tmp_path_factory.mktemp("built"), 100)


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> corpora.Corpus:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "SHARD_BYTES", 1 << 14)
        return build(tmp_path_factory.mktemp("other"), 500)


def shards(corpus: corpora.Corpus) -> list[str]:
    return sorted(path.name for path in (Path(corpus.directory) / FOLDER).glob(f"*{records.NAME}*"))


def tokens_of(corpus: corpora.Corpus) -> dict[str, list[np.ndarray]]:
    return {
        split: [read(i) for i in range(len(corpus.source(split)))]
        for split in corpora.SPLITS
        for read in [corpus.reader(split)]
    }


def flip(draw, path: Path, _) -> None:
    data = bytearray(path.read_bytes())
    at = draw.choice([i for i, byte in enumerate(data) if byte])  # what is not filling
    data[at] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def zero(draw, path: Path, _) -> None:
    data = bytearray(path.read_bytes())
    start = draw.randrange(max(1, data.find(bytes(200)) - 64))
    data[start : start + 64] = bytes(64)
    path.write_bytes(data)


def truncate(draw, path: Path, _) -> None:
    os.truncate(path, draw.randrange(path.stat().st_size))


def swap(draw, path: Path, others: list[Path]) -> None:
    shutil.copy(
        draw.choice([other for other in others if other.name != path.name or other.parent != path.parent]), path
    )


DAMAGES = {"flip": flip, "zero": zero, "truncate": truncate, "swap": swap}


def inject(corpus: corpora.Corpus, others: list[Path], expected: dict, seed: int, name: str) -> str | None:
    """Damage one shard and read everything in random order. The message; None where all tokens were right."""
    draw, path = random.Random(seed), Path(corpus.directory) / FOLDER / name
    before = path.read_bytes()
    DAMAGES[list(DAMAGES)[seed % len(DAMAGES)]](draw, path, others)
    try:
        opened = corpora.open_corpus(corpus.directory)
        for split in corpora.SPLITS:
            read = opened.reader(split)
            for i in draw.sample(range(len(expected[split])), len(expected[split])):
                np.testing.assert_array_equal(read(i), expected[split][i])
    except InputError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        return str(error)
    finally:
        assert seal.verify(corpus.directory) or path.read_bytes() == before
        path.write_bytes(before)
    return None


@pytest.mark.parametrize("n", [24, pytest.param(200, marks=pytest.mark.slow)])
def test_damage_is_named_and_no_wrong_token_is_read(n, built, other, tmp_path):
    corpus = corpora.open_corpus(shutil.copytree(built.directory, tmp_path / built.hash))
    folders = [Path(c.directory) / FOLDER for c in (built, other)]
    others = [folder / name for folder, c in zip(folders, (built, other), strict=True) for name in shards(c)]
    expected, names = tokens_of(built), shards(built)
    assert len(names) > 6
    messages = [inject(corpus, others, expected, seed, names[seed // 4 % len(names)]) for seed in range(n)]
    named = [message for message in messages if message]
    assert len(named) >= 0.9 * n, [seed for seed, message in enumerate(messages) if not message]
    print(f"{len(named)} of {n} injections named; the tokens of the others were right")


def test_a_shard_of_another_corpus_or_place_is_refused_though_it_is_intact(built, other, tmp_path):
    """Their sizes and their own checksums are right: only the hash, which covers corpus, split and number, differs."""
    folder = shutil.copytree(built.directory, tmp_path / built.hash) / FOLDER
    mine = [folder / name for name in shards(built)]
    theirs = [Path(other.directory) / FOLDER / name for name in shards(other)]
    tried = 0
    for target, source in itertools.product(mine[1:3], (mine[0], *theirs[:3])):
        if source.stat().st_size != target.stat().st_size:
            continue
        tried, before = tried + 1, target.read_bytes()
        shutil.copy(source, target)
        opened = corpora.open_corpus(folder.parents[1])
        with pytest.raises(InputError, match=f"^{target}: not the file that was built"):
            tokens_of(opened)
        target.write_bytes(before)
    assert tried > 4
    for split, tokens in tokens_of(corpora.open_corpus(folder.parents[1])).items():
        np.testing.assert_array_equal(tokens, tokens_of(built)[split])


def test_opening_reads_no_shard_and_a_mounted_corpus_is_not_copied(built, tmp_path, monkeypatch):
    mounts = tmp_path / "gcs"
    shutil.copytree(built.directory, mounts / "bucket" / "corpora" / built.hash)
    hashed, chunks = [], seal.chunks
    monkeypatch.setattr(seal, "chunks", lambda path: hashed.append(path.name) or chunks(path))
    monkeypatch.setenv("LADDER_STAGE", str(tmp_path / "stage"))
    monkeypatch.setenv("LADDER_MOUNT", str(mounts))
    opened = sources.open_source("text", f"gs://bucket/corpora/{built.hash}", SEQ_LEN)
    assert Path(opened.directory).is_relative_to(mounts) and not (tmp_path / "stage").exists()
    np.testing.assert_array_equal(opened.window_reader("train")([5, 0]), built.window_reader("train")([5, 0]))
    assert not [name for name in hashed if records.NAME in name]
    with pytest.raises(InputError, match=r"LADDER_MOUNT=.* says that gs://other is mounted.*gcsfuse -o ro"):
        sources.open_source("text", "gs://other/corpora/x", SEQ_LEN)


def test_a_record_that_cannot_be_read_is_no_damage(built, monkeypatch):
    """A lost mount raises OSError, after which a job is tried again; a reading that fails once is repeated."""

    class Failing:
        def __init__(self, source, times):
            self.source, self.times = source, times

        def __getattr__(self, name):
            return getattr(self.source, name)

        def __getitem__(self, i):
            self.times.append(i)
            if len(self.times) == 1:
                raise RuntimeError("Input/output error")
            return self.source[i]

    expected, source, times = built.reader("train")(3), records.source, []
    monkeypatch.setattr(records, "source", lambda directory, split: Failing(source(directory, split), times))
    np.testing.assert_array_equal(built.reader("train")(3), expected)
    times.clear()

    def lost(path):
        raise OSError(107, "Transport endpoint is not connected", str(path))

    monkeypatch.setattr(seal, "chunks", lost)
    with pytest.raises(OSError, match="Transport endpoint"):
        built.reader("train")(3)


def test_corpora_whose_records_have_no_hash_are_hashed_when_they_are_opened(built, tmp_path, monkeypatch):
    write = seal.write
    with monkeypatch.context() as earlier:
        earlier.setattr(records, "DIGEST", 0)
        earlier.setattr(records, "digest", lambda *record: b"")
        earlier.setattr(seal, "write", lambda directory, texts, with_records: write(directory, texts))
        old = build(tmp_path, 100)
    assert old.hash == built.hash and not seal.checks_records(old.directory) and seal.checks_records(built.directory)
    for split, tokens in tokens_of(corpora.open_corpus(old.directory)).items():
        np.testing.assert_array_equal(np.concatenate(tokens), np.concatenate(tokens_of(built)[split]))
    path = Path(old.directory) / FOLDER / shards(old)[0]
    flip(random.Random(0), path, [])
    with pytest.raises(InputError, match=f"^{path}: not the file that was built"):
        corpora.open_corpus(old.directory)
