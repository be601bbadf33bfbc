"""A corpus in parts, buckets and shards is byte for byte the one that one process builds, wherever it is killed."""

import gzip
import json
import os
import random
import re
from pathlib import Path

import numpy as np
import pytest

from ladder.config import Data, Source
from ladder.data import corpus as corpora
from ladder.data import records, sources
from ladder.data.sharded import environment, parts, texts, work
from ladder.data.texts import python_code
from ladder.errors import InputError
from ladder.rundir.files import as_path
from tests.ladder.data.sharded.in_process import InProcess, Killed

ROOT = Path(__file__).parents[4]


def write_text(folder: Path, n: int, seed: int) -> tuple[str, ...]:
    """Text of several kinds, with duplicates in a file and between files; returns what data.text names."""
    rng = random.Random(seed)
    words = ["é", "日本", "def", "return", "x", "the", "of", "\n", "  "]
    documents = [" ".join(rng.choices(words, k=rng.randint(1, 400))) for _ in range(n)]
    documents += rng.choices(documents, k=n // 4)
    folder.mkdir(parents=True)
    for i, document in enumerate(documents[: n // 4]):
        (folder / f"{i:03}.txt").write_text(document, encoding="utf-8")
    lines = [json.dumps({"text": document}) for document in [*documents[n // 4 :], "", None]]
    (folder / "more.jsonl").write_text("\n".join(lines[::2]) + "\n")
    with gzip.open(folder / "zipped.jsonl.gz", "wt") as file:
        file.write("\n".join(lines[1::2]))
    return str(folder), str(folder / "more.jsonl")


def content(corpus) -> dict[str, bytes]:
    """The files of a corpus, without VERIFIED.json, which holds times."""
    files = (path for path in Path(corpus.directory).rglob("*") if path.is_file() and path.name != "VERIFIED.json")
    return {path.relative_to(corpus.directory).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Parts, buckets and shards of a few documents."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    monkeypatch.setattr(work, "PART_BYTES", 10_000)
    monkeypatch.setattr(work, "BUCKET_BYTES", 12_000)
    monkeypatch.setattr(records, "SHARD_BYTES", 20_000)
    monkeypatch.setattr(records, "RECORD_TOKENS", 256)


CASES = {
    "bytes": {"seq_len": 300},
    "bpe": {"tokenizer": "bpe:300"},
    "part of the text": {"max_bytes": 50_000},
    "nothing is held out": {"validation": 1e-9},
    "much is held out": {"validation": 0.49, "seq_len": 64},
}


@pytest.mark.parametrize("case", CASES)
def test_equals_the_corpus_of_one_process(case, tmp_path):
    settings = {"validation": 0.1} | CASES[case]
    seq_len = settings.pop("seq_len", 16)
    data = Data(text=write_text(tmp_path / "text", 120, seed=len(case)), **settings)
    expected = corpora.build(data, seq_len, tmp_path / "one", progress=False)
    built = corpora.build(data, seq_len, tmp_path / "many", progress=False, read=texts.reader(InProcess()))
    assert content(built) == content(expected)
    assert expected.duplicates > 20
    assert len(list(expected.directory.glob("ladder_corpus/*/*train*"))) > 1
    assert [path.name for path in (tmp_path / "many").iterdir()] == [built.hash]


def test_equals_a_mixture_of_one_process(tmp_path):
    """All sources share a BPE, which is trained on a sample of each."""
    two = [Source(name, write_text(tmp_path / name, 40, seed), weight=seed) for seed, name in enumerate("ab", 1)]
    data = Data(sources=tuple(two), tokenizer="bpe:300", validation=0.2)
    expected = sources.build(data, 16, tmp_path / "one", progress=False)
    built = sources.build(data, 16, tmp_path / "many", progress=False, read=texts.reader(InProcess()))
    assert [content(corpus) for corpus in built] == [content(corpus) for corpus in expected]


@pytest.mark.parametrize("seed", range(2))
def test_shards_end_where_one_process_ends_them(seed, tmp_path, monkeypatch):
    """Also where a document is longer than a shard, and a record longer than a document."""
    rng = random.Random(seed)
    monkeypatch.setattr(records, "SHARD_BYTES", [700, 2000][seed])
    documents = ["".join(rng.choices("ab", k=rng.choice([1, 30, 300, 3000]))) for _ in range(40)]
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps({"text": document}) for document in documents))
    data = Data(text=(str(tmp_path / "in.jsonl"),), validation=0.3)
    expected = corpora.build(data, 100, tmp_path / "one", progress=False)
    built = corpora.build(data, 100, tmp_path / "many", progress=False, read=texts.reader(InProcess()))
    assert content(built) == content(expected)


@pytest.mark.slow
def test_text_and_corpora_may_lie_in_a_bucket(bucket, tmp_path):
    names = write_text(tmp_path / "text", 30, 0)
    expected = corpora.build(Data(text=names, validation=0.3), 16, tmp_path / "one", progress=False)
    for path in (tmp_path / "text").iterdir():
        (as_path(bucket.url) / "text" / path.name).write_bytes(path.read_bytes())
    there = Data(text=(f"{bucket.url}/text", f"{bucket.url}/text/more.jsonl"), validation=0.3)
    root = as_path(bucket.url) / "corpora"
    built = corpora.build(there, 16, root, progress=False, read=texts.reader(InProcess()))
    assert built.hash == expected.hash
    differing = {name for name, of_one in content(expected).items() if (built.directory / name).read_bytes() != of_one}
    assert differing == {"card.json", "FILES.json"}  # the card names the sources
    assert {path.name for path in root.iterdir()} == {built.hash}


def test_goes_on_wherever_it_is_killed(tmp_path, monkeypatch):
    """Between any two files that a step writes; what is finished is not done again."""
    data = Data(text=write_text(tmp_path / "text", 60, 0), validation=0.2, tokenizer="bpe:300")
    expected = corpora.build(data, 16, tmp_path / "one", progress=False)
    replace, read_parts, missing, kills = os.replace, [], 0, 0
    distinct = parts.documents.distinct

    def count(*args):
        read_parts.append(args)
        return distinct(*args)

    def write_or_die(source, target):
        nonlocal missing
        missing -= ".beam-" in str(target)
        if missing < 0:
            raise Killed
        replace(source, target)

    monkeypatch.setattr(parts.documents, "distinct", count)
    monkeypatch.setattr(os, "replace", write_or_die)
    while True:
        missing = 7 + kills % 4  # a part is 4 files, the tokens of a bucket are 5
        try:
            built = corpora.build(data, 16, tmp_path / "many", progress=False, read=texts.reader(InProcess()))
            break
        except Killed:
            kills += 1
            assert not list((tmp_path / "many").glob("*/card.json"))
    assert content(built) == content(expected)
    n_parts = len(work.job_of(data).parts)
    assert kills > 5 and n_parts > 2
    assert len(read_parts) < 3 * n_parts


def test_bad_text_is_refused_as_by_one_process(tmp_path):
    """The first of several faults, in the order of the files; what is mended is read then."""
    folder = tmp_path / "text"
    names = write_text(folder, 60, 0)
    (folder / "x.jsonl").write_text('{"text": "good"}\n{"text": 1}\n')
    (folder / "y.txt").write_bytes(b"caf\xe9\n")
    how = {"progress": False, "read": texts.reader(InProcess())}
    data = Data(text=names, validation=0.2)
    for name, says in (("x.jsonl", r"x.jsonl:2: no text under"), ("y.txt", r"y.txt:1: not UTF-8")):
        with pytest.raises(InputError, match=says) as caught:
            corpora.build(data, 16, tmp_path / "many", **how)
        with pytest.raises(InputError, match=re.escape(str(caught.value))):
            corpora.build(data, 16, tmp_path / "one", progress=False)
        (folder / name).unlink()
    assert corpora.build(data, 16, tmp_path / "many", **how)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"text": ("nowhere",)}, "nowhere: no such file"),
        ({"text": ("EMPTY",)}, "data.text contains no text"),
        ({"text": ("ONE",)}, "data.text is one document"),
        ({"max_bytes": 1}, "data.text is one document"),
        ({"seq_len": 10**6}, "the train split has"),
        ({"text": ("tfds:mnist",)}, "build its corpus without Beam"),
    ],
)
def test_unusable_text_is_refused(change, says, tmp_path):
    names = write_text(tmp_path / "text", 40, 0)
    for name, written in {"EMPTY": "", "ONE": "one"}.items():
        (tmp_path / name).write_text(written)
    settings = {"text": names, "validation": 0.2} | change
    seq_len = settings.pop("seq_len", 16)
    settings["text"] = tuple(str(tmp_path / n) if n.isupper() else n for n in settings["text"])
    with pytest.raises(InputError, match=says):
        corpora.build(Data(**settings), seq_len, tmp_path / "many", progress=False, read=texts.reader(InProcess()))


def test_without_the_environment_of_beam_one_line_says_what_to_type(tmp_path, monkeypatch):
    monkeypatch.setenv(environment.PYTHON, str(tmp_path / "bin" / "python"))
    with pytest.raises(InputError, match=r"no Beam at .*bin/python; install it with `make beam`") as caught:
        corpora.build(Data(text=("a",)), 16, tmp_path, False, read=texts.reader(environment.Beam("direct")))
    assert caught.value.argument == "runner"


def test_python_text(tmp_path, monkeypatch):
    some = python_code.python_files(["pluggy"])[::30]
    monkeypatch.setattr(python_code, "python_files", lambda _: some)
    monkeypatch.setattr(work, "PART_BYTES", 500_000)
    monkeypatch.setattr(work, "BUCKET_BYTES", 500_000)
    data = Data(max_bytes=20_000, validation=0.3)
    expected = corpora.build(data, 16, tmp_path / "one", progress=False)
    built = corpora.build(data, 16, tmp_path / "many", progress=False, read=texts.reader(InProcess()))
    assert content(built) == content(expected)


def test_a_large_corpus_has_few_parts_and_buckets(tmp_path, monkeypatch):
    """Every bucket is read from every part."""
    monkeypatch.setattr(work, "_files", lambda *_: [f"{i}" for i in range(3000)])
    monkeypatch.setattr(work, "state", lambda path: (1 << 30, 0))
    job = work.job_of(Data(text=("a",)))
    assert len(job.parts) <= work.MOST_PARTS and job.n_buckets == work.MOST_BUCKETS
    assert [path for part in job.parts for path in part.paths] == [f"{i}" for i in range(3000)]
    keys = np.zeros(5, work.KEYS)
    keys["first"] = [0, 1, 2**63 - 1, 2**63, 2**64 - 1]
    keys["size"] = 1
    assert parts._bounds(keys, 2).tolist() == [[0, 0], [3, 3], [5, 5]]


def test_the_environment_of_beam_has_our_versions_of_what_decides_bytes():
    def pins(file: str) -> dict[str, str]:
        return dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / file).read_text().lower().replace("_", "-"), re.M))

    ours, of_beam = pins("constraints.txt"), pins("constraints-beam.txt")
    assert "apache-beam" in of_beam
    for name in ("tokenizers", "tiktoken", "regex", "array-record", "tensorflow-datasets", "tensorflow-metadata"):
        assert of_beam[name] == ours[name], name
