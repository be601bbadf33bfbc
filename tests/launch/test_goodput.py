"""Where the time of a run went: the parts add up to the wall time, whatever killed it."""

import json
import os
import random
import signal
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ladder.config import canonical_json
from ladder.rundir.record import Record
from launch import cli, goodput
from launch.goodput import PARTS, WORK, Sitting
from tests.ladder.conftest import World
from tests.ladder.loop.training import command
from tests.launch import stand_ins

OWN = [part for part in PARTS if part not in ("lost", "idle")]
ZERO = dict.fromkeys(PARTS, 0.0)


@pytest.mark.parametrize(
    "sittings, expected",
    [
        pytest.param([], None, id="never began"),
        pytest.param(
            [Sitting(100.0, {"restart": 2.0, "productive": 8.0}, 0)], {"restart": 2, "productive": 8}, id="one"
        ),
        pytest.param(
            [
                Sitting(0.0, {"productive": 10.0, "evaluation": 4.0}, 0, ((5, {"productive": 6.0}),), alive=14.0),
                Sitting(20.0, {"productive": 3.0}, 5),
            ],
            {"productive": 9, "lost": 8, "idle": 6},
            id="work after the save is lost",
        ),
        pytest.param(
            [
                Sitting(0.0, {"productive": 9.0}, 0, ((5, {"productive": 3.0}), (10, {"productive": 6.0})), alive=9.0),
                Sitting(9.0, {"productive": 2.0}, 10, ((15, {"productive": 2.0}),), alive=11.0),
                Sitting(11.0, {"productive": 1.0}, 5),
            ],
            {"productive": 4, "lost": 8},
            id="a later sitting resumed from an older checkpoint",
        ),
        pytest.param(
            [Sitting(0.0, {}, alive=30.0), Sitting(50.0, {}, alive=0.0), Sitting(60.0, {"restart": 1.0}, 0)],
            {"restart": 31, "idle": 30},
            id="killed before the first step: start-up as long as the lease was renewed",
        ),
        pytest.param(
            [
                Sitting(0.0, {"productive": 5.0}, 0, ((4, {"productive": 5.0}),), alive=25.0),
                Sitting(40.0, {"productive": 1.0}, 4),
            ],
            {"productive": 6, "lost": 20, "idle": 15},
            id="killed in a long evaluation, while the lease was renewed",
        ),
        pytest.param(
            [Sitting(0.0, {"productive": 5.0}, 0, alive=99.0)], {"productive": 5}, id="runs now: until its heartbeat"
        ),
    ],
)
def test_the_account_of_a_few_sittings(sittings, expected):
    assert goodput.account(sittings) == (ZERO | expected if expected is not None else {})


part_seconds = st.dictionaries(st.sampled_from(OWN), st.floats(0, 1e4), min_size=1)


@given(st.lists(st.tuples(st.floats(0, 1e4), part_seconds, part_seconds, st.integers(0, 3)), min_size=1, max_size=6))
def test_the_parts_add_up_to_the_time_from_the_first_start_to_the_last_sign(drawn):
    """Each sitting: idle before it, seconds until its save and after it, how many saves the next one goes back."""
    clock, sittings, saved = 1e9, [], [0]
    for idle, before, after, back in drawn:
        clock += idle
        first = saved[max(0, len(saved) - 1 - back)]
        seconds = {part: before.get(part, 0.0) + after.get(part, 0.0) for part in OWN}
        sittings.append(Sitting(clock, seconds, first, ((first + 1, before),), alive=clock + sum(seconds.values())))
        saved = [step for step in saved if step <= first] + [first + 1]
        clock += sum(seconds.values())
    seconds = goodput.account(sittings)
    assert sum(seconds.values()) == pytest.approx(clock - sittings[0].began, abs=1e-3)
    assert min(seconds.values()) >= -1e-6
    assert seconds["idle"] == pytest.approx(sum(d[0] for d in drawn[1:]), abs=1e-3)
    done = sum(d[1].get(part, 0.0) + d[2].get(part, 0.0) for d in drawn for part in WORK)
    assert seconds["lost"] + sum(seconds[part] for part in WORK) == pytest.approx(done, abs=1e-3)


def sitting(began, first, recompilations=0, **seconds):
    return {"began": began, "first": first, "seconds": seconds, "recompilations": recompilations}


