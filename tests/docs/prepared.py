"""A folder that holds what the commands of the docs name: tables, texts, token files, results and a ladder's file."""

import contextlib
import csv
import json
import random
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import fitting
from fitting.studies import catalogue
from fitting.studies.critical_batch import KEY, CriticalBatch
from launch import cli
from tests.docs.commands import FENCE, ROOT
from tests.ladder.data.tokens import written

SUBMIT = ROOT / "docs/submit.md"  # holds a ladder.toml
SIZES = {"190M": 190_354_176, "370M": 371_262_464, "760M": 758_220_288, "1B": 1_279_395_840}  # of olmo2
TARGET = ("7B-4T", 6_887_575_552, 3_945_065_873_408)
FEW = [f"{size}-{multiple}xC" for size in ("190M", "370M", "1B") for multiple in (1, 10)] + [TARGET[0]]
TASKS = {"piqa_val": (0.2, 0.5), "hellaswag_val": (0.0, 0.25), "validation": (0.4, None)}  # shift of its bpb, chance
END = 0  # id of <|endoftext|> in my/tokenizer.json
LADDER = """
from dataclasses import replace
from configs.demo import model, rung
from ladder.config import Data, Eval, Ladder, Source

DATA = Data(
    sources=(
        Source("web", ("more.jsonl", "my/notes"), weight=0.8),
        Source("code", ("my/notes",), weight=0.2),
    ),
    validation=0.2,
)


def one(name, width, multiple):
    shape = replace(model(width, n_layers=1), vocab_size=512, seq_len=32)
    return replace(rung(name, shape, multiple, Eval((), validation_tokens=256), 0), data=DATA)


def mine():
    runs = [("NAME", 8, 0.05), ("s", 8, 2), ("m", 12, 2), ("l", 16, 2), ("xl", 20, 2)]
    return Ladder("mine", tuple(one(*run) for run in runs))
"""

STUDIES = """
from dataclasses import replace
from ladder.config import Data
from tests.launch import tiny_studies


def shape():
    data = Data(text=("my/notes",), validation=0.2)
    return tiny_studies.shape().map(lambda rung: replace(rung, data=data))
"""


def write(folder: Path) -> None:
    """All files, under the names that the docs use, in an empty folder."""
    for name in ("table.csv", "TABLE", "runs.csv", "mine.csv", "theirs.csv"):
        _write(folder / name, measured_runs(recipe="theirs-" * (name == "theirs.csv")))
    _write(folder / "few.csv", [row for row in measured_runs() if row["run"] in FEW])
    for name in ("points.csv", "epochs.csv", "checkpoints.csv", "grid.csv"):
        _write(folder / name, losses(name.removesuffix(".csv")))
    for name, accuracy in (("1B.json", 0.6), ("3B.json", 0.65), ("results.json", 0.6)):
        scores = {"piqa": {"acc,none": accuracy, "acc_stderr,none": 0.01, "bits_per_byte,none": 1 - accuracy / 2}}
        (folder / name).write_text(json.dumps({"results": scores, "n-samples": {"piqa": {"original": 1838}}}))
    [settings] = [
        block for language, block in FENCE.findall(SUBMIT.read_text()) if "[tpu]" in block and "[env]" in block
    ]
    (folder / "ladder.toml").write_text(settings)
    _texts(folder)
    _studies(folder)
    _tokens(folder / "my")
    with contextlib.chdir(folder):
        assert cli.main(["data", "index", "my/tokens", "--dtype", "uint16", "--tokenizer", "my/tokenizer.json"]) == 0
    _logs(folder)
    (folder / "my/ladder.py").write_text(LADDER)
    (folder / "my/studies.py").write_text(STUDIES)


def bpb(n: float, d: float) -> float:
    """A law of the form of Hoffmann et al. 2022."""
    return 0.45 + 0.25 * (n / 1e9) ** -0.3 + 0.25 * (d / 1e11) ** -0.3


def measured_runs(recipe: str = "", noise: float = 0.003) -> list[dict]:
    """Rows of four sizes x four lengths x two seeds with ten checkpoints each, and of a measured target. A recipe
    with a name, which each of its runs begins with, is 3 % worse."""
    draw, rows, worse = np.random.default_rng(0), [], 0.03 * bool(recipe)
    runs = [(size, n, multiple, seed) for size, n in SIZES.items() for multiple in (1, 2, 5, 10) for seed in (0, 1)]
    for size, n, multiple, seed in [*runs, (*TARGET, 0)]:
        is_target, tokens = size == TARGET[0], multiple if size == TARGET[0] else 20 * n * multiple
        run = recipe + (size if is_target else f"{size}-{multiple}xC" + f"-s{seed}" * seed)
        for part in range(1, 11):
            d, is_end = tokens * part / 10, part == 10
            about = {"run": run, "split": "target" if is_target else "train", "size": size, "kind": "full"}
            about |= {"multiple": multiple if not is_target else "", "seed": seed, "n_params": n, "tokens": int(d)}
            about |= {"step": part * 100, "final": is_end}
            for task, (shift, chance) in TASKS.items():
                value = (shift + bpb(n, d) + 0.02 * (not is_end)) * np.exp(noise * draw.standard_normal()) * (1 + worse)
                about |= {"task": task, "n_docs": 1838, "chance": chance}
                rows.append(about | {"metric": "bpb", "value": value})
                if chance:
                    accuracy = chance + (0.97 - chance) / (1 + np.exp(6 * (value - shift - 0.8)))
                    rows.append(about | {"metric": "acc", "value": accuracy})
    return rows


