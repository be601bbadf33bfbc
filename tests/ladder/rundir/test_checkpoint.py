"""Any damage to any file of the newest checkpoint is detected before orbax reads it."""

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from ladder.errors import InputError
from ladder.rundir.checkpoint import Checkpoints
from tests.ladder.rundir.states import ABSTRACT, abstract, make_state, plain, save


def assert_restores(directory, step):
    restored = Checkpoints(directory).restore(ABSTRACT)
    assert restored is not None
    assert restored[0] == step
    assert plain(restored[1]) == plain(make_state(step))


def files_of(directory):
    return sorted(path for path in directory.rglob("*") if path.is_file())


def test_the_newest_published_step_comes_back_bit_for_bit(saved):
    checkpoints = Checkpoints(saved)
    assert checkpoints.steps() == [10, 20, 30]
    assert [checkpoints.verify(step) for step in (10, 20, 30)] == [[], [], []]
    assert_restores(saved, 30)
    assert plain(checkpoints.read(10, ABSTRACT)) == plain(make_state(10))


def test_nothing_saved_restores_nothing(tmp_path):
    assert Checkpoints(tmp_path / "checkpoints").restore(ABSTRACT) is None


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position // 8] ^= 1 << position % 8
    path.write_bytes(data)


def damages(size):
    """(name, what it does to a file of `size` bytes, what the warning says)."""
    rng = np.random.default_rng(size)
    for bit in {0, 8 * size - 1, *map(int, rng.integers(0, 8 * size, 12))} if size else ():
        yield f"bit {bit} flipped", lambda path, bit=bit: flip(path, bit), "hash differs"
    for length in {0, size // 2, size - 1} if size else ():
        yield f"cut to {length}", lambda path, n=length: os.truncate(path, n), "truncated"
    yield "one byte more", lambda path: path.write_bytes(path.read_bytes() + b"\0"), "grown"
    yield "deleted", os.remove, "missing"
    yield "a directory", lambda path: (path.unlink(), path.mkdir()), "missing"


def test_any_damage_to_any_file_is_named_before_orbax_reads_it(saved, caplog, monkeypatch):
    """Hundreds of damages, so orbax is not called here; the next test really restores."""
    loaded = []
    monkeypatch.setattr(Checkpoints, "_load", lambda self, step, _: loaded.append(step))
    newest, injections = saved / "30", 0
    for path in files_of(newest):
        name, content = path.relative_to(newest).as_posix().removeprefix("data-0/"), path.read_bytes()
        for damage, inflict, says in damages(len(content)):
            caplog.clear()
            inflict(path)
            step, _ = Checkpoints(saved).restore(ABSTRACT)
            assert step == 20, (name, damage)
            [warning] = caplog.messages
            unpublished = name == "MANIFEST.json" and damage in ("deleted", "cut to 0")
            says_so = ": never published, or its MANIFEST.json was deleted; ignored" if unpublished else f": {name}: "
            assert says_so in warning, (warning, damage)
            assert name == "MANIFEST.json" or says in warning, (warning, damage)
            assert newest.exists() == unpublished
            if not unpublished:
                (saved / "bad-30-0").rename(newest)
            if path.is_dir():
                path.rmdir()
            path.write_bytes(content)
            injections += 1
    assert injections >= 200
    assert loaded == [20] * injections
    assert Checkpoints(saved).verify(30) == []


def test_each_damaged_file_falls_back_to_the_values_before(saved):
    original = shutil.copytree(saved / "30", saved.parent / "original")
    for path in files_of(original):
        victim = saved / "30" / path.relative_to(original)
        if path.stat().st_size:
            flip(victim, 8 * (path.stat().st_size // 2))
        else:
            victim.unlink()
        assert_restores(saved, 20)
        shutil.copytree(original, saved / "30")
    aside = list(saved.glob("bad-30-*"))
    assert len(aside) == len(files_of(original))


def test_what_the_manifest_is_for(tmp_path):
    """Orbax alone restores a flipped bit without an error; if this test fails, orbax has begun to check."""
    state = {"w": jax.random.normal(jax.random.key(0), (64, 64))}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.start(1, state)
    checkpoints.commit(1)
    data = max(files_of(tmp_path / "1"), key=lambda path: path.stat().st_size)
    flip(data, 4 * data.stat().st_size)
    got = ocp.load(tmp_path / "1" / "data-0", abstract(state), checkpointable_name="state")
    assert not np.array_equal(got["w"], state["w"])
    assert checkpoints.verify(1) == [f"{data.relative_to(tmp_path / '1' / 'data-0')}: its hash differs"]


def test_an_extra_file_is_named(saved, caplog):
    (saved / "30" / "data-0" / "state" / "stray").write_text("?")
    assert_restores(saved, 20)
    assert "state/stray: extra" in caplog.text


def test_a_copied_checkpoint_is_not_another_step(saved):
    shutil.copytree(saved / "10", saved / "40")
    assert Checkpoints(saved).verify(40) == ["MANIFEST.json: belongs to step 10 of run"]


def test_a_copied_checkpoint_is_not_another_runs(saved):
    other = shutil.copytree(saved, saved.parent.parent / "other" / "checkpoints")
    assert Checkpoints(other).verify(30) == ["MANIFEST.json: belongs to step 30 of run"]
    assert Checkpoints(other).restore(ABSTRACT) is None


def test_checkpoints_from_before_manifests_named_the_run_still_restore(saved):
    """Schema 1: orbax's files lie beside the manifest, which holds neither run_id nor metrics."""
    step = saved / "30"
    (step / "data-0").rename(saved / "moved")
    manifest = json.loads((step / "MANIFEST.json").read_text())
    (step / "MANIFEST.json").unlink()
    for path in list((saved / "moved").iterdir()):
        path.rename(step / path.name)
    (saved / "moved").rmdir()
    body = {"schema_version": 1} | {name: manifest[name] for name in ("step", "leaves", "files")}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    body["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (step / "MANIFEST.json").write_text(json.dumps(body, sort_keys=True, separators=(",", ":")) + "\n")
    assert Checkpoints(saved).verify(30) == []
    assert Checkpoints(saved).metrics(30) is None
    assert_restores(saved, 30)
    flip(next(path for path in files_of(step / "state") if path.stat().st_size), 5)
    assert_restores(saved, 20)


def test_all_bad_means_nothing_restored_and_nothing_deleted(saved):
    for step in (10, 20, 30):
        os.truncate(saved / str(step) / "data-0" / "state" / "_METADATA", 5)
    assert Checkpoints(saved).restore(ABSTRACT) is None
    assert sorted(p.name for p in saved.iterdir()) == ["bad-10-0", "bad-20-0", "bad-30-0"]


def test_unpublished_saves_do_not_count_and_are_overwritten(saved, caplog):
    checkpoints = Checkpoints(saved)
    checkpoints.start(40, make_state(40))
    checkpoints._started[1].result()  # orbax has finished, the process dies before the manifest
    shutil.copytree(saved / "40" / "data-0", saved / "40" / "data-0.orbax-checkpoint-tmp")
    (saved / "40" / "data-0" / "state" / "_METADATA").unlink()
    resumed = Checkpoints(saved)
    assert resumed.steps() == [10, 20, 30]
    assert resumed.restore(ABSTRACT)[0] == 30
    assert "40: never published, or its MANIFEST.json was deleted; ignored" in caplog.text
    save(resumed, 40)
    assert_restores(saved, 40)
    assert sorted(p.name for p in saved.iterdir()) == ["10", "20", "30", "40"]


def test_retain_deletes_the_rest_and_leftovers_but_not_the_save_under_way(saved):
    checkpoints = Checkpoints(saved)
    (saved / "25").mkdir()
    checkpoints.start(40, make_state(40))
    checkpoints._started[1].result()  # its directory exists, its manifest does not
    checkpoints.retain(iter([10, 30]))
    checkpoints.commit(40)
    assert checkpoints.steps() == [10, 30, 40]
    assert sorted(p.name for p in saved.iterdir()) == ["10", "30", "40"]
    assert_restores(saved, 40)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda c: c.commit(40),
        lambda c: (c.start(40, make_state(40)), c.start(50, make_state(50))),
        lambda c: (c.start(40, make_state(40)), c.commit(50)),
    ],
)
def test_out_of_order_calls_are_refused(saved, misuse):
    with pytest.raises(RuntimeError):
        misuse(Checkpoints(saved))


OTHER_STATES = {
    "state['params']['w'] is float32[3,4] in the checkpoint and float32[3,5] in this run":
        {"params": {"w": jnp.zeros((3, 5)), "b": jnp.ones(4, jnp.bfloat16)}},
    "state['params']['b'] is bfloat16[4] in the checkpoint and float32[4] in this run":
        {"params": {"w": jnp.zeros((3, 4)), "b": jnp.ones(4)}},
    "state['params']['b'] is bfloat16[4] in the checkpoint and absent in this run":
        {"params": {"w": jnp.zeros((3, 4))}},
    "state['ema'] is absent in the checkpoint and float32[1] in this run": {"ema": jnp.zeros(1)},
}  # fmt: skip


@pytest.mark.parametrize("says", OTHER_STATES)
def test_another_models_checkpoint_is_the_users_mistake_and_stays(saved, says):
    with pytest.raises(InputError) as error:
        Checkpoints(saved).restore(abstract(make_state(0) | OTHER_STATES[says]))
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert_restores(saved, 30)


def test_read_refuses_what_is_absent_or_damaged(saved):
    os.truncate(saved / "20" / "data-0" / "state" / "_METADATA", 0)
    for step in (20, 25):
        with pytest.raises(InputError, match=rf"/{step}: .*(missing|truncated)"):
            Checkpoints(saved).read(step, ABSTRACT)


def test_donated_buffers_do_not_reach_the_disk(tmp_path):
    """The loop dispatches the next step, which donates the buffers, while orbax still writes."""
    advance = jax.jit(lambda x: x + 1, donate_argnums=0)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    w = jnp.zeros((256, 257))
    for step in range(5):
        checkpoints.start(step, {"w": w})
        for _ in range(3):
            w = advance(w)
        w.block_until_ready()
        checkpoints.commit(step)
        got = checkpoints.read(step, abstract({"w": w}))["w"]
        assert np.all(np.asarray(got) == 3 * step)


@pytest.fixture
def full_disk():
    """No file may grow beyond 4 KiB: this looks like a full disk, and it applies to root too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def big_state():
    return {"w": jax.random.uniform(jax.random.key(0), (100, 100))}


def test_a_full_disk_is_an_oserror_and_the_previous_step_restores(saved, full_disk, caplog):
    free_the_disk = full_disk
    checkpoints = Checkpoints(saved)
    with pytest.raises(OSError, match=r"40: could not be saved: .+"):
        checkpoints.start(40, big_state())
        checkpoints.commit(40)
    free_the_disk()
    assert not caplog.records  # orbax would log its traceback
    assert sorted(p.name for p in saved.iterdir()) == ["10", "20", "30"]
    assert_restores(saved, 30)
    checkpoints.start(40, big_state())
    checkpoints.commit(40)
    assert checkpoints.steps() == [10, 20, 30, 40]


def test_no_room_for_the_manifest(saved, monkeypatch):
    checkpoints = Checkpoints(saved)
    checkpoints.start(40, make_state(40))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(OSError, match=r"could not be saved: .*No space left"):
            checkpoints.commit(40)
    assert sorted(p.name for p in saved.iterdir()) == ["10", "20", "30"]
    assert_restores(saved, 30)


def test_an_unreadable_place_is_an_oserror(tmp_path):
    (tmp_path / "checkpoints").write_text("a file where the directory should be")
    with pytest.raises(OSError, match="could not be saved"):
        checkpoints = Checkpoints(tmp_path / "checkpoints")
        checkpoints.start(1, make_state(1))
        checkpoints.commit(1)


@pytest.mark.parametrize("phase, counts", [("before-manifest", 30), ("manifest-written", 40)])
def test_a_step_counts_from_the_manifest_on(saved, monkeypatch, phase, counts):
    class Killed(BaseException):
        pass

    def die(name):
        if name == phase:
            raise Killed

    checkpoints = Checkpoints(saved)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("ladder.rundir.checkpoint.phase", die)
        save(checkpoints, 40)
    assert_restores(saved, counts)


def test_killed_while_saving_and_restored_on_another_mesh(tmp_path):
    """Saved on 8 emulated devices, killed for real, taken up again on a 2 x 2 mesh of 4."""
    code = f"""
        import os
        import jax, jax.numpy as jnp, numpy as np
        from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
        from ladder.rundir.checkpoint import Checkpoints

        def on(n, m):
            devices = np.array(jax.devices()[: n * m]).reshape(n, m)
            return NamedSharding(Mesh(devices, ("a", "b")), P("a", "b"))

        def w(step, sharding):
            return jax.device_put(jnp.arange(64.0).reshape(8, 8) + step, sharding)

        directory = {str(tmp_path / "checkpoints")!r}
        checkpoints = Checkpoints(directory)
        abstract = {{"w": jax.ShapeDtypeStruct((8, 8), jnp.float32, sharding=on(2, 2))}}
        at, state = checkpoints.restore(abstract) or (0, None)
        if state:
            assert state["w"].sharding == on(2, 2)
            assert (np.asarray(state["w"]) == np.asarray(w(at, on(1, 1)))).all()
        for step in range(at + 1, at + 4):
            checkpoints.start(step, {{"w": w(step, on(8, 1))}})
            checkpoints.commit(step)
        print(f"from {{at}}:", *sorted(os.listdir(directory)))
    """

    def run(**env):
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env=os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"} | env,
            capture_output=True,
            text=True,
            timeout=120,
        )

    killed = run(LADDER_KILL_AT="save-started:3")
    assert killed.returncode == -9, killed.stderr
    resumed = run()
    assert resumed.stdout == "from 2: 1 2 3 4 5\n", resumed.stderr


def test_process_1_leaves_publishing_to_process_0(saved):
    other = Checkpoints(saved, process_index=1)
    save(other, 40)
    other.retain([])
    assert other.steps() == [10, 20, 30]
