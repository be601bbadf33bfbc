"""How long a compiled step takes: a range, by the rates of ladder/topologies.py."""

from pathlib import Path

from ladder import topologies
from ladder.config import Rung
from launch.aot import compiler

# Share of a chip's peak that matrix products reach.
PRODUCT_SHARE = (0.60, 0.85)


def check(rung: Rung, topology: str, slices: int = 1, cache: Path | None = None) -> dict:
    """aot.check, and (low, high) seconds of a step, utilisation, hours and TPU-hours of the rung; what bounds it."""
    found = compiler.check(rung, topology, slices, cache)
    return found | estimate(rung, found)


def estimate(rung: Rung, compiled: dict) -> dict:
    """Times (low, high) of a step by a roofline.

    Products run at a share of the peak, and what is between them at the rate of the memory. Low: the higher share, and
    what can hide behind them does, unless it, or the memory, takes longer. High: the lower share, nothing hides.
    """
    chip = topologies.KINDS[topologies.parse(compiled["topology"]).kind]
    peak = compiled["devices"] * chip.peak
    sent = [row | {"seconds": row["bytes"] / _rate(row, chip)} for row in compiled["collectives"]]
    network = sum(row["seconds"] for row in sent if row["axes"] == ["slices"])
    links = sum(row["seconds"] for row in sent) - network
    compute = compiled["hardware_flops"] / peak
    vector = compiled["hbm_bytes"]["vector"] / chip.hbm_rate
    terms = {
        "compute": compute / PRODUCT_SHARE[1] + vector,
        "memory": compiled["hbm_bytes"]["all"] / chip.hbm_rate,
        "interconnect": links,
        "data-centre network": network,
    }
    waits = sum(row["seconds"] for row in sent if not row["hides"])
    low = max(terms["compute"] + waits, terms["memory"], links, network)
    high = max(compute / PRODUCT_SHARE[0] + vector, terms["memory"]) + links + network
    return {
        "collectives": sent,
        "step_seconds": [low, high],
        "terms": terms,
        "utilisation": [compiled["model_flops"] / peak / high, compiled["model_flops"] / peak / low],
        "bound_by": max(terms, key=terms.get),
        "tokens_per_second": [rung.batch_tokens / high, rung.batch_tokens / low],
        "hours": [low * rung.steps / 3600, high * rung.steps / 3600],
        "tpu_hours": [seconds * rung.steps * compiled["devices"] / 3600 for seconds in (low, high)],
        "hbm": chip.hbm,
    }


def _rate(row: dict, chip: topologies.Kind) -> float:
    """Bytes/s at which a chip sends it."""
    return chip.network_rate if row["axes"] == ["slices"] else chip.link_rate * row["link_share"]
