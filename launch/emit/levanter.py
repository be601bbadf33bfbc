"""A rung as a config of Levanter (github.com/marin-community/marin, lib/levanter; its sources of 2026).

The package levanter on the index is of 2023 and has no OLMo 2: the format is read from the dataclasses of the sources
(main/train_lm.py, models/, optim/config.py, data/text/datasets.py, trainer.py).
"""

from ladder.config import Rung
from launch.emit.rungs import Config, check, decay_steps, refuse, weights
from launch.emit.yaml_text import FILL_IN, Noted, fill_in

TRAINER = "Levanter"
SUFFIX = ".yaml"
COMMAND = "python -m levanter.main.train_lm --config_path {file} 2>&1 | tee {name}.log"


def config(rung: Rung, name: str, devices: int) -> Config:
    """Raises InputError, one line, for what Levanter cannot express. devices: not used; it divides the batch itself."""
    check(rung, TRAINER)
    if rung.optimizer.mu_dtype not in (None, rung.model.param_dtype):
        refuse(rung, TRAINER, f"optimizer.mu_dtype = {rung.optimizer.mu_dtype}", "leave it out")
    tree = {
        "data": _data(rung),
        "model": _model(rung),
        "train_seq_len": rung.model.seq_len,
        "z_loss_weight": rung.optimizer.z_loss,
        "data_seed": rung.seed,
        "trainer": _trainer(rung, name),
        "optimizer": _optimizer(rung),
    }
    return Config(tree, _differences(rung))


def files(rungs: list[Rung]) -> dict[str, str]:
    """{path: text} of what stands beside the configs of these rungs."""
    return {}


def _model(rung: Rung) -> dict:
    m = rung.model
    shape = {
        "type": m.family,
        "max_seq_len": m.seq_len,
        "hidden_dim": m.d_model,
        "num_layers": m.n_layers,
        "num_heads": m.n_heads,
        "initializer_range": m.init_std,
        "layer_norm_epsilon": m.norm_eps,
    }
    if m.family == "gpt2":
        if m.kv_heads != m.n_heads or m.d_ff % m.d_model or not m.tie_embeddings:
            what = "GPT-2 but with tied embeddings, as many key-value heads as heads and d_ff a multiple of d_model"
            refuse(rung, TRAINER, what, "change the model, or use llama")
        return shape | {"mlp_scale": m.d_ff // m.d_model}
    return shape | {
        "intermediate_dim": m.d_ff,
        "num_kv_heads": m.kv_heads,
        "tie_word_embeddings": m.tie_embeddings,
        "rope": {"type": "default", "theta": float(m.rope_theta)},
    }


def _trainer(rung: Rung, name: str) -> dict:
    m = rung.model
    keep = [{"every": rung.save_every}] if rung.save_every else []
    return {
        "id": name,
        "seed": rung.seed,
        "mp": f"p={'f32' if m.param_dtype == 'float32' else m.param_dtype},c={m.compute_dtype}",
        "train_batch_size": Noted(rung.batch_sequences, f"sequences: {rung.batch_tokens:,} tokens"),
        "num_train_steps": Noted(rung.steps, f"{rung.tokens:,} tokens"),
        "steps_per_eval": rung.eval.every or rung.steps,
        "tracker": Noted({"type": "json_logger"}, "ladder export --source levanter reads its lines in the log"),
        "checkpointer": {"base_path": fill_in("a folder or gs://BUCKET/FOLDER"), "keep": keep},
    }


def _optimizer(rung: Rung) -> dict:
    o = rung.optimizer
    settings = {
        "type": "adam",
        "learning_rate": o.peak_lr,
        "lr_schedule": "cosine" if o.schedule == "cosine" else "linear",
        "min_lr_ratio": o.lr_final_fraction,
        "warmup": _steps(rung.warmup_steps, rung),
        "beta1": o.beta1,
        "beta2": o.beta2,
        "epsilon": o.eps,
        "max_grad_norm": o.grad_clip,
        "weight_decay": o.weight_decay,
        "weight_decay_modules": Noted(["transformer", "lm_head"], "all but the embeddings"),
    }
    return settings | ({"decay": _steps(decay_steps(rung), rung)} if o.schedule == "wsd" else {})


def _steps(steps: int, rung: Rung) -> int | Noted:
    """Levanter takes a number up to 1 for a share of all steps."""
    return steps if steps > 1 else Noted(1.5 / rung.steps, "1 step")


def _data(rung: Rung) -> dict:
    shares = weights(rung)
    urls = {"type": "url", "train_urls": [FILL_IN], "validation_urls": [FILL_IN]}
    return {
        "tokenizer": fill_in(f"a tokenizer of {rung.model.vocab_size:,} tokens"),
        "cache_dir": fill_in("a folder or gs://BUCKET/FOLDER"),
        "shuffle": True,
        "block_cross_document_attention": rung.data.mask_documents,
        "components": {
            name: {"source": Noted(urls, f"FILL IN: the text of {name}, for example gs://BUCKET/*.jsonl.gz")}
            for name in shares
        },
        "train_weights": shares,
    }


def _differences(rung: Rung) -> tuple[str, ...]:
    return (
        "The vocabulary is that of the tokenizer, rounded up to a multiple of the devices: N is ours where it has "
        f"{rung.model.vocab_size:,} tokens.",
        "The first update has a rate of 0: Levanter's schedule is one step later than ours in the warm-up, and ends "
        "one step earlier.",
        "Initial weights follow Levanter's rules, not one standard deviation for all (model.init_std).",
        "train/loss includes the z-loss.",
    )
