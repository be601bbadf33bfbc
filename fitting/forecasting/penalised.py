"""The parameters of each form and how far resamples of the runs move them: penalised fits by jaxopt.

A fit minimises half the weighted squared residuals of ln L, in units of the posterior's variance, plus half the squared
distance of each parameter from its prior, in units of the prior's standard deviation. All forms, tasks and resamples
are one batch of vmapped Levenberg-Marquardt problems. Resamples are Bayesian bootstrap draws (Rubin 1981): weights
~ Exponential(1) for each group of runs, which a ladder of few runs also allows.

The forecast itself is the mean of `posterior`, which scores better (docs/forecasts.md); `penalised` says how far each
parameter is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from fitting.forecasting.posterior import Posterior
from fitting.inference.calibration import LEVEL
from fitting.laws.forms import FORMS, Form
from fitting.solvers.batch import solve

PARAMETERS = ("a", "b", "alpha", "beta", "share")
# Standard deviation of ln a and ln b: so wide that it matters only where the runs do not determine a coefficient.
COEFFICIENT_SD = 2.0
FREE = ((-np.inf, np.inf),) * len(PARAMETERS)
MAX_ITERATIONS = 60
# Runs of weight 0 are added up to a multiple of this, so that tables of similar size share a compilation.
PAD = 16
N_PRIORS = 6


@dataclass(frozen=True)
class Parameters:
    """Penalised fits of F forms to T tasks, with R resamples of each; row 0 of an axis [1 + R] is the fit.

    theta_FTRP: ln a, ln b, ln alpha, ln beta, logit of E / smallest loss. centre_T3, smallest_T: units of N, D and L,
    and the smallest loss in that unit. converged: share of the lanes.
    """

    forms: tuple[Form, ...]
    theta_FTRP: np.ndarray
    centre_T3: np.ndarray
    smallest_T: np.ndarray
    converged: float

    def log_loss(self, N: float, D: float) -> np.ndarray:
        """[F, T, 1 + R]: ln L at N parameters and D tokens."""
        n, d = (value / self.centre_T3[:, i, None] for i, value in enumerate((N, D)))
        by_form = [
            _losses((form,), n, d, self.smallest_T[:, None], np.moveaxis(self.theta_FTRP[f], -1, 0), np)[0]
            for f, form in enumerate(self.forms)
        ]
        return np.log(by_form) + np.log(self.centre_T3[:, 2, None])

    def intervals(self, t: int, level: float = LEVEL) -> dict[str, dict]:
        """{form: {parameter: [fit, low, high]}} of task t, for alpha, beta and the floor E: intervals of resamples."""
        rows = {}
        for form, theta_RP in zip(self.forms, self.theta_FTRP[:, t], strict=True):
            floor_R = special.expit(theta_RP[:, 4]) * self.smallest_T[t] * self.centre_T3[t, 2]
            values = {"alpha": np.exp(theta_RP[:, 2]), "beta": np.exp(theta_RP[:, 3]), "E": floor_R}
            ends = {
                name: np.quantile(value_R[1:], [(1 - level) / 2, (1 + level) / 2]) for name, value_R in values.items()
            }
            rows[form.name] = {name: [float(values[name][0]), *map(float, ends[name])] for name in values}
        return rows


def _losses(forms: tuple[Form, ...], n, d, smallest, theta, xp) -> list:
    """L of each form at ln a, ln b (the terms at the centre), ln alpha, ln beta, logit of E / smallest."""
    log_a, log_b, log_alpha, log_beta, share = theta
    alpha, beta, floor = xp.exp(log_alpha), xp.exp(log_beta), smallest / (1 + xp.exp(-share))
    losses = []
    for form in forms:
        root = beta if form.root_is_beta else 1.0
        losses.append(form.loss(n, d, floor, xp.exp(log_a / root), xp.exp(log_b / root), alpha, beta))
    return losses


def _residuals(theta_P, data, lane):
    """[n + N_PRIORS]: residuals of the runs in units of their standard deviation, then those of the prior."""
    theta = tuple(jnp.unstack(theta_P))
    losses = _losses(FORMS, lane["n"], lane["d"], lane["smallest"], theta, jnp)
    law_n = jax.lax.select_n(lane["form"].astype(np.int32), *losses)
    log_a, log_b, alpha, beta, share = theta
    priors = jnp.stack([
        (alpha - lane["log_exponent"]) / data["sd"],
        (beta - lane["log_exponent"]) / data["sd"],
        (alpha - beta) / data["sd_ratio"],
        (share - lane["share"]) / lane["share_sd"],
        (log_a + 1) / COEFFICIENT_SD,
        (log_b + 1) / COEFFICIENT_SD,
    ])  # fmt: skip
    return jnp.concatenate([(jnp.log(law_n) - lane["log_y"]) / lane["sd"], priors])


@dataclass(frozen=True)
class _Problems:
    """X = forms x tasks problems, by form: lanes {name: [X, ...]}, data, weights_XRn with the priors' rows, starts."""

    lanes: dict[str, np.ndarray]
    data: dict[str, np.ndarray]
    weights_XRn: np.ndarray
    starts_X1P: np.ndarray


