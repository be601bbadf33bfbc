"""The solver on eight emulated devices, and compiled ahead of time for a TPU: each in a process of its own."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fitting.solvers import batch

SCRIPT = Path(__file__).with_name("solver_process.py")


def in_own_process(what: str, **env) -> dict:
    env = os.environ | {"PYTHONPATH": str(SCRIPT.parents[3]), "JAX_PLATFORMS": "cpu"} | env
    done = subprocess.run([sys.executable, str(SCRIPT), what], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_eight_devices_share_the_resamples_and_find_the_same():
    found = in_own_process("emulated", XLA_FLAGS="--xla_force_host_platform_device_count=8")
    assert set(found) == {"1", "8"} and np.shape(found["8"]) == (301, 5)
    np.testing.assert_allclose(found["8"], found["1"], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
def test_the_solver_compiles_for_a_tpu_in_float32():
    found = in_own_process("v5e:2x2", TPU_SKIP_MDS_QUERY="1", ALLOW_MULTIPLE_LIBTPU_LOAD="1")
    assert found["devices"] == 4 and found["lanes"] == [batch.CHUNK[batch.NEWTON], 5]
    assert not found["float64"] and found["collectives"] == 0  # no device waits for another's slowest lane
    assert found["temporary"] < 64 << 20