@pytest.fixture
def killed_once(tmp_path, monkeypatch):
    """A run directory: a sitting of 10 s, killed, its checkpoint of step 4 after 6; then one of 5 s."""
    record, now = Record(stand_ins.run(tmp_path / "mine", "r")), [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    assert goodput.of_run(record) == {}
    record.attempt("submit")
    record.attempt("train", began=1000.0)
    record.timing(step=4, phase="checkpoint", seconds=1.0, sitting=sitting(1000.0, 0, productive=5.0, checkpoint=1.0))
    now[0] = 1010.0
    record.heartbeat(7, 2.0, None, sitting=sitting(1000.0, 0, productive=9.0, checkpoint=1.0))
    now[0] = 1025.0
    record.attempt("train", began=1024.0)
    now[0] = 1029.0
    record.heartbeat(8, 2.0, None, sitting=sitting(1024.0, 4, 3, productive=4.0, restart=1.0))
    return record


DAMAGED = (
    '{"phase": "checkpoint", "sitt',  # a crash
    "[1]",
    '{"phase": "checkpoint", "step": 5, "sitting": 7}',
    '{"phase": "checkpoint", "step": 5, "sitting": {"began": 1000.0, "seconds": 3}}',
    '{"phase": "checkpoint", "step": 5, "sitting": {"began": 1000.0, "seconds": {"productive": "9"}}}',
    '{"phase": "checkpoint", "step": 5, "sitting": {"began": 1000.0, "seconds": {"pr0ductive": 9}}}',
    '{"phase": "checkpoint", "step": "5", "sitting": {"began": 1000.0, "seconds": {"productive": 9}}}',
)


def test_the_files_of_a_run_are_read(killed_once):
    expected = {"productive": 9.0, "checkpoint": 1.0, "restart": 1.0, "lost": 4.0, "idle": 14.0}
    assert goodput.of_run(killed_once) == ZERO | expected
    for line in DAMAGED:
        with open(killed_once.directory / "timing.jsonl", "a") as file:
            file.write(line + "\n")
        assert goodput.of_run(killed_once) == ZERO | expected, line
    assert list(goodput.of_run(killed_once)) == list(PARTS)


def test_the_members_of_a_group_share_its_time(killed_once):
    config = killed_once.read_config()
    (killed_once.directory / "config.json").unlink()
    alone = goodput.account(goodput.sittings(killed_once))
    killed_once.write_config(config | {"group": {"members": ["r", "s", "t", "u"]}})
    assert goodput.of_run(killed_once) == {part: seconds / 4 for part, seconds in alone.items()}
    members = [killed_once] * 4
    assert goodput.of_ladder(members) == pytest.approx(alone)


def test_runs_of_an_older_ladder_and_damaged_ones_have_no_account(tmp_path):
    record = Record(stand_ins.run(tmp_path / "mine", "r"))
    row = {"by": "train", "durable": None, "time": 5.0}  # as it was before
    (record.directory / "attempts.jsonl").write_text(canonical_json(row) + "\n")
    record.heartbeat(5, 2.0, None)
    assert goodput.of_run(record) == {} == goodput.of_ladder([record])
    (record.directory / "config.json").write_text("{")
    assert goodput.of_run(record) == {}


def test_status_shows_it(killed_once, tmp_path, capsys):
    stand_ins.run(tmp_path / "mine", "not-begun")
    json_file = tmp_path / "status.json"
    assert cli.main(["status", str(tmp_path / "mine"), "--goodput", "--json", str(json_file)]) == 0
    out = capsys.readouterr().out
    assert "where the time went" in out and "48.3%" in out and "14 s" in out  # idle: 14 of 29 s
    assert "r: programs compiled again while it trained (3)" in out and "not-begun: programs" not in out
    value = json.loads(json_file.read_text())["goodput"]
    assert value["runs"] == {"not-begun": {}, "r": goodput.of_run(killed_once)}
    assert value["total"] == goodput.of_run(killed_once)
    assert cli.main(["status", str(tmp_path / "mine"), "--json", str(json_file)]) == 0
    assert "where the time went" not in capsys.readouterr().out
    assert "goodput" not in json.loads(json_file.read_text())


@pytest.mark.chaos
def test_a_run_killed_five_times(tmp_path, quick_compile):
    """kill -9 at five random moments after a save; the next start follows after one to three seconds.

    What the harness sees: when each process was killed and when its newest checkpoint was published. A kill comes up
    to five seconds after the last heartbeat; these seconds count as idle, not as lost.
    """
    world = World(tmp_path)
    [directory] = world([world.rung(tokens=4000 * 4 * 32, save_every=250)], tmp_path / "runs")
    draw, idle, lost, slack, killed = random.Random(2), 0.0, 0.0, 0.0, None
    for _ in range(5):
        newest = max(Record(directory).saved_steps(), default=0)
        process = subprocess.Popen(command(directory), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while max(Record(directory).saved_steps(), default=0) == newest:
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(draw.uniform(0.5, 3))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        began = Record(directory).attempts()[-1]["time"]
        idle += began - killed if killed else 0.0
        killed = time.time()
        newest = max(Record(directory).saved_steps())
        lost += killed - os.stat(directory / "checkpoints" / str(newest) / "MANIFEST.json").st_mtime
        slack += killed - Record(directory).beat()["time"]
        time.sleep(draw.uniform(1, 3))
    assert subprocess.run(command(directory), capture_output=True).returncode == 0
    record = Record(directory)
    idle += record.attempts()[-1]["time"] - killed
    wall = os.stat(directory / "DONE.json").st_mtime - record.attempts()[0]["time"]
    seconds = goodput.of_run(record)
    print({part: round(value, 2) for part, value in seconds.items()})
    print(f"wall {wall:.2f}, parts {sum(seconds.values()):.2f}; idle {idle:.2f}, lost {lost:.2f}, slack {slack:.2f}")
    assert len(goodput.sittings(record)) == 6
    assert sum(seconds.values()) == pytest.approx(wall, rel=0.01)
    assert seconds["idle"] == pytest.approx(idle + slack, abs=1.0)
    assert seconds["lost"] == pytest.approx(lost - slack, abs=0.1 * lost + 1.0)
    assert slack < 5 * 6
