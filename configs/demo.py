"""A ladder that two CPU cores train in minutes: bytes of Python source, four sizes x three multiples, one target.

A size is one constant-rate trunk with a decay branch for every multiple (configs/wsd.py): three points for little more
than the price of the longest.
"""

from collections.abc import Sequence

from configs.wsd import trunk_and_branches
from ladder.config import Eval, Ladder, Model, Optimizer, Rung
from ladder.sizes import n_params, train_tokens

TASKS = ("mbpp:0shot", "humaneval:0shot", "arc_easy_val:0shot", "openbookqa_val:0shot", "piqa_val:0shot")
WIDTHS = (16, 24, 32, 40)
SEQ_LEN = 128
BATCH_SEQUENCES = 32


def demo(seed: int = 0) -> Ladder:
    """16k to 87k parameters predict 267k: about eight minutes of training and evaluation on two cores."""
    return _ladder("demo", WIDTHS, (0.5, 1, 2), 72, 0.5, Eval(TASKS, max_docs=100, validation_tokens=1 << 17), seed)


def demo_quick(seed: int = 0) -> Ladder:
    """The same path in about a minute; its numbers mean little."""
    few = Eval(TASKS, max_docs=10, validation_tokens=1 << 14)
    return _ladder("demo-quick", (8, 12, 16, 24), (0.25, 0.5, 1), 48, 0.25, few, seed)


def demo_full(seed: int = 0) -> Ladder:
    """An hour: wider sizes, more tokens, whole tasks."""
    whole = Eval(TASKS, validation_tokens=1 << 19)
    return _ladder("demo-full", (24, 32, 48, 64), (1, 2, 4), 120, 1, whole, seed)


def _ladder(
    name: str,
    widths: Sequence[int],
    multiples: Sequence[float],
    target_width: int,
    target_multiple: float,
    evaluation: Eval,
    seed: int,
) -> Ladder:
    rungs = [r for d in widths for r in trunk_and_branches(_rung(d, multiples[0], evaluation, seed), multiples)]
    return Ladder(name, tuple(rungs), (_rung(target_width, target_multiple, evaluation, seed),))


def _rung(d_model: int, multiple: float, evaluation: Eval, seed: int) -> Rung:
    model = Model(
        "olmo2",
        d_model,
        n_layers=3,
        n_heads=max(1, d_model // 8),
        d_ff=4 * d_model,
        vocab_size=256,
        seq_len=SEQ_LEN,
        compute_dtype="float32",
    )
    n = n_params(model)
    return Rung(
        size=f"d{d_model}",
        multiple=multiple,
        tokens=train_tokens(n, multiple),
        batch_tokens=BATCH_SEQUENCES * SEQ_LEN,
        model=model,
        optimizer=Optimizer(peak_lr=peak_lr(n), warmup_tokens=n, schedule="wsd", decay_fraction=0.2),
        eval=evaluation,
        seed=seed,
    )


def peak_lr(n: int) -> float:
    """0.01 at 32k parameters, falling with N^(-1/3) as in Bhagia et al. 2024 (the constant is not tuned yet)."""
    return 0.01 * (n / 32e3) ** (-1 / 3)
