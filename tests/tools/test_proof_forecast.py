"""The arithmetic and the row of `make proof-forecast`, by hand."""

import math

import pytest

from fitting.forecasting.results import TaskForecast
from tools import pages, proof_forecast
from tools.proof_forecast import Outcome


def outcome(predicted=2.04, half=0.06, by_law=2.1, ratio=99.96):
    """The target measures 2.0."""
    ends = (predicted - half, predicted + half)
    return Outcome("prose", TaskForecast("big", "validation", predicted, ends, measured_bpb=2.0), by_law, ratio)


def test_a_row():
    assert outcome().cells == ["prose", "100", "2.040", "1.980 to 2.100", "2.000", "+2.0%", "yes", "+5.0%"]
    assert len(proof_forecast.HEAD) == len(outcome().cells)


@pytest.mark.parametrize(
    ("third", "missed"),
    [
        (outcome(), []),
        (outcome(2.2, half=0.01), ["largest error, %"]),  # its interval and its error beside the law may miss
        (outcome(half=0.16), ["widest half-width, %"]),
        (outcome(ratio=90), ["compute of the target over that of the largest rung"]),
    ],
)
def test_one_of_three_may_miss(third, missed):
    asked = proof_forecast.checks([outcome(), outcome(by_law=math.nan), third])
    assert [name for name, *_, holds in asked if not holds] == missed
    both = proof_forecast.checks([outcome(2.2, half=0.01), outcome(), outcome(2.2, half=0.01)])
    names = [name for name, *_, holds in both if not holds]
    assert names == ["largest error, %", "better than the law of compute", "80 % intervals that hold what was measured"]


def test_the_pages_have_the_block():
    for page in proof_forecast.PAGES:
        assert pages.markers(proof_forecast.BLOCK)[0] in (pages.ROOT / page).read_text()
