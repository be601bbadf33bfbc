"""In-jit scoring: log-probabilities -> per-task bits per byte and accuracies, all on the device; plus validation bpb.

bpb       -S / (bytes ln 2) of the gold continuation, mean over docs        (Bhagia et al. 2024, "task loss")
ce_loss   -S / characters of the gold continuation
acc       share of docs whose gold choice has the largest S
len_norm  the same with S / characters                                      (OLMES, Gu et al. 2024)
soft      the gold choice's part of the softmax over the choices' S / characters; soft_log its logarithm

S is the sum of ln p over a continuation's tokens, in nats. Bytes and characters count the leading space. Of equal
scores the first choice counts. Shapes as in prefix_tree.py.
"""

import functools
import hashlib
import math

import jax
import jax.numpy as jnp
import numpy as np

from ladder import config
from ladder.evaluation import prefix_tree, tasks
from ladder.evaluation.prefix_tree import Arrays, Rows, pack
from ladder.model.attention import Tree
from ladder.model.cross_entropy import token_nats
from ladder.parallel import sharding

# Those of any task, and those that need something to choose from.
METRICS, RANKED = ("bpb", "ce_loss"), ("acc", "len_norm", "soft", "soft_log")
# Bumped by hand whenever the same requests and parameters would give different numbers.
EVALUATION_VERSION = 2


def score_requests(functions, params, arrays: Arrays):
    """S_Q: log-probability (nats) of every request's continuation.

    Only hidden states that predict a continuation's token reach the head, a chunk of every row at a time.
    """

    def step(carry, rows: Rows):
        nats_2Q, path = carry
        x_BLD, path = functions.nodes(params, rows.tokens_nBL, Tree(rows.depth_nBL, rows.end_nBL, path))

        def head(chunk, nats_2Q):
            place_BT, target_BT, request_BT = (x_hBT[chunk] for x_hBT in arrays.targets)
            x_BTD = jnp.take_along_axis(x_BLD, place_BT[:, :, None], axis=1)
            nats_T, _ = token_nats(functions.logits, params, x_BTD.reshape(-1, x_BTD.shape[-1]), target_BT.ravel())
            # 256ths and what is left are summed apart: hundreds of nats in one float32 would lose the fourth decimal.
            coarse_T = jnp.round(nats_T * 256) / 256
            return nats_2Q.at[:, request_BT.ravel()].add(jnp.stack([coarse_T, nats_T - coarse_T]))

        return (jax.lax.fori_loop(*rows.chunks_n2, head, nats_2Q), path), None

    # The last Q takes what padding adds.
    first = jnp.zeros((2, arrays.bytes_Q.shape[0] + 1)), functions.root()
    nats_2Q, _ = jax.lax.scan(step, first, arrays.rows)[0]
    return -nats_2Q.sum(0)[:-1]


def summarise(S_Q, arrays: Arrays, n_tasks: int):
    """{metric: (mean, stderr)}, each [n_tasks], over a task's docs; stderr = sample std / sqrt(docs)."""

    def by_doc(x_Q):
        return jnp.append(x_Q, -jnp.inf)[arrays.choices_MC]

    def gold(x_MC):
        return jnp.take_along_axis(x_MC, arrays.gold_M[:, None], axis=1)[:, 0]

    S_MC, per_char_MC = by_doc(S_Q), by_doc(S_Q / arrays.chars_Q)
    soft_log_MC = jax.nn.log_softmax(per_char_MC)
    values = {
        "bpb": gold(by_doc(-S_Q / (arrays.bytes_Q * math.log(2)))),
        "ce_loss": -gold(per_char_MC),
        "acc": (S_MC.argmax(1) == arrays.gold_M).astype(jnp.float32),
        "len_norm": (per_char_MC.argmax(1) == arrays.gold_M).astype(jnp.float32),
        "soft": jnp.exp(gold(soft_log_MC)),
        "soft_log": gold(soft_log_MC),
    }
    total = functools.partial(jax.ops.segment_sum, segment_ids=arrays.task_M, num_segments=n_tasks)
    n_docs = total(jnp.ones(arrays.gold_M.shape))

    def moments(value_M):
        mean = total(value_M) / n_docs
        variance = total(jnp.square(value_M - mean[arrays.task_M])) / (n_docs - 1)
        return mean, jnp.sqrt(variance / n_docs)

    return {metric: moments(value_M) for metric, value_M in values.items()}


