"""A rung as a config of OLMo-core (github.com/allenai/OLMo-core; opened by version 3.0.0).

OLMo-core has no command that takes a file. Its `Config.from_yaml` reads one, and train.py, which is written beside the
configs (train_olmo_core.py), trains with it.
"""

from pathlib import Path

from ladder.config import Rung
from launch.emit.rungs import Config, check, refuse, weights
from launch.emit.yaml_text import FILL_IN, Noted, fill_in

TRAINER = "OLMo-core"
SUFFIX = ".yaml"
COMMAND = "torchrun --nproc-per-node=8 train.py {file}"
_CLASS = "_CLASS_"


def config(rung: Rung, name: str, devices: int) -> Config:
    """Raises InputError, one line, for what OLMo-core cannot express. devices: not used, any number that divides the
    batch will do."""
    check(rung, TRAINER)
    if rung.model.family == "gpt2":
        refuse(rung, TRAINER, "learned positions (model.family = gpt2)", "use olmo2 or llama")
    if rung.optimizer.mu_dtype not in (None, rung.model.param_dtype):
        refuse(rung, TRAINER, f"optimizer.mu_dtype = {rung.optimizer.mu_dtype}", "leave it out")
    if rung.model.rope_theta != int(rung.model.rope_theta):
        refuse(rung, TRAINER, f"model.rope_theta = {rung.model.rope_theta}", "make it a whole number")
    tree = {
        "init_seed": rung.seed,
        "model": _model(rung),
        "train_module": _train_module(rung),
        "dataset": _dataset(rung),
        "data_loader": {
            _CLASS: "olmo_core.data.NumpyDataLoaderConfig",
            "global_batch_size": Noted(rung.batch_tokens, f"tokens: {rung.batch_sequences} sequences"),
            "seed": rung.seed,
            "num_workers": 4,
        },
        "trainer": _trainer(rung, name),
    }
    return Config(tree, _differences(rung))


def files(rungs: list[Rung]) -> dict[str, str]:
    """{path: text} of what stands beside the configs of these rungs."""
    return {"train.py": Path(__file__).with_name("train_olmo_core.py").read_text()}


def _model(rung: Rung) -> dict:
    m = rung.model
    norm = {_CLASS: "olmo_core.nn.layer_norm.LayerNormConfig", "name": "rms", "eps": m.norm_eps, "bias": False}
    norm["dtype"] = m.param_dtype
    attention = {
        _CLASS: "olmo_core.nn.attention.AttentionConfig",
        "name": "default",
        "n_heads": m.n_heads,
        "n_kv_heads": m.kv_heads,
        "bias": False,
        "rope": {_CLASS: "olmo_core.nn.rope.RoPEConfig", "name": "default", "theta": int(m.rope_theta)},
        "dtype": m.param_dtype,
    }
    if m.family == "olmo2":
        attention |= {"qk_norm": norm, "use_head_qk_norm": False}
    return {
        _CLASS: "olmo_core.nn.transformer.TransformerConfig",
        "name": "default",
        "d_model": m.d_model,
        "n_layers": m.n_layers,
        "vocab_size": m.vocab_size,
        "tie_word_embeddings": m.tie_embeddings,
        "dtype": m.param_dtype,
        "init_method": "normal",
        "init_std": m.init_std,
        "init_seed": rung.seed,
        "block": {
            _CLASS: "olmo_core.nn.transformer.TransformerBlockConfig",
            "name": "reordered_norm" if m.family == "olmo2" else "default",
            "sequence_mixer": attention,
            "layer_norm": norm,
            "feed_forward": {
                _CLASS: "olmo_core.nn.feed_forward.FeedForwardConfig",
                "hidden_size": m.d_ff,
                "bias": False,
                "dtype": m.param_dtype,
            },
        },
        "lm_head": {
            _CLASS: "olmo_core.nn.lm_head.LMHeadConfig",
            "layer_norm": norm,
            "bias": False,
            "dtype": m.param_dtype,
        },
    }


