"""Runs trained together by one vmapped step: each gives the numbers of the same run alone, and they resume together."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ladder.errors import InputError
from ladder.loop import group
from ladder.rundir.checkpoint import Checkpoints
from ladder.rundir.record import Record
from launch import cli, goodput, prepare
from tests.ladder.loop.training import kill, run

SEQ, STEPS = 32, 60  # of world.rung()


pytestmark = pytest.mark.usefixtures("quick_compile")


def together(world, root: Path, text: str, **changes) -> list[Path]:
    """The run directories of a group, the first of which is the one to train."""
    built = world.build([world.rung(**changes)])
    members = group.members(built.ladder.rungs[0], text)
    first = prepare.write_group(built, members, root)
    assert first.name == members[0].run_id
    return [first.parent / rung.run_id for rung in members]


def values(directory: Path) -> dict:
    return {(row["step"], row["task"], row["metric"]): row["value"] for row in Record(directory).rows()}


@pytest.fixture(scope="module")
def three_seeds(world, tmp_path_factory):
    directories = together(world, tmp_path_factory.mktemp("three"), "seeds=3")
    assert run(directories[0]) == 0
    return directories


def test_a_member_equals_its_run_alone(world, three_seeds, tmp_path):
    seeds = [values(directory) for directory in three_seeds]
    assert seeds[0] != seeds[1] != seeds[2]
    (alone,) = world([world.rung(seed=2)], tmp_path)
    assert run(alone) == 0
    assert alone.name == three_seeds[2].name
    assert values(alone).keys() == seeds[2].keys()
    for key, value in values(alone).items():
        assert seeds[2][key] == pytest.approx(value, rel=1e-5 if key[0] <= 20 else 1e-2), key


def test_every_member_leaves_a_run_directory_of_its_own(three_seeds):
    for directory in three_seeds:
        assert Record(directory).state().name == "done"
        assert Checkpoints(directory / "checkpoints").steps() == [45, 60]
        assert Checkpoints(directory / "checkpoints").verify(60) == []
        assert not (directory / "lease.json").exists()
        assert json.loads((directory / "config.json").read_text())["group"]["members"] == [d.name for d in three_seeds]


def test_the_time_of_a_group_counts_once(three_seeds):
    records = [Record(directory) for directory in three_seeds]
    parts = [goodput.of_run(record) for record in records]
    assert parts[0]["compile"] > 0 and all(part == pytest.approx(parts[0], rel=0.2, abs=0.1) for part in parts)
    wall = (three_seeds[0] / "DONE.json").stat().st_mtime - records[0].attempts()[0]["time"]
    assert sum(goodput.of_ladder(records).values()) == pytest.approx(wall, rel=0.01)


@pytest.mark.slow  # here in a group; test_train.py kills a run alone
# Members publish one after another: here two have step 30, the third does not.
def test_killed_and_resumed_as_a_group(world, three_seeds, tmp_path):
    directories = together(world, tmp_path, "seeds=3")
    kill(directories[0], "manifest-written:5")
    assert run(directories[1]) == 0  # any member may be named
    for directory, whole in zip(directories, three_seeds, strict=True):
        assert list(Record(directory).rows()) == list(Record(whole).rows())


def test_a_diverged_member_ends_the_group_and_is_named(world, tmp_path):
    wild = replace(world.rung().optimizer, weight_decay=1e20)
    directories = together(world, tmp_path, "peak_lr=1e-25,0.9", optimizer=wild)
    assert run(directories[0]) == 78
    assert Record(directories[0]).state().name != "diverged"
    assert Record(directories[1]).state().name == "diverged"


def test_members_vary_seed_or_rate(world):
    rung = world.rung(seed=4)
    assert [r.seed for r in group.members(rung, "seeds=3")] == [4, 5, 6]
    rates = group.members(rung, "peak_lr=1e-3,2e-3")
    assert [(r.seed, r.optimizer.peak_lr) for r in rates] == [(4, 1e-3), (4, 2e-3)]
    assert group.identity(["a", "b"]) == group.identity(["b", "a"]) != group.identity(["a", "c"])


@pytest.mark.parametrize("text", ["seeds=x", "seeds=1", "seeds", "depth=2", "peak_lr=1e-3,1e-3", "peak_lr=a", ""])
def test_a_bad_vmap_is_one_line(world, text):
    with pytest.raises(InputError) as error:
        group.members(world.rung(), text)
    assert error.value.argument == "vmap" and text in str(error.value)


def test_a_run_begun_alone_cannot_join_a_group(world, three_seeds, capsys):
    built = world.build([world.rung()])
    others = group.members(built.ladder.rungs[0], "seeds=2")
    with pytest.raises(InputError, match="was begun alone or in another group"):
        prepare.write_group(built, others, three_seeds[0].parents[1])
    assert cli.main(["train", str(three_seeds[0]), "--vmap", "seeds=2"]) == 2
    assert "its config.json fixes what is trained" in capsys.readouterr().err
