"""Which sizes and multiples predict a target best within a budget, by published constants. Imports no jax."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from configs import by_rules
from configs.olmo2 import SHAPES
from fitting.forecasting.design import Candidates
from ladder.errors import InputError
from ladder.flops import flops_per_token
from ladder.sizes import n_params, train_tokens

# Besiroglu et al. 2024, Table 1, as in fitting/laws/published.py, which needs jax and so seconds.
LAW = {"E": 1.8172, "A": 482.01, "alpha": 0.3478, "B": 2085.43, "beta": 0.3658}
NOISE = 0.005  # sd of ln loss between runs that differ by their seed; 0.3 to 1 % are published
# Widths grow by at most an eighth from one to the next, in steps that keep heads and shards whole.
WIDTHS = (
    *range(16, 256, 8),
    *range(256, 512, 32),
    *range(512, 1024, 64),
    *range(1024, 4096, 256),
    *range(4096, 20_480, 512),
)
MULTIPLES = ((1, 2, 5), (1, 2, 5, 10), (1, 2, 5, 10, 20), (0.5, 1, 2, 5, 10), (2, 5, 10, 20))
N_SIZES = (3, 4, 5, 6)
# Of the target's parameters: laws bend below, and a rung as large as the target needs no law.
SMALLEST_SHARE, LARGEST_SHARE = 0.01, 0.5


@dataclass(frozen=True)
class Choice:
    """widths: d_model of the sizes. half_width: half of the 80 % interval of the target's ln loss that the noise of the
    runs gives, if the law is right. flops: of all rungs. target_width: d_model of the target. smallest: parameters
    of the smallest size."""

    widths: tuple[int, ...]
    multiples: tuple[float, ...]
    target_width: int
    flops: float
    half_width: float
    smallest: int


def choose(n: float, tokens: float, budget: float, vocab_size: int, seq_len: int) -> Choice:
    """The regular ladder (every size at every multiple) within `budget` FLOPs whose forecast of the target is surest.

    n, tokens: of the target. Raises InputError where the vocabulary alone is larger than the target, or no ladder is
    within the budget.
    """
    target = target_width(n, vocab_size, seq_len)
    of_target = n_params(by_rules.model(target, vocab_size, seq_len))
    shares = {w: n_params(by_rules.model(w, vocab_size, seq_len)) / of_target for w in _widths()}
    widths = [width for width, share in shares.items() if SMALLEST_SHARE <= share <= LARGEST_SHARE]
    runs = sorted({(width, multiple) for width in widths for row in MULTIPLES for multiple in row})
    candidates = _candidates(runs, (of_target, tokens), vocab_size, seq_len)
    position = {run: i for i, run in enumerate(runs)}
    grids = [(sizes, row) for sizes in _ladders_of_sizes(widths) for row in MULTIPLES]
    chosen_Sn = np.zeros((len(grids), len(runs)), bool)
    for row, (sizes, multiples) in zip(chosen_Sn, grids, strict=True):
        row[[position[size, multiple] for size in sizes for multiple in multiples]] = True
    flops_S = chosen_Sn @ candidates.flops_n
    within = np.flatnonzero(flops_S <= budget)
    if not len(within):
        least = f"the cheapest needs {flops_S.min():.2g}" if len(grids) else "name a larger target"
        raise InputError(f"{budget:.3g} FLOPs: no ladder of three sizes costs so little; {least}", "budget")
    sd_S = candidates.sd(chosen_Sn[within])
    best = within[sd_S.argmin()]
    sizes, multiples = grids[best]
    smallest = n_params(by_rules.model(sizes[0], vocab_size, seq_len))
    return Choice(sizes, multiples, target, float(flops_S[best]), 1.2816 * float(sd_S.min()), smallest)


def target_width(n: float, vocab_size: int, seq_len: int) -> int:
    """The d_model whose number of parameters is nearest to n."""
    counts = {width: n_params(by_rules.model(width, vocab_size, seq_len)) for width in _widths()}
    if n < min(counts.values()):
        raise InputError(
            f"a target of {n:.3g} parameters: with a vocabulary of {vocab_size:,}, the smallest model has"
            f" {min(counts.values()):,}; name a smaller vocabulary (--tokenizer bpe:4096)",
            "target",
        )
    if n > 1.5 * max(counts.values()):
        raise InputError(f"a target of {n:.3g} parameters: at most {max(counts.values()):.3g}", "target")
    return min(counts, key=lambda width: abs(math.log(counts[width] / n)))


def _widths() -> list[int]:
    return sorted({*WIDTHS, *(shape[0] for shape in SHAPES.values())})


def _ladders_of_sizes(widths: Sequence[int]) -> list[tuple[int, ...]]:
    """Sizes between every two widths, evenly in the logarithm; each ladder once."""
    logs, ladders = np.log(widths), set()
    for smallest in range(len(widths)):
        for largest in range(smallest + 2, len(widths)):
            for count in N_SIZES:
                ideal = np.linspace(logs[smallest], logs[largest], count)
                nearest = np.abs(logs[:, None] - ideal).argmin(0)
                if len({*nearest}) == count:
                    ladders.add(tuple(widths[i] for i in nearest))
    return sorted(ladders)


def _candidates(runs, target: tuple[float, float], vocab_size: int, seq_len: int) -> Candidates:
    """runs: (d_model, multiple) of each. The law's derivatives are those of ln(E + A / N^alpha + B / D^beta)."""
    shapes = {width: by_rules.model(width, vocab_size, seq_len) for width, _ in runs}
    count = {width: n_params(shape) for width, shape in shapes.items()}
    n = np.array([count[width] for width, _ in runs], float)
    d = np.array([train_tokens(count[width], multiple) for width, multiple in runs], float)
    flops = d * [flops_per_token(shapes[width]) for width, _ in runs]
    jacobian = _derivatives(np.append(n, target[0]), np.append(d, target[1]))
    lengths = np.unique([multiple for _, multiple in runs], return_inverse=True)[1]
    sizes = np.unique(n, return_inverse=True)[1]
    return Candidates(flops, sizes, lengths, jacobian[None, :-1], jacobian[None, -1], np.array([NOISE]))


def _derivatives(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    """[runs, 5]: of ln loss by E, ln A, ln B, alpha and beta, N and D relative to their geometric mean."""
    E, A, B, alpha, beta = (LAW[name] for name in ("E", "A", "B", "alpha", "beta"))
    of_n, of_d = A * n**-alpha, B * d**-beta
    log_n, log_d = np.log(n) - np.log(n).mean(), np.log(d) - np.log(d).mean()
    columns = np.stack([np.ones_like(n), of_n, of_d, -of_n * log_n, -of_d * log_d], axis=1)
    return columns / (E + of_n + of_d)[:, None]