def _train_module(rung: Rung) -> dict:
    o = rung.optimizer
    no_decay = {
        _CLASS: "olmo_core.optim.OptimGroupOverride",
        "params": ["embeddings.weight"],
        "opts": {"weight_decay": 0.0},
    }
    return {
        _CLASS: "olmo_core.train.train_module.TransformerTrainModuleConfig",
        "rank_microbatch_size": Noted(rung.model.seq_len, "tokens; as many sequences as fit into memory"),
        "max_sequence_length": rung.model.seq_len,
        "optim": {
            _CLASS: "olmo_core.optim.AdamWConfig",
            "lr": o.peak_lr,
            "betas": [o.beta1, o.beta2],
            "eps": o.eps,
            "weight_decay": o.weight_decay,
            "group_overrides": Noted([no_decay], "no weight decay on embeddings"),
        },
        "scheduler": _scheduler(rung),
        "max_grad_norm": o.grad_clip,
        "z_loss_multiplier": o.z_loss or None,
        "autocast_precision": None if rung.model.compute_dtype == "float32" else rung.model.compute_dtype,
        "dp_config": {
            _CLASS: "olmo_core.train.train_module.TransformerDataParallelConfig",
            "name": Noted("fsdp", "or ddp, hsdp"),
            "param_dtype": rung.model.compute_dtype,
            "reduce_dtype": "float32",
        },
    }


def _scheduler(rung: Rung) -> dict:
    o = rung.optimizer
    if o.schedule == "cosine":
        schedule = {_CLASS: "olmo_core.optim.CosWithWarmup", "alpha_f": o.lr_final_fraction}
    else:
        final = {"decay_min_lr": o.lr_final_fraction * o.peak_lr}
        schedule = {_CLASS: "olmo_core.optim.WSD", "decay": rung.decay_steps, "decay_fraction": None} | final
    return schedule | {"warmup": rung.warmup_steps, "units": "steps"}


def _dataset(rung: Rung) -> dict:
    shares = weights(rung)
    what = "token files (.npy of OLMo-core)"
    if len(shares) > 1:
        what += " with " + ", ".join(f"{share:.4g} of the tokens from {name}" for name, share in shares.items())
    return {
        _CLASS: "olmo_core.data.NumpyFSLDatasetConfig",
        "paths": Noted([FILL_IN], f"FILL IN: {what}"),
        "work_dir": fill_in("a local folder for indices"),
        "sequence_length": rung.model.seq_len,
        "generate_doc_lengths": Noted(rung.data.mask_documents, "true keeps attention within a document"),
        "tokenizer": {
            _CLASS: "olmo_core.data.TokenizerConfig",
            "vocab_size": rung.model.vocab_size,
            "eos_token_id": Noted(0, "FILL IN: the id that ends a document"),
            "pad_token_id": Noted(0, "FILL IN: the id of padding"),
        },
    }


def _trainer(rung: Rung, name: str) -> dict:
    callbacks = "olmo_core.train.callbacks"
    saver = {"save_interval": rung.eval.every or max(1, rung.steps // 100), "fixed_steps": [rung.steps]}
    return {
        _CLASS: "olmo_core.train.TrainerConfig",
        "save_folder": Noted(f"{FILL_IN}/{name}", f"FILL IN: a folder or bucket; the last part stays {name}"),
        "save_overwrite": Noted(
            True, "the metrics of a step are written again with its checkpoint, and after a resume"
        ),
        "max_duration": Noted({"value": rung.steps, "unit": "steps"}, f"{rung.tokens:,} tokens"),
        "callbacks": {
            "checkpointer": {
                _CLASS: f"{callbacks}.CheckpointerCallback",
                "save_interval": rung.save_every or rung.steps,
            },
            "metric_saver": Noted(
                {_CLASS: f"{callbacks}.MetricSaverCallback"} | saver, "ladder export --source olmo-core reads its files"
            ),
            "config_saver": {_CLASS: f"{callbacks}.ConfigSaverCallback"},
        },
    }


def _differences(rung: Rung) -> tuple[str, ...]:
    shift = "earlier" if rung.optimizer.schedule == "cosine" else "later"
    return (
        f"The decay of the learning rate is one step {shift} than ours.",
        "Initial weights have our standard deviation, and other random numbers.",
        "Tasks are not evaluated: add OLMo-core's DownstreamEvaluatorCallbackConfig, whose results are read back.",
    )
