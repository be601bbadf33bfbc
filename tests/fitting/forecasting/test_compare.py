"""Two recipes compared: a ladder against itself, and against one whose tokens are worth less by a known factor."""

from dataclasses import replace

import pytest

from fitting.errors import InputError
from fitting.forecasting import compare, predict
from fitting.forecasting.results import SUITE


@pytest.fixture(scope="module")
def mine(simulate):
    table = simulate()
    return table, predict.predict(table, n_resamples=2)


def test_a_ladder_is_no_better_than_itself(mine):
    _, p = mine
    rows = compare.compare(p, p, p.targets[0])
    assert [r["task"] for r in rows] == ["validation", "quiz", SUITE]
    for row in rows:
        assert row["difference"] == pytest.approx(0, abs=1e-9) and row["gain"] == pytest.approx(1, abs=1e-6)
        assert row["difference_pi80"][0] <= 0 <= row["difference_pi80"][1]


def test_a_recipe_that_needs_a_quarter_of_the_compute_gains_four(mine):
    table, p = mine
    columns = {k: v.copy() for k, v in table.columns.items()}
    for name in ("n_params", "tokens"):  # the same losses at twice the N and twice the D
        columns[name] = columns[name] * 2
    worse = predict.predict(replace(table, columns=columns), list(p.targets), n_resamples=2)
    for row in compare.compare(p, worse, p.targets[0]):
        assert row["probability"] > 0.95 and row["difference"] < 0
        assert row["gain"] == pytest.approx(4, rel=0.15)
        lo, hi = row["gain_pi80"]
        assert lo < row["gain"] and (hi is None or row["gain"] < hi)
    assert compare.compare(worse, p, p.targets[0])[0]["probability"] < 0.05


def test_ladders_without_a_common_task_are_refused(mine):
    table, p = mine
    other = predict.predict(table, tasks=["quiz"], n_resamples=2)
    only = predict.predict(table, tasks=["validation"], n_resamples=2)
    with pytest.raises(InputError, match="share no task: quiz and validation"):
        compare.compare(other, only, p.targets[0])
