"""Rungs that the tests of configs begin from."""

from dataclasses import replace

from ladder.config import (
    Model,
    Optimizer,
    Rung,
)

MODEL = Model("olmo2", 64, 2, 4, 256, 256, 128)
RUNG = Rung("d64", 2, 1_000_000, 4096, MODEL, Optimizer(1e-3, 10_000))
WSD = replace(RUNG, optimizer=replace(RUNG.optimizer, schedule="wsd"))
TRUNK = replace(WSD, multiple=None, kind="trunk", save_at=(100,))
BRANCH = replace(WSD, kind="branch", parent=TRUNK.identity, parent_step=100)
