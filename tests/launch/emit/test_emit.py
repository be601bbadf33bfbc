"""Configs for other trainers: N, D, batch and schedule as in the ladder; refusals; the trainers themselves open them in
tests/real/test_trainers.py (make proof-trainers)."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from configs import demo, loader, olmo2
from ladder.config import Data, Ladder, Optimizer, Phase, Source
from ladder.errors import InputError
from ladder.optim.schedule import learning_rate
from launch import cli
from launch.emit import files, yaml_text

# Bhagia et al. 2024, and OLMo-2's model cards: all parameters but the input embedding, and all.
PUBLISHED = {
    "190M": (190_354_176, 267_424_512), "370M": (371_262_464, 474_022_912), "600M": (597_382_464, 732_255_552),
    "760M": (758_220_288, 912_360_960), "1B": (1_279_395_840, 1_484_916_736), "3B": (3_169_537_280, 3_503_508_736),
    "7B": (6_887_575_552, 7_298_617_344), "13B": (13_202_396_160, 13_716_198_400),
}  # fmt: skip
RUNG = olmo2.rung("190M", 1)
LLAMA = replace(RUNG.model, family="llama", n_kv_heads=4)
GPT2 = replace(RUNG.model, family="gpt2", tie_embeddings=True)


def read(text: str):
    return yaml.load(text, yaml.CSafeLoader)


def of(*rungs, targets=()) -> Ladder:
    return Ladder("mine", rungs, targets)


def emit(ladder: Ladder, trainer: str, folder: Path, devices: int = 1) -> dict[str, dict]:
    """{name: config} as the trainer's YAML reader sees it."""
    emitted = files.write(ladder, trainer, str(folder), devices)
    return {Path(path).stem: read(Path(path).read_text()) for path in emitted.paths}


def shape(trainer: str, config: dict) -> tuple[int, ...]:
    """(d, layers, heads, kv heads, ffn, vocabulary) by the trainer's own names; 0 where it does not say."""
    if trainer == "maxtext":
        names = ("emb_dim", "num_decoder_layers", "num_query_heads", "num_kv_heads", "mlp_dim")
        return (*(config[f"base_{name}"] for name in names), config["vocab_size"])
    model = config["model"]
    if trainer == "levanter":
        names = ("hidden_dim", "num_layers", "num_heads", "num_kv_heads", "intermediate_dim")
        return (*(model[name] for name in names), 100_352)  # of the tokenizer
    attention, feed_forward = model["block"]["sequence_mixer"], model["block"]["feed_forward"]
    heads = (attention["n_heads"], attention["n_kv_heads"])
    return model["d_model"], model["n_layers"], *heads, feed_forward["hidden_size"], model["vocab_size"]


@pytest.mark.parametrize("trainer", files.TRAINERS)
def test_the_eight_published_sizes(trainer, tmp_path):
    """N counted from the emitted fields: OLMo 2 has four norms in a block, of width d, or as wide as keys."""
    ladder = loader.load("olmo2-all")
    configs = emit(ladder, trainer, tmp_path, devices=64)
    assert len(configs) == 26
    facts = {run["run"]: run for run in json.loads((tmp_path / "emitted.json").read_text())["runs"]}
    sizes = set()
    for rung in ladder.all:
        d, layers, heads, kv_heads, ffn, vocabulary = shape(trainer, configs[rung.label])
        kv = d // heads * kv_heads
        n = layers * (2 * d * d + 2 * d * kv + 3 * d * ffn + 3 * d + kv) + d + d * vocabulary
        assert (n, n + d * vocabulary) == PUBLISHED[rung.size]
        run = facts[rung.label]
        assert (run["n_params"], run["n_total"], run["tokens"]) == (*PUBLISHED[rung.size], rung.tokens)
        assert run["split"] == ("target" if rung.size in ("7B", "13B") else "train")
        sizes.add(rung.size)
    assert sizes == set(PUBLISHED)


