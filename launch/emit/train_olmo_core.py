"""Train one rung with OLMo-core, from its config: torchrun --nproc-per-node=8 train.py 190M-1xC.yaml

On one device without torchrun: python train.py 190M-1xC.yaml --single
"""

import sys
from dataclasses import dataclass
from typing import cast

from olmo_core.config import Config
from olmo_core.data import NumpyDataLoaderConfig, NumpyFSLDatasetConfig
from olmo_core.nn.transformer import TransformerConfig
from olmo_core.train import TrainerConfig, prepare_training_environment, teardown_training_environment
from olmo_core.train.callbacks import ConfigSaverCallback
from olmo_core.train.train_module import TransformerTrainModuleConfig
from olmo_core.utils import seed_all


@dataclass
class RungConfig(Config):
    """What a config file holds."""

    model: TransformerConfig
    train_module: TransformerTrainModuleConfig
    dataset: NumpyFSLDatasetConfig
    data_loader: NumpyDataLoaderConfig
    trainer: TrainerConfig
    init_seed: int = 0


def train(config: RungConfig) -> None:
    seed_all(config.init_seed)
    train_module = config.train_module.build(config.model.build(init_device="meta"))
    dataset = config.dataset.build()
    data_loader = config.data_loader.build(dataset, dp_process_group=train_module.dp_process_group)
    trainer = config.trainer.build(train_module, data_loader)
    cast(ConfigSaverCallback, trainer.callbacks["config_saver"]).config = config.as_config_dict()
    trainer.fit()


def main(file: str, single: bool) -> None:
    config = RungConfig.from_yaml(file)
    if single:
        config.train_module.dp_config = None
    prepare_training_environment(backend=None if single else "cpu:gloo,cuda:nccl")
    train(config)
    teardown_training_environment()


if __name__ == "__main__":
    main(sys.argv[1], "--single" in sys.argv[2:])