def losses(kind: str) -> list[dict]:
    """Rows of a wide table, by Chinchilla's law with 0.3 % of noise."""
    draw, rows = np.random.default_rng(1), []
    for size in np.geomspace(5e7, 5e9, 6):
        for flops in np.geomspace(3e18, 3e20, 6):
            flops = flops if kind == "grid" else flops * size / 5e8
            for tuning in ("fixed", "tuned") if kind == "grid" else ("",):
                n, d = size, flops / (6 * size)
                epochs = 1 + 3 * (len(rows) % 4) if kind == "epochs" else 1
                repeated = d / epochs * (1 + 15 * (1 - np.exp(-(epochs - 1) / 15)))
                loss = 1.8 + 480 / n**0.35 + 2000 / repeated**0.37 + 0.05 * (tuning == "fixed")
                row = {"params": n, "non_embedding": n - 512 * n ** (1 / 3), "tokens": d, "tuning": tuning}
                row |= {"unique_tokens": d / epochs, "series": f"{size:.3g}"}
                rows.append(row | {"loss": loss * np.exp(0.003 * draw.standard_normal())})
    columns = {"epochs": ["unique_tokens"], "checkpoints": ["series"], "grid": ["non_embedding", "tuning"]}
    keep = ["params", "tokens", *columns.get(kind, []), "loss"]
    return [{name: row[name] for name in keep} for row in rows]


def _write(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _studies(folder: Path) -> None:
    """study.json of a study of noise and of one of batch sizes."""
    noise = catalogue.analyse("noise", fitting.read_runs(folder / "runs.csv")).json()
    critical = CriticalBatch(0.8, 15.0, 5.0, ((0.01, 0.0), (0.0, 0.5)), 6, (1.0, 0.7)).json()
    for name, content in (("noise", noise), ("batch", {"schema_version": 1, "measured": {KEY: critical}})):
        path = folder / f"runs/study-{name}/study.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))


def _texts(folder: Path) -> None:
    """Python code (of any text the one with all kinds of held-out tasks), and questions."""
    notes = folder / "my" / "notes"
    notes.mkdir(parents=True)
    draw = random.Random(0)
    names = ["river", "stone", "tree", "valley", "evening", "cloud", "field", "stream"]
    for i in range(200):
        lines = [f"def {draw.choice(names)}_{i}({draw.choice(names)}, {draw.choice(names)}):"]
        for _ in range(20):
            a, b, c = draw.sample(names, 3)
            lines.append(f"    if {a}[{draw.randrange(99)}] > {b}:\n        {c} = ({a} + {b}) * '{draw.choice(names)}'")
        (notes / f"{i}.py").write_text("\n".join(lines))
    (folder / "more.jsonl").write_text('{"text": "one more text of one more line"}\n')
    questions = [
        {"question": f"Which is {name}?", "choices": names[:4], "answer": i} for i, name in enumerate(names[:4])
    ]
    (folder / "my/questions.jsonl").write_text("".join(json.dumps(question) + "\n" for question in questions))


def _tokens(folder: Path) -> None:
    """Token files in the ids of a tokenizer of bytes, with two special tokens."""
    alphabet = ["<|endoftext|>", "<|end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    draw = np.random.default_rng(2)
    (folder / "tokens").mkdir()
    documents = [[*draw.integers(30, 90, 400), END] for _ in range(60)]
    written.npy(folder / "tokens/a.npy", np.concatenate(documents[:50]), "uint16")
    written.npy(folder / "tokens/held-out.npy", np.concatenate(documents[50:]), "uint16")
    written.megatron(folder / "megatron_text_document.bin", documents, "uint16")


def _logs(folder: Path) -> None:
    """What `ladder plan olmo2 --emit maxtext` writes, cut to its list of runs; and a log of one run."""
    (folder / "emitted").mkdir()
    (folder / "logs").mkdir()
    batch, steps = 524_288, 4
    facts = {"run": "190M-1xC", "split": "train", "size": "190M", "multiple": 1, "seed": 0, "n_params": SIZES["190M"]}
    facts |= {"n_non_embedding": 113_246_208, "n_total": 267_424_512, "tokens": steps * batch, "steps": steps}
    facts |= {"batch_tokens": batch, "schedule": "cosine", "peak_lr": 1e-3, "lr_final_fraction": 0.1}
    facts |= {"warmup_steps": 1, "decay_steps": None}
    (folder / "emitted/emitted.json").write_text(json.dumps({"schema_version": 1, "runs": [facts]}))
    lines = [{"learning/lm_loss": 9.0 - i, "learning/z_loss": 0.0, "learning/loss": 9.0 - i} for i in range(steps)]
    lines = [line | {"step": float(i), "run_name": "190M-1xC"} for i, line in enumerate(lines)]
    (folder / "logs/190M-1xC.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
