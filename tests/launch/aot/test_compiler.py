"""A two-layer rung compiled for v5e:2x2 by libtpu, in its own process; skipped where libtpu is not installed."""

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from ladder.config import Data, Mesh, Model, Optimizer, Rung
from ladder.errors import InputError
from ladder.flops import matmul_flops_per_token
from ladder.model import cross_entropy
from ladder.sizes import n_total
from launch.aot import compiler

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
RUNG = Rung(
    "s",
    1,
    10**6,
    16 * 256,
    Model("llama", 256, 2, 2, 512, 1024, 256, n_kv_heads=1),
    Optimizer(1e-3, 1000),
    mesh=Mesh(remat="full"),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("check")


@pytest.fixture(scope="module")
def result(cache):
    return compiler.check(RUNG, "v5e:2x2", cache=cache)


@pytest.mark.slow
@needs_libtpu
def test_the_state_is_split_and_donated(result):
    assert (result["devices"], result["mesh"]) == (4, {"replica": 1, "fsdp": 4, "tensor": 1, "sequence": 1})
    assert result["state"] == pytest.approx(12 * n_total(RUNG.model) / 4, rel=0.01)  # norms are fully replicated
    assert result["donated"] == pytest.approx(result["state"], rel=0.01)
    assert result["arguments"] == pytest.approx(result["state"] + 16 * 257 * 4 / 4, rel=0.03)
    assert result["memory"]["parameters"] + result["memory"]["optimizer"] == pytest.approx(result["state"], rel=1e-3)


@pytest.mark.slow
@needs_libtpu
def test_attention_is_the_kernel_and_work_is_counted(result):
    model = matmul_flops_per_token(RUNG.model) * RUNG.batch_tokens
    assert result["kernels"] >= 3  # forward, and for the gradients of queries and of keys and values
    assert result["model_flops"] == model
    assert model < result["hardware_flops"] < 2 * model  # one forward pass of four parts again, and the kernel's own


@pytest.mark.slow
@needs_libtpu
def test_activations_are_split_over_the_devices(result):
    """Logits of a whole batch would be 16 MiB; a device has a quarter of them, and of everything else."""
    assert 0 < result["memory"]["activations"] < 8 << 20


@pytest.mark.slow
@needs_libtpu
def test_what_is_sent_is_read_from_the_compiled_module(result):
    """Over fsdp alone, in two bytes, three quarters to other devices: every weight of a layer is gathered forward and
    again backward (XLA gathers queries, keys and values a third time), its gradient is scattered; the head is gathered
    once, and its gradient has four bytes."""
    m = RUNG.model
    attention, mlp = m.d_model * (2 * m.d_model + m.d_model), 3 * m.d_model * m.d_ff
    layers, qkv = m.n_layers * (attention + mlp), m.n_layers * (attention - m.d_model**2)
    head = m.vocab_size * m.d_model
    sent = Counter()
    for row in result["collectives"]:
        sent[row["kind"]] += row["bytes"]
    assert any(row["overlapped"] for row in result["collectives"])
    assert all((row["axes"], row["link_share"]) == (["fsdp"], 0.5) for row in result["collectives"])  # no ring of two
    assert sent["all-gather"] == pytest.approx(1.5 * (2 * layers + qkv + head), rel=0.01)
    assert sent["reduce-scatter"] == pytest.approx(1.5 * layers + 3 * head, rel=0.01)
    assert 0 < result["hbm_bytes"]["vector"] < result["hbm_bytes"]["all"]


@needs_libtpu
@pytest.mark.slow
def test_chunks_of_the_loss_send_the_head_once(cache):
    """Four chunks, one gather in two bytes and one sum in four; what the layers send is a tenth of that."""
    rung = replace(RUNG, model=replace(RUNG.model, vocab_size=1 << 15), batch_tokens=64 * 256)
    assert rung.batch_tokens // 4 * rung.model.vocab_size == 4 * cross_entropy.CHUNK_ELEMENTS
    result = compiler.check(rung, "v5e:2x2", cache=cache)
    head = rung.model.vocab_size * rung.model.d_model
    gathered = sum(row["bytes"] for row in result["collectives"] if row["kind"] == "all-gather")
    summed = sum(row["bytes"] for row in result["collectives"] if "reduce" in row["kind"])
    assert gathered == pytest.approx(1.5 * head, rel=0.15)
    assert summed == pytest.approx(3 * head, rel=0.15)


@pytest.mark.slow
@needs_libtpu
def test_a_result_is_read_again(result, cache, monkeypatch):
    monkeypatch.setattr(compiler, "_in_own_process", lambda request: pytest.fail("compiled again"))
    assert compiler.check(RUNG, "v5e:2x2", cache=cache) == json.loads(json.dumps(result))


@needs_libtpu
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_tokens": 6 * 256}, "microbatch of 6 sequences does not divide over 4 devices; set mesh.tensor=2, or"),
        ({"mesh": Mesh(fsdp=3)}, "takes 3 devices, there are 4: set mesh.fsdp=-1"),
    ],
)
def test_what_does_not_divide_is_one_line(change, message):
    with pytest.raises(InputError, match=message) as refused:
        compiler.check(replace(RUNG, **change), "v5e:2x2")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("mesh", "sequences", "change"),
    [
        (Mesh(), 64, "set mesh.remat=full"),
        (Mesh(remat="full"), 64, "set mesh.accumulation=2"),
        (Mesh(remat="full", accumulation=16), 64, "choose a topology with twice the chips, or set mesh.tensor=2"),
    ],
)
def test_what_does_not_fit_says_what_to_change(mesh, sequences, change):
    rung = replace(RUNG, mesh=mesh, batch_tokens=sequences * 256)
    message = "CompileTimeHbmOom: the total memory required for HLO temporaries (20.1G) exceeds available HBM (15.75G)"
    refused = compiler._out_of_memory(rung, 4, message)
    assert isinstance(refused, InputError)
    assert str(refused) == f"rung s-1xC does not fit: a device needs 20.1G bytes and has 15.75G; {change}"


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize(
    ("mesh", "topology"),
    [(Mesh(remat="full"), "v5e:2x2"), (Mesh(tensor=2, sequence=2, remat="full"), "v5p:2x2x1")],
)
def test_attention_within_documents_is_the_kernel_too(mesh, topology):
    """As many kernels as without documents; they take the documents of their queries and of all keys."""
    model = replace(RUNG.model, n_kv_heads=2)
    result = compiler.check(replace(RUNG, mesh=mesh, model=model, data=Data(mask_documents=True)), topology)
    assert result["kernels"] == 4


