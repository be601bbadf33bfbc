"""How long a compiled step takes: a range, from the rates of ladder/topologies.py."""

from pathlib import Path

from ladder import topologies
from ladder.config import Rung
from launch.aot import compiler

# Share of a chip's peak FLOP/s that matrix products reach: (pessimistic, optimistic).
PRODUCT_SHARE = (0.60, 0.85)


def check(rung: Rung, topology: str, slices: int = 1, cache: Path | None = None) -> dict:
    """The result of compiler.check together with that of `estimate`."""
    compiled = compiler.check(rung, topology, slices, cache)
    return compiled | estimate(rung, compiled)


def estimate(rung: Rung, compiled: dict) -> dict:
    """[low, high] seconds of a step by a roofline model; utilisation, hours and TPU-hours of the rung; what bounds it.

    Matrix products run at a share of the peak, vector operations at the rate of HBM. low: the higher share, and
    overlapped collectives cost nothing, unless they, or HBM, take longer. high: the lower share, nothing is overlapped.
    """
    chip = topologies.KINDS[topologies.parse(compiled["topology"]).kind]
    peak = compiled["devices"] * chip.peak
    collectives = [row | {"seconds": row["bytes"] / _rate(row, chip)} for row in compiled["collectives"]]
    network = sum(row["seconds"] for row in collectives if row["axes"] == ["slices"])
    links = sum(row["seconds"] for row in collectives) - network
    compute = compiled["hardware_flops"] / peak
    vector = compiled["hbm_bytes"]["vector"] / chip.hbm_rate
    terms = {
        "compute": compute / PRODUCT_SHARE[1] + vector,
        "memory": compiled["hbm_bytes"]["all"] / chip.hbm_rate,
        "interconnect": links,
        "data-centre network": network,
    }
    not_overlapped = sum(row["seconds"] for row in collectives if not row["overlapped"])
    low = max(terms["compute"] + not_overlapped, terms["memory"], links, network)
    high = max(compute / PRODUCT_SHARE[0] + vector, terms["memory"]) + links + network
    return {
        "collectives": collectives,
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
    """Bytes/s at which a chip sends the data of a collective."""
    return chip.network_rate if row["axes"] == ["slices"] else chip.link_rate * row["link_share"]
