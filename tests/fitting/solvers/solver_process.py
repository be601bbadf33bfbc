"""Run by test_solver_devices.py in a process of its own, result as one JSON object.

python solver_process.py emulated       (XLA_FLAGS=--xla_force_host_platform_device_count=8)
python solver_process.py v5e:2x2        compiled ahead of time in float32 (libtpu)
"""

import json
import sys

import numpy as np

from fitting.laws.power_sum import CHINCHILLA
from fitting.loss_laws import loss_fit
from fitting.solvers import batch
from fitting.solvers.objective import errors, huber
from fitting.tables.loss_points import LossPoints

N_POINTS = 30


def fitted(devices: tuple) -> list:
    """A law fitted to simulated runs on these devices: parameters of the fit and of its 300 resamples."""
    batch._devices = lambda dtype: devices
    rng = np.random.default_rng(0)
    n, ratio = np.geomspace(1e7, 1e10, N_POINTS), rng.uniform(5, 100, N_POINTS)
    y = CHINCHILLA.at({"E": 1.8, "A": 400, "alpha": 0.34, "B": 1500, "beta": 0.36}, {"N": n, "D": ratio * n})
    y = y * np.exp(0.002 * rng.standard_normal(N_POINTS))
    points = LossPoints({"N": n, "D": ratio * n}, y, np.arange(N_POINTS), "simulated", "", "loss", "params")
    return loss_fit.fit(points, delta=1e-2, n_resamples=300).bootstrap.params_TRP[0].tolist()


def ahead_of_time(topology: str) -> dict:
    """The solver of a chunk of lanes, compiled for a topology in float32: what the compiled program says of itself."""
    from jax.experimental import topologies

    devices = tuple(topologies.get_topology_desc(topology, "tpu").devices)
    features = tuple((name, (N_POINTS,)) for name in ("D", "N", "y"))
    shapes = (("delta", ()),), features, (N_POINTS,), len(CHINCHILLA.params)
    law = errors(CHINCHILLA), huber, CHINCHILLA.bounds
    compiled, seconds = batch._executable(*law, batch.NEWTON, np.float32, devices, shapes)
    text = compiled.as_text()
    starts = compiled.input_shardings[0][0]
    return {
        "devices": len(starts.device_set),
        "lanes": list(starts.shard_shape((batch.CHUNK[batch.NEWTON] * len(devices), len(CHINCHILLA.params)))),
        "float64": "f64[" in text,
        "collectives": sum(text.count(f" {kind}(") for kind in ("all-reduce", "all-gather", "all-to-all")),
        "temporary": compiled.memory_analysis().temp_size_in_bytes,
        "seconds": seconds,
    }


if __name__ == "__main__":
    if sys.argv[1] == "emulated":
        every = batch._devices(np.float64)
        print(json.dumps({str(len(devices)): fitted(devices) for devices in (every[:1], every)}))
    else:
        print(json.dumps(ahead_of_time(sys.argv[1])))
