"""The lease: exactly one of several processes trains a run, and a killed process holds no lease."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from ladder.errors import Preempted
from ladder.rundir import lease as lease_module
from ladder.rundir.files import create, sealed
from ladder.rundir.lease import Lease, damage, is_live, read_lease
from ladder.rundir.record import Record


def foreign_lease(directory, expires_in, host="elsewhere", pid=1, number=1):
    lease = {"owner": f"{host}:{pid}:0", "host": host, "pid": pid, "expires": time.time() + expires_in}
    (directory / "leases").mkdir(parents=True, exist_ok=True)
    (directory / "leases" / f"{number}.json").write_text(sealed(lease))


def test_a_lease_is_exclusive_until_it_is_given_back(tmp_path):
    with Lease(tmp_path) as lease:
        with pytest.raises(Preempted, match=lease.owner):
            Lease(tmp_path).__enter__()
        lease.check()
    assert read_lease(tmp_path) is None
    with Lease(tmp_path) as later:
        assert later.number > lease.number


def test_another_machines_lease_holds_until_it_expires(tmp_path):
    foreign_lease(tmp_path, expires_in=30)
    with pytest.raises(Preempted, match="elsewhere:1:0 trains this run"):
        Lease(tmp_path).__enter__()
    foreign_lease(tmp_path, expires_in=-1)
    with Lease(tmp_path) as lease:
        assert read_lease(tmp_path)["owner"] == lease.owner


def test_a_thread_renews_however_long_a_step_takes(tmp_path, without_locks):
    with Lease(tmp_path, seconds=0.2) as lease:
        time.sleep(0.6)
        assert is_live(read_lease(tmp_path))
        with pytest.raises(Preempted, match=lease.owner):
            Lease(tmp_path).__enter__()
        lease.check()


def test_a_holder_that_was_replaced_notices(tmp_path, without_locks):
    lost = threading.Event()
    with Lease(tmp_path, seconds=0.2, on_lost=lost.set) as lease:
        foreign_lease(tmp_path, expires_in=30, number=lease.number + 1)
        assert lost.wait(10)
        with pytest.raises(Preempted, match="the lease was lost"):
            lease.check()
    assert read_lease(tmp_path)["owner"] == "elsewhere:1:0"


@pytest.mark.parametrize("content", ["", "{", '{"owner": 3, "schema_version": 1}', sealed({"owner": "x"}), "[]"])
def test_a_damaged_lease_holds_as_long_as_a_fresh_one(tmp_path, without_locks, content):
    foreign_lease(tmp_path, expires_in=3600)
    path = tmp_path / "leases" / "1.json"
    path.write_text(content)
    assert "1.json" in damage(tmp_path)
    with pytest.raises(Preempted, match="an unknown process trains this run"):
        Lease(tmp_path).__enter__()
    assert Record(tmp_path).state().name == "running"
    os.utime(path, (time.time() - 3600,) * 2)
    assert not is_live(read_lease(tmp_path))
    with Lease(tmp_path) as lease:
        assert lease.number == 2


@pytest.fixture
def without_locks(monkeypatch):
    """As in an object store: only the creation of a lease's file decides."""
    monkeypatch.setattr(lease_module, "_try_lock", lambda path: (True, None))


def test_a_killed_process_holds_nothing(tmp_path):
    code = f"""
import os, signal
from ladder.rundir.lease import Lease
Lease({str(tmp_path)!r}, seconds=3600).__enter__()
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert read_lease(tmp_path)["expires"] > time.time() + 3000
    assert not is_live(read_lease(tmp_path))
    assert Record(tmp_path).state().name == "stale"
    with Lease(tmp_path):
        pass


RACERS = """
import sys, threading
from ladder.rundir import lease as lease_module
from ladder.errors import Preempted
from ladder.rundir.files import create
from ladder.rundir.lease import Lease
over = threading.Event()
def race():
    try:
        with Lease(sys.argv[1]):
            sys.stdout.write("won\\n"); sys.stdout.flush()
            over.wait(30)
    except Preempted:
        sys.stdout.write("lost\\n"); sys.stdout.flush()
threads = [threading.Thread(target=race) for _ in range(5)]
print("ready", flush=True)
sys.stdin.readline()
for thread in threads: thread.start()
sys.stdin.readline()
over.set()
"""


@pytest.mark.parametrize("before", ["nothing", "expired", "of a dead process", "of a reused pid"])
def test_of_twenty_that_want_the_lease_one_has_it(tmp_path, before):
    """Five threads in each of four processes; the winner holds it until all have tried."""
    if before == "expired":
        foreign_lease(tmp_path, expires_in=-1)
    if before.startswith("of"):
        pid = 2**22 + 1 if "dead" in before else os.getpid()
        foreign_lease(tmp_path, expires_in=60, host=socket.gethostname(), pid=pid)
    command = [sys.executable, "-c", RACERS, str(tmp_path)]
    pipe = subprocess.PIPE
    racers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(4)]
    assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 4
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    outcomes = Counter(racer.stdout.readline().strip() for racer in racers for _ in range(5))
    for racer in racers:
        racer.communicate("over\n", timeout=30)
    assert outcomes == {"won": 1, "lost": 19}
    assert read_lease(tmp_path) is None


@pytest.mark.parametrize("before", ["nothing", "expired"])
def test_without_file_locks_one_has_it_too(tmp_path, without_locks, before):
    if before == "expired":
        foreign_lease(tmp_path, expires_in=-1)
    outcomes, start, over = [], threading.Barrier(20), threading.Event()

    def race():
        lease = Lease(tmp_path)
        start.wait()
        try:
            with lease:
                outcomes.append("won")
                over.wait(30)
        except Preempted:
            outcomes.append("lost")

    threads = [threading.Thread(target=race) for _ in range(20)]
    for thread in threads:
        thread.start()
    while len(outcomes) < 20:
        time.sleep(0.01)
    over.set()
    for thread in threads:
        thread.join()
    assert Counter(outcomes) == {"won": 1, "lost": 19}
    assert read_lease(tmp_path) is None


def test_an_object_store_creates_once():
    assert create("memory://bucket/lease.json", "mine")
    assert not create("memory://bucket/lease.json", "yours")
