"""Run by the Python of .cache/trainers/olmo-core: opens configs by OLMo-core's loader, prints N and learning rates.

python trainer_olmo_core.py FOLDER UPDATES NAME.yaml ...   ->   {name: {"n_total", "n_params", "rates"}}
"""

import json
import sys
from pathlib import Path


def opened(folder: Path, updates: list[int], names: list[str]) -> dict:
    sys.path.insert(0, str(folder))
    from train import RungConfig  # the script beside the configs

    found = {}
    for name in names:
        config = RungConfig.from_yaml(str(folder / name))
        optimizer, scheduler = config.train_module.optim, config.train_module.scheduler
        found[Path(name).stem] = {
            "n_total": config.model.num_params,
            "n_params": config.model.num_non_embedding_params,
            "rates": [
                scheduler.get_lr(optimizer.lr, update + 1, config.trainer.max_duration.value) for update in updates
            ],
        }
    return found


if __name__ == "__main__":
    print(json.dumps(opened(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:])))
