"""Noise: the same rung with several seeds, at several sizes; of the smallest size also two branches of each trunk."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from configs.studies.makers import Make, cpu, demo_models, evaluated, olmo2_models, tpu, with_schedule
from configs.wsd import trunk_and_branches
from ladder.config import Ladder, Model

CPU_TASKS = ("mbpp", "humaneval", "arc_easy_val:0shot")
CPU_MODELS, TPU_MODELS = demo_models(16, 24, 32), olmo2_models("190M", "370M")


def noise(
    name: str = "study-noise",
    make: Make = cpu,
    models: Mapping[str, Model] = CPU_MODELS,
    multiples: Sequence[float] = (0.5, 1),
    seeds: int = 6,
    tasks: Sequence[str] = CPU_TASKS,
    max_docs: int | None = 100,
) -> Ladder:
    """For each size, a full run of the last multiple per seed; for the first size, also trunks with branches."""
    rungs = []
    for i, (size, shape) in enumerate(models.items()):
        for seed in range(seeds):
            full = evaluated(with_schedule(make(size, shape, multiples[-1], seed), "wsd"), 10)
            full = replace(full, eval=replace(full.eval, tasks=tuple(tasks), max_docs=max_docs))
            rungs += trunk_and_branches(full, multiples) if i == 0 else [full]
    return Ladder(name, tuple(rungs))


def noise_tpu() -> Ladder:
    from configs.olmo2 import TASKS

    return noise("study-noise-tpu", tpu, TPU_MODELS, (1, 2), 5, TASKS, None)