def validation_score(functions, params, tokens_nBL1, token_bytes_V):
    """Per batch [n]: nats of all targets, nats of those that have bytes (separators have none), and these bytes."""

    def score(tokens_BL1):
        x_BLD = functions.hidden(params, tokens_BL1[:, :-1])
        target_T = tokens_BL1[:, 1:].reshape(-1)
        nats_T, _ = token_nats(functions.logits, params, x_BLD.reshape(-1, x_BLD.shape[-1]), target_T)
        bytes_T = token_bytes_V[target_T]
        return nats_T.sum(), jnp.where(bytes_T > 0, nats_T, 0.0).sum(), bytes_T.sum()

    return jax.lax.map(score, tokens_nBL1)


class Evaluator:
    """A run's task set and validation text, ready on the device; compiled at the first use, by one jit.

    hash: of what is asked and how (tasks' contents, tokenizer, lengths, validation tokens); an evaluation is recorded
    under it. n_tokens: what one evaluation processes, padding included. n_cut: requests longer than the model.
    """

    def __init__(
        self,
        evaluation: config.Eval,
        functions,
        tokenizer,
        seq_len: int,
        validation_nBL1: np.ndarray | None = None,
        *,
        mesh: jax.sharding.Mesh | None = None,
        batch_tokens: int | None = None,
    ):
        """functions: as model.Functions, causal. mesh: the rows of a step are split over its data axes.

        batch_tokens: about how many tokens a step has; None takes prefix_tree.STEP_TOKENS on CPU, and 8192 for
        each of the devices that share a step elsewhere.
        Raises InputError for tasks that are unknown, missing or malformed.
        """
        self.tasks = [tasks.load_task(name, max_docs=evaluation.max_docs) for name in tasks.expand(evaluation.tasks)]
        tasks.check_names(self.tasks)
        shards, everywhere = (sharding.data_shards(mesh), sharding.replicated(mesh)) if mesh else (1, None)
        if batch_tokens is None:
            batch_tokens = prefix_tree.STEP_TOKENS if jax.default_backend() == "cpu" else 8192 * shards
        packed = pack(self.tasks, tokenizer, seq_len, batch_tokens, shards) if self.tasks else None
        validation = None if validation_nBL1 is None else (validation_nBL1, np.asarray(tokenizer.token_bytes))
        self.n_tokens = packed.n_tokens if packed else 0
        self.n_cut = packed.n_cut if packed else 0
        if validation:
            self.n_tokens += validation_nBL1[..., 1:].size
        self.hash = _hash(self.tasks, tokenizer, seq_len, validation_nBL1)
        put = functools.partial(sharding.put, sharding=everywhere) if mesh else jnp.asarray
        self._data = jax.tree.map(put, (packed and packed.arrays, validation))

        def scores(params, arrays, validation):
            asked = summarise(score_requests(functions, params, arrays), arrays, len(self.tasks)) if arrays else None
            return asked, validation_score(functions, params, *validation) if validation else None

        self._scores = jax.jit(scores, out_shardings=everywhere)

    def rows(self, params) -> list[dict]:
        """Tidy rows {task, metric, value, stderr, n_docs}; acc and len_norm also have chance and majority.

        Validation bpb is in bits per byte, validation loss in nats per token.
        """
        asked, read = jax.device_get(self._scores(params, *self._data))
        rows = []
        if read:
            nats, nats_of_bytes, n_bytes = (x.sum(dtype=np.float64) for x in read)
            n_targets = self._data[1][0][..., 1:].size
            rows.append(_row("validation", "bpb", nats_of_bytes / (math.log(2) * n_bytes)))
            rows.append(_row("validation", "loss", nats / n_targets))
        for i, task in enumerate(self.tasks):
            guessed, n = {"chance": task.chance, "majority": task.majority}, len(task.docs)
            for metric in METRICS + RANKED if task.ranked else METRICS:
                mean, stderr = asked[metric]
                row = _row(task.name, metric, mean[i], stderr[i] if n > 1 else None, n)
                rows.append(row | guessed if metric in ("acc", "len_norm") else row)
        return rows


def _row(task: str, metric: str, value, stderr=None, n_docs: int | None = None) -> dict:
    stderr = None if stderr is None else float(stderr)
    return {"task": task, "metric": metric, "value": float(value), "stderr": stderr, "n_docs": n_docs}


def _hash(task_set, tokenizer, seq_len: int, validation) -> str:
    asked = {
        "version": EVALUATION_VERSION,
        "tasks": [task.hash for task in task_set],
        "tokenizer": tokenizer.hash,
        "seq_len": seq_len,
        "validation": None if validation is None else hashlib.sha256(np.ascontiguousarray(validation)).hexdigest(),
    }
    return hashlib.sha256(config.canonical_json(asked).encode()).hexdigest()[:16]
