"""A forecast at a hundred times the compute of the largest rung, on two CPU cores: bytes of text, 15 rungs, one target.

Every run is a full run with its own warm-up and decay, as the target is, so that no two rungs share noise. Depth and
heads are the same at all widths. The rules of rate and batch are the demo's, which were tuned at widths 16 and 32; no
run of the target's size was trained for them.
"""

from configs import demo
from ladder.config import Eval, Ladder, Mesh, Optimizer, Rung
from ladder.sizes import TOKENS_PER_PARAM, n_params, train_tokens

HEADS = 4
TARGET_WIDTH, TARGET_TOKENS_PER_PARAM = 112, 22
# Share of the target's FLOPs (6 N D) of each rung -> widths that are trained for so much.
WIDTHS = {0.01: (24, 32, 40, 48), 0.004: (24, 32, 40), 0.0016: (16, 24, 32), 0.00064: (16, 24), 0.000256: (16,)}
# The rungs nearest to the target in compute and tokens per parameter, which count most, are trained with a second seed.
REPEATED, SECOND_SEED = (32, 40), 1_000_003
EVALUATION = Eval(validation_tokens=1 << 18)
SAVES = 20  # checkpoints of the target, so that a stop loses at most a twentieth of it


def forecast(seed: int = 0) -> Ladder:
    """17k to 132k parameters predict 682k, each rung with at most 1 % of the target's FLOPs."""
    target = _rung(TARGET_WIDTH, TARGET_TOKENS_PER_PARAM / TOKENS_PER_PARAM, seed)
    flops = 6 * n_params(target.model) * target.tokens
    rungs = [_with_flops(width, share * flops, seed) for share, widths in WIDTHS.items() for width in widths]
    rungs += [_with_flops(width, max(WIDTHS) * flops, seed + SECOND_SEED) for width in REPEATED]
    return Ladder("forecast", tuple(rungs), (target,))


def _with_flops(width: int, flops: float, seed: int) -> Rung:
    """The rung of a width whose whole steps take at most so many FLOPs."""
    n = n_params(_model(width))
    batch_tokens = batch_sequences(n) * demo.SEQ_LEN
    steps = int(flops / (6 * n * batch_tokens))
    return _rung(width, steps * batch_tokens / (TOKENS_PER_PARAM * n), seed)


def _model(width: int):
    return demo.model(width, n_heads=HEADS)


def _rung(width: int, multiple: float, seed: int) -> Rung:
    shape = _model(width)
    n = n_params(shape)
    batch_tokens, tokens = batch_sequences(n) * demo.SEQ_LEN, train_tokens(n, multiple)
    return Rung(
        size=f"d{width}",
        multiple=multiple,
        tokens=tokens,
        batch_tokens=batch_tokens,
        model=shape,
        optimizer=Optimizer(
            peak_lr(n), warmup_tokens=min(n, tokens // 10), schedule="wsd", decay_fraction=0.2, beta2=0.99
        ),
        eval=EVALUATION,
        seed=seed,
        mesh=Mesh(accumulation=demo.microbatches(batch_sequences(n))),
        save_every=tokens // batch_tokens // SAVES if width == TARGET_WIDTH else 0,
    )


def peak_lr(n: int) -> float:
    """0.01 at 59k parameters, falling with N^(-1/3) as in Bhagia et al. 2024."""
    return demo.peak_lr(n)


def batch_sequences(n: int) -> int:
    """8 at 94k parameters, growing with N^(2/3) as in Bhagia et al. 2024; even, and at least 4. The demo's rule, in
    finer steps."""
    return 2 * max(2, round(4 * (n / 94e3) ** (2 / 3)))
