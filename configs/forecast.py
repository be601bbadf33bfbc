"""A forecast at a hundred times the compute of the largest rung, on two CPU cores: bytes of text, 14 rungs, one target.

Every run is a full run with its own warm-up and decay, as the target is, so that no two rungs share noise. Depth and
heads are the same at all widths. The rule of the rate was tuned on Python sources at widths 16 to 40; no run of the
target's size was trained for it.
"""

from dataclasses import replace

from configs import demo
from ladder.config import Eval, Ladder, Rung
from ladder.sizes import TOKENS_PER_PARAM, n_params

HEADS = 4
TARGET_WIDTH, TARGET_TOKENS_PER_PARAM = 112, 22
# {share of the target's FLOPs (6 N D): widths that are trained for this share}.
WIDTHS = {0.01: (24, 32, 40, 48), 0.004: (24, 32, 40), 0.0016: (24, 32), 0.00064: (24,)}
SECOND_SEED = 1_000_003  # of the rungs with the largest share, which count most: each is trained twice
# Prior of the law's irreducible loss E (docs/forecast.md). The default suits large models, where E is about 58 % of the
# smallest loss. These rungs have about four times the loss of large models, so E is a smaller share of it.
FLOOR = "uniform"
EVALUATION = Eval(validation_tokens=1 << 18)
SAVES = 20  # checkpoints of the target, so that a stop loses at most a twentieth of it


def forecast(seed: int = 0) -> Ladder:
    """36k to 132k parameters predict 682k, each rung with at most 1 % of the target's FLOPs."""
    target = _rung(TARGET_WIDTH, TARGET_TOKENS_PER_PARAM / TOKENS_PER_PARAM, seed)
    flops = 6 * n_params(target.model) * target.tokens
    rungs = [_with_flops(width, share * flops, seed) for share, widths in WIDTHS.items() for width in widths]
    rungs += [_with_flops(width, max(WIDTHS) * flops, seed + SECOND_SEED) for width in WIDTHS[max(WIDTHS)]]
    return Ladder("forecast", tuple(rungs), (target,))


def _with_flops(width: int, flops: float, seed: int) -> Rung:
    """The rung of a width with as many whole steps as `flops` pay for."""
    n = n_params(_model(width))
    batch_tokens = batch_sequences(n) * demo.SEQ_LEN
    steps = int(flops / (6 * n * batch_tokens))
    return _rung(width, steps * batch_tokens / (TOKENS_PER_PARAM * n), seed)


def _model(width: int):
    return demo.model(width, n_heads=HEADS)


def _rung(width: int, multiple: float, seed: int) -> Rung:
    """The demo's run of this width, with another rate, other batches and, of short runs, a shorter warm-up."""
    run = demo.rung(f"d{width}", _model(width), multiple, EVALUATION, seed)
    n = n_params(run.model)
    sequences = batch_sequences(n)
    batch_tokens = sequences * demo.SEQ_LEN
    return replace(
        run,
        batch_tokens=batch_tokens,
        optimizer=replace(run.optimizer, peak_lr=peak_lr(n), warmup_tokens=min(n, run.tokens // 10)),
        mesh=replace(run.mesh, accumulation=demo.microbatches(sequences)),
        save_every=run.tokens // batch_tokens // SAVES if width == TARGET_WIDTH else 0,
    )


def peak_lr(n: int) -> float:
    """0.007 at 59k parameters, falling with N^(-1/3) as in Bhagia et al. 2024."""
    return 0.007 * (n / 59e3) ** (-1 / 3)


def batch_sequences(n: int) -> int:
    """8 at 94k parameters, growing with N^(2/3) as in Bhagia et al. 2024; even, and at least 4. The demo's rule, in
    finer steps."""
    return 2 * max(2, round(4 * (n / 94e3) ** (2 / 3)))
