"""Which file `ladder logs` reads."""

import pytest

from ladder.errors import InputError
from ladder.rundir.files import as_path
from launch import run_log


@pytest.fixture(params=["a disk", "a bucket"])
def run_dir(request, tmp_path):
    folder = tmp_path if request.param == "a disk" else as_path(request.getfixturevalue("bucket").url)
    return folder / "runs" / "a"


def test_each_machine_has_its_own_log(run_dir):
    with pytest.raises(InputError, match=r"log\.txt: nothing logged yet"):
        run_log.tail(run_dir, 2)
    assert run_log.last(run_dir) == ""
    run_dir.mkdir(parents=True)
    (run_dir / "log.txt").write_text("of a Slurm job\n")
    assert run_log.tail(run_dir, 2) == ["of a Slurm job"]
    for machine in (0, 11):
        (run_dir / f"log-{machine}.txt").write_text(f"one\ntwo\n\nmachine {machine}\n")
    assert run_log.tail(run_dir, 1) == ["machine 0"]
    assert run_log.tail(run_dir, 2, 11) == ["", "machine 11"]
    assert run_log.last(run_dir, 2) == "two | machine 0"
    with pytest.raises(InputError, match="no log of machine 1; there are 0, 11"):
        run_log.tail(run_dir, 1, 1)
