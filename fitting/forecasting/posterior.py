"""Step 1 of a forecast: the posterior of three forms of L(N, D), on a grid, for one task and one target.

On a grid of alpha, beta and the floor's share of the smallest loss, each form is linear in its coefficients, which
weighted least squares with non-negative coefficients gives. Every node of every form then has a posterior weight: prior
times likelihood. The forecast is the posterior mean of ln L, so forms, exponents and floors that the runs do not tell
apart are averaged.

Likelihood: -1/2 (TEMPER sum(w) + PRIOR_RUNS) ln(RSS + PRIOR_RUNS s0^2) with RSS = sum(w (ln f - ln y)^2): normal
residuals whose unknown variance has been integrated out. TEMPER < 1, because the residuals of runs within a ladder are
no independent evidence of which form holds beyond it.
"""

from dataclasses import dataclass

import numpy as np

from fitting.forecasting.relevance import SMALLEST_SD, relevance, without_outliers
from fitting.inference.calibration import calibration
from fitting.laws.forms import FORMS, Form

EXPONENTS = np.geomspace(0.06, 1.1, 20)
SHARES = np.array(
    [0, 0.08, 0.16, 0.24, 0.32, 0.4, 0.48, 0.55, 0.61, 0.67, 0.72, 0.77, 0.81, 0.85, 0.88, 0.91, 0.935, 0.955, 0.97,
     0.985]
)  # fmt: skip
TEMPER, PRIOR_RUNS = 0.15, 4.0
# Nodes whose weight is less than this, relative to the heaviest, are dropped.
NEGLIGIBLE = 1e-6
LEAST_TERM = 1e-4  # a coefficient of 0 becomes this where its logarithm is needed
AT_ONCE = 4096  # runs whose residuals at all nodes are in memory at once: 13 MB
MAIN_RUNS = 0.05  # runs with a weight above this, relative to the heaviest, are counted as the law's runs


@dataclass(frozen=True)
class Priors:
    """ln alpha, ln beta ~ N(ln exponent, sd^2); ln alpha - ln beta ~ N(0, sd_ratio^2); floor's share ~ Beta(p, q).

    For a product the exponents are product_factor times as large: there one unit of ln C lowers both terms.
    """

    exponent: float = 0.29
    sd: float = 0.45
    sd_ratio: float = 0.25
    product_factor: float = 0.6
    floor: tuple[float, float] = (2.5, 1.8)

    def log_density(self, form: Form) -> np.ndarray:
        """[alpha, beta, share], up to a constant. A share's density is weighed by the width of its cell."""
        centre = np.log(self.exponent * (self.product_factor if form.is_product else 1.0))
        z = (np.log(EXPONENTS) - centre) / self.sd
        difference = (np.log(EXPONENTS)[:, None] - np.log(EXPONENTS)) / self.sd_ratio
        share, (p, q) = np.clip(SHARES, 0.04, 0.99), self.floor
        log_beta = (p - 1) * np.log(share) + (q - 1) * np.log(1 - share) + np.log(np.gradient(SHARES))
        exponents = -0.5 * (z[:, None] ** 2 + z**2 + difference**2)
        return exponents[:, :, None] + log_beta


PRIORS = Priors()
# Priors by the name of their floor. "families": as in PRIORS, whose values suit public families of large models.
# "uniform": every share of the smallest loss is equally likely; for much smaller models.
FLOORS = {"families": PRIORS, "uniform": Priors(floor=(1.0, 1.0))}
# Of -ln(accuracy above chance), which may fall to 0: little or no floor, and any exponent.
ACCURACY_PRIORS = Priors(sd=0.6, floor=(1.0, 20.0))


@dataclass(frozen=True)
class Nodes:
    """K nodes of one form: weights (over all forms they sum to 1) and parameters, with N, D, L in units of `centre`."""

    form: Form
    weights_K: np.ndarray
    params_K: dict[str, np.ndarray]
    centre: tuple[float, float, float]

    def log_loss(self, N, D) -> np.ndarray:
        """[K, m]: ln L at N and D [m]."""
        n, d = np.asarray(N, float) / self.centre[0], np.asarray(D, float) / self.centre[1]
        params = {name: values_K[:, None] for name, values_K in self.params_K.items()}
        return np.log(self.form.loss(n, d, **params)) + np.log(self.centre[2])


@dataclass(frozen=True)
class LossForecast:
    """log_loss: predicted ln L. half_width: of its 80 % interval. spread: posterior standard deviation."""

    log_loss: float
    half_width: float
    spread: float

    @property
    def loss(self) -> float:
        return float(np.exp(self.log_loss))

    @property
    def interval(self) -> tuple[float, float]:
        return float(np.exp(self.log_loss - self.half_width)), float(np.exp(self.log_loss + self.half_width))