def test_batch_and_steps_of_each_trainer(tmp_path):
    """7B-4T: 1024 sequences of 4096 tokens, 940,577 steps."""
    ladder = of(RUNG, targets=olmo2.targets()[:1])
    config = emit(ladder, "maxtext", tmp_path / "m", devices=64)["7B-4T"]
    assert (config["steps"], config["per_device_batch_size"] * 64, config["max_target_length"]) == (940_577, 1024, 4096)
    assert config["model_name"].startswith("olmo3") and config["sliding_window_size"] == 4096
    assert read((tmp_path / "m/models" / f"{config['model_name']}.yml").read_text()) == {"decoder_block": "olmo3"}
    config = emit(ladder, "olmo-core", tmp_path / "o")["7B-4T"]
    assert config["trainer"]["max_duration"] == {"value": 940_577, "unit": "steps"}
    assert (
        config["data_loader"]["global_batch_size"]
        == 1024 * 4096
        == 4096 * config["train_module"]["rank_microbatch_size"] / 4
    )
    assert (tmp_path / "o/train.py").exists()
    config = emit(ladder, "levanter", tmp_path / "l")["7B-4T"]
    assert (config["trainer"]["num_train_steps"], config["trainer"]["train_batch_size"]) == (940_577, 1024)


def rates(trainer: str, config: dict, steps: int) -> list[float]:
    """The rate of every update by the trainer's rule, written after its source (see the modules of launch/emit)."""
    if trainer == "maxtext":  # utils/maxtext_utils.py: create_learning_rate_schedule
        peak, final = config["learning_rate"], config["learning_rate"] * config["learning_rate_final_fraction"]
        warmup, offset, last = int(steps * config["warmup_steps_fraction"]), 0, 1
        decay = int(steps * config["wsd_decay_steps_fraction"]) if config["lr_schedule_type"] == "wsd" else None
    elif trainer == "levanter":  # optim/config.py: lr_scheduler
        o = config["optimizer"]
        peak, final, offset, last = o["learning_rate"], o["learning_rate"] * o["min_lr_ratio"], 0, 0
        warmup, decay = o["warmup"], o.get("decay")
    else:  # optim/scheduler.py: CosWithWarmup, WSD
        o = config["train_module"]["scheduler"]
        peak, warmup, decay = config["train_module"]["optim"]["lr"], o["warmup"], o.get("decay")
        final, offset, last = o["decay_min_lr"] if decay else peak * o["alpha_f"], 1, 0
    length = decay or steps - warmup
    values = []
    for update in range(steps):
        step = update + offset
        done = min(max((step - (steps - length)) / max(length - last, 1), 0.0), 1.0)
        share = 1 - done if decay else (1 + math.cos(math.pi * done)) / 2
        values.append(min(step / warmup, 1.0) * peak if step < warmup else final + (peak - final) * share)
    return values


@pytest.mark.parametrize("trainer", files.TRAINERS)
@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
@pytest.mark.parametrize("steps", [97, 512])
def test_the_schedule_differs_by_at_most_one_step(trainer, schedule, steps, tmp_path):
    batch = RUNG.batch_tokens
    optimizer = Optimizer(1e-3, 13 * batch, schedule, decay_fraction=0.3)
    rung = replace(RUNG, tokens=steps * batch, optimizer=optimizer)
    config = emit(of(rung), trainer, tmp_path)[rung.label]
    ours, theirs = [learning_rate(rung, step) for step in range(steps)], rates(trainer, config, steps)
    neighbours = [[ours[max(i - 1, 0)], rate, ours[min(i + 1, steps - 1)]] for i, rate in enumerate(ours)]
    neighbours[0].append(0.0)  # of the schedules that begin at 0
    neighbours[-1].append(1e-3 * optimizer.lr_final_fraction)
    for rate, near in zip(theirs, neighbours, strict=True):
        assert min(near) - 1e-12 <= rate <= max(near) + 1e-12


def test_branches_are_full_runs_and_names_are_unique(tmp_path):
    ladder = loader.load("demo")
    configs = emit(ladder, "levanter", tmp_path / "demo")
    assert set(configs) == {rung.label for rung in ladder.all if rung.kind != "trunk"}
    branch = next(rung for rung in ladder.rungs if rung.kind == "branch")
    assert configs[branch.label]["trainer"]["num_train_steps"] == branch.steps
    assert configs[branch.label]["optimizer"]["decay"] == branch.decay_steps
    two_seeds = of(RUNG, replace(RUNG, seed=1))
    configs = emit(two_seeds, "olmo-core", tmp_path / "seeds")
    assert {name: config["init_seed"] for name, config in configs.items()} == {"190M-1xC-s0": 0, "190M-1xC-s1": 1}
    trunk = demo.demo().rungs[0]
    with pytest.raises(InputError, match="has only trunks"):
        files.write(of(trunk), "maxtext", str(tmp_path / "trunk"))


