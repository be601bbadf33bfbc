"""Two processes hold one run: the one that lost its lease publishes nothing, whenever it goes on."""

import json

import pytest

from ladder.errors import Preempted
from ladder.rundir.checkpoint import Checkpoints
from ladder.rundir.files import as_path, read_bytes
from tests.ladder.rundir.states import ABSTRACT, make_state, save


def test_a_holder_that_lost_its_lease_publishes_nothing(saved):
    """It is paused after it checked its lease; another process takes over and is saving the same step."""
    loser = Checkpoints(saved, lease=1)
    loser.start(40, make_state(40))

    winner = Checkpoints(saved, lease=2)

    def paused():
        assert winner.restore(ABSTRACT)[0] == 30
        winner.start(50, make_state(50))
        winner.commit(50)

    with pytest.raises(Preempted, match="another process trains this run"):
        loser.commit(40, check=paused)
    assert Checkpoints(saved).steps() == [10, 20, 30, 50]
    with pytest.raises(Preempted):
        loser.start(50, make_state(50))
    save(winner, 40)
    assert [winner.verify(step) for step in (40, 50)] == [[], []]


@pytest.mark.parametrize("goes_on", ["before the winner saves", "while it saves", "when it has saved", "when deleted"])
@pytest.mark.parametrize("where", ["disk", "bucket"])
def test_nor_does_it_publish_the_step_that_the_winner_saves(tmp_path, bucket, where, goes_on):
    """Both save step 40; the loser goes on at four moments, with the lease as it was when it checked it."""
    root = as_path(bucket.url) if where == "bucket" else tmp_path
    loser, winner = (Checkpoints(root / "run" / "checkpoints", lease=n) for n in (1, 2))
    save(loser, 30)
    loser.start(40, make_state(40))

    def paused():
        if winner.steps() != [30]:
            return  # asked again
        assert winner.restore(ABSTRACT)[0] == 30
        if goes_on == "before the winner saves":
            return
        winner.start(40, make_state(40))
        if goes_on == "while it saves":
            return
        winner.commit(40)
        if goes_on == "when deleted":
            save(winner, 50)
            winner.retain([50])

    with pytest.raises((Preempted, OSError)):
        loser.commit(40, check=paused)
    if goes_on == "while it saves":
        winner.commit(40)
    expected = {"before the winner saves": [30], "when deleted": [50]}.get(goes_on, [30, 40])
    assert winner.steps() == expected
    manifests = [json.loads(read_bytes(winner.directory / str(step) / "MANIFEST.json")) for step in expected]
    assert [m["data"] for m in manifests] == ["data-1" if step == 30 else "data-2" for step in expected]
    assert [winner.verify(step) for step in expected] == [[]] * len(expected)


def test_a_lost_lease_is_noticed_before_the_manifest(saved):
    def lost():
        raise Preempted("lost")

    checkpoints = Checkpoints(saved)
    checkpoints.start(40, make_state(40))
    with pytest.raises(Preempted, match="lost"):
        checkpoints.commit(40, check=lost)
    assert checkpoints.steps() == [10, 20, 30]
