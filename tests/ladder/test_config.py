"""The config dataclasses: checks, run_id, job_name, overrides and JSON form."""

import json
import re
from contextlib import suppress
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ladder.config import (
    Data,
    Eval,
    Ladder,
    Mesh,
    Optimizer,
    Rung,
    canonical_json,
    job_name,
    to_dict,
)
from ladder.errors import InputError
from ladder.overrides import from_dict, override
from tests.ladder.rungs import BRANCH, MODEL, RUNG, TRUNK, WSD


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: replace(MODEL, d_model=0), "d_model = 0"),
        (lambda: replace(MODEL, n_heads=5), "n_heads = 5"),
        (lambda: replace(MODEL, n_kv_heads=3), "n_kv_heads = 3"),
        (lambda: replace(MODEL, n_heads=64), "even head size"),
        (lambda: replace(MODEL, norm_eps=0.0), "norm_eps"),
        (lambda: replace(MODEL, vocab_size=1), "vocab_size = 1: must be at least 2"),
        (lambda: replace(MODEL, rope_theta=0.0), "rope_theta = 0.0: must be positive"),
        (lambda: replace(MODEL, rope_theta=-1.0), "rope_theta = -1.0"),
        (lambda: replace(MODEL, rope_theta=float("inf")), "rope_theta = inf"),
        (lambda: replace(MODEL, init_std=-0.02), "init_std = -0.02"),
        (lambda: Optimizer(1e-3, 1, weight_decay=float("inf")), "weight_decay = inf"),
        (lambda: Optimizer(1e-3, 1, z_loss=float("nan")), "z_loss = nan"),
        (lambda: replace(RUNG, multiple=float("inf")), "multiple = inf"),
        (lambda: replace(RUNG, seed=2**63), "less than 2^63"),
        (lambda: Optimizer(0.0, 1), "peak_lr = 0.0"),
        (lambda: Optimizer(float("nan"), 1), "peak_lr = nan"),
        (lambda: Optimizer(1e-3, -1), "warmup_tokens"),
        (lambda: Optimizer(1e-3, 1, lr_final_fraction=1.5), "lr_final_fraction"),
        (lambda: Optimizer(1e-3, 1, decay_fraction=0.0), "decay_fraction"),
        (lambda: Optimizer(1e-3, 1, beta2=1.0), "beta2"),
        (lambda: Optimizer(1e-3, 1, weight_decay=-0.1), "weight_decay"),
        (lambda: Optimizer(1e-3, 1, grad_clip=0.0), "grad_clip"),
        (lambda: Optimizer(1e-3, 1, beta2=0.999, nu_dtype="bfloat16"), "set optimizer.nu_dtype=float32, or beta2"),
        (lambda: Data(text=()), "data.text is empty"),
        (lambda: Data(validation=0.6), "validation = 0.6"),
        (lambda: Data(tokenizer="bpe:8k"), "'bpe:8k'"),
        (lambda: Data(tokenizer="bpe:100"), "at least 300"),
        (lambda: Data(max_bytes=0), "max_bytes"),
        (lambda: Data(eos_id=0), "data.eos_id = 0: is filled in when data.mask_documents is set; leave it out"),
        (lambda: Data(mask_documents=True, eos_id=-1), "data.eos_id = -1"),
        (lambda: Data(eos="<|end|>"), "data.eos = '<|end|>': only a tokenizer.json has other tokens"),
        (lambda: Eval(every=-1), "every"),
        (lambda: Eval(max_docs=0), "max_docs"),
        (lambda: Mesh(accumulation=0), "accumulation"),
        (lambda: Mesh(fsdp=0), "fsdp"),
        (lambda: replace(RUNG, size="../x"), "'../x'"),
        (lambda: replace(RUNG, tokens=0), "tokens = 0"),
        (lambda: replace(RUNG, multiple=-1), "multiple"),
        (lambda: replace(RUNG, batch_tokens=4000), "try 3968"),
        (lambda: replace(RUNG, mesh=Mesh(accumulation=3)), "accumulation = 3"),
        (lambda: replace(RUNG, seed=-1), "seed"),
        (lambda: replace(RUNG, kind="branch"), "has a parent"),
        (lambda: replace(RUNG, multiple=None), "trunk"),
        (lambda: replace(TRUNK, optimizer=RUNG.optimizer), "optimizer.schedule=wsd"),
        (lambda: replace(BRANCH, parent_step=0), "parent_step = 0"),
        (lambda: replace(BRANCH, parent_step=TRUNK.steps), "where its decay begins"),
        (lambda: Ladder("Demo", (RUNG,)), "'Demo'"),
        (lambda: Ladder("../demo", (RUNG,)), "lower-case"),
        (lambda: Ladder("demo", ()), "no rungs"),
        (lambda: Ladder("demo", (RUNG, RUNG)), "twice"),
        (lambda: Ladder("demo", (RUNG,), (RUNG,)), "twice"),
        (lambda: Ladder("demo", (BRANCH, TRUNK)), "no trunk before it"),
        (lambda: Ladder("demo", (replace(TRUNK, save_at=()), BRANCH)), "save_at"),
        (lambda: Ladder("demo", (TRUNK, replace(BRANCH, seed=1))), "seed"),
        (lambda: Ladder("demo", (TRUNK, replace(BRANCH, model=replace(MODEL, d_ff=128)))), "model"),
    ],
)
def test_wrong_configs_are_refused_in_one_line(build, message):
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        build()
    assert "\n" not in str(raised.value)


