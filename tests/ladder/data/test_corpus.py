"""corpus.py and text.py: every byte once, splits by hash, the same hash for the same content; bad text is refused."""

import dataclasses
import gzip
import hashlib
import importlib.metadata
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from ladder.config import Data
from ladder.data import corpus as corpora
from ladder.data import records, tokenizer
from ladder.data.texts import python_code, text_files
from ladder.errors import InputError

WORDS = Path(tokenizer.__file__).read_text().split()


def some_documents(n: int = 60, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"document {i}: é 日本\n" + " ".join(rng.choice(WORDS, 40)) for i in range(n)]


def write_files(folder: Path, texts: list[str], names=lambda i: f"{i:03}.txt") -> Path:
    for i, content in enumerate(texts):
        path = folder / names(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


def held_out(document: str, fraction: float) -> bool:
    digest = hashlib.blake2b(document.encode(), digest_size=16).digest()
    return int.from_bytes(digest[8:], "big") < fraction * 2**64


def make(where, root, seq_len=16, **settings) -> corpora.Corpus:
    return corpora.build(Data(text=(str(where),), **{"validation": 0.2, **settings}), seq_len, root, progress=False)


def stream(corpus: corpora.Corpus, split: str) -> np.ndarray:
    """The tokens of a split, from the records on disk, without the filling."""
    records = corpus.source(split)
    block = corpus.windows_per_record * corpus.seq_len
    rows = [records[i][: block + 1] for i in range(len(records))]  # a hash follows
    assert all(before[-1] == after[0] for before, after in itertools.pairwise(rows))
    flat = np.concatenate([row[:block] for row in rows] + [rows[-1][block:]])
    return flat[: corpus.windows[split] * corpus.seq_len + 1]


@pytest.mark.parametrize("kind, seq_len", [("bytes", 16), ("bytes", 5000), ("bpe:400", 48)])
def test_every_token_is_there_once_and_in_one_split(kind, seq_len, tmp_path):
    texts = some_documents(400)
    built = make(write_files(tmp_path / "in", texts), tmp_path / "out", seq_len, tokenizer=kind)
    coder = built.tokenizer
    assert coder.hash == built.tokenizer_hash and built.vocab_size == coder.vocab_size
    ordered = sorted(texts, key=lambda t: hashlib.blake2b(t.encode(), digest_size=16).digest())
    total = 0
    for split in corpora.SPLITS:
        documents = [t for t in ordered if held_out(t, 0.2) == (split == "validation")]
        expected = np.concatenate([[*coder.encode(t), coder.eos] for t in documents])
        flat = stream(built, split)
        np.testing.assert_array_equal(flat, expected[: len(flat)])
        assert 0 <= len(expected) - len(flat) < seq_len
        assert flat.dtype == np.uint16
        assert (built.documents[split], built.tokens[split]) == (len(documents), len(expected))
        assert built.bytes[split] == sum(len(t.encode()) for t in documents)
        total += len(expected)
    assert 0.1 < built.documents["validation"] / len(texts) < 0.3
    assert built.bytes_per_token == pytest.approx(sum(len(t.encode()) for t in texts) / total)


def test_found_again_by_content_whatever_the_names_order_and_kind_of_file(tmp_path):
    texts, root = some_documents(), tmp_path / "out"
    first = make(write_files(tmp_path / "a", texts), root)
    written = os.stat(root / first.hash / "card.json").st_mtime_ns
    lines = [json.dumps({"id": i, "body": t}) for i, t in enumerate(texts[::-1])]
    (tmp_path / "b.jsonl").write_text("\n".join(lines) + "\n\n")
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as file:
        file.write("\n".join(lines + lines[:7]))
    write_files(tmp_path / "d", texts, lambda i: f"{i % 3}/{97 * i % 101}.md")
    write_files(tmp_path / "d", ["unseen"], lambda i: ".git/hidden")
    for again in (
        make(tmp_path / "d", root),
        *(make(tmp_path / f, root, field="body") for f in ("b.jsonl", "c.jsonl.gz")),
    ):
        assert again == first
    assert os.stat(root / first.hash / "card.json").st_mtime_ns == written
    assert [p.name for p in root.iterdir()] == [first.hash]
    assert corpora.open_corpus(root / first.hash) == first
    assert corpora.build(Data(text=("gone",), corpus=first.hash), 16, root, progress=False) == first


def test_duplicates_are_dropped_and_counted(tmp_path):
    texts = some_documents()
    once = make(write_files(tmp_path / "a", texts), tmp_path / "one")
    twice = make(write_files(tmp_path / "b", texts + texts[:9] + texts[:4]), tmp_path / "two")
    assert (once.duplicates, twice.duplicates) == (0, 13)
    assert once.hash == twice.hash
    for split in corpora.SPLITS:
        np.testing.assert_array_equal(stream(once, split), stream(twice, split))


@pytest.mark.parametrize("change", [{"validation": 0.3}, {"tokenizer": "bpe:300"}, {"max_bytes": 9000}])
def test_the_hash_covers_what_changes_the_tokens(change, tmp_path):
    folder = write_files(tmp_path / "a", some_documents())
    first = make(folder, tmp_path / "out")
    other = make(folder, tmp_path / "out", **change)
    longer = make(folder, tmp_path / "out", seq_len=17)
    (folder / "000.txt").write_text("another")
    changed = make(folder, tmp_path / "out")
    assert len({first.hash, other.hash, longer.hash, changed.hash}) == 4


def test_bpe_is_found_without_training_it_again(tmp_path, monkeypatch):
    folder = write_files(tmp_path / "a", some_documents())
    first = make(folder, tmp_path / "out", tokenizer="bpe:320")
    monkeypatch.setattr(tokenizer, "train", None)
    assert make(folder, tmp_path / "out", tokenizer="bpe:320") == first
    saved = tmp_path / "out" / first.hash / "tokenizer" / "tokenizer.json"
    assert make(folder, tmp_path / "other", tokenizer=str(saved)).hash == first.hash


def test_a_document_stays_in_its_split_and_max_bytes_keeps_a_subset(tmp_path):
    texts = some_documents(200)
    half = make(write_files(tmp_path / "a", texts[::2]), tmp_path / "out")
    whole = make(write_files(tmp_path / "b", texts), tmp_path / "out")
    size = sum(len(t.encode()) for t in texts)
    part = make(tmp_path / "b", tmp_path / "out", max_bytes=size // 3)
    assert size // 3 - 1000 < sum(part.bytes.values()) <= size // 3
    documents = {
        name: {split: set(built.tokenizer.decode(stream(built, split)).split("document ")) for split in corpora.SPLITS}
        for name, built in (("half", half), ("whole", whole), ("part", part))
    }
    for less in ("half", "part"):
        for split, other in (("train", "validation"), ("validation", "train")):
            shared = documents[less][split] & documents["whole"][split]
            assert len(shared) >= len(documents[less][split]) - 2  # the one that is cut
            assert len(documents[less][split] & documents["whole"][other]) <= 1


def test_one_long_text_is_cut_at_line_ends(tmp_path):
    lines = [f"line {i} é\n" for i in range(40_000)]
    (tmp_path / "book.txt").write_text("".join(lines), encoding="utf-8")
    (tmp_path / "one_line.txt").write_text("é日" * 60_000, encoding="utf-8")
    pieces = list(text_files.path_documents(corpora.epath.Path(tmp_path / "book.txt"), "text"))
    assert len(pieces) > 5 and "".join(p.decode() for p in pieces) == "".join(lines)
    assert all(p.endswith(b"\n") and len(p) <= text_files.DOCUMENT_BYTES for p in pieces)
    assert (
        "".join(p.decode() for p in text_files.path_documents(corpora.epath.Path(tmp_path / "one_line.txt"), ""))
        == "é日" * 60_000
    )
    built = make(tmp_path / "book.txt", tmp_path / "out", validation=0.02)
    assert built.windows["validation"] > 0  # at least one document is held out


def bad_text(tmp_path) -> list[tuple[str, bytes, str]]:
    good = json.dumps({"text": "good"}).encode()
    zipped = gzip.compress(b"\n".join([good] * 1000))
    return [
        ("picture.png", b"\x89PNG\r\n\x1a\n\0\0\0", "picture.png:3: a binary file"),
        ("latin.txt", b"one\ntwo\ncaf\xe9\n", "latin.txt:3: not UTF-8"),
        ("far.txt", b"x\n" * 100_000 + b"\xff\n", "far.txt:100001: not UTF-8"),
        ("cut.jsonl", good + b"\n" + good + b'\n{"text": "half', "cut.jsonl:3: not a line of JSON"),
        ("list.jsonl", good + b"\n[1]\n", "list.jsonl:2: no text under 'text' (it has: list)"),
        ("field.jsonl", b'{"id": 1, "body": "x"}\n', "field.jsonl:1: no text under 'text' (it has: id, body)"),
        ("number.jsonl", b'{"text": 1}\n', "number.jsonl:1: no text under"),
        ("half.jsonl", b'{"text": "\\ud800"}\n', "half.jsonl:1: its text contains a lone surrogate"),
        ("latin.jsonl", good + b'\n{"text": "\xe9"}\n', "latin.jsonl:2: not UTF-8 (byte 0xe9); convert it"),
        ("cut.jsonl.gz", zipped[:-20], "cut.jsonl.gz:"),
        ("no.jsonl.gz", b"plain", "no.jsonl.gz:1: the gzip file is damaged"),
        ("empty.txt", b"", "data.text contains no text"),
        ("short.txt", b"one document", "data.text is one document"),
    ]


def test_bad_text_is_refused_in_one_line_and_leaves_nothing(tmp_path):
    for name, content, says in bad_text(tmp_path):
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        for where in (path, path.parent):
            with pytest.raises(InputError) as caught:
                make(where, tmp_path / "out")
            assert says in str(caught.value) and "\n" not in str(caught.value)
        assert not list((tmp_path / "out").iterdir())
        path.unlink()


@pytest.mark.parametrize(
    "change, says",
    [
        ({"text": ("nowhere",)}, "nowhere: no such file"),
        ({"text": ("tfds:",)}, "tfds:NAME"),
        ({"text": ("tfds:no_such_set",)}, "tfds:no_such_set: cannot be read"),
        ({"tokenizer": "nowhere.json"}, "nowhere.json: no such tokenizer"),
        ({"corpus": "0" * 16}, "the text has changed"),
    ],
)
def test_bad_settings_are_refused_in_one_line(change, says, tmp_path):
    folder = write_files(tmp_path / "a", some_documents())
    with pytest.raises(InputError) as caught:
        corpora.build(
            Data(**{"text": (str(folder),), "validation": 0.2, **change}), 16, tmp_path / "out", progress=False
        )
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_too_little_text_for_a_window_and_a_corpus_of_another_length(tmp_path):
    folder = write_files(tmp_path / "a", some_documents(5))
    for seq_len, split in ((2000, "train|validation"), (10**6, "train")):
        with pytest.raises(InputError, match=rf"the ({split}) split has \d+ tokens, fewer than a window"):
            make(folder, tmp_path / "out", seq_len)
    built = make(folder, tmp_path / "out")
    with pytest.raises(InputError, match="seq_len 16, not 32"):
        make(folder, tmp_path / "out", 32, corpus=built.hash)


@pytest.mark.parametrize("content, says", [(None, "no corpus here"), ("{", "not JSON"), ("{}", "another version")])
def test_a_directory_that_is_no_corpus(content, says, tmp_path):
    if content is not None:
        (tmp_path / "card.json").write_text(content)
    with pytest.raises(InputError, match=says):
        corpora.open_corpus(tmp_path)


class LadderTestText(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    code_path = None

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"body": tfds.features.Text()}))

    def _split_generators(self, dl_manager):
        return {"train": enumerate({"body": t} for t in some_documents()), "test": iter([(0, {"body": "test"})])}

    def _generate_examples(self):
        raise NotImplementedError


