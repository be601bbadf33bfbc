"""FLOPs of matrix products, counted by walking a traced program: XLA's own count sees the body of a loop once."""

import math

from ladder.config import Model
from ladder.model import transformer


def walk(jaxpr) -> int:
    """Two for each multiply-add of every dot_general: times the length of a scan, the devices of a shard_map, the grid
    of a kernel (whose masked blocks count too, as attention does in sizes.py); the dearest branch of a cond.

    Raises ValueError at a while loop with products in it: nobody knows how often it runs.
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


def model_flops_per_token(m: Model) -> float:
    """Training FLOPs per token that the model needs: nothing computed twice, attention in full."""
    import jax
    import jax.numpy as jnp

    functions = transformer.functions(m)
    params = jax.eval_shape(lambda: transformer.init_params(m, 0))

    def nats(params, tokens_BL):
        return functions.logits(params, functions.hidden(params, tokens_BL)).sum()

    tokens = jax.ShapeDtypeStruct((1, m.seq_len), jnp.int32)
    return walk(jax.make_jaxpr(jax.grad(nats))(params, tokens).jaxpr) / m.seq_len


def _inner(params: dict):
    """The programs among an operation's parameters."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if hasattr(item, "eqns") or hasattr(getattr(item, "jaxpr", None), "eqns"):
                yield item
