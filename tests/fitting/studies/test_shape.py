"""The study of shape recovers the penalty it is given."""

import numpy as np
import pytest

from fitting.errors import InputError
from fitting.studies import shape
from fitting.studies.ends import ends
from fitting.studies.results import AGREES, DISAGREES, UNKNOWN
from tests.fitting.studies.simulated import table

# layers, d_model, heads, d_ff
BASE = (4, 32, 2, 96)
ASPECT = ((1, 64, 2, 192), (2, 44, 2, 143), (8, 24, 2, 60), (16, 16, 2, 48))
OTHERS = ((4, 44, 2, 42), (4, 24, 2, 153), (4, 20, 2, 195), (4, 32, 1, 96), (4, 32, 4, 96), (4, 32, 8, 96))


def simulated(draw: int, curvature: float, noise: float = 0.003):
    """Loss with the best aspect ratio at 6, and a parabola of this curvature around it; all else costs nothing."""
    rng, rows = np.random.default_rng(draw), []
    for i, (layers, width, heads, d_ff) in enumerate([*[BASE] * 4, *ASPECT, *OTHERS]):
        x = np.log(width / layers / 6) if (layers, width) in [s[:2] for s in ASPECT] or i < 4 else np.log(8 / 6)
        loss = 2.5 * np.exp(curvature * x**2 + noise * rng.standard_normal())
        names = dict(zip(("n_layers", "d_model", "n_heads", "d_ff"), (layers, width, heads, d_ff), strict=True))
        size = {"n_params": 60_000, "n_non_embedding": 53_248 + 8 * i, "tokens": 1_200_000}
        rows.append({"run": f"r{i}", "seed": i if i < 4 else 0, "value": loss} | names | size)
    return table(rows)


@pytest.mark.parametrize("curvature", [0.0, 0.003, 0.02])
def test_the_interval_holds_the_penalty_that_was_put_in(curvature):
    truth, held = 100 * curvature * (np.log(40) / 2) ** 2, 0
    for draw in range(60):
        lo, hi = shape.families(ends(simulated(draw, curvature)))[0]["aspect"].penalty(40)[1]
        held += lo < truth < hi
    assert held >= 52


def test_verdicts_tables_and_figure():
    cheap, dear = (shape.analyse(simulated(0, curvature)) for curvature in (0.001, 0.02))
    assert [s.verdict for s in cheap.statements] == [AGREES] * 3
    assert [s.verdict for s in dear.statements] == [DISAGREES, AGREES, AGREES]
    assert len(cheap.tables[0].rows) == 11 and len(cheap.figures) == 1


def test_what_is_missing_is_said():
    whole = simulated(0, 0.0)
    study = shape.analyse(whole.select(run=["r0", "r1", "r2", "r3", "r4", "r11"]))
    assert [s.verdict for s in study.statements] == [UNKNOWN] * 3
    assert "2 shapes are finished" in study.statements[0].why
    with pytest.raises(InputError, match="two finished seeds"):
        shape.analyse(whole.select(seed=0.0))
