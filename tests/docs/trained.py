"""The prepared folder with runs in it: the demo and my/ladder.py:mine, at a size of seconds and in this process."""

from dataclasses import replace
from pathlib import Path

from configs import demo, loader
from ladder.config import Data, Eval, Ladder, Model
from ladder.rundir.record import Record
from launch import cli
from launch.scheduler import foreground, worker

WIDTHS = {24: 8, 32: 12, 72: 16}  # of the demo: of the stand-in
MODEL = demo.model
TRAINED = ("d24-trunk", "d24-2xC")  # the other runs follow a law


def shape(width: int) -> Model:
    """A model that stands for the demo's of this width."""
    return replace(MODEL(WIDTHS[width], n_layers=1), vocab_size=512, seq_len=32)


def tiny_demo(patch) -> Ladder:
    """Of the demo, two sizes with their trunks and branches, and the target, of 3,000 to 12,000 parameters."""
    with patch.context() as within:
        within.setattr(demo, "model", shape)
        within.setattr(demo, "SEQ_LEN", 32)
        within.setattr(demo, "batch_sequences", lambda n: 64)
        evaluation = Eval((str(Path("my/questions.jsonl").resolve()),), validation_tokens=1024)
        ladder = demo._ladder("demo", (24, 32), (0.5, 0.8, 1.25, 2), 72, 0.5, evaluation, 0)
    return ladder.map(lambda rung: replace(rung, data=Data(text=("my/notes",), validation=0.2)))


def stand_in(patch) -> None:
    """Let "demo" name the tiny demo, and make the runs of this machine in this process."""

    def run(jobs, console, backend):
        for job in jobs:
            if job.run_id.startswith("fit-"):
                if "demo" in str(job.directory):
                    worker.conclude(job.directory)
            elif not Record(job.directory).is_done():
                is_trained = job.run_id.startswith(TRAINED)
                worker.train(job.directory) if is_trained else follow_a_law(Path(job.directory))
        return foreground.Outcome(done=[job.run_id for job in jobs])

    patch.setattr(foreground, "run", run)
    patch.setitem(loader.BUILT_IN, "demo", lambda: tiny_demo(patch))


def follow_a_law(directory: Path) -> None:
    """Write what a run leaves behind, but for its checkpoints, with losses that follow a law of N and D."""
    record = Record(directory)
    derived = record.read_config()["derived"]
    n, steps, first = derived["n_params"], derived["steps"], derived["parent_step"] or 0
    if first:
        record.rewind(first, origin=first, listing={})
    for step in sorted({first + -(-(steps - first) * part // 10) for part in range(1, 11)}):  # rounded up
        tokens = step * derived["batch_tokens"]
        bpb = 1.5 + 60 / n**0.5 + 900 / tokens**0.6
        row = {"step": step, "tokens": tokens, "kind": derived["kind"], "stderr": None, "n_docs": None}
        validation, train = row | {"task": "validation"}, row | {"task": "train"}
        record.log([validation | {"metric": "bpb", "value": bpb}, train | {"metric": "loss", "value": 0.69 * bpb}])
    record.publish(steps)
    record.finish(step=steps, tokens=steps * derived["batch_tokens"], loss=0.69 * bpb)
    (directory / "log.txt").write_text("step 1\nstep 2\n")


def train(patch) -> None:
    """In the current folder: both ladders, a run of the demo that diverges, a model in Hugging Face's format, and tasks
    of the held-out text."""
    assert cli.main(["submit", "demo"]) == 0
    assert cli.main(["submit", "my/ladder.py:mine"]) == 0
    assert cli.main(["train", "demo", "--rung", "d24-trunk", "model.init_std=1e38"]) == 78
    assert cli.main(["export", f"runs/demo/{run_id('done')}", "--to", "hf", "my/OLMo-2-0425-1B"]) == 0
    assert cli.main(["data", "tasks", "demo", "-o", "my-tasks", "--docs", "20"]) == 0


def run_id(state: str) -> str:
    """The trained branch of the demo (done), or the run that has diverged."""
    pattern = {"done": "d24-2xC-*/DONE.json", "diverged": "*/STOPPED.json"}[state]
    [marker] = Path("runs/demo").glob(pattern)
    return marker.parent.name
