"""Shape: depth against width, width of the feed-forward and number of heads, all with the same number of parameters."""

from collections.abc import Sequence
from dataclasses import replace

from configs import demo, olmo2
from configs.studies.makers import Make, cpu, tpu
from ladder.config import Ladder, Model
from ladder.sizes import n_non_embedding

CPU_BASE = demo.model(32)
# (layers, d_model, heads) of each shape; the feed-forward takes what parameters are left.
CPU_SHAPES = {
    "aspect": ((1, 64, 2), (2, 44, 2), (8, 24, 2), (16, 16, 2)),
    "feedforward": ((4, 44, 2), (4, 24, 2), (4, 20, 2)),
    "heads": ((4, 32, 1), (4, 32, 4), (4, 32, 8)),
}
TPU_SHAPES = {
    "aspect": ((3, 1536, 24), (6, 1088, 17), (24, 544, 8), (48, 384, 6)),
    "feedforward": ((12, 1088, 17), (12, 576, 9), (12, 448, 7)),
    "heads": ((12, 768, 3), (12, 768, 6), (12, 768, 24)),
}


def shape(
    name: str = "study-shape",
    make: Make = cpu,
    base: Model = CPU_BASE,
    shapes: dict[str, Sequence[tuple[int, int, int]]] = CPU_SHAPES,
    multiple: float = 1,
    seeds: int = 4,
) -> Ladder:
    """The base shape with `seeds` seeds, which say how noisy a loss is, and every other shape once.

    The size of a run names what is varied, and the shape: aspectL8d24h2. All runs have the tokens, the batch and the
    learning rate of the base.
    """
    of_base = [make(_size("base", base), base, multiple, seed) for seed in range(seeds)]
    rungs = list(of_base)
    for varied, group in shapes.items():
        for layers, d_model, heads in group:
            model = replace(base, n_layers=layers, d_model=d_model, n_heads=heads)
            model = replace(model, d_ff=d_ff_for(n_non_embedding(base), model))
            rungs.append(replace(of_base[0], size=_size(varied, model), model=model))
    return Ladder(name, tuple(rungs))


def d_ff_for(n: int, model: Model) -> int:
    """The feed-forward width that gives the model n parameters without embeddings, to within half a column."""
    attention = n_non_embedding(replace(model, d_ff=1)) // model.n_layers
    of_one = n_non_embedding(replace(model, d_ff=2)) // model.n_layers - attention
    return round((n / model.n_layers - attention) / of_one) + 1


def _size(varied: str, model: Model) -> str:
    return f"{varied}L{model.n_layers}d{model.d_model}h{model.n_heads}"


def shape_tpu() -> Ladder:
    return shape("study-shape-tpu", tpu, olmo2.model("190M"), TPU_SHAPES)
