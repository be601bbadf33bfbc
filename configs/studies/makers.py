"""How a study turns the shape of a model into a rung: at CPU size as the demo does, at TPU size as the olmo2 ladder.

A maker is a function (size, shape, multiple, seed) -> a full run. Write your own to run a study on your data and
architecture, in a file of your own: `ladder study shape --ladder my/studies.py:shape`.
"""

from collections.abc import Callable
from dataclasses import replace

from configs import demo, olmo2
from ladder.config import Eval, Model, Rung

Make = Callable[[str, Model, float, int], Rung]
VALIDATION_TOKENS = 1 << 17


def cpu(size: str, shape: Model, multiple: float, seed: int) -> Rung:
    """Bytes of Python source, no tasks; the rates and batch sizes of the demo."""
    return demo.rung(size, shape, multiple, Eval(validation_tokens=VALIDATION_TOKENS), seed)


def tpu(size: str, shape: Model, multiple: float, seed: int) -> Rung:
    """The data, rates and batch sizes of the olmo2 ladder, no tasks."""
    rung = olmo2.of_model(size, shape, multiple, seed)
    return replace(rung, eval=replace(rung.eval, tasks=()))


def with_schedule(rung: Rung, schedule: str) -> Rung:
    """The same run with another schedule of the learning rate; of a WSD run the decay takes a fifth of the steps."""
    return replace(rung, optimizer=replace(rung.optimizer, schedule=schedule, decay_fraction=0.2))


def evaluated(rung: Rung, times: int) -> Rung:
    """The same run, with its validation loss measured so many times, evenly."""
    return replace(rung, eval=replace(rung.eval, every=max(1, rung.steps // times)))


def demo_models(*widths: int) -> dict[str, Model]:
    """{name: model} of the demo's shape, one for each width."""
    return {f"d{d}": demo.model(d) for d in widths}


def olmo2_models(*sizes: str) -> dict[str, Model]:
    return {size: olmo2.model(size) for size in sizes}
