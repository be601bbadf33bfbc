"""Score a run's tasks and validation text in one jitted function; metrics.py defines the metrics."""

import functools
import hashlib
import math

import jax
import jax.numpy as jnp
import numpy as np

from ladder import config
from ladder.evaluation import prefix_tree, tasks
from ladder.evaluation.metrics import METRICS, RANKED, summarise
from ladder.evaluation.prefix_tree import pack
from ladder.evaluation.score import score_requests, validation_batches, validation_score
from ladder.parallel import sharding

# Increased by hand when the same requests and parameters would give different numbers.
EVALUATION_VERSION = 2


class Evaluator:
    """A run's task set and validation text, on the device. One jitted function scores them; it compiles at first use.

    hash: identifies what is evaluated and how (tasks' contents, tokenizer, lengths, validation tokens); evaluations are
    recorded under it. n_tokens: tokens that one evaluation processes, padding included. n_cut: requests whose
    continuation is longer than seq_len.
    """

    def __init__(
        self,
        evaluation: config.Eval,
        functions,
        tokenizer,
        seq_len: int,
        validation_WL1: np.ndarray | None = None,
        *,
        mesh: jax.sharding.Mesh | None = None,
        batch_tokens: int | None = None,
    ):
        """functions: of a causal model (model/transformer.py). validation_WL1: windows of the validation text.

        mesh: its data axes split the rows of a step; the hash does not depend on it, and scores only by rounding.
        batch_tokens: approximate number of tokens per step; by default prefix_tree.STEP_TOKENS on CPU, and elsewhere
        8192 for each device that shares a step. Raises InputError for tasks that are unknown, missing or malformed.
        """
        self.tasks = [tasks.load_task(name, max_docs=evaluation.max_docs) for name in tasks.expand(evaluation.tasks)]
        tasks.check_names(self.tasks)
        shards, replicated = (sharding.data_shards(mesh), sharding.replicated(mesh)) if mesh else (1, None)
        if batch_tokens is None:
            batch_tokens = prefix_tree.STEP_TOKENS if jax.default_backend() == "cpu" else 8192 * shards
        packed = pack(self.tasks, tokenizer, seq_len, batch_tokens, shards) if self.tasks else None
        validation = None
        if validation_WL1 is not None:
            validation = validation_batches(validation_WL1, shards), np.asarray(tokenizer.token_bytes)
        self.n_tokens = packed.n_tokens if packed else 0
        self.n_cut = packed.n_cut if packed else 0
        if validation:
            self.n_tokens += validation[0][..., 1:].size
        self.hash = _hash(self.tasks, tokenizer, seq_len, validation_WL1)
        put = functools.partial(sharding.put, sharding=replicated) if mesh else jnp.asarray
        self._data = jax.tree.map(put, (packed and packed.arrays, validation))

        def scores(params, arrays, validation):
            summary = summarise(score_requests(functions, params, arrays), arrays, len(self.tasks)) if arrays else None
            return summary, validation_score(functions, params, *validation) if validation else None

        self._scores = jax.jit(scores, out_shardings=replicated)

    def rows(self, params) -> list[dict]:
        """Tidy rows {task, metric, value, stderr, n_docs, evaluation: the hash}; also chance and majority of acc and
        len_norm.

        bpb is in bits per byte, the validation loss in nats per token; metrics.py has the other units.
        """
        summary, validation = jax.device_get(self._scores(params, *self._data))
        rows = []
        if validation:
            nats, nats_of_bytes, n_bytes, n_targets = (x.sum(dtype=np.float64) for x in validation)
            rows.append(_row("validation", "bpb", nats_of_bytes / (math.log(2) * n_bytes)))
            rows.append(_row("validation", "loss", nats / n_targets))
        for i, task in enumerate(self.tasks):
            baselines, n = {"chance": task.chance, "majority": task.majority}, len(task.docs)
            for metric in METRICS + RANKED if task.ranked else METRICS:
                mean, stderr = summary[metric]
                row = _row(task.name, metric, mean[i], stderr[i] if n > 1 else None, n)
                rows.append(row | baselines if metric in ("acc", "len_norm") else row)
        return [row | {"evaluation": self.hash} for row in rows]


def _row(task: str, metric: str, value, stderr=None, n_docs: int | None = None) -> dict:
    stderr = None if stderr is None else float(stderr)
    return {"task": task, "metric": metric, "value": float(value), "stderr": stderr, "n_docs": n_docs}


def _hash(task_set, tokenizer, seq_len: int, validation) -> str:
    content = {
        "version": EVALUATION_VERSION,
        "tasks": [task.hash for task in task_set],
        "tokenizer": tokenizer.hash,
        "seq_len": seq_len,
        "validation": None if validation is None else hashlib.sha256(np.ascontiguousarray(validation)).hexdigest(),
    }
    return hashlib.sha256(config.canonical_json(content).encode()).hexdigest()[:16]
