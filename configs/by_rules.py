"""A ladder for any target from widths alone: shapes like OLMo-2's, batch sizes and rates by the published rules.

`ladder new` writes files that call it. The rules are those of Bhagia et al. 2024 (ladder/sizes.py), so a size of
configs/olmo2.py comes out as it stands there.
"""

from collections.abc import Mapping, Sequence

from configs.olmo2 import SHAPES
from ladder.config import Data, Eval, Ladder, Mesh, Model, Optimizer, Rung
from ladder.sizes import TOKENS_PER_PARAM, n_params, olmo_batch_sequences, olmo_peak_lr, train_tokens

OF_WIDTH = {d_model: (heads, layers, d_ff) for d_model, heads, layers, d_ff in SHAPES.values()}


def by_rules(
    name: str,
    sizes: Mapping[str, int],
    multiples: Sequence[float],
    target: tuple[str, int, int],
    data: Data,
    tasks: Sequence[str],
    vocab_size: int,
    seq_len: int,
    seed: int = 0,
) -> Ladder:
    """Every size at every multiple of Chinchilla's 20 tokens per parameter.

    sizes: d_model by the size's name. target: its name, d_model and tokens.
    """
    label, d_target, tokens = target
    models = {size: model(d_model, vocab_size, seq_len) for size, d_model in {**sizes, label: d_target}.items()}
    shared = {"data": data, "tasks": tuple(tasks), "seed": seed}
    rungs = [_rung(s, x, models[s], train_tokens(n_params(models[s]), x), **shared) for s in sizes for x in multiples]
    of_target = tokens / (TOKENS_PER_PARAM * n_params(models[label]))
    return Ladder(name, tuple(rungs), (_rung(f"d{d_target}", of_target, models[label], tokens, **shared, name=label),))


def model(d_model: int, vocab_size: int, seq_len: int) -> Model:
    """The shape of a width: a published one, or heads of at most 64 and a layer for every 64 units of width (16 layers
    from 1,024 on, and a layer for every 128 from 2,048 on)."""
    head = next(size for size in (64, 32, 16, 8, 4, 2) if d_model % size == 0 and d_model >= 2 * size)
    layers = max(2, round(d_model / 64)) if d_model < 1024 else max(16, round(d_model / 128))
    heads, layers, d_ff = OF_WIDTH.get(d_model, (d_model // head, layers, 4 * d_model))
    return Model("olmo2", d_model, layers, heads, d_ff, vocab_size, seq_len)


def _rung(
    size: str, multiple: float, shape: Model, tokens: int, data: Data, tasks: tuple[str, ...], seed: int, name=None
) -> Rung:
    """Peak rate and batch size by the paper's rules; warm-up of one token per parameter; cosine to a tenth."""
    n = n_params(shape)
    return Rung(
        size=size,
        multiple=multiple,
        tokens=tokens,
        batch_tokens=batch_sequences(n, shape.seq_len) * shape.seq_len,
        model=shape,
        optimizer=Optimizer(peak_lr=olmo_peak_lr(n, shape.seq_len), warmup_tokens=n),
        data=data,
        eval=Eval(tasks, every=1000),
        mesh=Mesh(remat="full"),
        seed=seed,
        save_every=1000,
        name=name,
    )


def batch_sequences(n: int, seq_len: int) -> int:
    """The paper's rule in multiples of 64 sequences, and of a power of two near an eighth of a smaller batch."""
    sequences = olmo_batch_sequences(n, seq_len, divisor=1)
    divisor = 64 if sequences >= 64 else max(1, 2 ** (sequences.bit_length() - 4))
    return olmo_batch_sequences(n, seq_len, divisor)
