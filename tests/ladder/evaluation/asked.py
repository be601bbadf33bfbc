"""A byte tokenizer, docs and request files for the tests of the evaluation."""

import json
from types import SimpleNamespace

import numpy as np

from ladder.evaluation.requests import Doc, Request
from ladder.evaluation.tasks import Task


def byte_tokenizer(bos=None):
    sizes = np.ones(256 if bos is None else bos + 1, np.int32)
    sizes[255:] = 0
    encode = lambda text: np.frombuffer(text.encode(), np.uint8)  # noqa: E731
    return SimpleNamespace(bos=bos, eos=255, encode=encode, token_bytes=sizes, space_before=False, hash=f"bytes-{bos}")


def doc(*continuations, gold=0, context="Q", id=0):
    return Doc(id, tuple(Request(context, c) for c in continuations), gold)


def line(doc_id=0, idx=0, label=0, context="Q:", continuation=" a", **more):
    """A line of a request file."""
    request = {"context": context, "continuation": continuation}
    return {"doc_id": doc_id, "idx": idx, "label": label, "request": request} | more


def write(path, lines):
    texts = [text if isinstance(text, str) else json.dumps(text, ensure_ascii=False) for text in lines]
    path.write_text("\n".join(texts) + "\n")
    return path


def save(task: Task, path) -> str:
    """Write a task as a request file, with the choices in reverse order."""
    return str(
        write(
            path,
            [
                line(doc.id, idx, doc.gold, request.context, request.continuation)
                for doc in task.docs
                for idx, request in reversed(list(enumerate(doc.choices)))
            ],
        )
    )
