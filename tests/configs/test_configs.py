"""The built-in ladders, a user's own, trunks with branches, and overrides of a whole ladder."""

import re
from dataclasses import replace

import pytest

from configs import loader
from configs.demo import demo
from configs.wsd import trunk_and_branches
from ladder.errors import InputError
from ladder.evaluation.tasks import expand
from ladder.sizes import n_non_embedding, n_params, train_tokens


@pytest.mark.parametrize("name", loader.BUILT_IN)
def test_built_in_ladders_load_under_their_name(name):
    ladder = loader.load(name)
    assert ladder.name == name
    assert ladder == loader.load(name)


def test_olmo2_is_the_papers_ladder():
    ladder = loader.load("olmo2")
    sizes = ("190M", "370M", "760M", "1B")
    assert [r.label for r in ladder.rungs] == [f"{size}-{x}xC" for size in sizes for x in (1, 2, 5, 10)]
    assert [r.label for r in ladder.targets] == ["7B-4T", "13B-5T"]
    assert {r.size for r in loader.load("olmo2-all").rungs} == {"190M", "370M", "600M", "760M", "1B", "3B"}
    assert {task for rung in ladder.all for task in rung.eval.tasks} == set(expand(["olmes"]))  # its eight tasks
    for rung in ladder.rungs:
        assert (rung.kind, rung.optimizer.schedule, rung.optimizer.lr_final_fraction) == ("full", "cosine", 0.1)
        assert (rung.optimizer.beta1, rung.optimizer.beta2, rung.optimizer.weight_decay) == (0.9, 0.95, 0.1)


def test_kaplan_sizes_are_12_layers_d_squared():
    ladder = loader.load("kaplan")
    for rung in ladder.all:
        assert n_non_embedding(rung.model) == 12 * rung.model.n_layers * rung.model.d_model**2
        assert rung.steps == 250_000
        assert rung.batch_tokens == 2**19
        assert rung.model.vocab_size == 50257
    assert n_non_embedding(ladder.targets[-1].model) == 1_474_560_000  # "1.5B"


@pytest.mark.parametrize("name", ["demo", "demo-quick", "demo-full"])
def test_demo_has_enough_sizes_and_multiples(name):
    ladder = loader.load(name)
    sizes = {r.size for r in ladder.rungs}
    points = [r for r in ladder.rungs if r.kind != "trunk"]
    assert len(sizes) >= 4
    multiples = 2 if name == "demo-quick" else 3
    assert all(sum(r.size == size for r in points) >= multiples for size in sizes)
    largest = max(n_params(r.model) for r in ladder.rungs)
    assert n_params(ladder.targets[0].model) >= 3 * largest
    if name != "demo-quick":
        for rung in ladder.all:
            assert rung.model.vocab_size * rung.model.d_model <= 0.3 * n_params(rung.model)


def test_demo_seeds_are_different_ladders():
    assert not {r.run_id for r in demo(0).all} & {r.run_id for r in demo(1).all}


def test_forecast_is_at_a_hundred_times_the_compute_of_the_largest_rung():
    ladder = loader.load("forecast")
    [target] = ladder.targets
    flops = [6 * n_params(r.model) * r.steps * r.batch_tokens for r in ladder.rungs]
    assert len(flops) >= 12
    assert 0.0095 < max(flops) / (6 * n_params(target.model) * target.tokens) <= 0.01
    # They lie on both sides of the target's tokens per parameter, and no text is repeated where there is enough.
    ratios = [20 * rung.multiple for rung in ladder.rungs]
    assert min(ratios) < 20 * target.multiple / 2 and max(ratios) > 20 * target.multiple * 2
    assert all(rung.kind == "full" and n_params(rung.model) <= n_params(target.model) / 5 for rung in ladder.rungs)
    assert all(rung.batch_tokens <= target.batch_tokens / 3 for rung in ladder.rungs)


# --- trunks and branches ---

FULL = next(r for r in loader.load("demo").targets if r.kind == "full")


