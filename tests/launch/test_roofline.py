"""The time of a step from what was compiled: by hand, and beside what others published."""

import pytest

from ladder.config import Model, Optimizer, Rung
from launch import roofline

RUNG = Rung("s", 1, 10**6, 16 * 256, Model("llama", 256, 2, 2, 512, 1024, 256), Optimizer(1e-3, 1000))


def test_the_roofline_by_hand():
    """On v5e, 200 GB/s of links, 3.125 GB/s of network, 819 GB/s of memory, 197 TFLOP/s."""
    sent = [
        {"axes": ["fsdp"], "hides": True, "bytes": 20e9, "link_share": 0.5},
        {"axes": ["tensor"], "hides": False, "bytes": 5e9, "link_share": 0.25},
        {"axes": ["slices"], "hides": True, "bytes": 1e9, "link_share": 0.0},
    ]
    compiled = {"topology": "v5e:2x4", "devices": 16, "hardware_flops": 16 * 197e12, "model_flops": 0.8 * 16 * 197e12}
    compiled |= {"collectives": sent, "hbm_bytes": {"all": 409.5e9, "vector": 81.9e9}}
    found = roofline.estimate(RUNG, compiled)
    assert found["terms"] == pytest.approx(
        {"compute": 1 / 0.85 + 0.1, "memory": 0.5, "interconnect": 0.2 + 0.1, "data-centre network": 0.32}
    )
    assert found["step_seconds"] == pytest.approx([1 / 0.85 + 0.1 + 0.1, 1 / 0.6 + 0.1 + 0.3 + 0.32])
    assert found["utilisation"] == pytest.approx([0.8 / s for s in reversed(found["step_seconds"])])
    assert found["bound_by"] == "compute"
    sent[2]["bytes"] = 10e9
    found = roofline.estimate(RUNG, compiled)
    assert (found["bound_by"], found["step_seconds"][0]) == ("data-centre network", pytest.approx(3.2))
    for name in ("tokens_per_second", "hours", "tpu_hours"):
        assert 0 < found[name][0] < found[name][1]
    assert found["tpu_hours"] == pytest.approx([16 * hours for hours in found["hours"]])
