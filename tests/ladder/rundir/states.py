"""Small training states, and how to save one."""

import jax
import jax.numpy as jnp
import numpy as np


def make_state(step):
    return {
        "params": {"w": jnp.arange(12.0).reshape(3, 4) + step, "b": jnp.ones(4, jnp.bfloat16)},
        "moments": [jnp.full((2,), step, jnp.float32), jnp.int32(step)],
        "key": jax.random.key(step),
    }


def abstract(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


ABSTRACT = abstract(make_state(0))


def plain(state):
    leaves = jax.tree.leaves(state | {"key": jax.random.key_data(state["key"])})
    return [np.asarray(leaf).tolist() for leaf in leaves]


def save(checkpoints, step):
    checkpoints.start(step, make_state(step))
    checkpoints.commit(step)
