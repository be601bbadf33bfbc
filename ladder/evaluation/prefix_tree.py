"""Requests as prefix trees: what requests share is computed once, and each still gets exactly its own score.

The tokens of a task's requests form a tree: a few-shot prompt, below it the questions, below each its choices. Its
nodes, in depth-first order, are cut into rows: each row goes on where the one before it stopped. A node sees its
ancestors, those of its own row and those of rows before it, whose keys and values are kept. Its position is its depth.
Sharing is decided on token ids, so it is exact whatever a tokenizer does where texts meet.

Shapes: n steps, B rows of a step, L length of a row, h chunks of T targets of each row, Q requests, M docs, C choices.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ladder.evaluation.tasks import Doc, Task

ROW_TOKENS = 1024  # fewer where the model's context is shorter: a power of two
STEP_TOKENS = 1024  # on a CPU, where more fall out of the cache
HEAD_TOKENS = 64  # T: targets of a row that go through the head at once


class Encoded(NamedTuple):
    """A request in tokens. The last len(targets) places of `inputs` predict `targets`.

    n_bytes and n_chars are the continuation's, leading space included; where it is longer than the model (`cut`), they
    shrink with the bytes of the targets that are left.
    """

    inputs: np.ndarray
    targets: np.ndarray
    request: int
    n_bytes: float
    n_chars: float
    cut: bool


def encode(docs: tuple[Doc, ...], tokenizer, seq_len: int, first: int = 0) -> list[Encoded]:
    """Tokens of every request of every doc, in order; `first`: the first one's number.

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
            cut = len(targets) < len(answer)
            left = tokenizer.token_bytes[targets].sum() / tokenizer.token_bytes[answer].sum() if cut else 1.0
            n_bytes, n_chars = left * len(continuation.encode()), left * len(continuation)
            encoded.append(Encoded(inputs, targets, first + len(encoded), n_bytes, n_chars, cut))
    return encoded


def _context(text: str, tokenizer) -> np.ndarray:
    ids = np.asarray(tokenizer.encode(text), np.int32)
    if tokenizer.bos is not None and (len(ids) == 0 or ids[0] != tokenizer.bos):
        return np.concatenate([np.int32([tokenizer.bos]), ids])
    return ids if len(ids) else np.int32([tokenizer.eos])


class Rows(NamedTuple):
    """Steps of rows of nodes, in order."""

    tokens_nBL: np.ndarray
    depth_nBL: np.ndarray
    end_nBL: np.ndarray  # where in the row a node's descendants end: it is seen by those before
    chunks_n2: np.ndarray  # the first chunk of a step's targets, and the first of the next step's


class Targets(NamedTuple):
    """What is predicted in the rows, as many chunks for a step as its fullest row needs. request_hBT is Q, one past the
    last, where there is nothing to score."""

    place_hBT: np.ndarray  # where in the row a target is predicted
    target_hBT: np.ndarray
    request_hBT: np.ndarray  # whose log-probability the target belongs to


class Arrays(NamedTuple):
    """What the device needs to score a task set. choices_MC is Q where a doc has fewer than C choices."""

    rows: Rows
    targets: Targets
    bytes_Q: np.ndarray
    chars_Q: np.ndarray
    choices_MC: np.ndarray
    gold_M: np.ndarray
    task_M: np.ndarray


class Packed(NamedTuple):
    """A task set in rows. n_tokens counts what the model processes, padding included, n_cut requests whose continuation
    is longer than the model."""

    arrays: Arrays
    n_tokens: int
    n_cut: int


def pack(tasks: list[Task], tokenizer, seq_len: int, batch_tokens: int = STEP_TOKENS, rows_multiple: int = 1) -> Packed:
    """The prefix trees of a task set in steps of `batch_tokens` tokens, or fewer where there are fewer.

    rows_multiple: what B must be a multiple of (the devices that share a step).
    """
    nodes, scores, n_cut, n = [], [], 0, 0
    for task in tasks:  # one at a time: a task's requests in full can take hundreds of megabytes
        encoded = encode(task.docs, tokenizer, seq_len, len(scores))
        nodes.append(_nodes(tree_of(encoded), n))
        n += len(nodes[-1].tokens)
        n_cut += sum(request.cut for request in encoded)
        scores += [(request.n_bytes, request.n_chars) for request in encoded]

    L = min(ROW_TOKENS, 1 << (seq_len - 1).bit_length())
    B = rows_multiple * math.ceil(min(batch_tokens, n) / (L * rows_multiple))
    docs = [doc for task in tasks for doc in task.docs]
    n_choices_M = np.array([len(doc.choices) for doc in docs])
    first_M = np.cumsum(n_choices_M) - n_choices_M
    choice_C = np.arange(n_choices_M.max())
    arrays = Arrays(
        *_rows(Nodes(*map(np.concatenate, zip(*nodes, strict=True))), B, L, len(scores)),
        *np.array(scores, np.float32).T,
        np.where(choice_C < n_choices_M[:, None], first_M[:, None] + choice_C, len(scores)).astype(np.int32),
        np.array([doc.gold for doc in docs], np.int32),
        np.repeat(np.arange(len(tasks), dtype=np.int32), [len(task.docs) for task in tasks]),
    )
    return Packed(arrays, arrays.rows.tokens_nBL.size, n_cut)


