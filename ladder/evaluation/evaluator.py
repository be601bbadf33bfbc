"""Score a run's tasks and validation text in one jitted function; metrics.py defines the metrics."""

import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ladder import config
from ladder.evaluation import prefix_tree, tasks
from ladder.evaluation.metrics import METRICS, RANKED, summarise
from ladder.evaluation.prefix_tree import pack
from ladder.evaluation.score import PADDING, score_requests, validation_batches, validation_score
from ladder.parallel import sharding

# Increased by hand when the same requests and parameters would give different numbers.
EVALUATION_VERSION = 2


@dataclass(frozen=True)
class ValidationSource:
    """The validation text of one source of a mixture; share: of the training tokens that come from this source."""

    name: str
    share: float
    windows_WL1: np.ndarray


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
        validation: np.ndarray | Sequence[ValidationSource] | None = None,
        *,
        mesh: jax.sharding.Mesh | None = None,
        batch_tokens: int | None = None,
        eos: int | None = None,
    ):
        """functions: of a causal model (model/transformer.py). validation: windows of the validation text
        [W, L+1], or those of each source of a mixture.

        mesh: its data axes split the rows of a step; the hash does not depend on it, and scores only by rounding.
        eos: where `functions` keep validation text within its documents, the id that ends them; it enters the hash.
        batch_tokens: approximate number of tokens per step; by default prefix_tree.STEP_TOKENS on CPU, and elsewhere
        8192 for each device that shares a step. Raises InputError for tasks that are unknown, missing or malformed.
        """
        self.tasks = [tasks.load_task(name, max_docs=evaluation.max_docs) for name in tasks.expand(evaluation.tasks)]
        tasks.check_names(self.tasks)
        shards, replicated = (sharding.data_shards(mesh), sharding.replicated(mesh)) if mesh else (1, None)
        if batch_tokens is None:
            batch_tokens = prefix_tree.STEP_TOKENS if jax.default_backend() == "cpu" else 8192 * shards
        packed = pack(self.tasks, tokenizer, seq_len, batch_tokens, shards) if self.tasks else None
        if isinstance(validation, np.ndarray):
            self._validation = [ValidationSource("", 1.0, validation)]
        else:
            self._validation = list(validation or ())
        validation_arrays = None
        if self._validation:
            batches, self._batch_counts = _validation_batches(self._validation, shards)
            validation_arrays = batches, np.asarray(tokenizer.token_bytes)
            if tokenizer.space_before:  # a text begins after bos or, where there is none, after eos
                begins = tokenizer.eos if tokenizer.bos is None else tokenizer.bos
                validation_arrays += ((np.arange(len(tokenizer.token_bytes)) == begins).astype(np.int32),)
        self.n_tokens = packed.n_tokens if packed else 0
        self.n_cut = packed.n_cut if packed else 0
        if validation_arrays:
            self.n_tokens += validation_arrays[0][..., 1:].size
        self.hash = _hash(self.tasks, tokenizer, seq_len, self._validation, eos)
        put = functools.partial(sharding.put, sharding=replicated) if mesh else jnp.asarray
        self._data = jax.tree.map(put, (packed and packed.arrays, validation_arrays))

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
        rows = self._validation_rows(validation) if validation else []
        for i, task in enumerate(self.tasks):
            baselines, n = {"chance": task.chance, "majority": task.majority}, len(task.docs)
            for metric in METRICS + RANKED if task.ranked else METRICS:
                mean, stderr = summary[metric]
                row = _row(task.name, metric, mean[i], stderr[i] if n > 1 else None, n)
                rows.append(row | baselines if metric in ("acc", "len_norm") else row)
        return [row | {"evaluation": self.hash} for row in rows]

    def _validation_rows(self, sums_per_batch) -> list[dict]:
        """Rows of "validation", and of "validation/NAME" for each source of a mixture.

        "validation" of a mixture is what a text would have whose tokens come from the sources by their shares: its loss
        is the mean of the sources' losses, its bpb the mean of their bits a token over the mean of their bytes a token.
        """
        ends = np.cumsum(self._batch_counts)[:-1]
        by_source = [[part.sum(dtype=np.float64) for part in np.split(sums, ends)] for sums in sums_per_batch]
        of_sources, mean = [], np.zeros(3)
        for source, (nats, nats_of_bytes, n_bytes, n_targets) in zip(
            self._validation, zip(*by_source, strict=True), strict=True
        ):
            if len(self._validation) == 1:
                pooled = _validation_pair("validation", nats, nats_of_bytes, n_bytes, n_targets)
            if source.name:
                of_sources += _validation_pair(f"validation/{source.name}", nats, nats_of_bytes, n_bytes, n_targets)
            mean += source.share * np.array([nats, nats_of_bytes, n_bytes]) / n_targets
        if len(self._validation) > 1:
            pooled = _validation_pair("validation", *mean, 1.0)
        return pooled + of_sources


def _validation_pair(task: str, nats, nats_of_bytes, n_bytes, n_targets) -> list[dict]:
    bpb = _row(task, "bpb", nats_of_bytes / (math.log(2) * n_bytes))
    return [bpb, _row(task, "loss", nats / n_targets)]


def _validation_batches(sources: Sequence[ValidationSource], shards: int) -> tuple[np.ndarray, list[int]]:
    """(int32[n, B, L+1] of all sources one after the other, how many batches each source has)."""
    batches = [validation_batches(source.windows_WL1, shards) for source in sources]
    B = max(batch_nBL1.shape[1] for batch_nBL1 in batches)
    padding = [((0, 0), (0, B - batch_nBL1.shape[1]), (0, 0)) for batch_nBL1 in batches]
    padded = [np.pad(x, pad, constant_values=PADDING) for x, pad in zip(batches, padding, strict=True)]
    return np.concatenate(padded), [len(batch_nBL1) for batch_nBL1 in batches]


def _row(task: str, metric: str, value, stderr=None, n_docs: int | None = None) -> dict:
    stderr = None if stderr is None else float(stderr)
    return {"task": task, "metric": metric, "value": float(value), "stderr": stderr, "n_docs": n_docs}


def _hash(task_set, tokenizer, seq_len: int, validation: Sequence[ValidationSource], eos: int | None) -> str:
    hashes = {s.name: hashlib.sha256(np.ascontiguousarray(s.windows_WL1)).hexdigest() for s in validation}
    alone = len(validation) < 2
    content = {
        "version": EVALUATION_VERSION,
        "tasks": [task.hash for task in task_set],
        "tokenizer": tokenizer.hash,
        "seq_len": seq_len,
        "validation": next(iter(hashes.values()), None) if alone else hashes,
    }
    if validation and eos is not None:
        content["mask_documents"] = eos
    if not alone:
        content["shares"] = {source.name: source.share for source in validation}
    return hashlib.sha256(config.canonical_json(content).encode()).hexdigest()[:16]