@needs_libtpu
@pytest.mark.slow
def test_two_slices_are_two_replicas():
    """The state of a slice is split within it: each of eight devices holds a quarter, as in one slice."""
    rung = replace(RUNG, mesh=Mesh(replica=2, remat="full"))
    result = compiler.check(rung, "v5e:2x2", slices=2)
    assert result["mesh"] == {"replica": 2, "fsdp": 4, "tensor": 1, "sequence": 1}
    assert result["state"] == pytest.approx(12 * n_total(RUNG.model) / 4, rel=0.01)
    assert result["donated"] == pytest.approx(result["state"], rel=0.01)
    crossing = [row for row in result["collectives"] if row["axes"] == ["slices"]]
    head = RUNG.model.vocab_size * RUNG.model.d_model
    gradient = 2 * (n_total(RUNG.model) + head) / 4  # a device's part, in two bytes, the head's in four
    assert [row["kind"] for row in crossing] == ["all-reduce"]
    assert crossing[0]["bytes"] == pytest.approx(gradient, rel=0.02)
    assert {tuple(row["axes"]) for row in result["collectives"]} == {("fsdp",), ("slices",)}


@needs_libtpu
@pytest.mark.slow
def test_the_compiler_refuses_what_does_not_fit():
    wide = replace(RUNG.model, d_model=2048, n_heads=16, d_ff=65536, n_layers=16, seq_len=4096, n_kv_heads=16)
    rung = replace(RUNG, model=wide, batch_tokens=512 * 4096, mesh=Mesh())
    message = r"^rung s-1xC does not fit: a device needs .* bytes and has 15\.75G; set mesh\.remat=full$"
    with pytest.raises(InputError, match=message):
        compiler.check(rung, "v5e:2x2")


@pytest.mark.slow
@needs_libtpu
def test_the_evaluator_compiles_and_keeps_no_logits_of_whole_rows():
    """A device's four rows of 1,024 would have 537 MB of logits."""
    env = os.environ | {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "evaluator_for_tpu.py")],
        env=env | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["rows"][1:] == [16, 1024] and result["deepest"] > 0
    assert result["temporary"] < 4 * 64 * (1 << 15) * 4