@dataclass(frozen=True)
class Posterior:
    """The law of one task near one target.

    noise: weighted residual standard deviation of the runs, in ln L. best_run: ln L of the run
    with the largest compute. n_runs: those with a weight that counts. outliers_n: bool[n], runs weighed down to less
    than half by their residual. weights_Fn: of the runs, for each form. scales_F: standard deviation of a residual of
    weight 1 under the tempered likelihood, at each form's best node. best_FP: that node of each form: ln a, ln b (terms
    at the centre), ln alpha, ln beta, logit of E / smallest loss. priors: those of the fit.
    """

    nodes: tuple[Nodes, ...]
    noise: float
    best_run: float
    n_runs: int
    outliers_n: np.ndarray
    weights_Fn: np.ndarray
    scales_F: np.ndarray
    best_FP: np.ndarray
    priors: Priors

    @property
    def form_weights(self) -> dict[str, float]:
        return {nodes.form.name: float(nodes.weights_K.sum()) for nodes in self.nodes}

    def predict(self, N, D) -> tuple[np.ndarray, np.ndarray]:
        """(mean [m], sd [m]) of ln L at N parameters and D tokens [m]: posterior mean and standard deviation."""
        weights_K = np.concatenate([nodes.weights_K for nodes in self.nodes])
        log_Km = np.concatenate([nodes.log_loss(N, D) for nodes in self.nodes])
        mean_m = weights_K @ log_Km
        return mean_m, np.sqrt(weights_K @ (log_Km - mean_m) ** 2)

    def forecast(self, N: float, D: float) -> "LossForecast":
        """The forecast of one run with N parameters and D tokens."""
        [mean], [sd] = self.predict([N], [D])
        half = calibration().loss_half_width(self.noise, self.best_run - mean, sd)
        return LossForecast(float(mean), float(half), float(sd))

    def summary(self) -> dict[str, float]:
        """Posterior means: alpha and beta (of the logarithm; a product's divided by its factor), floor E."""
        totals = dict.fromkeys(("alpha", "beta", "E"), 0.0)
        for nodes in self.nodes:
            factor = PRIORS.product_factor if nodes.form.is_product else 1.0
            for name in ("alpha", "beta"):
                totals[name] += float(nodes.weights_K @ np.log(nodes.params_K[name] / factor))
            totals["E"] += float(nodes.weights_K @ nodes.params_K["E"]) * nodes.centre[2]
        return {"alpha": np.exp(totals["alpha"]), "beta": np.exp(totals["beta"]), "E": totals["E"]}


def fit(
    N, D, y, target_N: float, target_D: float, priors: Priors = PRIORS, forms: tuple[Form, ...] = FORMS
) -> Posterior:
    """The posterior from n runs: N parameters, D tokens, loss y > 0 (any unit), for a target of N and D."""
    N, D, y = (np.asarray(values, float) for values in (N, D, y))
    centre = tuple(float(np.exp(np.log(values).mean())) for values in (N, D, y))
    weights_n = relevance(N, D, target_N, target_D)
    grids = [_fit_form(form, N / centre[0], D / centre[1], y / centre[2], weights_n, priors) for form in forms]
    highest = max(grid.log_posterior.max() for grid in grids)
    mass = [np.exp(grid.log_posterior - highest) for grid in grids]
    total = sum(m.sum() for m in mass)
    nodes = tuple(grid.nodes(m / total, centre) for grid, m in zip(grids, mass, strict=True))
    share = [m.sum() / total for m in mass]
    best = int(np.argmax(np.log(N) + np.log(D)))
    outliers_n = sum(s * (grid.weights_n < 0.5 * weights_n) for s, grid in zip(share, grids, strict=True)) > 0.5
    noise = float(sum(s * grid.noise for s, grid in zip(share, grids, strict=True)))
    return Posterior(
        nodes, noise, float(np.log(y[best])), int((weights_n > MAIN_RUNS).sum()), outliers_n,
        np.array([grid.weights_n for grid in grids]), np.array([grid.scale for grid in grids]),
        np.array([grid.best() for grid in grids]), priors,
    )  # fmt: skip


@dataclass(frozen=True)
class _Grid:
    """One form on the grid [alpha, beta, share]: log posterior (not normalised), coefficients a and b; floors E.

    noise, scale: as in Posterior, at the node of the highest posterior.
    """

    form: Form
    log_posterior: np.ndarray
    a: np.ndarray
    b: np.ndarray
    E: np.ndarray
    weights_n: np.ndarray
    noise: float
    scale: float

    def best(self) -> np.ndarray:
        """[5]: the node of the highest posterior, as Posterior.best_FP has it."""
        i, j, k = np.unravel_index(np.argmax(self.log_posterior), self.log_posterior.shape)
        root = EXPONENTS[j] if self.form.root_is_beta else 1.0
        terms = root * np.log(np.maximum([self.a[i, j, k], self.b[i, j, k]], LEAST_TERM ** (1 / root)))
        share = np.clip(SHARES[k], 0.04, 0.99)
        return np.array([*terms, np.log(EXPONENTS[i]), np.log(EXPONENTS[j]), np.log(share / (1 - share))])

    def nodes(self, weight: np.ndarray, centre) -> Nodes:
        keep = np.nonzero(weight > NEGLIGIBLE * weight.max())
        i, j, k = keep
        params = {"E": self.E[k], "a": self.a[keep], "b": self.b[keep], "alpha": EXPONENTS[i], "beta": EXPONENTS[j]}
        kept = weight[keep]
        return Nodes(self.form, kept * (weight.sum() / kept.sum()), params, centre)


