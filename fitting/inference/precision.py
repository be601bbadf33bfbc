"""Whether float32, the only type of some accelerators, was precise enough."""

import numpy as np

from fitting.errors import InputError
from fitting.solvers.batch import solve

# So many of the resamples that were solved in float32 are solved in float64 too; at the 99th percentile no parameter
# may differ by more than this share.
N_CHECKED, TOLERANCE = 256, 2e-3


def refuse_different(law, centre, params_RP, starts_TSP, weights_Rn, lanes, problem):
    """Raises InputError where resamples solved in float32 differ from those solved in float64."""
    checked = np.arange(0, len(weights_Rn), max(len(weights_Rn) // N_CHECKED, 1))

    def entries(array):
        return array[checked // (len(weights_Rn) // len(array))]

    lanes, centre = {k: entries(v) for k, v in lanes.items()}, {k: entries(v)[:, 0] for k, v in centre.items()}
    exact = solve(starts=entries(starts_TSP), weights_Rn=weights_Rn[checked], lanes=lanes, **problem)
    float32, float64 = law.natural(params_RP[checked], centre), law.natural(exact.params_RP, centre)
    for name, value_R in float64.items():
        difference = np.quantile(np.abs(float32[name] - value_R) / np.maximum(np.abs(value_R), 1e-12), 0.99)
        if not difference <= TOLERANCE:
            raise InputError(
                f"float32: {name} differs from float64 by {difference:.2g} of itself at the 99th percentile of"
                f" {len(checked)} resamples (allowed: {TOLERANCE:g}); use float64 or a larger Huber threshold",
                "precision",
            )
