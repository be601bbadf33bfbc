"""reconcile: a state machine that injects faults into whole ladders."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from launch.backends.protocol import TRIES, Job, Seen
from launch.scheduler import status
from launch.scheduler.reconcile import OVER, SETTLED, Delete, Mark, ladder_states, reconcile
from launch.scheduler.status import Status


@dataclass
class Run:
    job: Job
    saved: list[int] = field(default_factory=list)
    state: str = "pending"  # or one of OVER
    attempts: list[dict] = field(default_factory=list)
    billed: int = 0  # how often a machine was paid for since the newest checkpoint
    requeued: int = 0  # how many of these times the backend alone decided
    completions: int = 0

    def attempt(self, by):
        self.attempts.append({"by": by, "durable": self.saved[-1] if self.saved else None})

    def status(self, running):
        durable = self.saved[-1] if self.saved else None
        state = self.state if self.state in OVER else "running" if running else "stale" if self.attempts else "pending"
        return Status(
            self.job.run_id,
            state,
            steps=self.job.steps,
            durable=durable,
            saved=tuple(self.saved),
            tries=status.tries(self.attempts, durable),
        )


def ladder_of(shape):
    """shape: branches of every trunk; the fit comes last."""
    jobs = []
    for t, branches in enumerate(shape):
        trunk = f"t{t}"
        jobs.append(Job(f"l-{trunk}", trunk, trunk, ("train", trunk), steps=9, kind="trunk"))
        for b in range(branches):
            run_id = f"{trunk}b{b}"
            jobs.append(Job(f"l-{run_id}", run_id, run_id, ("train", run_id), ((trunk, 3 * (b % 3 + 1)),), steps=9))
    after = tuple((job.run_id, None) for job in jobs)
    return (*jobs, Job("l-fit", "fit", "fit", ("conclude", "fit"), after, kind="fit"))


ANSWERS = ("true", "true", "true", "old", "forgets", "twice", "wrong")


class World(RuleBasedStateMachine):
    """A backend with one live job per name, and run directories; faults of both; a submitter that only reconciles."""

    @initialize(
        shape=st.lists(st.integers(0, 4), min_size=1, max_size=5) | st.just([9] * 9 + [8]),  # up to 100 runs
        max_jobs=st.none() | st.integers(1, 4),
        keeps_machines=st.booleans(),
        chains=st.booleans(),
    )
    def begin(self, shape, max_jobs, keeps_machines, chains):
        self.jobs = ladder_of(shape)
        self.runs = {job.run_id: Run(job) for job in self.jobs}
        self.backend: dict[str, list] = {}  # job name -> [phase, code]
        self.ids, self.n_jobs, self.last_answer, self.lied = {}, 0, {}, False
        self.max_jobs, self.keeps_machines, self.chains = max_jobs, keeps_machines, chains

    def look(self, answer="true", index=0):
        """What the submitter reads of the run directories, and what the backend answers."""
        truth = {name: (Seen(self.ids[name], *held),) for name, held in self.backend.items()}
        backend, self.last_answer = dict(truth), truth if answer == "true" else self.last_answer
        name = sorted(truth)[index % len(truth)] if truth else None
        if answer == "old":
            backend = dict(self.last_answer)
        elif name and answer == "forgets":
            del backend[name]
        elif name and answer == "twice":
            backend[name] *= 2
        elif name and answer == "wrong":
            wrong = [
                ("queued", None),
                ("running", None),
                ("unknown", None),
                ("ended", None),
                ("ended", 137),
                ("ended", 1),
            ]
            backend[name] = (Seen(self.ids[name], *wrong[index % len(wrong)]),)
        self.lied |= backend != truth
        runs = {i: run.status(self.backend.get(run.job.name, [""])[0] == "running") for i, run in self.runs.items()}
        return runs, backend

    @rule(
        lost=st.sampled_from(["", "", "", "request", "response"]),
        cut=st.none() | st.integers(0, 3),
        answer=st.sampled_from(ANSWERS),
        index=st.integers(0, 99),
    )
    def submitter_looks(self, lost="", cut=None, answer="true", index=0):
        """lost: what of every call to the backend; cut: the submitter is killed after so many actions. answer: the
        backend may answer what was true before, leave a job out, name it twice, or say that it is in another phase."""
        runs, backend = self.look(answer, index)
        actions = reconcile(self.jobs, runs, backend, 0.0, self.max_jobs, 0.0, self.keeps_machines, self.chains)
        for action in actions[:cut]:
            run = self.runs[action.job.run_id]
            if isinstance(action, Mark):
                assert run.state not in OVER
                run.state = action.state
                continue
            if lost == "request":
                continue
            if isinstance(action, Delete):
                # A machine is deleted by its name; other backends refuse to delete a newer job of the same name.
                if self.keeps_machines or self.ids.get(action.job.name) == action.seen.id:
                    self.backend.pop(action.job.name, None)
                continue
            assert run.state not in OVER, "what is over is never run again"
            assert self.lied or run.job.name not in self.backend, "one job for a run"
            if not self.chains:
                assert self.may_start(run)
            if run.job.name not in self.backend:  # an existing one of its name is left as it is
                self.n_jobs += 1
                self.backend[run.job.name], self.ids[run.job.name] = ["queued", None], str(self.n_jobs)
            if lost != "response":
                run.attempt("submit")
        if self.max_jobs is not None and not self.lied:
            assert len([held for held in self.backend.values() if held[0] != "ended"]) <= self.max_jobs

    def at(self, index, *phases):
        names = sorted(name for name, held in self.backend.items() if held[0] in phases)
        return names[index % len(names)] if names else None

    def run_of(self, name):
        return self.runs[name.removeprefix("l-")]

    def may_start(self, run):
        for needed, step in run.job.after:
            before = self.runs[needed]
            skipped = [self.runs[i].state for i, _ in before.job.after] == ["diverged"]
            over = before.state in ("done", "diverged") or (skipped and before.state == "pending")
            if not (over if step is None else step in before.saved or before.state == "done"):
                return False
        return True

    @rule(index=st.integers(0, 99))
    def a_job_starts(self, index):
        if name := self.at(index, "queued"):
            self.starts(name)

    def starts(self, name):
        """A backend that chains starts a job when those it needs are done; it drops it if one of them never will be."""
        run = self.run_of(name)
        if self.may_start(run):
            self.backend[name] = ["running", None]
            if run.state not in OVER:
                run.attempt("train")
                run.billed += 1
                assert run.billed - run.requeued <= TRIES, "no more tries are paid for without a new checkpoint"
        elif any(self.runs[i].state in OVER or self.runs[i].job.name not in self.backend for i, _ in run.job.after):
            del self.backend[name]

    @rule(index=st.integers(0, 99))
    def a_run_gets_on(self, index):
        if name := self.at(index, "running"):
            self.gets_on(name)

    def gets_on(self, name):
        run, held = self.run_of(name), self.backend[name]
        if run.state in OVER:  # a machine that is still there
            return
        step = (run.saved[-1] if run.saved else 0) + 3
        if run.job.is_fit or step >= run.job.steps:
            run.state = "done"
            run.completions += 1
        if not run.job.is_fit:
            run.saved.append(step)
            run.billed = run.requeued = 0
        if run.state == "done" and not self.keeps_machines:
            held[:] = ["ended", 0]

    @rule(index=st.integers(0, 99), code=st.sampled_from([None, 75, 137, -9]))
    def preempted(self, index, code):
        if name := self.at(index, "running", "queued"):
            self.backend[name] = ["ended", code]

    @rule(index=st.integers(0, 99), code=st.sampled_from([None, 75, 137]), answer=st.sampled_from(ANSWERS))
    def preempted_again_and_again(self, index, code, answer):
        """A run that never reaches its next checkpoint: each time it begins, its machine is taken away."""
        if not (name := self.at(index, "running", "queued")):
            return
        for _ in range(TRIES + 2):
            if self.backend.get(name, [""])[0] == "queued":
                self.starts(name)
            if self.backend.get(name, [""])[0] == "running":
                self.backend[name] = ["ended", code]
            self.submitter_looks(answer=answer, index=index)
            self.submitter_looks()

    @rule(index=st.integers(0, 99))
    def requeued_by_the_backend(self, index):
        if name := self.at(index, "running"):
            self.backend[name] = ["queued", None]
            self.run_of(name).requeued += 1

    @rule(index=st.integers(0, 99))
    def a_job_vanishes(self, index):
        if name := self.at(index, "running", "queued", "ended"):
            del self.backend[name]

    @rule(index=st.integers(0, 99), how=st.sampled_from([("diverged", 78), ("failed", 1), ("failed", 2), (None, 127)]))
    @precondition(lambda self: len(self.jobs) > 3)
    def a_run_ends_badly(self, index, how):
        name = self.at(index, "running")
        if name and self.run_of(name).state not in OVER:
            self.run_of(name).state = how[0] or self.run_of(name).state
            self.backend[name] = ["ended", how[1]]

    @invariant()
    def what_is_done_stays_done(self):
        done = {i for i, run in getattr(self, "runs", {}).items() if run.state == "done"}
        assert done >= getattr(self, "was_done", set())
        self.was_done = done

    def teardown(self):
        """The faults end: the ladder converges, and the backend holds nothing any more."""
        if not hasattr(self, "jobs"):
            return
        for _ in range(len(self.jobs) * 6 + 10):
            self.submitter_looks()
            for name in [name for name, held in self.backend.items() if held[0] == "running"]:
                self.gets_on(name)
            for name in [name for name, held in self.backend.items() if held[0] == "queued"]:
                self.starts(name)
            runs, backend = self.look()
            if not backend and all(state in SETTLED for state in ladder_states(self.jobs, runs, backend).values()):
                break
        assert not self.backend, "the backend has no job any more"
        states = ladder_states(self.jobs, *self.look())
        assert set(states.values()) <= set(SETTLED)
        for run in self.runs.values():
            assert run.completions <= 1, "no run is trained twice"
            assert run.state != "stuck" or status.tries(run.attempts, run.saved[-1] if run.saved else None) >= TRIES
        if not {"failed", "stuck", "blocked"} & {*states.values()}:
            assert states["fit"] == "done"


TestFaults = World.TestCase
TestFaults.settings = settings(max_examples=100, stateful_step_count=20, deadline=None, derandomize=True)


@pytest.mark.chaos
class TestManyFaults(World.TestCase):
    """make proof-faults"""

    settings = settings(max_examples=2000, stateful_step_count=20, deadline=None, derandomize=True)