def _fit_form(form: Form, n, d, y, weights_n, priors: Priors) -> _Grid:
    """Fit, weigh outliers down by the residuals of the best node, fit again."""
    *_, best_residuals = _solve(form, n, d, y, weights_n)
    robust_n = without_outliers(weights_n, best_residuals)
    E, rss, a, b, _ = _solve(form, n, d, y, robust_n)
    runs = TEMPER * robust_n.sum() + PRIOR_RUNS
    evidence = -0.5 * runs * np.log(rss + PRIOR_RUNS * SMALLEST_SD**2)
    log_posterior = evidence + priors.log_density(form)
    i, j, k = np.unravel_index(np.argmax(log_posterior), rss.shape)
    fitted_n = form.loss(n, d, E[k], a[i, j, k], b[i, j, k], EXPONENTS[i], EXPONENTS[j])
    spent = 1 - 4 / max((robust_n > MAIN_RUNS * robust_n.max()).sum(), 5)  # degrees of freedom that the law takes
    variance = (robust_n * np.log(fitted_n / y) ** 2).sum() / max(robust_n.sum() * spent, 0.5)
    scale = np.sqrt((rss[i, j, k] + PRIOR_RUNS * SMALLEST_SD**2) / runs)
    return _Grid(form, log_posterior, a, b, E, robust_n, float(np.sqrt(variance)), float(scale))


def _solve(form: Form, n, d, y, weights_n):
    """(E [share], RSS, a, b [alpha, beta, share], residuals [n] of the node with the smallest RSS)."""
    E = SHARES * y.min()
    shape = len(EXPONENTS), len(EXPONENTS), len(SHARES)
    rss, a, b = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    parts = [slice(first, first + AT_ONCE) for first in range(0, len(n), AT_ONCE)]
    for j, beta in enumerate(EXPONENTS):
        above_kn = y - E[:, None]
        if form.is_product:
            a[:, j] = _product(n, d, y, above_kn, weights_n, beta)
        else:
            u_in, v_n, root = form.terms(n, d, EXPONENTS[:, None], beta)
            z_kn = above_kn ** (1 / root)
            # d ln L = root (L - E) / (L z) dz: residuals of z in units of ln L.
            scale_kn = weights_n * (root * above_kn / (y * z_kn)) ** 2
            a[:, j], b[:, j] = _non_negative(u_in, np.broadcast_to(v_n, (1, len(n))), z_kn, scale_kn)
        for part in parts:
            coefficients = E[:, None], a[:, j, :, None], b[:, j, :, None]
            fitted_ikn = form.loss(n[part], d[part], *coefficients, EXPONENTS[:, None, None], beta)
            rss[:, j] += np.log(fitted_ikn / y[part]) ** 2 @ weights_n[part]
    i, j, k = np.unravel_index(np.argmin(rss), shape)
    fitted_n = form.loss(n, d, E[k], a[i, j, k], b[i, j, k], EXPONENTS[i], EXPONENTS[j])
    return E, rss, a, b, np.log(fitted_n / y)


def _product(n, d, y, above_kn, weights_n, beta: float) -> np.ndarray:
    """Coefficients a [alpha, share]: weighted mean of ln(L - E) + alpha ln N + beta ln D."""
    scale_kn = weights_n * (above_kn / y) ** 2
    scale_kn = scale_kn / scale_kn.sum(axis=1, keepdims=True)
    flat_k = (np.log(above_kn) * scale_kn).sum(axis=1) + beta * (scale_kn @ np.log(d))
    return np.exp(flat_k + EXPONENTS[:, None] * (scale_kn @ np.log(n)))


def _non_negative(u_in, v_1n, z_kn, weights_kn) -> tuple[np.ndarray, np.ndarray]:
    """a, b >= 0 [i, k] that minimise sum_n weights_kn (z_kn - a u_in - b v_1n)^2."""
    uu, vv, uv = u_in**2 @ weights_kn.T, v_1n**2 @ weights_kn.T, (u_in * v_1n) @ weights_kn.T
    uz, vz = u_in @ (weights_kn * z_kn).T, v_1n @ (weights_kn * z_kn).T
    determinant = np.maximum(uu * vv - uv**2, 1e-12 * uu * vv)
    a, b = (uz * vv - vz * uv) / determinant, (vz * uu - uz * uv) / determinant
    only_b, only_a = a <= 0, b <= 0
    return (
        np.where(only_b, 0.0, np.where(only_a, uz / uu, a)),
        np.where(only_a & ~only_b, 0.0, np.where(only_b, vz / vv, b)),
    )
