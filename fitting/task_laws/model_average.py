"""Step 1 as an average over forms: each task's law is a weighted mean (in ln bpb) of all fitted forms.

The largest uncertainty of a prediction is which form holds beyond the ladder. The mean over forms, weighted by how well
each predicted held-out rungs (`backtest`), has a smaller error than any single form. The interval includes the
disagreement of the forms: a draw is one form (with its weight as probability), one resample of its parameters, and the
noise of one run.
"""

from dataclasses import dataclass

import numpy as np

from fitting.inference import bootstrap
from fitting.laws.forms import FAMILY, FORMS, Form
from fitting.tables.points import Points

# ln bpb. At 1e-3, as published, the fit is nearly least absolute deviations. Run noise is 0.3 to 1 %, and a threshold
# above it makes the prediction's standard deviation 10 to 15 % smaller (simulated).
HUBER = 1e-2
NOISE_FLOOR = 2e-3
# Sizes within this factor do not determine two exponents and a floor. For such ladders only forms with one exponent and
# a floor are averaged: published alpha and beta lie within a factor of 1.4 of each other (Kaplan 0.076 and 0.103,
# Hoffmann 0.34 and 0.28, Besiroglu 0.348 and 0.366), and floors above 0.
WIDE = 5.0
N_STARTS, N_ITERATIONS = 16, 40


@dataclass(frozen=True)
class Average:
    """F forms fitted to T tasks, and their weights, which sum to 1 over the forms. fit: of F * T tasks, by form."""

    forms: tuple[Form, ...]
    weights_FT: np.ndarray
    fit: bootstrap.Fit

    @property
    def noise_T(self) -> np.ndarray:
        """Standard deviation of a run around the law, in ln bpb: the forms' weighted mean."""
        return np.sum(self.weights_FT * self.by_form(self.fit.noise_T), axis=0)

    @property
    def points_T(self) -> np.ndarray:
        return self.by_form(self.fit.points_T)[0]

    def by_form(self, values: np.ndarray) -> np.ndarray:
        """[F * T, ...] -> [F, T, ...]."""
        return values.reshape(len(self.forms), -1, *values.shape[1:])

    def form_predictions(self, features: dict) -> np.ndarray:
        """[F, T, 1 + R, m]: bpb of every form and resample (row 0: the fit) at features {"N": [m], "D": [m]}."""
        n_points = len(np.asarray(features["N"]))
        stacked = stack(self.forms, self.weights_FT.shape[1], {k: features[k] for k in ("N", "D")}, n_points)
        return self.by_form(self.fit.predict(stacked))

    def predict(self, features: dict) -> np.ndarray:
        """[T, m]: bpb at features {"N": [m], "D": [m]}."""
        log_FTm = np.log(self.form_predictions(features)[:, :, 0])
        return np.exp(np.einsum("ft,ftm->tm", self.weights_FT, log_FTm))

    def draws(self, features: dict, n_draws: int, seed: int) -> np.ndarray:
        """[T, n_draws, m]: draws of the bpb that one run will measure: form, parameters and run noise are drawn."""
        bpb_FTRm = self.form_predictions(features)[:, :, 1:]
        rng = np.random.default_rng([seed, 1])
        # All tasks of a draw share the quantile that picks the form, and the resample: one run measures them all.
        rank_r = (rng.permutation(n_draws) + 0.5) / n_draws
        form_Tr = (rank_r[None, :, None] > np.cumsum(self.weights_FT, axis=0).T[:, None]).sum(axis=2)
        form_Tr = np.minimum(form_Tr, len(self.forms) - 1)
        resample_r = rng.integers(bpb_FTRm.shape[2], size=n_draws)
        noise_FTR = self.by_form(self.fit.noise_TR)
        t_T1 = np.arange(form_Tr.shape[0])[:, None]
        bpb_Trm = bpb_FTRm[form_Tr, t_T1, resample_r]
        noise_Tr = noise_FTR[form_Tr, t_T1, resample_r] * rng.standard_normal(form_Tr.shape)
        return bpb_Trm * np.exp(noise_Tr[:, :, None])


def stack(forms: tuple[Form, ...], n_tasks: int, features: dict, n_points: int) -> dict:
    """The features of one fit of all forms to all tasks, {name: [F * T, n]}.

    features: {name: [n]}, the same for every form and task. The flags that tell the forms apart are added as features.
    """
    shape = len(forms) * n_tasks, n_points
    stacked = {k: np.broadcast_to(np.asarray(v, float), shape) for k, v in features.items()}
    flags = [form.features(n_points) for form in forms]
    return stacked | {k: np.repeat([f[k] for f in flags], n_tasks, axis=0) for k in flags[0]}


def forms_for(points: Points) -> tuple[Form, ...]:
    """The forms that the ladder's sizes can tell apart. The choice depends on the ladder only, never on a target."""
    n = points.features["N"]
    return FORMS if n.max() / n.min() >= WIDE else tuple(f for f in FORMS if f.tied and not f.no_floor)


def fit(points: Points, weights_FT: np.ndarray, n_resamples: int, seed: int, forms=FORMS) -> Average:
    """Fit forms to all tasks of `points`; bpb is nan where a task lacks a run."""
    use_Tn = ~np.isnan(points.bpb_Tn)
    return Average(forms, weights_FT, fit_forms(points, use_Tn, seed, n_resamples, N_STARTS, forms))


def fit_forms(points: Points, use_Xn: np.ndarray, seed: int, n_resamples: int, n_starts: int, forms=FORMS):
    """bootstrap.Fit of F * X tasks, by form: every form is fitted to X sets of points.

    use_Xn: which points a set holds; set x is of task x % T, so X is a multiple of T.
    """
    bpb_Xn = np.tile(points.bpb_Tn, (len(use_Xn) // len(points.tasks), 1))
    return bootstrap.fit(
        FAMILY,
        stack(forms, len(use_Xn), {k: points.features[k] for k in ("N", "D")}, len(points.runs)),
        np.tile(np.where(use_Xn, bpb_Xn, 1.0), (len(forms), 1)),
        weights_Tn=np.tile(use_Xn, (len(forms), 1)),
        groups_n=points.groups_n,
        solver=bootstrap.Solver(HUBER, iterations=N_ITERATIONS, starts=n_starts, resample_starts=0),
        resampling=bootstrap.Resampling(n_resamples, seed, "residuals", noise_floor=NOISE_FLOOR),
    )
