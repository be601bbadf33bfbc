"""How well the rungs of `ladder demo --forecast` determine its target, where the losses follow a known law."""

import numpy as np
import pytest

from configs import loader
from configs.forecast import FLOOR
from fitting.forecasting import posterior
from ladder.sizes import n_params

NOISE, DRAWS = 0.005, 16
# Each law gives 2.53 bits per byte to a run of 36k parameters on 726k bytes, and 2.06 to one of 289k parameters on 2.9M
# bytes.
AT_N, AT_D = 36_312, 726_240


@pytest.mark.parametrize(
    ("exponent", "floor", "term", "off"), [(0.35, 1.49, 0.52, -2.8), (0.25, 1.18, 0.673, 0.6), (0.15, 0.47, 1.03, 4.6)]
)
def test_the_forecast_of_simulated_rungs(exponent, floor, term, off):
    """Off in percent as docs/forecast.md says; the interval is no wider than 7.5 %."""
    ladder, rng = loader.load("forecast"), np.random.default_rng(0)
    [target] = ladder.targets
    n, d = (np.array(values, float) for values in zip(*map(_size, ladder.rungs), strict=True))

    def loss(n, d):
        return floor + term * ((AT_N / n) ** exponent + (AT_D / d) ** exponent)

    errors = []
    for _ in range(DRAWS):
        measured = loss(n, d) * np.exp(NOISE * rng.standard_normal(len(n)))
        forecast = posterior.fit(n, d, measured, *_size(target), posterior.FLOORS[FLOOR]).forecast(*_size(target))
        errors.append(100 * (forecast.loss / loss(*_size(target)) - 1))
        assert forecast.half_width < 0.075
    assert np.mean(errors) == pytest.approx(off, abs=0.7)


def _size(rung):
    return float(n_params(rung.model)), float(rung.steps * rung.batch_tokens)
