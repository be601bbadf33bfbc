"""Each study with real training, of tiny models and in this process."""

import json
import random
from pathlib import Path

import pytest

from ladder.rundir.record import Record
from launch import cli, study
from launch.scheduler import foreground, worker

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compile")]
LADDERS = Path(__file__).with_name("tiny_studies.py")


@pytest.fixture
def text(tmp_path, monkeypatch):
    """A text to train on, where the command runs; jobs are trained in this process."""

    def run(jobs, console, backend):
        for job in jobs:
            if not Record(job.directory).is_done():
                worker.train(Path(job.directory))
        return foreground.Outcome(done=[job.run_id for job in jobs])

    monkeypatch.setattr(foreground, "run", run)
    monkeypatch.chdir(tmp_path)
    draw = random.Random(0)
    words = ["river", "stones", "and", "trees", "while", "the", "evening", "falls", "over", "a", "valley"]
    texts = [" ".join(draw.choices(words, k=120)) for _ in range(600)]
    Path("text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return "text.jsonl"


@pytest.mark.parametrize("name", study.NAMES)
def test_a_tiny_study_is_trained_and_reported(name, text):
    command = ["study", name, f"data.text={text}", "data.validation=0.2", "--ladder", f"{LADDERS}:{name}"]
    assert cli.main(command) == 0
    result = json.loads(Path("runs/study-tiny/study.json").read_text())
    assert result["missing"] == [] and result["statements"]
    page = Path("runs/study-tiny/report.html")
    first = page.read_text()
    assert "data:image/svg" in first
    assert cli.main(command) == 0  # nothing is left to train
    assert page.read_text() == first
