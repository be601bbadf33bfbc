"""Compute the metrics of each task from log-probabilities, on the device.

S is the sum of ln p over a continuation's tokens, in nats. Bytes and characters include the leading space. Ties go to
the first choice.

bpb       -S / (bytes ln 2) of the gold continuation, mean over docs        (Bhagia et al. 2024, "task loss")
ce_loss   -S / characters of the gold continuation
acc       share of docs whose gold choice has the largest S
len_norm  the same with S / characters                                      (OLMES, Gu et al. 2024)
soft      softmax over the choices' S / characters, at the gold choice
soft_log  the logarithm of soft

Shapes as in prefix_tree.py.
"""

import functools
import math

import jax
import jax.numpy as jnp

from ladder.evaluation.prefix_tree import Arrays

# METRICS are defined for every task, RANKED only where a doc has several choices.
METRICS, RANKED = ("bpb", "ce_loss"), ("acc", "len_norm", "soft", "soft_log")


def summarise(S_Q, arrays: Arrays, n_tasks: int):
    """{metric: (mean, stderr)}, each [n_tasks], over a task's docs; stderr = sample standard deviation / sqrt(docs)."""

    def by_choice(x_Q):
        return jnp.append(x_Q, -jnp.inf)[arrays.choices_MC]

    def gold(x_MC):
        return jnp.take_along_axis(x_MC, arrays.gold_M[:, None], axis=1)[:, 0]

    S_MC, per_char_MC = by_choice(S_Q), by_choice(S_Q / arrays.chars_Q)
    soft_log_MC = jax.nn.log_softmax(per_char_MC)
    values = {
        "bpb": gold(by_choice(-S_Q / (arrays.bytes_Q * math.log(2)))),
        "ce_loss": -gold(per_char_MC),
        "acc": (S_MC.argmax(1) == arrays.gold_M).astype(jnp.float32),
        "len_norm": (per_char_MC.argmax(1) == arrays.gold_M).astype(jnp.float32),
        "soft": jnp.exp(gold(soft_log_MC)),
        "soft_log": gold(soft_log_MC),
    }
    sum_by_task = functools.partial(jax.ops.segment_sum, segment_ids=arrays.task_M, num_segments=n_tasks)
    n_docs = sum_by_task(jnp.ones(arrays.gold_M.shape))

    def moments(value_M):
        mean = sum_by_task(value_M) / n_docs
        variance = sum_by_task(jnp.square(value_M - mean[arrays.task_M])) / (n_docs - 1)
        return mean, jnp.sqrt(variance / n_docs)

    return {metric: moments(value_M) for metric, value_M in values.items()}
