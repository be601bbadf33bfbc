"""A corpus with a damaged file is refused in one line that names it; opening an intact one again hashes nothing.

Shards are not hashed: their sizes are compared, and test_records.py is about what is read of them.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ladder.config import Data, Ladder
from ladder.data import corpus as corpora
from ladder.data import seal
from ladder.data.batches import Batches, validation
from ladder.errors import InputError
from ladder.loop import run
from ladder.rundir.files import sealed
from launch import cli, prepare

SHARD = "ladder_corpus/1.0.0/ladder_corpus-{}.array_record-00000-of-00001"
TRAIN, VALIDATION = SHARD.format("train"), SHARD.format("validation")
INFO, FEATURES = (f"ladder_corpus/1.0.0/{name}.json" for name in ("dataset_info", "features"))
TOKENIZER = "tokenizer/tokenizer.json"
HASHED = ("card.json", INFO, FEATURES, TOKENIZER)
CONTENT = (*HASHED, TRAIN, VALIDATION)
FILES = ("FILES.json", *CONTENT)
SEQ_LEN = 16


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for i in range(60):
        (folder / f"{i}.txt").write_text(" ".join(f"{i}-{j}" for j in range(200)))
    return folder


@pytest.fixture(scope="module")
def built(text, tmp_path_factory) -> Path:
    return Path(build(text, tmp_path_factory.mktemp("built")).directory)


@pytest.fixture
def corpus(built, tmp_path) -> Path:
    """A copy of the corpus, for one test to damage."""
    return Path(shutil.copytree(built, tmp_path / "out" / built.name))


def build(text, root, **settings) -> corpora.Corpus:
    return corpora.build(Data(text=(str(text),), **{"validation": 0.2} | settings), SEQ_LEN, root, progress=False)


def unsealed(corpus: Path, **changes) -> Path:
    """As an earlier version of ladder built it: without FILES.json. changes: to its card."""
    for name in ("FILES.json", "VERIFIED.json"):
        (corpus / name).unlink(missing_ok=True)
    card = json.loads((corpus / "card.json").read_text()) | changes
    del card["sealed"]
    (corpus / "card.json").write_text(json.dumps(card))
    return corpus


def refused(function, *arguments) -> str:
    """The one line with which `function` refuses its arguments."""
    with pytest.raises(InputError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    filling = data.find(bytes(200))  # of shards, which nothing reads
    data[(filling if filling > 0 else len(data)) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "flip a bit": flip,
    "truncate": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "append": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "empty": lambda path: path.write_bytes(b""),
    "delete": lambda path: path.unlink(),
}


def damages(corpus: Path, name: str) -> dict:
    """What can happen to a file of a corpus; {what: function(path)}."""
    others = [other for other in FILES if other != name]
    return DAMAGES | {f"{other} over it": lambda path, o=other: shutil.copy2(corpus / o, path) for other in others}


def test_the_seal_has_the_hash_of_every_other_file(built):
    names = {path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()}
    assert names == {*FILES, "VERIFIED.json"}
    hashes = {name: hashlib.sha256((built / name).read_bytes()).hexdigest() for name in CONTENT}
    assert json.loads((built / "FILES.json").read_text())["files"] == hashes
    assert seal.is_sealed(built) and seal.verify(built) == []


def read_whole(corpus: Path) -> None:
    opened = corpora.open_corpus(corpus)
    for split in corpora.SPLITS:
        read_all(opened, split)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_in_one_line(name, built, corpus):
    for damage, inflict in damages(corpus, name).items():
        corpora.open_corpus(corpus)  # so that VERIFIED.json knows the file as it was
        inflict(corpus / name)
        message = refused(corpora.open_corpus if name not in (TRAIN, VALIDATION) else read_whole, corpus)
        assert name in message, damage
        assert "build" in message, damage
        (problem,) = seal.verify(corpus)
        assert problem.startswith(f"{corpus / name}:") and "\n" not in problem, damage
        shutil.copy2(built / name, corpus / name)
    assert seal.verify(corpus) == []


@pytest.mark.parametrize("name, says", [("more", "added later"), ("tokenizer/vocab.txt", "added later"), (TRAIN, "")])
def test_files_that_were_added_and_several_problems_are_listed(name, says, corpus):
    (corpus / name).write_text("more")
    (corpus / INFO).unlink()
    assert f"{INFO}: missing" in refused(corpora.open_corpus, corpus)
    problems = seal.verify(corpus)
    assert len(problems) == 2 and f"{INFO}: missing" in problems[0] and f"{name}: not " in problems[1]
    assert says in problems[1]


def test_what_a_killed_process_leaves_is_no_content(built, corpus):
    for name in ("card.part", ".VERIFIED.json.1234.tmp", "tokenizer/x.tmp", "VERIFIED.json"):
        (corpus / name).write_text("half")
    assert corpora.open_corpus(corpus).windows == corpora.open_corpus(built).windows
    assert seal.verify(corpus) == []


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """The names of the files that are read to be hashed."""
    names, chunks = [], seal.chunks
    monkeypatch.setattr(seal, "chunks", lambda path: names.append(path.name) or chunks(path))
    return names


def names_of(files) -> list[str]:
    return sorted(Path(name).name for name in files)


def test_a_second_open_hashes_only_what_was_touched(corpus, hashed):
    corpora.open_corpus(corpus)
    assert sorted(hashed) == names_of(HASHED)
    hashed.clear()
    corpora.open_corpus(corpus)
    assert hashed == []
    os.utime(corpus / INFO)
    corpora.open_corpus(corpus)
    assert hashed == names_of([INFO])
    hashed.clear()
    corpora.open_corpus(corpus)
    assert hashed == []
    seal.verify(corpus)
    assert sorted(hashed) == names_of(CONTENT)


def test_the_times_of_a_file_do_not_hide_that_it_changed(corpus):
    corpora.open_corpus(corpus)
    before = (corpus / FEATURES).stat()
    flip(corpus / FEATURES)
    os.utime(corpus / FEATURES, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert FEATURES in refused(corpora.open_corpus, corpus)


@pytest.mark.parametrize(
    "listed",
    ["", "{", "[]", sealed({"files": 3}), sealed({"files": {INFO: [0]}}), '{"schema_version": 1, "files": {}}'],
)
def test_where_what_was_verified_is_damaged_all_is_verified(listed, corpus, hashed):
    (corpus / "VERIFIED.json").write_text(listed)
    corpora.open_corpus(corpus)
    assert sorted(hashed) == names_of(HASHED)


def test_an_edited_list_of_what_was_verified_is_not_believed(corpus):
    corpora.open_corpus(corpus)
    flip(corpus / INFO)
    listed = json.loads((corpus / "VERIFIED.json").read_text())
    stat = (corpus / INFO).stat()
    listed["files"][INFO][1:] = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
    for edited in (listed, {"schema_version": 1, "files": listed["files"]}):
        (corpus / "VERIFIED.json").write_text(json.dumps(edited))
        assert INFO in refused(corpora.open_corpus, corpus)


def test_a_folder_that_cannot_be_written_is_verified_each_time(corpus, hashed, monkeypatch):
    def write_atomic(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    (corpus / "VERIFIED.json").unlink()
    monkeypatch.setattr(seal, "write_atomic", write_atomic)
    for _ in range(2):
        corpora.open_corpus(corpus)
    assert sorted(hashed) == sorted(2 * names_of(HASHED))


def test_corpora_of_earlier_versions(corpus):
    expected = corpora.open_corpus(corpus)
    assert corpora.open_corpus(unsealed(corpus)) == expected
    assert not seal.is_sealed(corpus) and seal.verify(corpus) == []
    hashes = {name: hashlib.sha256((corpus / name).read_bytes()).hexdigest() for name in CONTENT}
    (corpus / "FILES.json").write_text(json.dumps({"schema_version": 1, "files": hashes}))
    assert corpora.open_corpus(corpus) == expected and seal.is_sealed(corpus)
    shutil.copy(corpus / TRAIN, corpus / VALIDATION)
    assert VALIDATION in refused(corpora.open_corpus, corpus)  # it names no sizes: its shards are hashed


def test_a_tokenizer_alone_needs_no_intact_shards(corpus, hashed):
    intact = corpora.open_corpus(corpus)
    rung = SimpleNamespace(data=SimpleNamespace(tokenizer_hash=intact.tokenizer_hash))
    (corpus / TRAIN).write_bytes(b"")
    os.utime(corpus / TOKENIZER)
    hashed.clear()
    assert run.open_tokenizer({"corpus_dir": str(corpus)}, rung).hash == intact.tokenizer_hash
    assert hashed == names_of([TOKENIZER])
    (corpus / TOKENIZER).write_text('{"kind": "bytes"}')  # the same tokenizer, but not the file that was built
    assert TOKENIZER in refused(run.open_tokenizer, {"corpus_dir": str(corpus)}, rung)


CARDS = {
    "not JSON": (b"{", "not JSON"),
    "not UTF-8": (b'{"\xff": 1}', "not UTF-8"),
    "a list": (b"[1]", "expected a JSON object"),
    "nested": (b"[" * 100_000, "not JSON"),
    **{f"no {name}": ({name: ...}, f"{name} is missing") for name in ("hash", "windows", "seq_len", "duplicates")},
    "text for a count": ({"seq_len": "16"}, "seq_len is '16'"),
    "true for a count": ({"seq_len": True}, "seq_len is True"),
    "no windows": ({"windows": {"train": 0, "validation": 1}}, "windows is"),
    "one split": ({"bytes": {"train": 9}}, "bytes is"),
    "another split": ({"tokens": {"train": 9, "test": 9}}, "tokens is"),
    "a list of counts": ({"documents": [1, 2]}, "documents is"),
    "a number for a hash": ({"tokenizer_hash": 12}, "tokenizer_hash is 12"),
    "another corpus's": ({"hash": "0" * 16}, "the card of another corpus, '0000000000000000'"),
    "another version's": ({"format_version": 99}, "another version"),
}


@pytest.mark.parametrize("case", CARDS)
def test_a_damaged_card_is_refused_in_one_line_even_without_a_seal(case, corpus):
    content, says = CARDS[case]
    path = unsealed(corpus) / "card.json"
    if isinstance(content, dict):
        card = json.loads(path.read_text()) | content
        content = json.dumps({name: value for name, value in card.items() if value is not ...}).encode()
    path.write_bytes(content)
    message = refused(corpora.open_corpus, corpus)
    assert message.startswith(str(path)) and says in message and f"delete {corpus} and build" in message


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300"])
def test_a_damaged_corpus_is_neither_built_over_nor_passed_by(tokenizer, text, tmp_path):
    intact = build(text, tmp_path, tokenizer=tokenizer)
    other = build(text, tmp_path, validation=0.3)
    folder, card = tmp_path / intact.hash, (tmp_path / intact.hash / "card.json").read_text()
    for content in (
        "",
        "{",
        card.replace('"request": "', '"request": "0'),
        (other.directory / "card.json").read_text(),
    ):
        (folder / "card.json").write_text(content)
        assert f"{folder / 'card.json'}: not the file" in refused(lambda: build(text, tmp_path, tokenizer=tokenizer))
        assert build(text, tmp_path, validation=0.3) == other  # not hindered by it
    (folder / "card.json").write_text(card)
    (folder / TRAIN).write_bytes(b"")
    for settings in ({}, {"corpus": intact.hash}):
        assert TRAIN in refused(lambda settings=settings: build(text, tmp_path, tokenizer=tokenizer, **settings))
    (tmp_path / "notes").mkdir()
    for content in ("not a corpus", "[1]", '{"title": "other"}'):
        (tmp_path / "notes" / "card.json").write_text(content)
        assert build(text, tmp_path, validation=0.3) == other


def test_another_tokenizer_in_an_unsealed_corpus_is_refused(corpus):
    (unsealed(corpus, tokenizer_hash="0" * 16) / TOKENIZER).write_text('{"kind": "bytes"}')
    message = refused(lambda: corpora.open_corpus(corpus).tokenizer)
    assert f"{corpus / 'tokenizer'}: tokenizer" in message and "0" * 16 in message


def read_all(corpus: corpora.Corpus, split: str) -> np.ndarray:
    if split == "validation":
        return validation(corpus, 10**9)
    batches = Batches(corpus, split, 1, seed=0)
    return np.stack([batches(step)["tokens"] for step in range(corpus.windows[split])])


@pytest.mark.parametrize("split", corpora.SPLITS)
@pytest.mark.parametrize("damage", ["truncate", "empty", "zeros", "delete", "info", "features"])
def test_a_shard_damaged_after_opening_ends_in_one_line(damage, split, corpus):
    opened, shard = corpora.open_corpus(corpus), corpus / SHARD.format(split)
    if damage == "delete":
        shard.unlink()
    elif damage == "zeros":
        shard.write_bytes(bytes(shard.stat().st_size))
    elif damage in ("info", "features"):
        path = corpus / (INFO if damage == "info" else FEATURES)
        path.write_text(path.read_text()[:-40])
    else:
        os.truncate(shard, shard.stat().st_size // 2 if damage == "truncate" else 0)
    message = refused(read_all, opened, split)
    if damage in ("info", "features"):
        assert message.startswith(f"{corpus}: the {split} split cannot be read (") and "`ladder verify`" in message
    else:
        assert message.startswith(f"{shard}: {'missing' if damage == 'delete' else 'not the file that was built'}")


@pytest.mark.parametrize("how", ["truncate", "overwrite"])
def test_a_shard_damaged_while_it_is_read_ends_in_one_line(how, text, tmp_path):
    corpus = build(text, tmp_path)
    batches, shard = Batches(corpus, "train", 1, seed=0), tmp_path / corpus.hash / TRAIN
    batches(0)
    if how == "truncate":
        os.truncate(shard, 0)
    else:
        shard.write_bytes(os.urandom(shard.stat().st_size))
    message = refused(lambda: [batches(step) for step in range(corpus.windows["train"])])
    assert message.startswith(f"{shard}: not the file that was built")


def test_a_run_on_a_validation_shard_that_is_the_train_shard_ends_with_exit_code_2(world, text, tmp_path, capsys):
    rung = world.rung(data=Data(text=(str(text),), validation=0.2))
    built = prepare.build(Ladder("tiny", (rung,)), tmp_path / "corpora")
    (directory,) = prepare.write(built, built.ladder.all, tmp_path / "runs")
    (folder,) = built.corpora.values()
    shutil.copy2(folder / TRAIN, folder / VALIDATION)
    assert cli.main(["train", str(directory)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{folder / VALIDATION}: not the file that was built" in line
