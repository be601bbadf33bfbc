"""Eight emulated devices compute the same as one, in every layout."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ladder.evaluation.metrics import METRICS, RANKED
from tests.ladder.evaluation.asked import line, write

HERE = Path(__file__).parent
# layout: the mesh (replica, fsdp, tensor, sequence), and the share of an "up" matrix [N, D, F] that a device holds
LAYOUTS = {
    "replica=2 fsdp=2 tensor=2": ((2, 2, 2, 1), 1 / 4),
    "fsdp=8, accumulation, remat, blockwise": ((1, 8, 1, 1), 1 / 8),
}
OTHER_LAYOUTS = {
    "fsdp=4 sequence=2": ((1, 4, 1, 2), 1 / 4),
    "fsdp=8": ((1, 8, 1, 1), 1 / 8),
    "replica=8": ((8, 1, 1, 1), 1),
    "fsdp=4 tensor=2": ((1, 4, 2, 1), 1 / 8),
}
DOCUMENTS = "one, documents"
MASKED_LAYOUTS = {"fsdp=2 tensor=2 sequence=2, accumulation, documents": ((1, 2, 2, 2), 1 / 4)}


def run(folder: Path, layouts) -> dict:
    requests = folder / "colours.jsonl"
    prompts = {doc: f"grass is green; {doc} is" if doc < 5 else f"{doc} is" for doc in range(7)}
    rows = [
        line(doc, i, doc % 3, prompt, f" {colour}")
        for doc, prompt in prompts.items()
        for i, colour in enumerate(["red", "green", "bluish"])
    ]
    write(requests, rows)
    env = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # compiles in a third of the time
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "PYTHONPATH": str(HERE.parents[2]),
    }
    command = [sys.executable, str(HERE / "emulated_devices.py"), str(requests), str(folder / "checkpoints"), *layouts]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return run(tmp_path_factory.mktemp("devices"), LAYOUTS)


def test_the_reference_run_learns(results):
    one = results["one"]
    assert one["devices"] == 1
    assert one["losses"][0] > one["losses"][-1]
    assert set(one["evaluation"]) == {f"colours {name}" for name in METRICS + RANKED} | {
        "validation bpb",
        "validation loss",
    }


def assert_trains_as_one(mesh, share, eight, one):
    assert tuple(eight["mesh"].values()) == mesh
    assert (eight["devices"], eight["share"]) == (8, share)
    np.testing.assert_allclose(eight["losses"], one["losses"], rtol=1e-5)
    np.testing.assert_allclose(eight["norms"], one["norms"], rtol=1e-5)
    for name, p in one["params"].items():
        np.testing.assert_allclose(eight["params"][name], p, rtol=1e-4, atol=1e-4, err_msg=name)
    for metric, value in (eight["evaluation"] or {}).items():
        assert value == pytest.approx(one["evaluation"][metric], rel=1e-5), metric


@pytest.mark.parametrize("layout", LAYOUTS)
def test_eight_devices_train_and_evaluate_as_one(results, layout):
    assert (results[layout]["evaluation"] is None) == ("accumulation" in layout)
    assert_trains_as_one(*LAYOUTS[layout], results[layout], results["one"])


@pytest.mark.slow
def test_eight_devices_train_and_evaluate_as_one_in_other_layouts(tmp_path):
    results = run(tmp_path, (*OTHER_LAYOUTS, DOCUMENTS, *MASKED_LAYOUTS))
    for layout, expected in OTHER_LAYOUTS.items():
        assert_trains_as_one(*expected, results[layout], results["one"])
    for layout, expected in MASKED_LAYOUTS.items():
        assert_trains_as_one(*expected, results[layout], results[DOCUMENTS])
    one, masked = (results[layout]["evaluation"] for layout in ("one", DOCUMENTS))
    assert abs(masked["validation loss"] - one["validation loss"]) > 1e-4


def test_any_number_of_devices_evaluates_the_same_validation_text(results):
    one, *others = results["validation"]
    assert len(one[1]) == 13 and others == [one] * 3


def test_a_checkpoint_goes_from_eight_devices_to_two_to_one_unchanged(results):
    assert results["carried"] == [True, True]


def test_every_device_computes_only_its_own_logits(results):
    """Of 16 x 32 tokens a device has 128, with half the vocabulary; of a microbatch's two chunks 16 each, as many as
    its limit allows."""
    layouts = ("one", "replica=2 fsdp=2 tensor=2", "fsdp=8, accumulation, remat, blockwise")
    assert [results[layout]["logit_rows"] for layout in layouts] == [512, 128, 16]


def test_the_matmul_rate_counts_all_devices(results):
    assert results["matmul"] == 2 * 8**3 * 8


def test_splash_on_split_queries_and_heads_within_documents(results):
    assert max(results["splash"]) < 1e-5
