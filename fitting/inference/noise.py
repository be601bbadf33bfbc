"""Run-to-run noise: its estimate, the uncertainty of the estimate, and simulated runs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fitting.laws.base import Law

# The share of the run-to-run variance (seed, data order) that branches of one trunk have in common.
TRUNK_SHARE = 0.5
# Drawn noise is at most this many times the estimate.
MAX_NOISE_RATIO = 4.0


@partial(jax.jit, static_argnums=0)
def _linearised(law: Law, params_TP, lanes):
    def fitted(params_P, lane):
        y_n = law.form(params_P, lane)
        y_n = jnp.log(y_n) if law.log_space else y_n
        return y_n, y_n

    jacobian_TnP, fitted_Tn = jax.vmap(jax.jacfwd(fitted, has_aux=True))(params_TP, lanes)
    return fitted_Tn, jacobian_TnP


def linearised(law: Law, params_TP: np.ndarray, lanes: dict) -> tuple[np.ndarray, np.ndarray]:
    """(fitted_Tn, jacobian_TnP): the law (its ln if it is fitted in log space) and its derivatives by the fit
    coordinates."""
    with jax.enable_x64(True):
        return tuple(np.asarray(array) for array in _linearised(law, params_TP, lanes))


def run_noise(law, params_TP, lanes, weights_Tn, groups_n, noise_floor):
    """Return noise_T, the run-to-run standard deviation, and dof_T, the degrees of freedom of this estimate.

    The residuals are (I - H) times the noise, where H is the projection on the law's tangent space. So for noise with
    correlation C the expected sum of squares is sigma^2 tr S, with S = (I - H) C (I - H), and its degrees of freedom
    are about (tr S)^2 / tr S^2 (Satterthwaite). A parameter on its bound uses none.
    """
    fitted_Tn, jacobian_TnP = linearised(law, params_TP, lanes)
    observed_Tn = np.log(lanes["y"]) if law.log_space else lanes["y"]
    noise, dof = [], []
    for t, present in enumerate(weights_Tn > 0):
        jacobian_nP = jacobian_TnP[t][present][:, ~law.on_bound(params_TP[t])]
        eye_nn = np.eye(present.sum())
        residual_nn = eye_nn - jacobian_nP @ np.linalg.pinv(jacobian_nP, rcond=1e-9)
        same_group_nn = groups_n[present][:, None] == groups_n[present]
        correlation_nn = TRUNK_SHARE * same_group_nn + (1 - TRUNK_SHARE) * eye_nn
        s_nn = residual_nn @ correlation_nn @ residual_nn
        trace = max(np.trace(s_nn), 0.1)
        noise.append(np.sqrt(np.sum((observed_Tn - fitted_Tn)[t, present] ** 2) / trace))
        dof.append(max(trace**2 / max(np.sum(s_nn**2), 1e-12), 1.0))
    return np.maximum(noise, noise_floor), np.array(dof)


def noise_draws(noise_T, dof_T, n_resamples, rng):
    """Draw R noise levels for each task, [T, R], from their distribution given the residuals.

    noise_T is estimated with dof_T degrees of freedom, so a draw is noise * sqrt(dof / chi-squared(dof)).
    """
    chi2_TR = rng.chisquare(dof_T[:, None], (len(dof_T), n_resamples))
    ratio_TR = np.sqrt(dof_T[:, None] / np.maximum(chi2_TR, 1e-9))
    return noise_T[:, None] * np.minimum(ratio_TR, MAX_NOISE_RATIO)


def simulated_lanes(law, params_TP, lanes, noise_TR, groups_n, rng):
    """Lanes of T * R problems, whose observations are drawn around the fitted law.

    All tasks share the same normal deviates, because all tasks of a run are measured on the same model.
    """
    fitted_Tn, _ = linearised(law, params_TP, lanes)
    labels, group_n = np.unique(groups_n, return_inverse=True)
    n_resamples = noise_TR.shape[1]
    own_Rn = rng.standard_normal((n_resamples, len(group_n)))
    shared_Rn = rng.standard_normal((n_resamples, len(labels)))[:, group_n]
    deviate_Rn = np.sqrt(TRUNK_SHARE) * shared_Rn + np.sqrt(1 - TRUNK_SHARE) * own_Rn
    y_TRn = fitted_Tn[:, None] + noise_TR[:, :, None] * deviate_Rn
    y_TRn = np.exp(y_TRn) if law.log_space else y_TRn
    return lanes | {"y": y_TRn.reshape(-1, len(group_n))}