def test_configs_are_frozen():
    with pytest.raises(FrozenInstanceError):
        RUNG.seed = 1


def test_steps_and_warmup():
    assert RUNG.steps == 245  # 1,000,000 / 4096 = 244.14
    assert RUNG.batch_sequences == 32
    assert RUNG.warmup_steps == 2
    assert WSD.decay_steps == 24
    assert TRUNK.decay_steps == 0


# --- run_id ---


SAME_NUMBERS = {
    "mesh": replace(RUNG, mesh=Mesh(fsdp=4, accumulation=8, remat="full", attention="splash")),
    "evaluation": replace(RUNG, eval=Eval(tasks=("mbpp",), every=10, max_docs=3)),
    "paths": replace(RUNG, data=Data(text=("elsewhere",), tokenizer="a/tokenizer.json", max_bytes=9)),
    "saving": replace(RUNG, save_every=10, save_at=(5,)),
    "name": replace(RUNG, name="my favourite"),
}
OTHER_NUMBERS = {
    "model": replace(RUNG, model=replace(MODEL, d_ff=128)),
    "dtype": replace(RUNG, model=replace(MODEL, compute_dtype="float32")),
    "rate": replace(RUNG, optimizer=replace(RUNG.optimizer, peak_lr=1.0000001e-3)),
    "mu_dtype": replace(RUNG, optimizer=replace(RUNG.optimizer, mu_dtype="bfloat16")),
    "nu_dtype": replace(RUNG, optimizer=replace(RUNG.optimizer, nu_dtype="bfloat16")),
    "schedule": WSD,
    "tokens": replace(RUNG, tokens=1_000_001),
    "batch": replace(RUNG, batch_tokens=8192),
    "seed": replace(RUNG, seed=1),
    "corpus": replace(RUNG, data=Data(corpus="abc")),
    "tokenizer": replace(RUNG, data=Data(tokenizer_hash="abc")),
    "mask_documents": replace(RUNG, data=Data(mask_documents=True)),
    "eos": replace(RUNG, data=Data(mask_documents=True, eos_id=3)),
    "kind": TRUNK,
    "branch": BRANCH,
    "parent_step": replace(BRANCH, parent_step=99),
}


@pytest.mark.parametrize("change", SAME_NUMBERS)
def test_run_id_ignores_what_does_not_change_the_numbers(change):
    assert SAME_NUMBERS[change].run_id == RUNG.run_id


def test_run_id_differs_where_the_numbers_differ():
    ids = [rung.identity for rung in (RUNG, *OTHER_NUMBERS.values())]
    assert len(set(ids)) == len(ids)


