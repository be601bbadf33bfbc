import shutil

import pytest

from ladder.rundir.checkpoint import Checkpoints
from tests.ladder.rundir.states import save


@pytest.fixture(scope="session")
def three_steps(tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved") / "run" / "checkpoints"
    checkpoints = Checkpoints(directory)
    for step in (10, 20, 30):
        save(checkpoints, step)
    return directory


@pytest.fixture
def saved(three_steps, tmp_path):
    """A copy of the checkpoints of steps 10, 20 and 30 of a run."""
    return shutil.copytree(three_steps, tmp_path / "run" / "checkpoints")
