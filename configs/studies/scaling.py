"""Size, data and compute: decayed runs of many sizes at the same budgets, and runs that repeat a small data set.

Fresh runs, one trunk of a size with a branch at every budget, give L(N, D), the learning curves and the three
approaches to the compute-optimal size. Runs on the first tokens of the text, nested and repeated, give L(D) and the
cost of overfitting; their loss is the lowest on the way, as with early stopping.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from configs.demo import model as demo_model
from configs.studies import makers
from configs.studies.makers import Make, demo_models, evaluated, olmo2_models, tpu, with_schedule
from configs.wsd import trunk_and_branches
from ladder.config import Ladder, Model, Rung
from ladder.flops import flops_per_token
from ladder.sizes import TOKENS_PER_PARAM, n_params

CPU_MODELS = {"d16L2": demo_model(16, n_layers=2), **demo_models(16, 24, 32, 40, 56)}
TPU_MODELS = olmo2_models("190M", "370M", "600M", "760M", "1B", "3B")
LEAST, MOST = 2.0, 300.0  # tokens per parameter at which a size is trained for a budget
EVALUATIONS = 40


def cpu(size: str, shape: Model, multiple: float, seed: int) -> Rung:
    """The run of makers.cpu with a quarter of its validation text, which the study reads 600 times."""
    rung = makers.cpu(size, shape, multiple, seed)
    return replace(rung, eval=replace(rung.eval, validation_tokens=makers.VALIDATION_TOKENS // 4))


def scaling(
    name: str = "study-scaling",
    make: Make = cpu,
    models: Mapping[str, Model] = CPU_MODELS,
    budgets: Sequence[float] = (1.2e11, 3.6e11, 1.1e12),
    repeated_sizes: Sequence[str] = ("d16", "d32", "d56"),
    unique_tokens: Sequence[int] = (64_000, 192_000, 576_000),
    most_tokens: int = 1_150_000,
    most_epochs: int = 8,
) -> Ladder:
    """budgets: training FLOPs of the decayed runs. A size is trained for those that give it LEAST to MOST tokens per
    parameter. unique_tokens: of the small data sets, each read most_epochs times, but at most most_tokens."""
    rungs: list[Rung] = []
    for size, shape in models.items():
        multiples = [c / flops_per_token(shape) / (TOKENS_PER_PARAM * n_params(shape)) for c in budgets]
        multiples = [m for m in multiples if LEAST <= TOKENS_PER_PARAM * m <= MOST]
        full = with_schedule(make(size, shape, max(multiples), 0), "wsd")
        trunk, *branches = trunk_and_branches(full, multiples)
        rungs += [evaluated(trunk, EVALUATIONS), *branches]
    for size in repeated_sizes:
        for unique in unique_tokens:
            tokens = min(most_epochs * unique, most_tokens)
            multiple = tokens / (TOKENS_PER_PARAM * n_params(models[size]))
            run = with_schedule(make(size, models[size], multiple, 0), "wsd")
            rungs.append(evaluated(replace(run, tokens=tokens, unique_tokens=unique), EVALUATIONS))
    return Ladder(name, tuple(rungs))


def scaling_tpu() -> Ladder:
    budgets, unique = (6e18, 2e19, 6e19, 2e20), (30_000_000, 120_000_000, 480_000_000)
    return scaling("study-scaling-tpu", tpu, TPU_MODELS, budgets, ("190M", "370M", "760M"), unique, 2_000_000_000)
