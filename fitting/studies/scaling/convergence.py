"""Convergence is inefficient: the best size for its compute stops well above the loss that it would converge to.

Kaplan et al. 2020, sections 1.1 and 6, and appendix B: at the optimum L(N, S) lies alpha_N / alpha_S, about 10 %, above
L(N, unlimited) (B.5), and D_opt grows slowly with C. Here L(N, D) = E + A/N^alpha + B/D^beta gives both losses.
"""

from collections.abc import Callable

import numpy as np

from fitting.loss_laws.allocation import Frontier
from fitting.loss_laws.loss_fit import LossFit
from fitting.report.grid import Grid
from fitting.report.numbers import si
from fitting.studies.results import Claim, Statement

UNLIMITED = 1e30  # tokens
TIMES = (0.25, 0.5, 1, 2, 4)  # of the best size
EXCESS = Claim(
    "The best size for its compute is stopped about 10 % above the loss that it would converge to",
    "Kaplan et al. 2020, B.5",
    "10 %",
    "{:.1f} %",
)


def excess(fitted: LossFit, frontier: Frontier, c_m: np.ndarray) -> np.ndarray:
    """[1 + R, m]: by how many percent the best size for c_m FLOPs ends above the loss that it would converge to."""
    n_Rm = frontier.n(c_m)
    converged_Rm = fitted.values_each({"N": n_Rm, "D": np.full_like(n_Rm, UNLIMITED)})
    return 100 * (frontier.loss_of(c_m) / converged_Rm - 1)


def statement(fitted: Callable[[], LossFit], frontier: Callable[[], Frontier]) -> Statement:
    """At the compute of the largest run."""

    def compare(claim: Claim) -> Statement:
        law, best = fitted(), frontier()
        excess_R = excess(law, best, np.array([best.largest]))[:, 0]
        return claim.equals(10.0, excess_R[0], best.interval(excess_R, False))

    return EXCESS.tried(compare)


def grids(fitted: LossFit, frontier: Frontier, budgets: np.ndarray) -> tuple[Grid, ...]:
    """What to train with each budget, and what other sizes cost at the largest one."""
    n_m, d_m = frontier.n(budgets)[0], frontier.d(budgets)[0]
    above_m, loss_m = excess(fitted, frontier, budgets)[0], frontier.loss_of(budgets)[0]
    best = [
        [f"{c:.3e}", si(n), si(d), f"{d / n:.3g}", f"{loss:.4f}", f"{above:.1f}"]
        for c, n, d, loss, above in zip(budgets, n_m, d_m, loss_m, above_m, strict=True)
    ]
    c, n_best, loss_best = budgets[-1], n_m[-1], loss_m[-1]
    others = []
    for times in TIMES:
        n, d = times * n_best, c / (6 * times * n_best)
        loss, converged = (fitted.values({"N": np.array([n]), "D": np.array([t])})[0, 0] for t in (d, UNLIMITED))
        others.append([f"{times:g}", si(n), si(d), f"{loss:.4f}", f"{100 * (loss / loss_best - 1):+.2f}",
                       f"{100 * (loss / converged - 1):.1f}"])  # fmt: skip
    above = "#above its converged loss, %"
    return (
        Grid("What to train with a budget", ["#C, FLOPs", "#N", "#D", "#D / N", "#loss", above], best),
        Grid(
            f"From converged to stopped early: sizes at {c:.3g} FLOPs",
            ["#times the best size", "#N", "#D", "#loss", "#above the best, %", above],
            others,
            ["By the fitted law; the converged loss is its limit at unlimited data, which no run reaches."],
        ),
    )
