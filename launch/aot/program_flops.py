"""FLOPs of matrix products, counted in a traced program: XLA's own cost analysis counts the body of a loop once."""

import math


def walk(jaxpr) -> int:
    """Two FLOPs for each multiply-add of every dot_general: times the length of a scan, the devices of a shard_map, the
    grid of a kernel (masked blocks included, as for attention in ladder/flops.py); the costliest branch of a cond.

    Raises ValueError at a while loop with products in it: its trip count is unknown.
    """
    total = 0
    for eqn in jaxpr.eqns:
        inner = [walk(getattr(j, "jaxpr", j)) for j in _inner(eqn.params)]
        match eqn.primitive.name:
            case "dot_general":
                (contracted, _), _ = eqn.params["dimension_numbers"]
                depth = math.prod(eqn.invars[0].aval.shape[axis] for axis in contracted)
                total += 2 * depth * math.prod(eqn.outvars[0].aval.shape)
            case "scan":
                total += eqn.params["length"] * sum(inner)
            case "shard_map":
                total += eqn.params["mesh"].size * sum(inner)
            case "pallas_call":
                total += math.prod(eqn.params["grid_mapping"].grid) * sum(inner)
            case "cond":
                total += max(inner)
            case "while" if sum(inner):
                raise ValueError("a while loop with matrix products: its FLOPs cannot be counted")
            case _:
                total += sum(inner)
    return total


def _inner(params: dict):
    """The jaxprs among the parameters of an equation."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if hasattr(item, "eqns") or hasattr(getattr(item, "jaxpr", None), "eqns"):
                yield item