def fit(
    N_n: np.ndarray, D_n: np.ndarray, y_Tn: np.ndarray, posteriors: Sequence[Posterior], groups_n: np.ndarray,
    n_resamples: int, seed: int,
) -> Parameters:  # fmt: skip
    """Fit every form to T tasks. y_Tn: loss, nan where a run lacks a task. Weights and priors are those of the
    posteriors, one for each task."""
    problems = _problems(N_n, D_n, y_Tn, posteriors, groups_n, n_resamples, seed)
    weights_XRn = problems.weights_XRn
    solution = solve(
        _residuals, problems.starts_X1P, data=problems.data, weights_Rn=weights_XRn.reshape(-1, weights_XRn.shape[2]),
        lanes=problems.lanes, bounds=FREE, max_iterations=MAX_ITERATIONS,
    )  # fmt: skip
    forms = tuple(nodes.form for nodes in posteriors[0].nodes)
    theta = solution.params_RP.reshape(len(forms), len(y_Tn), n_resamples + 1, len(PARAMETERS))
    centre_T3 = np.array([posterior.nodes[0].centre for posterior in posteriors])
    smallest_T = problems.lanes["smallest"][: len(y_Tn)]
    return Parameters(forms, theta, centre_T3, smallest_T, float(solution.converged_R.mean()))


def _problems(N_n, D_n, y_Tn, posteriors, groups_n, n_resamples: int, seed: int) -> _Problems:
    forms = tuple(nodes.form for nodes in posteriors[0].nodes)
    padding = -len(N_n) % PAD
    N_n, D_n = (np.append(values, np.ones(padding)) for values in (N_n, D_n))
    y_Tn = np.pad(y_Tn, ((0, 0), (0, padding)), constant_values=np.nan)
    has_Tn = ~np.isnan(y_Tn)
    centre_T3 = np.array([posterior.nodes[0].centre for posterior in posteriors])
    of_tasks = {
        "n": N_n / centre_T3[:, :1],
        "d": D_n / centre_T3[:, 1:2],
        "log_y": np.log(np.where(has_Tn, y_Tn / centre_T3[:, 2:], 1.0)),
        "smallest": np.where(has_Tn, y_Tn, np.inf).min(axis=1) / centre_T3[:, 2],
    }
    p_T, q_T = np.array([posterior.priors.floor for posterior in posteriors]).T
    of_tasks["share"] = special.digamma(p_T) - special.digamma(q_T)
    of_tasks["share_sd"] = np.sqrt(special.polygamma(1, p_T) + special.polygamma(1, q_T))
    lanes = {name: np.tile(values, (len(forms),) + (1,) * (values.ndim - 1)) for name, values in of_tasks.items()}
    priors = posteriors[0].priors  # of the exponents: the same for all tasks
    lanes["form"] = np.repeat([float(FORMS.index(form)) for form in forms], len(y_Tn))
    factor_X = np.repeat([priors.product_factor if form.is_product else 1.0 for form in forms], len(y_Tn))
    lanes["log_exponent"] = np.log(priors.exponent * factor_X)
    lanes["sd"] = np.array([posterior.scales_F for posterior in posteriors]).T.ravel()
    weights_FTn = np.zeros((len(forms), *y_Tn.shape))
    for t, posterior in enumerate(posteriors):
        weights_FTn[:, t, has_Tn[t]] = posterior.weights_Fn
    drawn_Rn = np.pad(_bootstrap_weights(groups_n, n_resamples, seed), ((0, 0), (0, padding)))
    weights_XRn = weights_FTn.reshape(-1, 1, y_Tn.shape[1]) * drawn_Rn
    weights_XRn = np.concatenate([weights_XRn, np.ones((*weights_XRn.shape[:2], N_PRIORS))], axis=2)
    data = {"sd": np.array(priors.sd), "sd_ratio": np.array(priors.sd_ratio)}
    starts = np.array([posterior.best_FP for posterior in posteriors]).swapaxes(0, 1)
    return _Problems(lanes, data, weights_XRn, starts.reshape(-1, 1, len(PARAMETERS)))


def residuals_of(N_n, D_n, y_Tn, posteriors, groups_n, n_resamples, seed, f: int, t: int, r: int):
    """The function that `fit` squares for form f, task t and resample r, for checks by another solver."""
    problems = _problems(N_n, D_n, y_Tn, posteriors, groups_n, n_resamples, seed)
    x = f * len(y_Tn) + t
    lane, root_n = {name: values[x] for name, values in problems.lanes.items()}, np.sqrt(problems.weights_XRn[x, r])

    def residuals(theta_P) -> np.ndarray:
        with jax.enable_x64(True):
            return root_n * np.asarray(_residuals(jnp.asarray(theta_P), problems.data, lane))

    return residuals


def _bootstrap_weights(groups_n: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """[1 + R, n]: ones, then R draws of Exponential(1) for each group of runs, with mean 1."""
    labels, group_n = np.unique(groups_n, return_inverse=True)
    drawn_Rn = np.random.default_rng([seed, 3]).exponential(size=(n_resamples, len(labels)))[:, group_n]
    drawn_Rn /= drawn_Rn.mean(axis=1, keepdims=True)
    return np.vstack([np.ones(len(group_n)), drawn_Rn])