def test_a_tfds_name(tmp_path):
    tfds.disable_progress_bar()
    LadderTestText(data_dir=tmp_path / "sets", file_format="array_record").download_and_prepare()
    whole = make(write_files(tmp_path / "a", some_documents()), tmp_path / "out")
    name = f"tfds:ladder_test_text:train@{tmp_path / 'sets'}"
    assert make(name, tmp_path / "out", field="body") == whole
    part = make(name.replace("train", "train[:50%]"), tmp_path / "out", field="body")
    assert sum(part.documents.values()) == 30
    for wrong, field in ((name.replace(":train", ":other"), "body"), (name, "text")):
        with pytest.raises(InputError) as caught:
            make(wrong, tmp_path / "out", field=field)
        assert "\n" not in str(caught.value) and "tfds:ladder_test_text" in str(caught.value)


def test_a_build_that_is_killed_leaves_no_corpus(tmp_path):
    folder, root = write_files(tmp_path / "a", some_documents()), tmp_path / "out"
    for moment in ("coder.save", "temporary.rename", "writing the card"):
        code = f"""
import os, sys
from ladder.data import corpus, tokenizer
from ladder.config import Data
die = lambda *a, **k: os._exit(9)
moment = {moment!r}
if moment == "coder.save": tokenizer.Tokenizer.save = die
else:
    rename = type(corpus.epath.Path("/")).rename
    def killed(self, target):
        if moment == "temporary.rename" or str(target).endswith("card.json"): die()
        return rename(self, target)
    type(corpus.epath.Path("/")).rename = killed
corpus.build(Data(text=({str(folder)!r},), validation=0.2), 16, {str(root)!r}, progress=False)
"""
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=Path(corpora.__file__).parents[2], timeout=60, check=False
        )
        assert done.returncode == 9, moment
        assert not list(root.glob("*/card.json"))
    assert len(list(root.glob("[!.]*/FILES.json"))) == 1  # of the third: it is sealed before its card can be seen
    unfinished = list(root.glob(".building-*"))
    assert len(unfinished) == 2  # the third was renamed
    os.utime(unfinished[0], (0, 0))
    built = make(folder, root)
    assert corpora.open_corpus(root / built.hash) == built and len(stream(built, "train")) > 100
    # The first is older than a day, so its process is gone; the process of the other may still run.
    assert not unfinished[0].exists() and unfinished[1].exists()


