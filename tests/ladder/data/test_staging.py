"""A staged corpus is the corpus, or an error."""

import errno
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ladder.data import seal, staging
from ladder.errors import InputError


@pytest.fixture
def corpus(tmp_path):
    directory = tmp_path / "corpora" / "0123abcd"
    (directory / "tokenizer").mkdir(parents=True)
    (directory / "card.json").write_text("{}")
    (directory / "tokenizer" / "tokenizer.json").write_bytes(bytes(range(256)))
    return directory


def contents(directory):
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_what_is_on_a_disk_stays_there(corpus, monkeypatch):
    monkeypatch.delenv("LADDER_STAGE", raising=False)
    assert staging.stage(str(corpus)) == str(corpus)


def test_a_copy_is_whole_and_made_once(corpus, monkeypatch, tmp_path):
    monkeypatch.setenv("LADDER_STAGE", str(tmp_path / "disk"))
    seal.write(corpus)
    staged = staging.stage(str(corpus))
    assert {k: v for k, v in contents(staged).items() if k != seal.VERIFIED} == contents(corpus)
    before = staged.stat().st_mtime_ns
    assert staging.stage(str(corpus)) == staged
    assert staged.stat().st_mtime_ns == before
    assert os.listdir(tmp_path / "disk") == [corpus.name]


def flipped(corpus):
    path = corpus / "tokenizer" / "tokenizer.json"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "flipped bit": (flipped, "its hash differs"),
    "truncated": (lambda c: (c / "card.json").write_text(""), "its hash differs"),
    "missing": (lambda c: (c / "card.json").unlink(), "files are missing or were added.*: card.json;"),
    "extra": (lambda c: (c / "more").write_text(""), "files are missing or were added.*: more;"),
    "no seal": (lambda c: (c / seal.SEAL).unlink(), "a copy cannot be checked"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_corpus_is_not_trained_on(corpus, monkeypatch, tmp_path, case):
    monkeypatch.setenv("LADDER_STAGE", str(tmp_path / "disk"))
    seal.write(corpus)
    damage, says = DAMAGE[case]
    damage(corpus)
    with pytest.raises(InputError, match=says):
        staging.stage(str(corpus))
    assert not (tmp_path / "disk").exists() or not os.listdir(tmp_path / "disk")


def test_a_copy_that_is_damaged_later_is_refused(corpus, monkeypatch, tmp_path):
    monkeypatch.setenv("LADDER_STAGE", str(tmp_path / "disk"))
    seal.write(corpus)
    staged = staging.stage(str(corpus))
    flipped(staged)
    with pytest.raises(InputError, match=rf"tokenizer.json: not the file.*; delete {staged}, so that it is copied"):
        staging.stage(str(corpus))
    shutil.rmtree(staged)
    assert staging.stage(str(corpus)) == staged
    flipped(corpus)  # the copy does not need the original
    assert staging.stage(str(corpus)) == staged


def test_a_corpus_that_does_not_fit_on_the_disk_is_not_copied(corpus, monkeypatch, tmp_path):
    monkeypatch.setenv("LADDER_STAGE", str(tmp_path / "disk"))
    seal.write(corpus)
    size = sum(len(content) for name, content in contents(corpus).items() if name != seal.SEAL)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=size - 1))
    says = rf"^{corpus}: {size:,} bytes do not fit on the disk of {tmp_path}/disk \({size - 1:,} are free\); set "
    with pytest.raises(InputError, match=says):
        staging.stage(str(corpus))
    assert os.listdir(tmp_path / "disk") == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=size))
    assert staging.stage(str(corpus)) == tmp_path / "disk" / corpus.name


def test_partial_copies_of_killed_processes_are_removed_before_another_copy(corpus, monkeypatch, tmp_path):
    """They would take the room that it needs."""
    monkeypatch.setenv("LADDER_STAGE", str(tmp_path / "disk"))
    seal.write(corpus)
    partial, foreign = (tmp_path / "disk" / name for name in (".89abcdef-0000000a", ".notes"))
    for folder in (partial, foreign):
        folder.mkdir(parents=True)
    staged = staging.stage(str(corpus))
    assert sorted((tmp_path / "disk").iterdir()) == [foreign, staged]


def test_processes_copy_one_after_the_other(corpus, monkeypatch, tmp_path):
    monkeypatch.setenv("LADDER_STAGE", str(tmp_path / "disk"))
    seal.write(corpus)
    with ThreadPoolExecutor(2) as pool:
        with staging._alone_in(tmp_path / "disk"):
            partial = tmp_path / "disk" / ".89abcdef-0000000a"
            partial.mkdir()
            copies = [pool.submit(staging.stage, str(corpus)) for _ in range(2)]
            time.sleep(0.2)
            assert os.listdir(tmp_path / "disk") == [partial.name]
        assert {copy.result() for copy in copies} == {tmp_path / "disk" / corpus.name}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_the_copy_fills_is_named_and_nothing_is_left(corpus, monkeypatch, tmp_path, number):
    monkeypatch.setenv("LADDER_STAGE", str(tmp_path / "disk"))
    seal.write(corpus)

    def full(path):
        yield b"some"
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(seal, "chunks", full)
    with pytest.raises(InputError, match=rf"the disk of {tmp_path}/disk is full; make room on it, set LADDER_STAGE"):
        staging.stage(str(corpus))
    assert os.listdir(tmp_path / "disk") == []
