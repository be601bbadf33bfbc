"""A rung as a config of MaxText (github.com/AI-Hypercomputer/maxtext; opened by version 0.2.5).

MaxText knows OLMo 2 as OLMo 3 with a sliding window as long as a sequence, which is full attention. It normalises
queries and keys over their full width only where model_name begins with "olmo3", and a model of that name brings its
own shape unless the folder models/ beside the config has a file of that name. So `files` writes one without a shape.
"""

from ladder.config import Rung
from ladder.errors import InputError
from launch.emit.rungs import Config, check, decay_steps, fraction, refuse, weights
from launch.emit.yaml_text import FILL_IN, Noted, fill_in

TRAINER = "MaxText"
SUFFIX = ".yml"  # it takes no other
COMMAND = "python -m maxtext.trainers.pre_train.train {file}"
_OLMO_NAME = "olmo3-7b-pt"
_DECODER_BLOCKS = {"olmo2": "olmo3", "llama": "llama2", "gpt2": "gpt3"}


def config(rung: Rung, name: str, devices: int) -> Config:
    """Raises InputError, one line, for what MaxText cannot express."""
    check(rung, TRAINER)
    if rung.batch_sequences % devices:
        batch = f"rung {rung.label}: a batch of {rung.batch_sequences} sequences does not divide over {devices} devices"
        raise InputError(f"{batch}; give a divisor of {rung.batch_sequences}", "devices")
    return Config(_run(rung, name, devices) | _model(rung) | _optimizer(rung) | _data(rung), _differences(rung))


def files(rungs: list[Rung]) -> dict[str, str]:
    """{path: text} of what stands beside the configs of these rungs."""
    if not any(rung.model.family == "olmo2" for rung in rungs):
        return {}
    text = (
        "# MaxText reads this file instead of its own model of this name, whose shape would replace that of a rung.\n"
        "# Keep the folder models/ beside the configs.\n"
        'decoder_block: "olmo3"\n'
    )
    return {f"models/{_OLMO_NAME}.yml": text}


def _run(rung: Rung, name: str, devices: int) -> dict:
    batch = f"with {devices} device{'s' if devices > 1 else ''}: devices x this x gradient_accumulation_steps"
    return {
        "base_config": "base.yml",
        "run_name": name,
        "base_output_directory": fill_in("a folder or gs://BUCKET/FOLDER"),
        "metrics_file": Noted(f"{name}.metrics.jsonl", "ladder export --source maxtext reads it"),
        "steps": rung.steps,
        "max_target_length": rung.model.seq_len,
        "per_device_batch_size": Noted(
            rung.batch_sequences // devices, f"{batch} = {rung.batch_sequences} sequences; keep that product"
        ),
        "gradient_accumulation_steps": 1,
        "init_weights_seed": rung.seed,
        "data_shuffle_seed": rung.seed,
        "checkpoint_period": rung.save_every or rung.steps,
        "eval_interval": rung.eval.every or -1,
    }


def _model(rung: Rung) -> dict:
    m = rung.model
    shape = {
        "decoder_block": _DECODER_BLOCKS[m.family],
        "base_emb_dim": m.d_model,
        "base_num_query_heads": m.n_heads,
        "base_num_kv_heads": m.kv_heads,
        "head_dim": m.head_dim,
        "base_mlp_dim": m.d_ff,
        "base_num_decoder_layers": m.n_layers,
        "vocab_size": m.vocab_size,
        "logits_via_embedding": m.tie_embeddings,
        "normalize_embedding_logits": False,
        "normalization_layer_epsilon": m.norm_eps,
        "enable_dropout": False,
        "weight_dtype": m.param_dtype,
        "dtype": m.compute_dtype,
    }
    if m.family == "gpt2":
        if m.kv_heads != m.n_heads:
            refuse(rung, TRAINER, "GPT-2 with fewer key-value heads than heads", "leave model.n_kv_heads out")
        return shape | {
            "mlp_activations": ["gelu"],
            "trainable_position_size": m.seq_len,
            "use_iota_embed": True,
            "fused_qkv": True,
        }
    if m.rope_theta != int(m.rope_theta):
        refuse(rung, TRAINER, f"model.rope_theta = {m.rope_theta}", "make it a whole number")
    shape |= {"mlp_activations": ["silu", "linear"], "rope_type": "default", "rope_max_timescale": int(m.rope_theta)}
    if m.family == "olmo2":
        comment = "for its norm of queries and keys; the shape is the one below (models/ beside this file)"
        shape |= {
            "use_qk_norm": True,
            "inhomogeneous_layer_cycle_interval": 1,
            "sliding_window_size": Noted(m.seq_len, "the whole sequence: full attention in every layer"),
        }
        return {"model_name": Noted(_OLMO_NAME, comment)} | shape
    return shape


def _optimizer(rung: Rung) -> dict:
    o = rung.optimizer
    settings = {
        "opt_type": "adamw",
        "learning_rate": o.peak_lr,
        "lr_schedule_type": o.schedule,
        "learning_rate_final_fraction": o.lr_final_fraction,
        "learning_rate_schedule_steps": rung.steps,
        "warmup_steps_fraction": Noted(fraction(rung.warmup_steps, rung.steps), f"{rung.warmup_steps:,} steps"),
        "adam_b1": o.beta1,
        "adam_b2": o.beta2,
        "adam_eps": o.eps,
        "adam_eps_root": 0.0,
        "adam_weight_decay": o.weight_decay,
        "adamw_mask": Noted(["token_embedder", "position_embedder"], "no weight decay on embeddings"),
        "gradient_clipping_threshold": o.grad_clip,
        "z_loss_multiplier": o.z_loss,
    }
    if o.schedule == "wsd":
        decay = decay_steps(rung)
        settings["wsd_decay_steps_fraction"] = Noted(fraction(decay, rung.steps), f"{decay:,} steps")
        settings["wsd_decay_style"] = "linear"
    return settings | ({"mu_dtype": o.mu_dtype} if o.mu_dtype else {})


def _data(rung: Rung) -> dict:
    shares = weights(rung)
    files, what = FILL_IN, "the training text, for example gs://BUCKET/text*.array_record"
    if len(shares) > 1:
        files = ";".join(f"{FILL_IN},{share:.6g}" for share in shares.values())
        what = f"the text of {', '.join(shares)}, each with its share"
    settings = {
        "dataset_type": "grain",
        "grain_file_type": Noted("arrayrecord", "or parquet, tfrecord"),
        "grain_train_files": Noted(files, f"FILL IN: {what}"),
    }
    if rung.eval.every:
        settings["grain_eval_files"] = fill_in("the validation text")
        settings["eval_steps"] = max(1, rung.eval.validation_tokens // rung.batch_tokens)
    return settings | {
        "tokenizer_type": Noted("huggingface", "or tiktoken, sentencepiece"),
        "tokenizer_path": fill_in(f"the tokenizer; its ids must be below {rung.model.vocab_size:,}"),
        "packing": True,
        "enable_data_shuffling": True,
    }


def _differences(rung: Rung) -> tuple[str, ...]:
    lines = [
        "The first update has a rate of 0: MaxText's schedule is one step later than ours in the warm-up, and ends one "
        "step earlier.",
        "Initial weights follow MaxText's rules, not one standard deviation for all (model.init_std).",
        "Tasks are not evaluated; only the loss of the validation text is.",
    ]
    if not rung.data.mask_documents:
        lines.append("Attention stays within a document where documents are packed (packing: true).")
    return tuple(lines)
