"""The prepared folder with runs in it: the demo and my/ladder.py:mine, trained in this process at a size of seconds."""

import random
from dataclasses import replace
from pathlib import Path

from configs import demo, loader
from ladder.config import Data, Eval, Ladder, Model
from ladder.rundir.record import Record
from launch import cli
from launch.scheduler import foreground, worker

WIDTHS = {24: 8, 32: 12, 72: 16}  # of the demo: of the stand-in
MODEL = demo.model


def shape(width: int) -> Model:
    """A model that stands for the demo's of this width."""
    return replace(MODEL(WIDTHS[width], n_layers=1), vocab_size=512, seq_len=32)


def tiny_demo(patch) -> Ladder:
    """Of the demo, one size, the longest run of another, and the target, with 3,000 to 12,000 parameters."""
    with patch.context() as within:
        within.setattr(demo, "model", shape)
        within.setattr(demo, "SEQ_LEN", 32)
        within.setattr(demo, "batch_sequences", lambda n: 64)
        evaluation = Eval((str(Path("my/questions.jsonl").resolve()),), validation_tokens=1024)
        ladder = demo._ladder("demo", (24, 32), (0.5, 0.8, 1.25, 2), 72, 0.5, evaluation, 0)
    kept = [rung for rung in ladder.rungs if rung.size == "d24" or rung.label in ("d32-trunk", "d32-2xC")]
    data = Data(text=("my/notes",), validation=0.2)
    return replace(ladder, rungs=tuple(kept)).map(lambda rung: replace(rung, data=data))


def stand_in(patch) -> None:
    """Let "demo" name the tiny demo, and train jobs of this machine in this process."""

    def run(jobs, console, backend):
        for job in jobs:
            if job.run_id.startswith("fit-"):
                worker.conclude(job.directory)
            elif not Record(job.directory).is_done():
                worker.train(job.directory)
        return foreground.Outcome(done=[job.run_id for job in jobs])

    patch.setattr(foreground, "run", run)
    patch.setitem(loader.BUILT_IN, "demo", lambda: tiny_demo(patch))


def train(patch) -> None:
    """In the current folder: both ladders, a run of the demo that diverges, a model as Hugging Face has it, and
    tasks of the held-out text."""
    assert cli.main(["submit", "demo"]) == 0
    assert cli.main(["submit", "my/ladder.py:mine"]) == 0
    assert cli.main(["train", "demo", "--rung", "d24-trunk", "model.init_std=1e38"]) == 78
    [run] = Path("runs/demo").glob("d24-2xC-*")
    assert cli.main(["export", str(run), "--to", "hf", "my/OLMo-2-0425-1B"]) == 0
    assert cli.main(["data", "tasks", "demo", "-o", "my-tasks", "--docs", "20"]) == 0


def run_id(state: str) -> str:
    """A run of the demo that is done, or that has diverged."""
    marker = {"done": "DONE.json", "diverged": "STOPPED.json"}[state]
    return random.Random(0).choice(sorted(path.parent.name for path in Path("runs/demo").glob(f"d*/{marker}")))
