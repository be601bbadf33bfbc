"""The noise scale that a run logs: where, what a split batch changes, groups, devices, and its FLOPs."""

import functools
import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fitting.loss_laws import noise_scale as fitted
from fitting.tables import runs_table
from ladder.config import Mesh, Model, Optimizer, Rung
from ladder.loop import group, step
from ladder.loop.run import open_run
from ladder.optim import noise_scale
from ladder.parallel import sharding
from ladder.rundir.record import Record
from launch import cli, prepare
from launch.aot import program_flops
from tests.ladder.loop.training import kill, run

pytestmark = pytest.mark.usefixtures("quick_compile")

MODEL = Model("olmo2", 12, 1, 2, 24, 29, 10, compute_dtype="float32", init_std=0.2)
RUNG = Rung("x", 1, 8000, 80, MODEL, Optimizer(0.01, 0, z_loss=0.1))
EVERY = 3


def measuring(rung: Rung, every: int | None = EVERY, **changes) -> Rung:
    return replace(rung, optimizer=replace(rung.optimizer, noise_scale_every=every), **changes)


def build(rung: Rung, devices: int = 1) -> step.Program:
    return step.build(rung, sharding.make_mesh(rung.mesh, jax.devices()[:devices]))


def tokens(seed: int) -> dict:
    return {"tokens": np.random.default_rng(seed).integers(0, 29, (8, 11), dtype=np.int32)}


def by_hand(program: step.Program, params, tokens_BL, parts: int) -> dict:
    """METRICS from one gradient a microbatch, in float64."""
    gradient = jax.jit(program.gradient)
    halves = [jax.device_get(gradient(params, tokens_BL[a::parts])[0]) for a in range(parts)]
    small = [{k: np.float64(x) / (80 / parts) for k, x in leaves(half).items()} for half in halves]
    big = {k: np.mean([g[k] for g in small], axis=0) for k in small[0]}
    norms = [sum((x**2).sum() for x in g.values()) for g in (*small, big)]
    n_small, n_big = 80 / parts, 80
    variance = (np.mean(norms[:-1]) - norms[-1]) / (1 / n_small - 1 / n_big)
    return {"grad_variance": variance, "grad_squared": norms[-1] - variance / n_big}


def leaves(tree) -> dict:
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"mesh": Mesh(accumulation=4)}, marks=pytest.mark.slow),
        pytest.param({"model": replace(MODEL, compute_dtype="bfloat16")}, marks=pytest.mark.slow),
    ],
    ids=["split in two", "accumulation", "bfloat16"],
)
def test_measured_steps_log_it_and_the_others_are_as_before(changes):
    """Four steps beside those without the option: the same update to rounding, the same bits until the first measured
    step, and the estimates by hand."""
    measured, plain = build(measuring(RUNG, **changes)), build(replace(RUNG, **changes))
    state, other = measured.init(), plain.init()
    close = {"rtol": 2e-2, "atol": 2e-3} if "model" in changes else {"rtol": 1e-4, "atol": 1e-5}
    for i in range(1, 5):
        if i == EVERY:
            program, parts = (build(RUNG), 4) if "mesh" in changes else (plain, 2)
            expected = by_hand(program, state["params"], tokens(i)["tokens"], parts)
        state, metrics = measured.train_step(state, measured.put(tokens(i), 0.01))
        other, _ = plain.train_step(other, plain.put(tokens(i), 0.01))
        values = {name: float(metrics[name]) for name in noise_scale.METRICS}
        if i == EVERY:
            assert values == pytest.approx(expected, rel=2e-2 if "model" in changes else 1e-4)
        else:
            assert set(values.values()) == {0.0}
        for name, x in leaves(state["params"]).items():
            if i < EVERY:
                np.testing.assert_array_equal(x, leaves(other["params"])[name], err_msg=name)
            np.testing.assert_allclose(x, leaves(other["params"])[name], err_msg=name, **close)


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 4])
def test_flops(accumulation, monkeypatch):
    """A measured step has as many FLOPs in matrix products as a plain one, and at most 2 % more in all, so that every
    choice of k stays below 2 %. Both counts take the costliest branch of a condition. XLA's counts the body of a loop
    once, so that loops are unrolled."""
    monkeypatch.setattr(jax.lax, "scan", functools.partial(jax.lax.scan, unroll=True))
    wider = replace(
        RUNG, model=replace(MODEL, seq_len=32, d_model=16), batch_tokens=8 * 32, mesh=Mesh(accumulation=accumulation)
    )
    batch = {"tokens": jax.ShapeDtypeStruct((8, 33), jnp.int32), "learning_rate": jax.ShapeDtypeStruct((), jnp.float32)}
    counts = []
    for every in (None, 10):
        program = build(measuring(wider, every))
        traced = program.train_step.trace(program.abstract_state, batch)
        counts.append((program_flops.walk(traced.jaxpr.jaxpr), traced.lower().compile().cost_analysis()["flops"]))
    (products, in_all), (measured_products, measured_in_all) = counts
    assert measured_products == products
    assert 1 < measured_in_all / in_all < 1.02


def rows(directory: Path) -> dict:
    wanted = noise_scale.METRICS
    return {(r["step"], r["metric"]): r["value"] for r in Record(directory).rows() if r["metric"] in wanted}


