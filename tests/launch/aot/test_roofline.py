"""The time of a step from a compiled result: by hand, and compared with published figures."""

import json
from pathlib import Path

import pytest

from ladder.config import Model, Optimizer, Rung
from ladder.overrides import from_dict
from launch.aot import compiler, roofline
from tests.launch.aot.test_compiler import needs_libtpu

RUNG = Rung("s", 1, 10**6, 16 * 256, Model("llama", 256, 2, 2, 512, 1024, 256), Optimizer(1e-3, 1000))


def test_the_roofline_by_hand():
    """On v5e: links 200 GB/s, network 3.125 GB/s, memory 819 GB/s, 197 TFLOP/s."""
    collectives = [
        {"axes": ["fsdp"], "overlapped": True, "bytes": 20e9, "link_share": 0.5},
        {"axes": ["tensor"], "overlapped": False, "bytes": 5e9, "link_share": 0.25},
        {"axes": ["slices"], "overlapped": True, "bytes": 1e9, "link_share": 0.0},
    ]
    compiled = {"topology": "v5e:2x4", "devices": 16, "hardware_flops": 16 * 197e12, "model_flops": 0.8 * 16 * 197e12}
    compiled |= {"collectives": collectives, "hbm_bytes": {"all": 409.5e9, "vector": 81.9e9}}
    result = roofline.estimate(RUNG, compiled)
    assert result["terms"] == pytest.approx(
        {"compute": 1 / 0.85 + 0.1, "memory": 0.5, "interconnect": 0.2 + 0.1, "data-centre network": 0.32}
    )
    assert result["step_seconds"] == pytest.approx([1 / 0.85 + 0.1 + 0.1, 1 / 0.6 + 0.1 + 0.3 + 0.32])
    assert result["utilisation"] == pytest.approx([0.8 / s for s in reversed(result["step_seconds"])])
    assert result["bound_by"] == "compute"
    collectives[2]["bytes"] = 10e9
    result = roofline.estimate(RUNG, compiled)
    assert (result["bound_by"], result["step_seconds"][0]) == ("data-centre network", pytest.approx(3.2))
    for name in ("tokens_per_second", "hours", "tpu_hours"):
        assert 0 < result[name][0] < result[name][1]
    assert result["tpu_hours"] == pytest.approx([16 * hours for hours in result["hours"]])


PUBLISHED = json.loads((Path(__file__).parent / "published.json").read_text())["rows"]


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row["name"])
def test_what_others_published_lies_in_the_range(row):
    """With the FLOPs of their own recipe, which saves some products that our remat recomputes; communication and memory
    traffic are those of our step. Utilisation counts attention in full, as theirs did then."""
    rung = from_dict(Rung, row["rung"])
    factor = _recompute_factor(rung.model, row["computed_again"])
    compiled = row["compiled"] | {"hardware_flops": row["compiled"]["model_flops"] * factor}
    assert 1 < factor < row["compiled"]["hardware_flops"] / row["compiled"]["model_flops"] < 4 / 3
    low, high = roofline.estimate(rung, compiled)["utilisation"]
    assert low < row["published"] < high


def _recompute_factor(m: Model, names: list[str]) -> float:
    """Hardware FLOPs / model FLOPs of a step that recomputes these products; a forward pass is a third of a step."""
    d, kv, ffn = m.d_model, m.kv_heads * m.head_dim, m.d_ff
    forward = {"query": d * d, "key": d * kv, "value": d * kv, "out": d * d, "attention": 2 * d * m.seq_len}
    forward |= dict.fromkeys(("gate", "up", "down"), d * ffn)
    total = m.n_layers * sum(forward.values()) + m.vocab_size * d
    return 1 + m.n_layers * sum(forward[name] for name in names) / (3 * total)


@needs_libtpu
@pytest.mark.proof
@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row["name"])
def test_the_compiler_still_gives_the_recorded_facts(row):
    """Takes minutes. If it fails after an update of the compiler, write the new facts into published.json."""
    result = compiler.check(from_dict(Rung, row["rung"]), row["compiled"]["topology"])
    assert {name: result[name] for name in row["compiled"]} == row["compiled"]