def test_run_id_reads_as_documented():
    assert re.fullmatch(r"d64-2xC-s0-[0-9a-f]{8}", RUNG.run_id)
    assert re.fullmatch(r"d64-trunk-s0-[0-9a-f]{8}", TRUNK.run_id)
    assert re.fullmatch(r"d64-0\.5xC-s7-[0-9a-f]{8}", replace(RUNG, multiple=0.5, seed=7).run_id)
    assert RUNG.run_id == "d64-2xC-s0-" + RUNG.identity


def test_earlier_runs_keep_their_run_id():
    """The hash of a run as it was before optimizer.mu_dtype, nu_dtype and data.mask_documents existed."""
    assert RUNG.identity == "e84cacf0"


def test_a_longer_trunk_is_the_same_trunk():
    assert replace(TRUNK, tokens=2_000_000, save_at=(100, 400)).run_id == TRUNK.run_id


def test_run_ids_of_many_runs_do_not_collide():
    runs = [
        replace(RUNG, seed=seed, tokens=tokens, optimizer=replace(RUNG.optimizer, peak_lr=rate))
        for seed in range(10)
        for tokens in range(1, 2_000_001, 40_000)
        for rate in (1e-3, 2e-3, 3e-3, 4e-3)
    ]
    assert len({rung.run_id for rung in runs}) == len(runs) == 2000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=5), st.randoms())
def test_canonical_json_ignores_the_order_of_keys(value, random):
    keys = list(value)
    random.shuffle(keys)
    assert canonical_json({key: value[key] for key in keys}) == canonical_json(value)
    assert json.loads(canonical_json(value)) == value


# --- job_name ---

names = st.from_regex(r"[a-z][a-z0-9-]{0,19}", fullmatch=True)
multiples = st.none() | st.floats(1e-6, 1e9)
sizes = st.from_regex(r"[A-Za-z0-9]{1,40}", fullmatch=True)


@given(names, sizes, multiples, st.integers(0, 2**63 - 1))
def test_job_names_are_dns_1035_and_short(ladder, size, multiple, seed):
    rung = replace(WSD, size=size, multiple=multiple, seed=seed, kind="trunk" if multiple is None else "full")
    name = job_name(ladder, rung.run_id)
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= 50
    assert name.endswith(rung.identity)


def test_job_name_reads_as_documented():
    rung = replace(RUNG, size="190M", multiple=0.5)
    assert job_name("demo", rung.run_id) == f"l-demo-190m-0p5xc-s0-{rung.identity}"


# --- JSON ---

rungs = st.builds(
    lambda d, seed, rate, tasks, every, tie, kv: replace(
        RUNG,
        model=replace(MODEL, d_model=4 * d, tie_embeddings=tie, n_kv_heads=kv),
        optimizer=replace(RUNG.optimizer, peak_lr=rate),
        eval=Eval(tuple(tasks), every),
        seed=seed,
    ),
    st.integers(1, 32).map(lambda half: 2 * half),
    st.integers(0, 2**40),
    st.floats(1e-9, 0.5),
    st.lists(st.text(max_size=8), max_size=3),
    st.integers(0, 100),
    st.booleans(),
    st.sampled_from([None, 1, 2, 4]),
)


@settings(max_examples=40)
@given(rungs)
def test_a_rung_comes_back_from_its_json(rung):
    rung_again = from_dict(Rung, json.loads(json.dumps(to_dict(rung))))
    assert rung_again == rung
    assert rung_again.run_id == rung.run_id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("tokens"), "config.json: tokens is missing"),
        (lambda d: d["model"].pop("d_ff"), "config.json: model.d_ff is missing"),
        (lambda d: d.update(token=1), "has no 'token'; did you mean 'tokens'?"),
        (lambda d: d.update(tokens="many"), "config.json: tokens = 'many': needs int"),
        (lambda d: d.update(tokens=True), "needs int"),
        (lambda d: d["model"].update(family="gpt3"), "choose one of olmo2, llama, gpt2"),
        (lambda d: d["model"].update(d_modell=3), "did you mean 'd_model'?"),
        (lambda d: d.update(model=[]), "config.json: model: needs an object"),
        (lambda d: d["optimizer"].update(peak_lr=float("inf")), "finite"),
        (lambda d: d["eval"].update(tasks="mbpp"), "tasks"),
        (lambda d: d.update(seed=None), "seed"),
    ],
)
def test_wrong_json_is_refused_by_name(change, message):
    value = to_dict(RUNG)
    change(value)
    with pytest.raises(InputError, match=re.escape(message)):
        from_dict(Rung, value, where="config.json")


