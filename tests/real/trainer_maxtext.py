"""Run by the Python of .cache/trainers/maxtext: opens configs by MaxText's loader, prints N and learning rates.

python trainer_maxtext.py FOLDER UPDATES NAME.yml ...   ->   {name: {"n_total", "n_params", "rates"}}
"""

import json
import sys
from pathlib import Path

import jax
from flax import nnx
from maxtext.configs import pyconfig
from maxtext.utils import max_utils, maxtext_utils, model_creation_utils

ON_A_CPU = ("hardware=cpu", "skip_jax_distributed_system=true", "enable_checkpointing=false", "log_config=false")


def opened(folder: Path, updates: list[int], names: list[str]) -> dict:
    found = {}
    for name in names:
        config = pyconfig.initialize(["", str(folder / name), *ON_A_CPU])
        mesh = jax.sharding.Mesh(maxtext_utils.create_device_mesh(config), config.mesh_axes)
        _, model = model_creation_utils.create_nnx_abstract_model(config, mesh)
        parameters = nnx.state(model, nnx.Param)
        leaves = jax.tree_util.tree_leaves_with_path(parameters)
        embedding = [leaf for path, leaf in leaves if "embedder" in jax.tree_util.keystr(path)]
        n_total = max_utils.calculate_num_params_from_pytree(parameters)
        schedule = maxtext_utils.create_learning_rate_schedule(config)
        found[Path(name).stem] = {
            "n_total": int(n_total),
            "n_params": int(n_total) - sum(leaf.size for leaf in embedding),
            "rates": [float(schedule(update)) for update in updates],
        }
    return found


if __name__ == "__main__":
    print(json.dumps(opened(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:])))