def test_many_shards_hold_what_one_holds(tmp_path, monkeypatch):
    folder = write_files(tmp_path / "a", some_documents(300))
    one = make(folder, tmp_path / "one")
    monkeypatch.setattr(records, "SHARD_BYTES", 10_000)
    many = make(folder, tmp_path / "many")
    assert one == dataclasses.replace(many, directory=one.directory)
    for split, least in (("train", 5), ("validation", 1)):
        np.testing.assert_array_equal(stream(one, split), stream(many, split))
        assert len(list((many.directory / "ladder_corpus" / "1.0.0").glob(f"*-{split}.array_record-*"))) >= least


def test_python_text_is_the_library_and_what_the_project_needs():
    files = dict(python_code.python_files(["pytest", "etils[epath]", "ai2-olmo-eval"]))
    roots = {name.split("/")[0] for name in files}
    assert {"json", "pytest", "pluggy", "etils", "zipp"} <= roots
    assert not roots & {"test", "idlelib", "site-packages", "ladder", "olmo-eval", "jax"}
    assert "unittest/case.py" in files and not any("sysconfigdata" in n or n.startswith("ctypes/test/") for n in files)
    # The names do not say where the environment lies.
    assert not any(str(Path(sys.prefix)) in name or name.startswith("/") for name in files)
    assert all(path.suffix == ".py" for path in files.values())


def test_python_text_follows_extras_only_where_asked():
    requires = importlib.metadata.distribution("etils").requires or []
    assert any("zipp" in line and "extra" in line for line in requires)
    assert "zipp" in python_code._closure(["etils[epath]"])
    assert "zipp" not in python_code._closure(["etils"])


def test_python_text_leaves_out_long_files_and_other_encodings(tmp_path, monkeypatch):
    files = {"a.py": b"x = 1\n", "long.py": b"#" * python_code.PYTHON_FILE_BYTES, "latin.py": b"# caf\xe9\n"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(python_code, "python_files", lambda _: [(name, tmp_path / name) for name in files])
    assert list(python_code.python_documents()) == [b"x = 1\n"]


def test_python_text_without_the_project_installed_is_refused(monkeypatch):
    monkeypatch.setattr(python_code, "DISTRIBUTION", "ladder-that-is-not-installed")
    with pytest.raises(InputError, match="needs this project installed"):
        python_code.python_files()