@settings(max_examples=40)
@given(st.text(max_size=20), json_values)
def test_any_json_is_either_a_rung_or_an_input_error(key, junk):
    value = to_dict(RUNG) | {key: junk}
    try:
        from_dict(Rung, value)
    except InputError as error:
        assert "\n" not in str(error).replace(repr(key), "").replace(str(key), "")
    for group in ("model", "optimizer", "data", "eval", "mesh"):
        with suppress(InputError):
            from_dict(Rung, to_dict(RUNG) | {group: junk})


# --- overrides ---


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("optimizer.peak_lr=1e-2", "optimizer.peak_lr", 0.01),
        ("optimizer.schedule=wsd", "optimizer.schedule", "wsd"),
        ("tokens=2_000_000", "tokens", 2_000_000),
        ("tokens=3.9451T", "tokens", 3_945_100_000_000),
        ("tokens=2e6", "tokens", 2_000_000),
        ("model.tie_embeddings=true", "model.tie_embeddings", True),
        ("model.n_kv_heads=2", "model.n_kv_heads", 2),
        ("model.n_kv_heads=none", "model.n_kv_heads", None),
        ("eval.tasks=mbpp,humaneval", "eval.tasks", ("mbpp", "humaneval")),
        ("eval.tasks=", "eval.tasks", ()),
        ("save_at=3,5", "save_at", (3, 5)),
        ("data.text=a=b.txt", "data.text", ("a=b.txt",)),
        ("multiple=3", "multiple", 3.0),
    ],
)
def test_an_override_is_read_as_its_field_type(assignment, path, value):
    result = override(RUNG, assignment)
    for key in path.split("."):
        result = getattr(result, key)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["optimizer.peak_lrr=1"], "did you mean 'peak_lr'?"),
        (["optimiser.peak_lr=1"], "did you mean 'optimizer'?"),
        (["seed"], "write it as dotted.path=value"),
        (["seed=x"], "needs a whole number"),
        (["seed=1.5"], "needs a whole number"),
        (["tokens=1.2345K"], "needs a whole number"),
        (["tokens=1e1000000"], "needs a whole number"),
        (["optimizer.peak_lr=fast"], "needs a finite number"),
        (["optimizer.weight_decay=inf"], "needs a finite number"),
        (["model.family=gpt3"], "choose one of"),
        (["model.tie_embeddings=maybe"], "needs bool"),
        (["optimizer=1"], "names a group; its members are optimizer.peak_lr"),
        (["seed.x=1"], "has no members"),
        (["seed=1", "seed=2"], "given twice"),
        (["model.d_ff=1", "model.d_ff.x=2"], "a value and a member"),
        (["seed=-1"], "seed must not be negative"),
        (["=1"], "has no ''"),
        ([".=1"], "has no ''"),
    ],
)
def test_wrong_overrides_are_refused_in_one_line(assignments, message):
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        override(RUNG, *assignments)
    assert "\n" not in str(raised.value)


def test_overrides_are_checked_after_all_are_applied():
    both = override(RUNG, "model.seq_len=100", "batch_tokens=5000")
    assert (both.model.seq_len, both.batch_tokens) == (100, 5000)


@given(st.text(max_size=30))
def test_any_override_is_either_applied_or_an_input_error(text):
    with suppress(InputError):
        assert isinstance(override(RUNG, text), Rung)


# --- Ladder.map ---


def test_branches_follow_their_trunk():
    ladder = Ladder("demo", (TRUNK, BRANCH))
    changed = ladder.map(lambda rung: replace(rung, seed=3))
    trunk, branch = changed.rungs
    assert trunk.identity != TRUNK.identity
    assert branch.parent == trunk.identity
    assert changed.parent_of(branch) == trunk
    assert changed.parent_of(trunk) is None
