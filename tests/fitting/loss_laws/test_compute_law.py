"""The law of compute: which runs it goes through, and that it finds the law that made them."""

import numpy as np
import pytest

from fitting.forecasting.results import TaskForecast
from fitting.loss_laws import compute_law
from fitting.report import compute_figure

C = np.geomspace(1e10, 6e11, 6)
E, A, ALPHA = 0.8, 30.0, 0.15


@pytest.fixture(scope="module")
def law():
    """Of each compute the best run, and one that is 2 % worse with 1 % more compute."""
    return compute_law.fit(np.r_[C, 1.01 * C], np.r_[E + A / C**ALPHA, 1.02 * (E + A / C**ALPHA)])


def test_it_finds_the_law_of_the_best_runs(law):
    assert law.best_n.tolist() == [True] * 6 + [False] * 6
    assert law.params == pytest.approx({"E": E, "A": A, "alpha": ALPHA}, rel=1e-4)
    assert law.loss(6e13) == pytest.approx(E + A / 6e13**ALPHA, rel=1e-5)


@pytest.mark.parametrize(
    ("runs", "best"),
    [
        (((1, 3.0), (2, 2.0), (4, 1.0)), (True, True, True)),
        (((1, 3.0), (2, 3.5), (4, 1.0)), (True, False, True)),  # worse than one of less compute
        (((1.0, 3.0), (1.05, 2.9), (4, 1.0)), (False, True, True)),  # the same compute, nearly
        (((4, 1.0), (2, 2.0), (2, 2.5)), (True, True, False)),
    ],
)
def test_the_best_runs_of_their_compute(runs, best):
    assert tuple(compute_law.best_of_compute(*zip(*runs, strict=True))) == best


def test_too_few_best_runs_give_no_law():
    assert compute_law.fit([1e10, 2e10, 4e10, 8e10], [2.0, 1.9, 1.8, 1.85]) is None


@pytest.mark.parametrize("measured", [None, 1.1])
def test_the_table_and_the_figure_show_both_forecasts(law, measured):
    entry = TaskForecast("big", "validation", 1.0, (0.95, 1.2), measured_bpb=measured)
    runs = np.r_[C, 1.01 * C]
    by_n_and_d, by_compute = compute_figure.grid(runs, 100 * runs.max(), entry, law).rows
    predicted = E + A / (100 * runs.max()) ** ALPHA
    errors = [f"{value / 1.1 - 1:+.1%}" if measured else "" for value in (1.0, predicted)]
    assert [by_n_and_d[4], by_compute[4]] == errors
    assert (by_n_and_d[1], by_compute[1]) == ("1.000", f"{predicted:.3f}")
    drawn = compute_figure.figure(runs, np.r_[law.loss(C), law.loss(C)], 100 * runs.max(), entry, law)
    labels = [text.get_text() for text in drawn.axes[0].get_legend().get_texts()]
    assert ("measured afterwards" in labels) == bool(measured)
