"""Learning curves: the areas by their definition, the trainer's schedules, and simulated curves with a known end."""

import numpy as np
import pytest
from scipy import stats

from fitting.errors import InputError
from fitting.laws import annealing
from fitting.loss_laws import learning_curves
from fitting.tables import runs_table
from ladder.config import Model, Optimizer, Rung
from ladder.optim.schedule import learning_rate

TRUE = {"E": 1.6, "A": 60.0, "alpha": 0.3, "B": 250.0, "beta": 0.33, "C": 0.012}
DECAY = 0.97
SIZES = (20_000, 40_000, 80_000, 160_000)
BATCH = 1000


def by_definition(rate_s, decay):
    """S2 = sum_i sum_k (rate_(k-1) - rate_k) decay^(i-k), as printed."""
    drop_s = -np.diff(rate_s, prepend=rate_s[0])
    return np.array([
        sum(drop_s[k] * decay ** (i - k) for i in range(s + 1) for k in range(i + 1)) for s in range(len(rate_s))
    ])  # fmt: skip


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_areas_are_the_papers(schedule):
    rate_s = annealing.rates(schedule, 60, 6, 12, 0.1)
    s1_s, s2_s = annealing.areas(rate_s, 0.9)
    np.testing.assert_allclose(s1_s, [sum(rate_s[: s + 1]) for s in range(60)])
    np.testing.assert_allclose(s2_s, by_definition(rate_s, 0.9), atol=1e-12)
    assert s2_s.min() > -1e-12 and s2_s[-1] > 0


@pytest.mark.parametrize("kind,schedule", [("full", "cosine"), ("full", "wsd"), ("trunk", "wsd")])
def test_rates_are_the_trainers_after_its_warm_up(kind, schedule):
    model = Model("llama", 16, 1, n_heads=2, d_ff=32, vocab_size=256, seq_len=32)
    optimizer = Optimizer(1.0 / 3, 10 * 32, schedule=schedule, lr_final_fraction=0.1, decay_fraction=0.25)
    rung = Rung("s", None if kind == "trunk" else 1.0, 80 * 32, 32, model, optimizer, kind=kind)
    ours = annealing.rates(schedule, rung.steps, rung.warmup_steps, rung.decay_steps, 0.1)
    theirs = [learning_rate(rung, s) * 3 for s in range(rung.steps)]
    np.testing.assert_allclose(ours[rung.warmup_steps :], theirs[rung.warmup_steps :], rtol=1e-12)
    assert (ours[: rung.warmup_steps] == ours[0]).all()


def rows(n, steps, schedule, seed, noise=0.003, kind="full", last=None, offset=0.0):
    """A run of the true law, a row every 10 steps."""
    decay_steps = 0 if kind == "trunk" else steps // 5
    rate_s = annealing.rates(schedule, steps, 20, decay_steps, 0.1)
    s1_s, s2_s = annealing.areas(rate_s, DECAY)
    loss_s = TRUE["E"] + TRUE["A"] * n ** -TRUE["alpha"] + TRUE["B"] * (BATCH * s1_s) ** -TRUE["beta"]
    loss_s = (loss_s - TRUE["C"] * s2_s) * np.exp(offset)
    at = np.arange(10, (last or steps) + 1, 10)
    measured = loss_s[at - 1] * np.exp(noise * np.random.default_rng([seed, n]).standard_normal(len(at)))
    common = {
        "run": f"{n}-{schedule}-{kind}-{steps}",
        "n_params": n,
        "schedule": schedule,
        "kind": kind,
        "steps": steps,
    }
    common |= {"warmup_steps": 20, "decay_steps": decay_steps, "lr_final_fraction": 0.1, "batch_tokens": BATCH}
    common |= {"task": "train", "metric": "loss", "place": "simulated"}
    return [common | {"step": s, "tokens": s * BATCH, "value": v} for s, v in zip(at, measured, strict=True)], loss_s[
        -1
    ]


def read(made):
    return learning_curves.read(
        runs_table.from_rows([row for run in made for row in run], "simulated"), "train", "loss"
    )


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_the_end_of_simulated_curves_is_predicted_from_their_first_half(schedule):
    made = [rows(n, 600, schedule, 0) for n in SIZES]
    ends = learning_curves.ends(read([run for run, _ in made]), 0.5)
    true = {f"{n}-{schedule}-full-600": end for n, (_, end) in zip(SIZES, made, strict=True)}
    assert [e.sizes for e in ends] == [0, 1, 2, 3]
    if schedule == "wsd":  # the smallest has seen no decay: nothing can be said of its own
        assert ends[0].y is None
        assert ends[0].why == "no known curve has decayed enough to tell what its own decay will do"
    for end in ends[1:]:
        assert end.y == pytest.approx(true[end.curve.run], rel=0.006)
        assert abs(end.error) < 0.25 * abs(end.error_of_last) and 0.45 < end.known <= 0.5
    assert ends[-1].decay in (0.9, 0.97, 0.99)


