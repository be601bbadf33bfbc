"""The studies with models of 1,000 to 4,000 parameters, which train in seconds: the same functions, other arguments."""

from dataclasses import replace

from configs import demo
from configs.studies import batch as batches
from configs.studies import branches as trunks
from configs.studies import makers
from configs.studies import noise as seeds
from configs.studies import scaling as sizes
from configs.studies import shape as shapes
from ladder.config import Ladder, Rung

SEQ_LEN = 32


def model(d_model: int, n_layers: int = 1):
    return replace(demo.model(d_model, n_layers), vocab_size=256, seq_len=SEQ_LEN)


def make(size: str, shape, multiple: float, seed: int) -> Rung:
    rung = makers.cpu(size, shape, multiple, seed)
    optimizer = replace(rung.optimizer, peak_lr=0.01, warmup_tokens=8 * SEQ_LEN * 4)
    return replace(rung, batch_tokens=8 * SEQ_LEN, optimizer=optimizer, eval=replace(rung.eval, validation_tokens=2048))


def branches() -> Ladder:
    return trunks.branches("study-tiny", make, {"d4": model(4)}, (0.2, 0.4), (0, 1))


def noise() -> Ladder:
    return seeds.noise("study-tiny", make, {"d4": model(4), "d8": model(8)}, (0.2, 0.3), 2, (), None)


def shape() -> Ladder:
    return shapes.shape("study-tiny", make, model(8, 2), {"aspect": ((1, 12, 2), (4, 4, 2))}, 0.1, 2)


def batch() -> Ladder:
    return batches.batch("study-tiny", make, "d4", model(4), (2, 4, 8, 16), (120, 80, 60, 50), (1.0,))


def scaling() -> Ladder:
    models = {"d4": model(4), "d8": model(8)}
    return sizes.scaling("study-tiny", make, models, (4e8,), ("d4",), (3200, 6400), 12_800, 4)
