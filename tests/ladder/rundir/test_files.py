"""Files are replaced whole or not at all."""

import os

import pytest

from ladder.rundir.files import read_json, write_atomic


def test_a_failed_write_leaves_the_old_file_and_no_debris(tmp_path, monkeypatch):
    path = tmp_path / "heartbeat.json"
    write_atomic(path, '{"step": 1}')

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, '{"step": 2}')
    assert read_json(path) == {"step": 1}
    assert os.listdir(tmp_path) == ["heartbeat.json"]


def test_a_reader_of_the_old_file_reads_it_to_the_end(tmp_path):
    path = tmp_path / "heartbeat.json"
    write_atomic(path, '{"step": 1}')
    with open(path) as reader:
        write_atomic(path, '{"step": 2}')
        assert reader.read() == '{"step": 1}'
    assert read_json(path) == {"step": 2}