def test_a_curve_off_the_law_is_followed():
    """The largest size lies 2 % above what the others say; its known part shows it."""
    made = [rows(n, 600, "cosine", 1, offset=0.02 * (n == SIZES[-1])) for n in SIZES]
    end = learning_curves.ends(read([run for run, _ in made]), 0.5)[-1]
    assert end.y == pytest.approx(made[-1][1], rel=0.006)


def test_a_branch_knows_its_trunk_and_nothing_after_the_cut():
    trunk, _ = rows(SIZES[-1], 1000, "wsd", 2, kind="trunk")
    branch, true = rows(SIZES[-1], 1000, "wsd", 2)
    branch = [row | {"kind": "branch", "parent": trunk[0]["run"], "parent_step": 800} for row in branch]
    branch = [row for row in branch if row["step"] > 800]
    small = [rows(n, 600, "wsd", 2)[0] for n in SIZES[:2]]
    found = learning_curves.ends(read([*small, trunk, branch]), 0.7)[-1]
    assert found.curve.kind == "branch" and found.y == pytest.approx(true, rel=0.01)
    later = [row | {"value": 9.0} if row["step"] > 700 else row for row in trunk]
    again = learning_curves.ends(read([*small, later, branch]), 0.7)[-1]
    assert again.y == pytest.approx(found.y, rel=1e-9)


def test_a_run_that_is_not_done_is_predicted_with_an_interval_from_the_errors_on_others():
    made = [rows(n, 400, "cosine", 3)[0] for n in (*SIZES[:3], 120_000)]
    running, true = rows(SIZES[3], 400, "cosine", 3, last=180)
    ends = learning_curves.ends(read([*made, running]), 0.5)
    end = ends[-1]
    assert end.curve.end is None and end.error is None and end.known == pytest.approx(180 / 400)
    assert end.y == pytest.approx(true, rel=0.01)
    errors = np.array([e.error for e in ends if e.sizes and e is not end])
    off = stats.t.ppf(0.9, 3) * np.sqrt(np.mean(errors**2))
    assert len(errors) == 3 and end.interval == pytest.approx((end.y / (1 + off), end.y * (1 + off)))
    assert learning_curves.score(ends)["error"] == pytest.approx(np.sqrt(np.mean(errors**2)))
    assert ends[0].interval is None


def test_what_cannot_be_used_is_said():
    run, _ = rows(SIZES[0], 600, "cosine", 0)
    with pytest.raises(InputError, match="first = 1: a share of the steps") as error:
        learning_curves.ends(read([run]), 1.0)
    assert error.value.argument == "first"
    with pytest.raises(InputError, match="only trunks, or only warm-ups"):
        learning_curves.ends(read([rows(SIZES[0], 600, "wsd", 0, kind="trunk")[0]]), 0.5)
    with pytest.raises(InputError, match="no rows of task 'train' with metric 'loss'"):
        read([[row | {"metric": "bpb"} for row in run]])
    with pytest.raises(InputError, match=r"no column 'warmup_steps'"):
        read([[{k: v for k, v in row.items() if k != "warmup_steps"} for row in run]])
    with pytest.raises(InputError, match="no step beyond its 300 steps"):
        read([[row | {"steps": 300} for row in run]])
    [end] = learning_curves.ends(read([run[:4]]), 0.5)
    assert end.y is None and end.why == "too little of it is known"


@pytest.mark.parametrize(
    "trunk,parent,expected",
    [
        ("d16-trunk-s0-14ad4a14", "14ad4a14", True),  # as the trainer names it
        ("base", "base", True),  # as a table of one's own names it
        ("my-base", "base", True),
        ("database", "base", False),
        ("d16-trunk-s0-14ad4a14", "4a14", False),
        ("base", "", False),
    ],
)
def test_a_branch_knows_its_trunk_by_name_or_hash(trunk, parent, expected):
    def curve(run, parent=""):
        nothing = np.zeros(1)
        return learning_curves.Curve(run, 1.0, 1.0, nothing, nothing, nothing, nothing, None, "trunk", parent, 0.0)

    assert curve(trunk).is_trunk_of(curve("branch", parent)) == expected
