"""The noise scale of linear regression, whose gradient has a known covariance; what the option changes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.wsd import trunk_and_branches
from ladder.config import Ladder, Mesh, Model, Optimizer, Rung
from ladder.errors import InputError
from ladder.optim import noise_scale
from ladder.parallel import layout

pytestmark = pytest.mark.usefixtures("quick_compile")

D, SIGMA, STEPS = 8, 2.0, 60_000
WEIGHTS = np.linspace(0.1, 1, D, dtype=np.float32)


def regression(params, rows_bD1):
    """(gradient, loss), summed over rows of D inputs ~ N(0, 1) and a target ~ N(0, SIGMA^2): the true weights are 0."""
    x_bD, y_b = rows_bD1[:, :D], rows_bD1[:, D]

    def loss(w):
        return jnp.square(x_bD @ w["w"] - y_b).sum() / 2

    value, gradient = jax.value_and_grad(loss)(params)
    return gradient, value


@pytest.mark.parametrize("rows, microbatches", [(8, 2), (18, 3)])
def test_linear_regression_within_five_percent(rows, microbatches):
    """E[g] = w; E|g|^2 = (D + 2) |w|^2 + D SIGMA^2. A row counts as D tokens."""

    def step(rows_BD1):
        return noise_scale.accumulated(regression, {"w": jnp.array(WEIGHTS)}, rows_BD1, microbatches)[1]

    drawn = np.random.default_rng(rows).standard_normal((STEPS, rows, D + 1), np.float32)
    estimates = jax.jit(jax.vmap(step))(drawn * np.float32([1.0] * D + [SIGMA]))
    variance, squared = (np.asarray(estimates[name], np.float64).mean() for name in noise_scale.METRICS)
    true_squared = float(np.sum(WEIGHTS**2))
    true_variance = (D + 1) * true_squared + D * SIGMA**2
    assert variance / squared == pytest.approx(D * true_variance / true_squared, rel=0.05)
    assert variance == pytest.approx(true_variance / D, rel=0.01)


def test_the_gradient_is_that_of_the_batch():
    rows = np.random.default_rng(0).standard_normal((12, D + 1), np.float32)
    params = {"w": jnp.array(WEIGHTS)}
    (gradient, loss), _ = noise_scale.accumulated(regression, params, jnp.array(rows), 3)
    whole, whole_loss = regression(params, rows)
    np.testing.assert_allclose(gradient["w"], whole["w"], rtol=1e-5)
    assert float(loss) == pytest.approx(float(whole_loss), rel=1e-6)


MODEL = Model("olmo2", 8, 1, 2, 16, 29, 10, compute_dtype="float32")
RUNG = Rung("x", 1, 8000, 80, MODEL, Optimizer(0.01, 0))


def measuring(rung: Rung, every: int | None = 10, **changes) -> Rung:
    return replace(rung, optimizer=replace(rung.optimizer, noise_scale_every=every), **changes)


def test_it_enters_the_run_id_only_where_it_is_set():
    assert "noise_scale_every" not in RUNG.optimizer.set_fields
    assert measuring(RUNG, None).run_id == RUNG.run_id != measuring(RUNG).run_id
    assert [r.microbatches for r in (RUNG, measuring(RUNG), measuring(RUNG, mesh=Mesh(accumulation=4)))] == [1, 2, 4]


def test_a_branch_may_measure_where_its_trunk_does_not():
    wsd = replace(RUNG, optimizer=Optimizer(0.01, 0, schedule="wsd"))
    trunk, branch = trunk_and_branches(wsd, (0.5,))
    assert len(Ladder("a", (trunk, measuring(branch))).rungs) == 2


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: measuring(RUNG, 0), "noise_scale_every = 0: must be at least 1, such as 10"),
        (lambda: measuring(RUNG, batch_tokens=70), "one of 7 sequences is odd; set batch_tokens to a multiple of 20"),
        (lambda: layout.check_batch(measuring(RUNG), 8, 1), "a microbatch of 4 sequences does not divide over 8"),
    ],
)
def test_what_cannot_be_split_is_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()
