"""Requests as prefix trees: what requests share is computed once, and each still gets exactly its own score.

The tokens of a task's requests form a tree. A stretch that many share (a few-shot prompt) is a group's prefix: it is
computed once and its keys and values are kept. What hangs below it is laid out in rows, in depth-first order, several
requests to a row. A token sees the prefix and its ancestors in its row; its position is its depth. Sharing is decided
on token ids, so it is exact whatever a tokenizer does where texts meet.

Shapes: n steps, B rows of a step, L length of a row, P of a prefix, T scored targets of a row, Q requests, M docs,
C choices.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ladder.tasks import Doc, Task

ROW_TOKENS = 256  # shorter rows repeat more of what their requests share, longer ones attend to more that is not theirs
LONGEST = 4  # times ROW_TOKENS, where a next row would repeat more than a quarter of one
HEAD_TOKENS = 64  # scored targets of a row that go through the head at once; T is a multiple
PREFIX_TOKENS = 128  # prefixes are padded to this, half as much again, its double ...
SHORTEST = 64  # the shortest prefix that is set apart


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


class Bucket(NamedTuple):
    """Steps of one shape. request_nBT is Q, one past the last, where there is nothing to score."""

    prefix_nP: np.ndarray
    n_prefix_n: np.ndarray  # how many of P are real
    fresh_n: np.ndarray  # whether the prefix is another than the step before's
    tokens_nBL: np.ndarray
    depth_nBL: np.ndarray
    end_nBL: np.ndarray  # where in the row the token's descendants end: it is seen by those before
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
    """A task set in rows. n_tokens counts what the model processes, padding included, n_cut requests whose continuation
    is longer than the model."""

    arrays: Arrays
    n_tokens: int
    n_cut: int


def pack(tasks: list[Task], tokenizer, seq_len: int, batch_tokens: int = 2048, rows_multiple: int = 1) -> Packed:
    """The prefix trees of a task set in steps of about `batch_tokens` tokens.

    rows_multiple: what B must be a multiple of (the devices that share a step).
    """
    row_tokens = min(ROW_TOKENS, 2 * seq_len)
    steps, scores, n_cut = defaultdict(list), [], 0
    for task in tasks:  # one at a time: a task's requests in full can take hundreds of megabytes
        encoded = encode(task.docs, tokenizer, seq_len, len(scores))
        for prefix, rows in _groups(tree_of(encoded), row_tokens):
            P, by_length = _at_least(len(prefix), PREFIX_TOKENS) if len(prefix) else 0, defaultdict(list)
            for row in rows:
                by_length[_at_least(len(row.tokens), row_tokens)].append(row)
            for L, alike in by_length.items():
                B = _batch(len(alike), max(1, batch_tokens // L), rows_multiple)
                steps[P, B, L] += [(prefix, alike[i : i + B]) for i in range(0, len(alike), B)]
        n_cut += sum(request.cut for request in encoded)
        scores += [(request.n_bytes, request.n_chars) for request in encoded]

    docs = [doc for task in tasks for doc in task.docs]
    n_choices_M = np.array([len(doc.choices) for doc in docs])
    first_M = np.cumsum(n_choices_M) - n_choices_M
    choice_C = np.arange(n_choices_M.max())
    buckets = tuple(_bucket(steps[shape], *shape, len(scores)) for shape in sorted(steps))
    arrays = Arrays(
        buckets,
        *np.array(scores, np.float32).T,
        np.where(choice_C < n_choices_M[:, None], first_M[:, None] + choice_C, len(scores)).astype(np.int32),
        np.array([doc.gold for doc in docs], np.int32),
        np.repeat(np.arange(len(tasks), dtype=np.int32), [len(task.docs) for task in tasks]),
    )
    n_tokens = sum(b.tokens_nBL.size + int(b.fresh_n.sum()) * b.prefix_nP.shape[1] for b in buckets)
    return Packed(arrays, n_tokens, n_cut)


def _at_least(n: int, start: int) -> int:
    """The smallest of start, 3/2 start, 2 start, 3 start, 4 start ... that is not below n: few shapes to compile."""
    above = start << max(0, math.ceil(math.log2(n / start)))
    return above * 3 // 4 if start < above and n <= above * 3 // 4 else above


def _batch(rows: int, most: int, rows_multiple: int) -> int:
    """Rows of a step: `most`, or a quarter or a sixteenth of it where a group has fewer."""
    while most > rows:
        most = -(-most // 4)
    return math.ceil(most / rows_multiple) * rows_multiple


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


def _groups(tree: Tree, row_tokens: int):
    """(prefix, rows) for every prefix that is worth keeping, and for all other requests together, without one."""
    plan = _plan(tree)
    for start, stop, depth in plan:
        if depth:
            yield tree.requests[start].inputs[:depth], _rows(tree, range(start, stop), depth, row_tokens)
    if bare := [i for start, stop, depth in plan if not depth for i in range(start, stop)]:
        yield np.zeros(0, np.int32), _rows(tree, bare, 0, row_tokens)


def _plan(tree: Tree) -> list[tuple[int, int, int]]:
    """Ranges of a tree's requests, each with the length of its prefix (0: none), so that few tokens are computed.

    Going down from the root, a branch gets a prefix of its own where that costs less than what its branches cost. A
    prefix ends before the first scored place, which must stand in a row.
    """
    lengths = np.array([len(request.inputs) for request in tree.requests])
    scored = np.array([len(request.targets) for request in tree.requests])

    def cost(start, stop, depth):
        """Tokens: the prefix, and rows below it, each of which repeats the path that leads to its first request."""
        before = np.maximum(tree.shared[start + 1 : stop], depth)
        nodes = lengths[start] - depth + (lengths[start + 1 : stop] - before).sum()
        repeated = ((before - depth) / _longest(before - depth, ROW_TOKENS)).mean() if len(before) else 0
        # Half a row is lost where a group ends.
        kept = _at_least(depth, PREFIX_TOKENS) + ROW_TOKENS // 2 if depth else 0
        return kept + nodes / max(1 - repeated, 1 / 16)

    def best(start, stop):
        plans = [[(start, stop, 0)]]
        if stop - start == 1 or cost(start, stop, 0) <= 2 * ROW_TOKENS:
            return plans[0]
        inner = tree.shared[start + 1 : stop]
        depth = int(min(inner.min(), (lengths - scored)[start:stop].min()))
        if depth >= SHORTEST:
            plans.append([(start, stop, depth)])
        bounds = [start, *(start + 1 + np.flatnonzero(inner < inner.min() + SHORTEST)), stop]
        split = []
        for group in (group for a, b in pairwise(bounds) for group in best(a, b)):
            if split and split[-1][2] == group[2] == 0:  # neighbours without a prefix share rows
                group = (split.pop()[0], group[1], 0)
            split.append(group)
        return min([*plans, split], key=lambda plan: sum(cost(*group) for group in plan))

    return best(0, len(lengths))


class Row(NamedTuple):
    """One row of a Bucket, without padding."""

    tokens: np.ndarray
    depth: np.ndarray
    end: np.ndarray
    place: np.ndarray
    target: np.ndarray
    request: np.ndarray


def _longest(repeated, row_tokens: int):
    """How long a row may grow where the next one would repeat so many tokens, as the choices of a long question do."""
    return np.where(repeated <= row_tokens // 4, row_tokens, LONGEST * row_tokens)


def _rows(tree: Tree, requests: Sequence[int], depth: int, row_tokens: int) -> list[Row]:
    """Rows of these requests, below a prefix of `depth` tokens: as many in a row as fit, or one long one."""
    rows, n = [[]], 0
    for i in requests:
        length = len(tree.requests[i].inputs)
        known = max(depth, tree.shared[rows[-1][-1][0] + 1 : i + 1].min()) if rows[-1] else depth
        if rows[-1] and n + length - known > _longest(known - depth, row_tokens):
            rows.append([])
            n, known = 0, depth
        rows[-1].append((i, known))
        n += length - known
    return [_row(tree, row, depth) for row in rows]


def _row(tree: Tree, requests: list[tuple[int, int]], depth: int) -> Row:
    """requests: each with how many of its tokens are those of the one before it (or of the prefix)."""
    n = sum(len(tree.requests[i].inputs) - known for i, known in requests)
    tokens_L, depth_L, end_L = np.empty(n, np.int32), np.empty(n, np.int32), np.full(n, n, np.int32)
    path, scored, stop = np.zeros(0, np.int32), [], 0  # path: where a request's tokens stand in the row
    for i, known in requests:
        inputs, targets, request, *_ = tree.requests[i]
        new = np.arange(stop, stop + len(inputs) - known)
        end_L[path[known - depth :]] = stop
        tokens_L[new], depth_L[new] = inputs[known:], np.arange(known, len(inputs))
        path = np.concatenate([path[: known - depth], new])
        scored.append((path[len(path) - len(targets) :], targets, np.full(len(targets), request)))
        stop += len(new)
    return Row(tokens_L, depth_L, end_L, *map(np.concatenate, zip(*scored, strict=True)))


def _bucket(steps: list[tuple[np.ndarray, list[Row]]], P: int, B: int, L: int, n_requests: int) -> Bucket:
    """steps: (prefix, rows), those of a prefix one after another."""
    n, T = len(steps), max(len(row.target) for _, rows in steps for row in rows)
    T = math.ceil(T / HEAD_TOKENS) * HEAD_TOKENS
    bucket = Bucket(
        np.zeros((n, P), np.int32),
        np.array([len(prefix) for prefix, _ in steps], np.int32),
        np.array([i == 0 or steps[i - 1][0] is not prefix for i, (prefix, _) in enumerate(steps)]),
        *np.zeros((2, n, B, L), np.int32),
        # Padding is seen by itself alone.
        np.tile(np.arange(1, L + 1, dtype=np.int32), (n, B, 1)),
        *np.zeros((2, n, B, T), np.int32),
        np.full((n, B, T), n_requests, np.int32),
    )
    for i, (prefix, rows) in enumerate(steps):
        bucket.prefix_nP[i, : len(prefix)] = prefix
        for b, row in enumerate(rows):
            for array, values in zip(bucket[3:], row, strict=True):
                array[i, b, : len(values)] = values
    return bucket
