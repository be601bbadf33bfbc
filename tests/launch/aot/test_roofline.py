"""The time of a step from what was compiled: by hand, and beside what others published."""

import json
from pathlib import Path

import pytest

from ladder.config import Model, Optimizer, Rung
from ladder.overrides import from_dict
from launch.aot import compiler, roofline
from tests.launch.aot.test_compiler import needs_libtpu

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


PUBLISHED = json.loads((Path(__file__).parent / "published.json").read_text())["rows"]


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row["name"])
def test_what_others_published_lies_in_the_range(row):
    """With the FLOPs of their own recipe, which keeps some products that our remat computes again; what is sent and
    moved is that of our step. Utilisation counts attention in full, as theirs did then."""
    rung = from_dict(Rung, row["rung"])
    again = _computed_again(rung.model, row["computed_again"])
    compiled = row["compiled"] | {"hardware_flops": row["compiled"]["model_flops"] * again}
    assert 1 < again < row["compiled"]["hardware_flops"] / row["compiled"]["model_flops"] < 4 / 3
    low, high = roofline.estimate(rung, compiled)["utilisation"]
    assert low < row["published"] < high


def _computed_again(m: Model, names: list[str]) -> float:
    """FLOPs of a step over those that the model needs: a forward pass is a third, and these products run once more."""
    d, kv, ffn = m.d_model, m.kv_heads * m.head_dim, m.d_ff
    forward = {"query": d * d, "key": d * kv, "value": d * kv, "out": d * d, "attention": 2 * d * m.seq_len}
    forward |= dict.fromkeys(("gate", "up", "down"), d * ffn)
    total = m.n_layers * sum(forward.values()) + m.vocab_size * d
    return 1 + m.n_layers * sum(forward[name] for name in names) / (3 * total)


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row["name"])
def test_the_facts_are_what_compiles(row):
    """Minutes; where it fails after a new compiler, what it found belongs into published.json."""
    found = compiler.check(from_dict(Rung, row["rung"]), row["compiled"]["topology"])
    assert {name: found[name] for name in row["compiled"]} == row["compiled"]
