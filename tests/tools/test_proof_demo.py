"""The arithmetic of `make proof-demo`, by hand."""

import math

import pytest

from fitting.forecasting.results import TaskForecast
from tools import proof_demo
from tools.proof_demo import Demo


def entry(task="validation", bpb=None, accuracy=None):
    """(predicted, half-width, measured) of each."""
    b, a = bpb or (None, 0, None), accuracy or (None, 0, None)
    ends = [None if value is None else (value - half, value + half) for value, half, _ in (b, a)]
    return TaskForecast("big", task, b[0], ends[0], a[0], ends[1], measured_bpb=b[2], measured_accuracy=a[2])


FIRST = Demo(0, [entry(bpb=(2.02, 0.06, 2.0), accuracy=(0.80, 0.02, 0.79))], {"rungs": 60.0, "target": 5.0})
SECOND = Demo(1, [entry(bpb=(2.0, 0.04, 2.0), accuracy=(0.70, 0.04, 0.76))], {"rungs": 61.0, "target": 6.0})
UNKNOWN = [entry("not predicted"), entry("not measured", bpb=(1.0, 0.1, None)), entry("no ends", bpb=None)]


def test_errors_are_relative_for_bits_and_in_points_for_accuracy():
    entries = [*FIRST.entries, *UNKNOWN]
    assert proof_demo.errors(entries, "bpb").tolist() == [pytest.approx([1.0, -2.0, 4.0])]
    assert proof_demo.errors(entries, "accuracy").tolist() == [pytest.approx([1.0, -1.0, 3.0])]


def test_the_pooled_figures():
    bpb, accuracy = (proof_demo.pooled([FIRST, SECOND], metric) for metric in ("bpb", "accuracy"))
    # Of constant width: the first seed's interval is as wide as the second's error, and the other way round.
    assert bpb == pytest.approx(
        {"n": 2, "inside": 2, "half_width": 2.5, "error": 0.5, "score": 5, "constant_score": (10 * 1 + 2 * 1) / 2}
    )
    # 0.76 is 2 points above 0.74: 8 + 10 x 2; and 6 is 5 more than the other seed's error: 2 + 10 x 5.
    assert accuracy == pytest.approx(
        {"n": 2, "inside": 1, "half_width": 3, "error": 3.5, "score": (4 + 28) / 2, "constant_score": (12 + 52) / 2}
    )
    alone = proof_demo.pooled([FIRST], "bpb")
    assert alone["n"] == 1 and math.isnan(alone["constant_score"])


def test_what_is_asked():
    values = {name: (value, holds) for name, value, _, holds in proof_demo.checks([FIRST, SECOND])}
    assert values["share of the 80 % intervals that hold"] == (0.75, True)
    assert values["accuracies predicted, of each seed"] == (1, False)
    value, holds = values["interval score over that of a constant width"]
    assert value == pytest.approx((5 / 6 + 16 / 32) / 2) and holds
    assert values["absolute error of accuracy, points"] == (pytest.approx(3.5), False)
    assert values["largest error of the validation text, %"] == (pytest.approx(1.0), True)
    text = "\n".join(map(str, proof_demo.grids([FIRST, SECOND])))
    assert "1 min 05 s" in text and "+1.00 %" in text and "3 of 4" not in text and "2 of 2" in text