class Tree(NamedTuple):
    """A task's requests in the depth-first order of their tree.

    shared: how many first tokens each has in common with the one before it (0 for the first).
    """

    requests: list[Encoded]
    shared: np.ndarray


def tree_of(encoded: list[Encoded]) -> Tree:
    requests = sorted(encoded, key=lambda request: request.inputs.astype(">u4").tobytes())
    return Tree(requests, np.array([0, *(_common(a.inputs, b.inputs) for a, b in pairwise(requests))]))


def _common(a: np.ndarray, b: np.ndarray) -> int:
    n = min(len(a), len(b))
    differ = a[:n] != b[:n]
    return int(differ.argmax()) if differ.any() else n


class Nodes(NamedTuple):
    """The nodes of trees in depth-first order, and what is predicted at them.

    end: the first node that is no descendant any more. place: the node that predicts a target.
    """

    tokens: np.ndarray
    depth: np.ndarray
    end: np.ndarray
    place: np.ndarray
    target: np.ndarray
    request: np.ndarray


def _nodes(tree: Tree, first: int) -> Nodes:
    """first: the number of the root."""
    n = sum(len(request.inputs) for request in tree.requests) - tree.shared.sum()
    tokens, depth, end = np.empty(n, np.int32), np.empty(n, np.int32), np.full(n, n, np.int32)
    path, places, stop = np.zeros(0, np.int32), [], 0  # path: the nodes of a request
    for (inputs, targets, *_), known in zip(tree.requests, tree.shared, strict=True):
        new = np.arange(stop, stop + len(inputs) - known, dtype=np.int32)
        end[path[known:]] = stop
        tokens[new], depth[new] = inputs[known:], np.arange(known, len(inputs))
        path = np.concatenate([path[:known], new])
        places.append(path[len(path) - len(targets) :])
        stop += len(new)
    targets = [request.targets for request in tree.requests]
    request = np.repeat([request.request for request in tree.requests], list(map(len, targets)))
    return Nodes(tokens, depth, first + end, first + np.concatenate(places), np.concatenate(targets), request)


def _rows(nodes: Nodes, B: int, L: int, n_requests: int) -> tuple[Rows, Targets]:
    n_nodes = len(nodes.tokens)
    n = math.ceil(n_nodes / (B * L))
    tokens_N, depth_N = np.zeros((2, n * B * L), np.int32)
    tokens_N[:n_nodes], depth_N[:n_nodes] = nodes.tokens, nodes.depth
    place_N = np.arange(n * B * L, dtype=np.int32)
    end_N = np.concatenate([nodes.end, place_N[n_nodes:] + 1])  # padding is seen by itself alone
    end_N = np.minimum(end_N - place_N // L * L, L)

    order = np.argsort(nodes.place, kind="stable")
    row = nodes.place[order] // L
    count_R = np.bincount(row, minlength=n * B)
    number = np.arange(len(row)) - (np.cumsum(count_R) - count_R)[row]  # of a target in its row
    chunks_n = -(-count_R.reshape(n, B).max(axis=1) // HEAD_TOKENS)
    stop_n = np.cumsum(chunks_n)
    chunks_n2 = np.stack([stop_n - chunks_n, stop_n], axis=1).astype(np.int32)
    at = chunks_n2[row // B, 0] + number // HEAD_TOKENS, row % B, number % HEAD_TOKENS
    place_hBT, target_hBT = np.zeros((2, stop_n[-1], B, HEAD_TOKENS), np.int32)
    request_hBT = np.full_like(place_hBT, n_requests)
    for array, values in ((place_hBT, nodes.place % L), (target_hBT, nodes.target), (request_hBT, nodes.request)):
        array[at] = values[order]
    steps = (x_N.reshape(n, B, L) for x_N in (tokens_N, depth_N, end_N))
    return Rows(*steps, chunks_n2), Targets(place_hBT, target_hBT, request_hBT)
