import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from ladder.config import Data, Eval, Ladder, Model, Optimizer, Rung, Source
from launch import prepare


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Text, requests, a rung that trains on them in seconds (`world.rung(**changes)`: 60 steps of 4 x 32 tokens), and
    `world(rungs, root)`, which writes their run directories."""
    return World(tmp_path_factory.mktemp("world"))


class World:
    def __init__(self, folder: Path):
        self.folder, self.text, self.requests = folder, folder / "text.jsonl", folder / "colours.jsonl"
        draw = random.Random(0)
        words = ["tree", "river", "stone", "blue", "green", "runs", "falls", "quietly", "and", "the", "a"]
        lines = [" ".join(draw.choices(words, k=12)) + "." for _ in range(4000)]
        texts = [{"text": "\n".join(lines[i : i + 10])} for i in range(0, 4000, 10)]
        self.text.write_text("".join(json.dumps(text) + "\n" for text in texts))
        choices = [" blue", " green"]
        with self.requests.open("w") as file:
            for i in range(12):
                for idx, choice in enumerate(choices):
                    request = {"context": f"{lines[i]} The stone is", "continuation": choice}
                    doc = {"id": i, "query": request["context"], "choices": choices, "gold": i % 2}
                    names = {"task_name": "colours", "doc_id": i, "native_id": i, "label": i % 2}
                    line = {"request_type": "loglikelihood", "doc": doc, "request": request, "idx": idx} | names
                    file.write(json.dumps(line) + "\n")

    def rung(self, **changes) -> Rung:
        model = Model("olmo2", 16, 2, 2, 32, 256, 32, compute_dtype="float32", init_std=0.1)
        optimizer = Optimizer(0.01, 5 * 4 * 32, schedule="wsd", lr_final_fraction=0.0, decay_fraction=0.2)
        evaluation = Eval((str(self.requests),), every=20, validation_tokens=2048)
        whole = Rung("s", 1, 60 * 4 * 32, 4 * 32, model, optimizer, save_every=15, eval=evaluation)
        return replace(whole, **changes)

    def mixture(self) -> Data:
        """Two sources, words and numbers: a byte of a batch shows which source it comes from."""
        numbers = self.folder / "numbers.jsonl"
        draw = random.Random(1)
        texts = [{"body": " ".join(str(draw.randrange(10**9)) for _ in range(20))} for _ in range(150)]
        numbers.write_text("".join(json.dumps(text) + "\n" for text in texts))
        words = Source("words", (str(self.text),), 0.7)
        return Data(sources=(words, Source("numbers", (str(numbers),), 0.3, field="body")), validation=0.2)

    def build(self, rungs, data: Data | None = None, targets=()) -> prepare.Built:
        data = data or Data(text=(str(self.text),), validation=0.2)
        plain = replace(data, simulate_epochs_of=None)  # rungs and targets have no data in common yet
        ladder = Ladder("tiny", tuple(rungs), tuple(targets)).map(lambda rung: replace(rung, data=plain))
        return prepare.build(ladder.map(lambda rung: replace(rung, data=data)), self.folder / "corpora")

    def __call__(self, rungs, root: Path, data: Data | None = None, targets=()) -> list[Path]:
        built = self.build(rungs, data, targets)
        return prepare.write(built, built.ladder.all, root)
