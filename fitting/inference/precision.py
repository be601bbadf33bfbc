"""Checks that float32, the only floating-point type of some accelerators, was precise enough."""

import numpy as np

from fitting.errors import InputError
from fitting.solvers.batch import entries, solve

# N_CHECKED of the resamples are solved in float64 too. The 99th percentile of the relative difference of each parameter
# must be at most TOLERANCE.
N_CHECKED, TOLERANCE = 256, 2e-3


def refuse_different(law, centre, params_RP, starts_TSP, weights_Rn, lanes, problem):
    """Raises InputError if resamples solved in float32 differ from the same ones solved in float64."""
    checked, n_problems = np.arange(0, len(weights_Rn), max(len(weights_Rn) // N_CHECKED, 1)), len(weights_Rn)
    lanes = {k: entries(v, checked, n_problems) for k, v in lanes.items()}
    centre = {k: entries(v, checked, n_problems)[:, 0] for k, v in centre.items()}
    starts = entries(starts_TSP, checked, n_problems)
    exact = solve(starts=starts, weights_Rn=weights_Rn[checked], lanes=lanes, **problem)
    float32, float64 = law.natural(params_RP[checked], centre), law.natural(exact.params_RP, centre)
    for name, value_R in float64.items():
        difference = np.quantile(np.abs(float32[name] - value_R) / np.maximum(np.abs(value_R), 1e-12), 0.99)
        if not difference <= TOLERANCE:
            raise InputError(
                f"float32: {name} differs from float64 by {difference:.2g} of itself at the 99th percentile of"
                f" {len(checked)} resamples (allowed: {TOLERANCE:g}); use float64 or a larger Huber threshold",
                "precision",
            )
