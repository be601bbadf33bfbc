"""GPT-2-shaped sizes of Kaplan et al. 2020 ("Scaling Laws for Neural Language Models").

Every size trains for the paper's 250,000 steps of 2^19 tokens at sequence length 1024: 3,000 steps of warm-up, then
cosine to zero, with the peak rate of its equation D.1. The paper used Adam without weight decay (Adafactor above 1B)
and dropout 0.1; here it is AdamW with weight decay 0 and no dropout. The user brings text and tokenizer (olmo2.py).
"""

from ladder.config import Data, Ladder, Mesh, Model, Optimizer, Rung
from ladder.sizes import TOKENS_PER_PARAM, kaplan_peak_lr, n_non_embedding, n_params

# layers, d_model; within the paper's range, whose largest shape is that of GPT-2 XL (1.5B)
SHAPES = {
    "400K": (2, 128),
    "3M": (4, 256),
    "11M": (6, 384),
    "25M": (8, 512),
    "85M": (12, 768),
    "302M": (24, 1024),
    "708M": (36, 1280),
    "1500M": (48, 1600),
}
RUNGS = tuple(SHAPES)[:6]
TARGETS = tuple(SHAPES)[6:]
VOCAB_SIZE = 50_257
SEQ_LEN = 1024
BATCH_TOKENS = 1 << 19
STEPS = 250_000
WARMUP_STEPS = 3_000
DATA = Data(text=("data/webtext",), tokenizer="data/gpt2-tokenizer.json")


def kaplan(seed: int = 0) -> Ladder:
    """Rungs of 400K to 302M non-embedding parameters; the two largest shapes are the targets."""
    return Ladder("kaplan", tuple(rung(s, seed=seed) for s in RUNGS), tuple(rung(s, seed=seed) for s in TARGETS))


def model(size: str) -> Model:
    layers, d_model = SHAPES[size]
    return Model(
        "gpt2",
        d_model,
        layers,
        n_heads=d_model // 64,
        d_ff=4 * d_model,
        vocab_size=VOCAB_SIZE,
        seq_len=SEQ_LEN,
        tie_embeddings=True,
        norm_eps=1e-5,
    )


def rung(size: str, tokens: int = STEPS * BATCH_TOKENS, seed: int = 0) -> Rung:
    """A size at `tokens`; the multiple only names the run (Kaplan et al. use none)."""
    shape = model(size)
    return Rung(
        size=size,
        multiple=tokens / (TOKENS_PER_PARAM * n_params(shape)),
        tokens=tokens,
        batch_tokens=BATCH_TOKENS,
        model=shape,
        optimizer=Optimizer(
            peak_lr=kaplan_peak_lr(n_non_embedding(shape)),
            warmup_tokens=WARMUP_STEPS * BATCH_TOKENS,
            lr_final_fraction=0.0,
            beta2=0.999,
            weight_decay=0.0,
            z_loss=0.0,
        ),
        data=DATA,
        mesh=Mesh(remat="full"),
        seed=seed,
        save_every=5000,
    )
