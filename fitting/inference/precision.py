"""Whether float32, which is all that some accelerators have, was enough."""

import numpy as np

from fitting.errors import InputError
from fitting.solvers.batch import solve

# Of the resamples solved in float32, so many are solved in float64 too; at the 99th percentile no parameter may differ
# by more than this share.
CHECKED, ALIKE = 256, 2e-3


def refuse_unlike(law, centre, found_RP, starts_TSP, weights_Rn, lanes, problem):
    """Raises InputError where resamples solved in float32 differ from those solved in float64."""
    some = np.arange(0, len(weights_Rn), max(len(weights_Rn) // CHECKED, 1))

    def of(array):
        return array[some // (len(weights_Rn) // len(array))]

    lanes, centre = {k: of(v) for k, v in lanes.items()}, {k: of(v)[:, 0] for k, v in centre.items()}
    exact = solve(starts=of(starts_TSP), weights_Rn=weights_Rn[some], lanes=lanes, **problem)
    ours, right = law.natural(found_RP[some], centre), law.natural(exact.params_RP, centre)
    for name, value_R in right.items():
        off = np.quantile(np.abs(ours[name] - value_R) / np.maximum(np.abs(value_R), 1e-12), 0.99)
        if not off <= ALIKE:
            raise InputError(
                f"--precision float32: {name} differs from float64 by {off:.2g} of itself at the 99th percentile of"
                f" {len(some)} resamples (allowed: {ALIKE:g}); use --precision float64 or a larger --huber"
            )
