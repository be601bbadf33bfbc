"""The ladder of Bhagia et al. 2024 ("Establishing Task Scaling Laws via Compute-Efficient Model Ladders").

Sixteen rungs, 190M to 1.3B parameters at 1, 2, 5 and 10xC, predict OLMo-2 7B (4T tokens) and 13B (5T tokens). The user
brings text and tokenizer: put them at the paths in DATA, or override data.text and data.tokenizer.
"""

from collections.abc import Sequence

from ladder.config import Data, Eval, Ladder, Mesh, Model, Optimizer, Rung
from ladder.sizes import TOKENS_PER_PARAM, n_params, olmo_batch_sequences, olmo_peak_lr, train_tokens

# d_model, heads, layers, feed-forward width
SHAPES = {
    "190M": (768, 12, 12, 3072),
    "370M": (1024, 16, 16, 4096),
    "600M": (1344, 16, 16, 5376),
    "760M": (1536, 16, 16, 6144),
    "1B": (2048, 16, 16, 8192),
    "3B": (3328, 16, 16, 13312),
    "7B": (4096, 32, 32, 11008),
    "13B": (5120, 40, 40, 13824),
}
SIZES = ("190M", "370M", "760M", "1B")
MULTIPLES = (1, 2, 5, 10)
SEQ_LEN = 4096
VOCAB_SIZE = 100_352  # the dolma2 tokenizer's 100278, padded to a multiple of 128
TASKS = (
    "hellaswag_val",
    "arc_challenge_test",
    "arc_easy_test",
    "piqa_val",
    "csqa_val",
    "socialiqa_val",
    "openbookqa_test",
    "mmlu_avg_test",
)
DATA = Data(text=("data/olmoe-mix-0924",), tokenizer="data/dolma2-tokenizer.json")


def olmo2(sizes: Sequence[str] = SIZES, multiples: Sequence[float] = MULTIPLES, seed: int = 0) -> Ladder:
    """The paper's sixteen rungs and two targets."""
    return Ladder("olmo2", tuple(rung(s, x, seed) for s in sizes for x in multiples), targets(seed))


def olmo2_all(seed: int = 0) -> Ladder:
    """The same with 600M and 3B rungs."""
    six_sizes = olmo2(("190M", "370M", "600M", "760M", "1B", "3B"), seed=seed)
    return Ladder("olmo2-all", six_sizes.rungs, six_sizes.targets)


def model(size: str) -> Model:
    d_model, heads, layers, d_ff = SHAPES[size]
    return Model("olmo2", d_model, layers, heads, d_ff, VOCAB_SIZE, SEQ_LEN)


def rung(size: str, multiple: float, seed: int = 0) -> Rung:
    return of_model(size, model(size), multiple, seed, divisor=128 if size == "3B" else 64)


def of_model(size: str, shape: Model, multiple: float, seed: int = 0, divisor: int = 64) -> Rung:
    """Peak rate and batch size by the paper's rules; warm-up of one token per parameter; cosine to a tenth."""
    n = n_params(shape)
    sequences = olmo_batch_sequences(n, SEQ_LEN, divisor=divisor)
    return Rung(
        size=size,
        multiple=multiple,
        tokens=train_tokens(n, multiple),
        batch_tokens=sequences * SEQ_LEN,
        model=shape,
        optimizer=Optimizer(peak_lr=olmo_peak_lr(n, SEQ_LEN), warmup_tokens=n),
        data=DATA,
        eval=Eval(TASKS, every=200 if multiple <= 2 else 500 if multiple <= 5 else 1000),
        mesh=Mesh(remat="full"),
        seed=seed,
        save_every=1000,
    )


def targets(seed: int = 0) -> tuple[Rung, ...]:
    """OLMo-2 7B and 13B with the published tokens, batch size and peak rate."""
    return (
        _target("7B", "7B-4T", 3_945_065_873_408, 1024, seed),
        _target("13B", "13B-5T", 5_000_088_518_656, 2048, seed),
    )


def _target(size: str, name: str, tokens: int, sequences: int, seed: int) -> Rung:
    shape = model(size)
    n = n_params(shape)
    return Rung(
        size=size,
        multiple=tokens / (TOKENS_PER_PARAM * n),
        tokens=tokens,
        batch_tokens=sequences * SEQ_LEN,
        model=shape,
        optimizer=Optimizer(peak_lr=3e-4, warmup_tokens=n),
        data=DATA,
        eval=Eval(TASKS, every=1000),
        mesh=Mesh(remat="full"),
        seed=seed,
        save_every=1000,
        name=name,
    )
