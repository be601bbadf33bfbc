"""The study of the critical batch size recovers the law it is given, and fits as the library's law "batch" does."""

import numpy as np
import pytest

from fitting.errors import InputError
from fitting.loss_laws import loss_fit
from fitting.studies import batch, noise_scale
from fitting.studies.results import AGREES, DISAGREES, UNKNOWN
from fitting.tables.loss_points import LossPoints
from tests.fitting.studies.simulated import table

BATCHES = (512, 1024, 2048, 4096, 8192, 16384, 32768)
B_STAR, ALPHA = 4e5, 0.21  # B_crit of 4,400 tokens at a loss of 2.6 ... 10,600 at 2.15


def steps_to(loss, size):
    """S_min (1 + B_crit / B), with S_min = 50 / (L - 1.5)^2."""
    return 50 / (loss - 1.5) ** 2 * (1 + B_STAR / loss ** (1 / ALPHA) / size)


def simulated(draw: int, noise: float = 0.03, batches=BATCHES):
    """Two rates of each batch size, of which the second takes a fifth more steps. noise: of a run's steps, the same in
    all of its losses, and a tenth as much of its own in each."""
    rng, rows = np.random.default_rng(draw), []
    losses = np.linspace(2.9, 2.0, 40)
    for size in batches:
        for rate, slower in ((0.01, 1.0), (0.02, 1.2)):
            own = np.exp(0.1 * noise * rng.standard_normal(len(losses)))
            steps = steps_to(losses, size) * slower * np.exp(noise * rng.standard_normal()) * own
            run = {"run": f"{size}-{rate}", "n_params": 10_000, "batch_tokens": size, "peak_lr": rate, "kind": "trunk"}
            for step, loss in zip(np.maximum.accumulate(steps), losses, strict=True):
                rows.append(run | {"step": step, "tokens": step * size, "value": loss, "final": "false"})
    return table(rows)


def test_without_noise_the_law_is_found():
    swept = batch.sweep(simulated(0, noise=0.0))
    fits = swept.critical()
    np.testing.assert_allclose(fits[:, 1], B_STAR / swept.loss_L ** (1 / ALPHA), rtol=0.02)
    np.testing.assert_allclose(fits[:, 0], 50 / (swept.loss_L - 1.5) ** 2, rtol=0.02)
    assert swept.exponent() == pytest.approx(1 / ALPHA, rel=0.02)


def test_intervals_hold_the_exponent_and_the_critical_batch_size():
    held = {"exponent": 0, "B_crit": 0, "law": 0}
    for draw in range(25):
        swept = batch.sweep(simulated(draw))
        lo, hi = swept.jackknife(batch.Sweep.exponent)
        held["exponent"] += lo < 1 / ALPHA < hi
        lo, hi = swept.jackknife(lambda s: np.log(s.critical()[:, 1]))
        held["B_crit"] += lo[-1] < np.log(B_STAR / swept.loss_L[-1] ** (1 / ALPHA)) < hi[-1]
        law = swept.measured(["text"])
        truth = B_STAR / law.loss ** (1 / ALPHA)
        held["law"] += abs(np.log(law.at(law.loss) / truth)) < law.t * np.sqrt(law.cov[0][0])
        assert law.exponent == pytest.approx(swept.exponent())
    assert min(held.values()) >= 20, held  # 95 % of 25 are 24


def test_the_fit_is_that_of_the_librarys_law():
    steps = steps_to(2.3, np.array(BATCHES)) * np.exp(0.03 * np.random.default_rng(0).standard_normal(len(BATCHES)))
    points = LossPoints(
        {"B": np.array(BATCHES, float)},
        steps,
        np.arange(len(BATCHES)).astype(str),
        "simulated",
        "",
        "steps",
        "n_params",
    )
    fitted = loss_fit.fit(points, "batch", delta=10.0, n_resamples=2).bootstrap.params(0)
    s_min, b_crit = batch.critical(np.array(BATCHES, float), steps)
    assert (s_min, b_crit) == (pytest.approx(fitted["S_min"], rel=0.01), pytest.approx(fitted["B_crit"], rel=0.01))


def test_page_parts_and_what_is_missing():
    study = batch.analyse(simulated(0))
    assert len(study.tables[0].rows) == batch.N_LOSSES and len(study.figures) == 1
    constant = batch.analyse(simulated(0).select(batch_tokens=list(BATCHES[:4])))
    assert constant.statements[0].verdict == UNKNOWN
    with pytest.raises(InputError, match="3 batch sizes"):
        batch.analyse(simulated(0).select(batch_tokens=list(BATCHES[:3])))


def test_the_noise_scale_stands_beside_the_sweep():
    """Runs of the two largest batches measure it, with 20 % noise; it is the true B_crit, which follows the loss."""
    whole = simulated(0, noise=0.0)
    without = batch.analyse(whole)
    assert len(without.tables) == 1 and "noise_scale_every" in without.statements[1].why
    noisy = with_noise_scale(whole)
    swept = batch.sweep(noisy)
    found = noise_scale.at_losses(noisy, swept.loss_L)
    known = found[:, 2] >= 8
    assert known.sum() >= 4 and np.isnan(found[~known, 0]).all()
    truth = B_STAR / swept.loss_L ** (1 / ALPHA)
    assert (np.abs(found[known, 0] - truth[known]) < 4 * found[known, 1]).all()
    study = batch.analyse(noisy)
    assert len(study.tables[1].rows) == batch.N_LOSSES


def compared(draw: int, factor: float):
    table = with_noise_scale(simulated(draw), factor, draw)
    swept = batch.sweep(table)
    return noise_scale.compared(noise_scale.PREDICTS, swept, noise_scale.at_losses(table, swept.loss_L))


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, AGREES), (2.0, UNKNOWN), (4.0, DISAGREES), (0.2, DISAGREES)])
def test_the_page_says_by_which_factor_the_noise_scale_differs(factor, verdict):
    statement = compared(1, factor)
    assert statement.verdict == verdict, statement
    ratio = statement.value
    assert f"a factor of {max(ratio, 1 / ratio):.2g} {'above' if ratio > 1 else 'below'} the sweep" in statement.why


@pytest.mark.slow
def test_the_interval_of_the_factor_holds_it_in_most_draws():
    ends = [compared(draw, 1.5).ends for draw in range(20)]
    assert sum(lo < 1.5 < hi for lo, hi in ends) >= 17, ends  # 95 % of 20 are 19


def with_noise_scale(whole, factor: float = 1.0, draw: int = 0):
    """The table with a noise scale of `factor` times the true B_crit, measured in the runs of the two largest batches;
    that of the smaller one of them is wrong."""
    rng, rows = np.random.default_rng(draw), []
    columns = (
        "run",
        "n_params",
        "batch_tokens",
        "peak_lr",
        "kind",
        "step",
        "tokens",
        "task",
        "metric",
        "value",
        "final",
    )
    for row in ({name: whole[name][i] for name in columns} for i in range(len(whole))):
        rows.append(row | {"final": "false"})
        if row["batch_tokens"] >= BATCHES[-2]:
            for metric, value in (
                ("grad_variance", factor * B_STAR / row["value"] ** (1 / ALPHA)),
                ("grad_squared", 1.0),
            ):
                wrong = 1 if row["batch_tokens"] == BATCHES[-1] else 10  # only the largest batch is read
                noisy = value * wrong * (1 + 0.2 * rng.standard_normal())
                rows.append(row | {"task": "train", "metric": metric, "value": noisy, "final": "false"})
    return table(rows)
