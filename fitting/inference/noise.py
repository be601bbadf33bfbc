"""Run-to-run noise: how large it is, how uncertain that is, and simulated runs that have it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fitting.laws.base import Law

# Share of run-to-run variance (seed, data order) that branches of one trunk have in common.
TRUNK_SHARE = 0.5
MAX_NOISE_RATIO = 4.0


@partial(jax.jit, static_argnums=0)
def _linearised(law: Law, params_TP, lanes):
    """-> (fitted_Tn, its Jacobian_TnP), of ln form where the law is fitted in log space."""

    def fitted(params_P, lane):
        y_n = law.form(params_P, lane)
        y_n = jnp.log(y_n) if law.log_space else y_n
        return y_n, y_n

    jacobian_TnP, fitted_Tn = jax.vmap(jax.jacfwd(fitted, has_aux=True))(params_TP, lanes)
    return fitted_Tn, jacobian_TnP


def linearised(law: Law, params_TP: np.ndarray, lanes: dict) -> tuple[np.ndarray, np.ndarray]:
    """([T, n], [T, n, P]): the law and its derivative by the fit coordinates; of its ln if fitted in log space."""
    with jax.enable_x64(True):
        fitted_Tn, jacobian_TnP = _linearised(law, params_TP, lanes)
        return np.asarray(fitted_Tn), np.asarray(jacobian_TnP)


def run_noise(law, params_TP, lanes, weights_Tn, groups_n, noise_floor):
    """-> (noise_T, dof_T): run-to-run standard deviation, and the degrees of freedom it is estimated with.

    Residuals are (I - H) times the noise, H the projection on the law's tangent space, so with noise correlation C the
    expected sum of squares is sigma^2 tr S, S = (I - H) C (I - H), and it has about (tr S)^2 / tr S^2 degrees of
    freedom (Satterthwaite). A parameter on its bound uses none.
    """
    fitted_Tn, jacobian_TnP = linearised(law, params_TP, lanes)
    observed_Tn = np.log(lanes["y"]) if law.log_space else lanes["y"]
    noise, dof = [], []
    for t, weights_n in enumerate(weights_Tn):
        has = weights_n > 0
        jacobian_nP = jacobian_TnP[t][has][:, ~law.on_bound(params_TP[t])]
        leaves_nn = np.eye(has.sum()) - jacobian_nP @ np.linalg.pinv(jacobian_nP, rcond=1e-9)
        same_nn = groups_n[has][:, None] == groups_n[has]
        correlation_nn = TRUNK_SHARE * same_nn + (1 - TRUNK_SHARE) * np.eye(has.sum())
        s_nn = leaves_nn @ correlation_nn @ leaves_nn
        trace = max(np.trace(s_nn), 0.1)
        noise.append(np.sqrt(np.sum((observed_Tn - fitted_Tn)[t, has] ** 2) / trace))
        dof.append(max(trace**2 / max(np.sum(s_nn**2), 1e-12), 1.0))
    return np.maximum(noise, noise_floor), np.array(dof)


def noise_draws(noise_T, dof_T, n_resamples, rng):
    """[T, R] noise levels that the residuals allow: noise * sqrt(dof / chi2_dof), at most 4 times the estimate."""
    chi2_TR = rng.chisquare(dof_T[:, None], (len(dof_T), n_resamples))
    ratio_TR = np.sqrt(dof_T[:, None] / np.maximum(chi2_TR, 1e-9))
    return noise_T[:, None] * np.minimum(ratio_TR, MAX_NOISE_RATIO)


def simulated_lanes(law, params_TP, lanes, noise_TR, groups_n, rng):
    """Lanes of T * R problems whose observations are drawn around the fitted law.

    All tasks share one set of deviates, because the tasks of a run are measured on the same weights.
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