@pytest.mark.slow
def test_a_run_logs_it_resumes_and_is_read(world, tmp_path):
    rung = measuring(world.rung(), 5)
    rung = replace(rung, optimizer=replace(rung.optimizer, skip_step_sigma=6.0))
    (whole,) = world([rung], tmp_path / "a" / "tiny")
    assert run(whole) == 0
    assert [r[0] for r in rows(whole)][::2] == list(range(5, 61, 5))
    (killed,) = world([rung], tmp_path / "b" / "tiny")
    kill(killed, "manifest-written:2")
    assert run(killed) == 0
    assert list(Record(killed).rows()) == list(Record(whole).rows())
    of_run = fitted.of_runs(runs_table.read(whole), [whole.name])
    assert (of_run.n, of_run.first, of_run.last) == (12, 5, 60)
    assert (
        cli.main(["status", "tiny", "--noise-scale", "--root", str(whole.parents[1]), "--json", str(tmp_path / "s")])
        == 0
    )
    assert '"batch_tokens": 128' in (tmp_path / "s").read_text()


@pytest.mark.slow
def test_a_member_of_a_group_logs_what_it_logs_alone(world, tmp_path):
    built = world.build([measuring(world.rung(), 5)])
    members = group.members(built.ladder.rungs[0], "seeds=2")
    first = prepare.write_group(built, members, tmp_path / "group")
    (alone,) = prepare.write(built, [members[1]], tmp_path / "alone")
    assert run(first) == run(alone) == 0
    together, single = rows(first.parent / members[1].run_id), rows(alone)
    assert together.keys() == single.keys() and len(single) == 24
    for key in [key for key in single if key[0] <= 20]:
        assert together[key] == pytest.approx(single[key], rel=1e-3), key


def test_a_group_keeps_the_condition():
    """vmap makes a select of a condition, which computes both branches, unless all members have one step number."""
    program = build(measuring(RUNG))

    def stacked(x):
        return jax.ShapeDtypeStruct((2, *x.shape), x.dtype)

    state = jax.tree.map(stacked, program.abstract_state)
    batch = {
        "tokens": jax.ShapeDtypeStruct((2, 8, 11), jnp.int32),
        "learning_rate": jax.ShapeDtypeStruct((2,), jnp.float32),
    }
    assert "stablehlo.case" in group.build(program).train_step.lower(state, batch).as_text()


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 4])
def test_within_25_percent_of_direct_estimates(world, tmp_path, accumulation):
    """At three points of a run: 1,000 steps at rate 0, beside the covariance of the gradients of single sequences of
    other batches."""
    (directory,) = world([world.rung()], tmp_path)
    opened = open_run(Record(directory))
    rung = measuring(opened.rung, 1, mesh=Mesh(accumulation=accumulation))
    measured, whole = build(rung), build(opened.rung)

    @jax.jit
    def direct(params, tokens_ML):
        """(tr(Sigma), |G|^2) of a token, from M sequences."""

        def flat(tokens_L):
            gradient, _ = whole.gradient(params, tokens_L[None])
            return jnp.concatenate([g.ravel() for g in jax.tree.leaves(gradient)]) / (len(tokens_L) - 1)

        g_MP = jax.lax.map(flat, tokens_ML, batch_size=32)
        variance = jnp.var(g_MP, axis=0, ddof=1).sum()
        return variance * (tokens_ML.shape[1] - 1), jnp.sum(g_MP.mean(axis=0) ** 2) - variance / len(g_MP)

    state, steps = measured.init(), iter(range(10**6))
    for upto in (5, 15, 30):
        for i in itertools.islice(steps, upto - int(state["step"])):
            state, _ = measured.train_step(state, opened.put(opened.data(i), upto))
        pairs = []
        for _ in range(1000):
            state, metrics = measured.train_step(state, measured.put(opened.data(next(steps)), 0.0))
            pairs.append([metrics[name] for name in noise_scale.METRICS])
        state |= {"step": jnp.int32(upto)}
        b, stderr, _ = fitted.ratio_of_means(*np.array(pairs, np.float64).T)
        others = np.concatenate([opened.data(next(steps))["tokens"] for _ in range(500)])
        variance, squared = direct(state["params"], others)
        print(f"step {upto}: measured {b:.0f} +- {stderr:.0f} tokens, directly {float(variance / squared):.0f}")
        assert b == pytest.approx(float(variance / squared), rel=0.25)


@pytest.mark.slow
def test_eight_devices_measure_what_one_does():
    """In a process of its own: fsdp, tensor and sequence axes, with and without accumulation."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    code = "from tests.ladder.loop import test_noise_scale; test_noise_scale.compare_devices()"
    subprocess.run([sys.executable, "-c", code], env=os.environ | flags, check=True, timeout=300)


def compare_devices() -> None:
    assert len(jax.devices()) == 8
    model = replace(MODEL, d_model=16, n_heads=4, d_ff=32, vocab_size=32, seq_len=16)
    wide = measuring(replace(RUNG, model=model, batch_tokens=16 * 16), 1)
    batch = {"tokens": np.random.default_rng(0).integers(0, 32, (16, 17), dtype=np.int32)}
    start = jax.device_get(build(wide).init())
    for layout in (Mesh(), Mesh(tensor=2), Mesh(replica=2, tensor=2, sequence=2), Mesh(tensor=2, accumulation=4)):
        found = []
        for devices in (1, 8):
            alone = Mesh(accumulation=layout.accumulation)
            program = build(replace(wide, mesh=layout if devices == 8 else alone), devices)
            state = jax.device_put(start, program.shardings)
            found.append(program.train_step(state, program.put(batch, 0.01))[1])
        for name in ("loss", "grad_norm", *noise_scale.METRICS):
            np.testing.assert_allclose(found[1][name], found[0][name], rtol=1e-4, err_msg=f"{layout} {name}")
