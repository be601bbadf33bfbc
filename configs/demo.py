"""A ladder that two CPU cores train in minutes: bytes of Python source, four sizes x three multiples, one target.

A size is one trunk with a branch for every multiple (configs/wsd.py): three points for little more compute than the
longest run. The largest size comes first, because its trunk takes longest: so both cores are busy to the end. Learning
rates and batch sizes were tuned at widths 16 and 32. The kinds of QUESTIONS were chosen with seed 7: at the smallest
rung each is at least five standard errors above chance.
"""

from collections.abc import Sequence
from dataclasses import replace

from configs.wsd import trunk_and_branches
from ladder.config import Eval, Ladder, Mesh, Model, Optimizer, Rung
from ladder.evaluation.held_out.tasks import Settings
from ladder.sizes import n_params, train_tokens

TASKS = ("mbpp", "humaneval")
SEQ_LEN = 128
MICROBATCH = 8  # sequences at most; more do not fit into the cache of a CPU's core
CHOICES = {"letters": 8, "brackets": 4, "words": 2, "indentation": 2}


def _questions(docs: int) -> tuple[Settings, ...]:
    """Ranked-choice tasks from the held-out text, asked at the end of every run but the trunks."""
    return tuple(Settings((kind,), docs, choices, context=80, longest=40) for kind, choices in CHOICES.items())


QUESTIONS = {"demo": _questions(600), "demo-quick": _questions(60), "demo-full": _questions(1000)}


def demo(seed: int = 0) -> Ladder:
    """36k to 94k parameters predict 288k: nine minutes of training and evaluation on two cores."""
    evaluation = Eval(TASKS, validation_tokens=1 << 16)
    return _ladder("demo", (40, 32, 28, 24), (0.5, 1, 1.75), 72, 0.4, evaluation, seed)


def demo_quick(seed: int = 0) -> Ladder:
    """All steps of the demo in two to four minutes, without trunks and branches; too small to predict well."""
    evaluation = Eval(TASKS, max_docs=60, validation_tokens=1 << 14)
    # Two runs of one size that start together would both compile its programs.
    rungs = tuple(_rung(d, multiple, evaluation, seed) for multiple in (0.25, 0.5) for d in (8, 12, 16, 20))
    return Ladder("demo-quick", rungs, (_rung(40, 0.125, evaluation, seed),))


def demo_full(seed: int = 0) -> Ladder:
    """About an hour: wider models, more tokens, all docs of every task."""
    evaluation = Eval(TASKS, validation_tokens=1 << 19)
    return _ladder("demo-full", (24, 32, 40, 56), (2, 4, 8), 104, 4, evaluation, seed)


def _ladder(
    name: str,
    widths: Sequence[int],
    multiples: Sequence[float],
    target_width: int,
    target_multiple: float,
    evaluation: Eval,
    seed: int,
) -> Ladder:
    nothing, rungs = Eval(validation_tokens=0), []  # of a trunk, whose end enters no fit
    for d in widths:
        trunk, *branches = trunk_and_branches(_rung(d, multiples[0], evaluation, seed), multiples)
        rungs += [replace(trunk, eval=nothing), *branches]
    return Ladder(name, tuple(rungs), (_rung(target_width, target_multiple, evaluation, seed),))


def _rung(d_model: int, multiple: float, evaluation: Eval, seed: int) -> Rung:
    return rung(f"d{d_model}", model(d_model), multiple, evaluation, seed)


def model(d_model: int, n_layers: int = 4, n_heads: int = 2, d_ff: int | None = None) -> Model:
    """A model of bytes. d_ff: None for 3 d_model."""
    return Model(
        "llama",  # at these widths it learns faster than olmo2 (norms on the output), and more evenly across sizes
        d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        d_ff=d_ff or 3 * d_model,
        vocab_size=256,
        seq_len=SEQ_LEN,
        rope_theta=100.0,  # wavelengths fit in 128 bytes: narrow heads have only a few
        # Larger than the published 0.02, which suits widths in the thousands; scales as 1/sqrt(width).
        init_std=0.5 * d_model**-0.5,
        compute_dtype="float32",
    )


def rung(size: str, shape: Model, multiple: float, evaluation: Eval, seed: int) -> Rung:
    """A full run, with the learning rate and the batch size of its number of parameters."""
    n = n_params(shape)
    return Rung(
        size=size,
        multiple=multiple,
        tokens=train_tokens(n, multiple),
        batch_tokens=batch_sequences(n) * SEQ_LEN,
        model=shape,
        # beta2 0.99, as OLMo-core's ladder: batches are far below half a million tokens.
        optimizer=Optimizer(peak_lr(n), warmup_tokens=n, schedule="wsd", decay_fraction=0.2, beta2=0.99),
        eval=evaluation,
        seed=seed,
        mesh=Mesh(accumulation=microbatches(batch_sequences(n))),
    )


def microbatches(sequences: int, most: int = MICROBATCH) -> int:
    """The fewest equal parts of a batch that have at most `most` sequences each."""
    return next(n for n in range(1, sequences + 1) if sequences % n == 0 and sequences // n <= most)


def peak_lr(n: int) -> float:
    """0.01 at 59k parameters, falling with N^(-1/3) as in Bhagia et al. 2024."""
    return 0.01 * (n / 59e3) ** (-1 / 3)


def batch_sequences(n: int) -> int:
    """8 at 94k parameters, growing with N^(2/3) as in Bhagia et al. 2024; a multiple of 8."""
    return 8 * max(1, round((n / 94e3) ** (2 / 3)))