def test_branches_end_as_the_full_runs_of_their_length():
    trunk, *branches = trunk_and_branches(FULL, (1, 0.5))
    assert [b.multiple for b in branches] == [0.5, 1]
    for branch in branches:
        full = replace(FULL, multiple=branch.multiple, tokens=train_tokens(n_params(FULL.model), branch.multiple))
        assert (branch.tokens, branch.steps, branch.decay_steps) == (full.tokens, full.steps, full.decay_steps)
        assert branch.parent_step == full.steps - full.decay_steps
        assert branch.parent == trunk.identity
    assert trunk.save_at == tuple(b.parent_step for b in branches)
    assert trunk.steps == branches[-1].parent_step


def test_impossible_branches_are_refused():
    with pytest.raises(InputError, match="at least one multiple"):
        trunk_and_branches(FULL, ())
    with pytest.raises(InputError, match="warm-up"):
        trunk_and_branches(replace(FULL, optimizer=replace(FULL.optimizer, warmup_tokens=10**9)), (1,))


# --- overrides ---


def test_an_override_reaches_every_run_and_branches_stay_joined():
    ladder = loader.overridden(loader.load("demo"), ("optimizer.peak_lr=0.001", "seed=4"))
    assert {r.optimizer.peak_lr for r in ladder.all} == {0.001}
    assert all(r.parent is None or ladder.parent_of(r).kind == "trunk" for r in ladder.all)


@pytest.mark.parametrize(
    "assignments",
    [
        ("batch_tokens=8192",),
        ("optimizer.decay_fraction=0.3",),
        ("model.seq_len=96", "batch_tokens=9600"),
        ("model.d_ff=128",),
    ],
)
def test_derived_values_are_derived_again(assignments):
    ladder = loader.overridden(loader.load("demo"), assignments)
    for rung in ladder.all:
        if rung.multiple is not None:
            assert rung.tokens == train_tokens(n_params(rung.model), rung.multiple)
        if rung.kind == "branch":
            assert rung.parent_step == rung.steps - rung.decay_steps
        if rung.kind == "trunk":
            starts = sorted(r.parent_step for r in ladder.all if r.parent == rung.identity)
            assert rung.save_at == tuple(starts)
            assert rung.steps == starts[-1]


def test_overridden_tokens_are_not_derived_again():
    ladder = loader.overridden(loader.load("olmo2"), ("tokens=1000000000",))
    assert {r.tokens for r in ladder.all} == {10**9}


def test_no_override_changes_nothing():
    assert loader.overridden(loader.load("demo"), ()) == loader.load("demo")


# --- a user's own file ---

OWN = """
from dataclasses import dataclass, replace
from configs.olmo2 import rung
from ladder.config import Ladder

@dataclass
class Mine:
    size: str = "190M"

def mine():
    return Ladder("mine", (rung(Mine().size, 1),))

def broken():
    raise ValueError("oh\\nno")

def wrong():
    return replace(rung("190M", 1), tokens=0)

def other():
    return 3

def leaves():
    import sys
    sys.exit("no GPU")

def needs(argument):
    return None
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def test_a_users_own_ladder(own):
    assert loader.load(f"{own}:mine").name == "mine"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("mien", "has no function 'mien'; did you mean 'mine'?"),
        ("broken", "own.py:14: ValueError: oh no"),
        ("wrong", "own.py:17: rung 190M-1xC: tokens = 0"),
        ("other", "returned int, not a ladder.config.Ladder"),
        ("leaves", "own.py:24: it ends the program (sys.exit('no GPU')); a ladder file must only return a ladder"),
        ("needs", "TypeError: needs() missing 1 required positional argument"),
    ],
)
def test_errors_in_a_users_file_name_file_and_line(own, function, message):
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        loader.load(f"{own}:{function}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def mine(:\n", "own.py:1: "),
        ("x = 1\nimport no_such_module\n", "own.py:2: ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1\n\nx.y\n", "own.py:3: AttributeError"),
        ("x = 'a\0'", "own.py"),
        ("", "has no function 'mine'"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, text, message):
    path = tmp_path / "own.py"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        loader.load(f"{path}:mine")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("demoo", "did you mean 'demo'?"),
        ("", "no ladder ''"),
        ("no/such.py:mine", "no/such.py: no such file"),
        ("no/such.py", "no ladder 'no/such.py'"),
        ("olmo3", "did you mean 'olmo2'?"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(InputError, match=re.escape(message)):
        loader.load(name)