MIXTURE = Data(sources=(Source("web", ("w",), 3.0), Source("code", ("c",), 1.0)))


def test_families_and_mixtures(tmp_path):
    rungs = [replace(RUNG, model=LLAMA, data=MIXTURE), replace(RUNG, size="G", model=GPT2)]
    llama, gpt2 = emit(of(*rungs), "maxtext", tmp_path / "m").values()
    assert (llama["decoder_block"], llama["base_num_kv_heads"], gpt2["decoder_block"]) == ("llama2", 4, "gpt3")
    assert "model_name" not in llama and gpt2["logits_via_embedding"] and gpt2["trainable_position_size"] == 4096
    assert llama["grain_train_files"] == "FILL_IN,0.75;FILL_IN,0.25" and not (tmp_path / "m/models").exists()
    llama, gpt2 = emit(of(*rungs), "levanter", tmp_path / "l").values()
    assert llama["model"]["type"] == "llama" and llama["data"]["train_weights"] == {"web": 0.75, "code": 0.25}
    assert gpt2["model"] | {"type": "gpt2", "mlp_scale": 4} == gpt2["model"]


WRONG = {
    "gpt2 in OLMo-core": ("olmo-core", {"model": GPT2}, "OLMo-core has no learned positions"),
    "untied GPT-2 in Levanter": (
        "levanter",
        {"model": replace(GPT2, tie_embeddings=False)},
        "Levanter has no GPT-2 but",
    ),
    "fewer heads in MaxText's GPT": ("maxtext", {"model": replace(GPT2, n_kv_heads=4)}, "fewer key-value heads"),
    "theta": ("maxtext", {"model": replace(LLAMA, rope_theta=100.5)}, "model.rope_theta = 100.5"),
    "first moment": ("levanter", {"optimizer": replace(RUNG.optimizer, mu_dtype="bfloat16")}, "optimizer.mu_dtype"),
    "second moment": ("maxtext", {"optimizer": replace(RUNG.optimizer, nu_dtype="bfloat16")}, "optimizer.nu_dtype"),
    "long warm-up": (
        "maxtext",
        {"optimizer": replace(RUNG.optimizer, warmup_tokens=2 * RUNG.tokens)},
        "that overlap in",
    ),
    "a name that is a path": ("maxtext", {"name": "190M-1xC/../x"}, "its name is that of a file here"),
    "phases": ("levanter", {"data": replace(MIXTURE, phases=(Phase((1.0, 1.0), 0.5),))}, "data.phases"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_a_trainer_cannot_express_is_refused_and_nothing_written(name, tmp_path):
    trainer, changes, message = WRONG[name]
    with pytest.raises(InputError, match=message) as error:
        files.write(of(replace(RUNG, size="A"), replace(RUNG, **changes)), trainer, str(tmp_path / "out"))
    assert "\n" not in str(error.value) and "rung 190M-1xC" in str(error.value) and not (tmp_path / "out").exists()


def test_the_command(tmp_path, capsys):
    out = str(tmp_path / "out")
    assert cli.main(["plan", "olmo2", "--emit", "maxtext", "--out", out, "--devices", "64"]) == 0
    said = capsys.readouterr().out
    assert "18 configs for MaxText; fill in what says FILL_IN" in said and "The first update has a rate of 0" in said
    for flags, message in (
        (["--emit", "maxtext", "--out", out], "is there already, perhaps filled in; name another folder (--out)"),
        (["--emit", "maxtext"], "--emit maxtext: name the folder to write, --out DIR"),
        (["--out", out], "--out: no effect without --emit"),
        (["--emit", "maxtext", "--out", f"{out}2", "--devices", "7"], "does not divide over 7 devices"),
    ):
        assert cli.main(["plan", "olmo2", *flags]) == 2
        assert message in capsys.readouterr().err


def test_yaml_is_read_back():
    """What YAML 1.1 would take for something else: 1e-05 (text), no and on (booleans), a key of digits, quotes."""
    tree = {
        "a": {"b": 1e-05, "no": ["no", 1e22, -0.0, {"x": None, "1": True}], "deep": {"er": {"est": [[], {}]}}},
        "on": 1e22, "c": [], "text": 'say "yes": # 1', "é": "ünïcode", "1.5": 7, "empty": {}, "e": "", "big": 2**63,
    }  # fmt: skip
    noted = {key: yaml_text.Noted(value, "why") for key, value in tree.items()}
    assert read(yaml_text.text(("a comment", ""), noted)) == tree
