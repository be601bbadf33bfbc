"""Trunk and branches: one WSD trunk of a size with a decay at every multiple, against one cosine run for each."""

from collections.abc import Mapping, Sequence

from configs.studies.makers import Make, cpu, demo_models, olmo2_models, tpu, with_schedule
from configs.wsd import trunk_and_branches
from ladder.config import Ladder, Model

CPU_MODELS, TPU_MODELS = demo_models(12, 16, 24, 32), olmo2_models("190M", "370M", "760M", "1B")


def branches(
    name: str = "study-branches",
    make: Make = cpu,
    models: Mapping[str, Model] = CPU_MODELS,
    multiples: Sequence[float] = (0.5, 1, 2),
    seeds: Sequence[int] = (0, 1, 2),
) -> Ladder:
    """The smallest size is trained with every seed, for the noise of the difference; the others with the first."""
    rungs = []
    for i, (size, shape) in enumerate(models.items()):
        for seed in seeds if i == 0 else seeds[:1]:
            rungs += trunk_and_branches(with_schedule(make(size, shape, multiples[0], seed), "wsd"), multiples)
            rungs += [with_schedule(make(size, shape, multiple, seed), "cosine") for multiple in multiples]
    return Ladder(name, tuple(rungs))


def branches_tpu() -> Ladder:
    return branches("study-branches-tpu", tpu, TPU_MODELS, (1, 2, 5))
