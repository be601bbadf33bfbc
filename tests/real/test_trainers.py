"""MaxText and OLMo-core open the configs that we emit, count N, train a tiny rung, and their logs come back as tables.

`make proof-trainers` installs them, each in an environment of its own. Levanter on the package index is of 2023; its
config is checked by tests/launch/emit alone.
"""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs import loader, olmo2
from fitting.tables import runs_table
from ladder.config import Eval, Ladder, Optimizer
from ladder.optim.schedule import learning_rate
from launch import cli
from launch.emit import files
from launch.emit.rungs import named

pytestmark = pytest.mark.proof

ROOT = Path(__file__).parents[2]
TRAINERS = {"maxtext": ".yml", "olmo-core": ".yaml"}
STEPS, BATCH = 12, 4 * 128
UPDATES = [0, 1, 5, 200, 2000, 5000]


def python(trainer: str) -> Path:
    path = ROOT / ".cache/trainers" / trainer / "bin/python"
    if not path.exists():
        pytest.skip(f"{trainer} is not there: make proof-trainers installs it")
    return path


def run(trainer: str, *arguments, cwd: Path | None = None) -> str:
    """What a program of the trainer's environment prints; its errors too."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JAX_COMPILATION"))}
    command = [python(trainer), "-W", "ignore", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=clean | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def opened(trainer: str, folder: Path, updates: list[int], names: list[str]) -> dict:
    script = Path(__file__).with_name(f"trainer_{trainer.replace('-', '_')}.py")
    printed = run(trainer, script, folder, json.dumps(updates), *(name + TRAINERS[trainer] for name in names))
    return json.loads(next(line for line in printed.splitlines() if line.startswith('{"')))


@pytest.mark.parametrize("trainer", TRAINERS)
def test_the_eight_published_sizes(trainer, tmp_path):
    ladder = loader.load("olmo2-all")
    files.write(ladder, trainer, str(tmp_path), devices=64)
    rungs = {rung.size: name for name, rung in named(ladder).items()}
    facts = {fact["run"]: fact for fact in json.loads((tmp_path / files.MANIFEST).read_text())["runs"]}
    found = opened(trainer, tmp_path, UPDATES, list(rungs.values()))
    for size, name in rungs.items():
        theirs = found[name]
        print(f"{trainer} {size}: N = {theirs['n_params']:,} of theirs, {facts[name]['n_params']:,} of ours")
        assert (theirs["n_params"], theirs["n_total"]) == (facts[name]["n_params"], facts[name]["n_total"])
        rung = named(ladder)[name]
        for update, rate in zip(UPDATES, theirs["rates"], strict=True):
            near = [learning_rate(rung, max(step, 0)) for step in (update - 1, update, update + 1)]
            slack = 1e-6 * rung.optimizer.peak_lr  # MaxText computes it in float32
            assert (0 if update == 0 else min(near)) - slack <= rate <= max(near) + slack


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_other_families(trainer, family, tmp_path):
    if (trainer, family) == ("olmo-core", "gpt2"):
        pytest.skip("OLMo-core has no learned positions; tests/launch/emit checks that it is refused")
    model = replace(olmo2.model("190M"), family=family, n_kv_heads=None if family == "gpt2" else 4)
    tied = replace(model, tie_embeddings=True)
    rungs = [replace(olmo2.rung("190M", 1), size=size, model=m) for size, m in (("U", model), ("T", tied))]
    files.write(Ladder("families", tuple(rungs)), trainer, str(tmp_path))
    facts = {fact["run"]: fact for fact in json.loads((tmp_path / files.MANIFEST).read_text())["runs"]}
    for name, theirs in opened(trainer, tmp_path, [], list(facts)).items():
        print(f"{trainer} {family} {name}: {theirs['n_total']:,} of theirs, {facts[name]['n_total']:,} of ours")
        assert theirs["n_total"] == facts[name]["n_total"]


def tiny(folder: Path, trainer: str) -> Path:
    """The config of a rung of 12 steps; the folder has its emitted.json, and a second rung."""
    shape = {"d_ff": 128, "n_layers": 2, "n_heads": 4, "vocab_size": 512, "seq_len": 128, "compute_dtype": "float32"}
    rungs = [
        replace(
            olmo2.rung("190M", 1), size=f"d{width}", model=replace(olmo2.model("190M"), d_model=width, **shape),
            tokens=STEPS * BATCH, batch_tokens=BATCH, optimizer=Optimizer(1e-3, 3 * BATCH), eval=Eval(), save_every=0,
        ) for width in (32, 64)
    ]  # fmt: skip
    return Path(files.write(Ladder("tiny", tuple(rungs)), trainer, str(folder)).paths[0])


def exported(trainer: str, out: Path, *paths):
    """The runs table of logs, by the command without further flags."""
    assert cli.main(["export", *map(str, paths), "--source", trainer, "-o", str(out)]) == 0
    table = runs_table.read(out).select(task="train", metric="loss")
    assert set(table["run"]) == {"d32-1xC"} and set(table["n_params"]) == {49_440} and table["final"].sum() == 1
    assert (table["flops"] == 6 * 49_440 * table["tokens"]).all() and (table["tokens"] == BATCH * table["step"]).all()
    return table


def test_olmo_core_trains_a_rung_and_its_log_is_a_table(tmp_path):
    config = tiny(tmp_path / "emitted", "olmo-core")
    np.random.default_rng(0).integers(1, 512, 100_000).astype(np.uint16).tofile(tmp_path / "tokens.npy")
    text = (
        config.read_text()
        .replace('["FILL_IN"]', f'["{tmp_path}/tokens.npy"]')
        .replace("num_workers: 4", "num_workers: 0")
    )
    text = text.replace('work_dir: "FILL_IN"', f'work_dir: "{tmp_path}/work"').replace("FILL_IN/", f"{tmp_path}/runs/")
    config.write_text(text.replace("rank_microbatch_size: 128", f"rank_microbatch_size: {BATCH}"))
    (tmp_path / "d32-1xC.log").write_text(run("olmo-core", "train.py", config, "--single", cwd=config.parent))
    table = exported("olmo-core", tmp_path / "saved.csv", config.parent, tmp_path / "runs")
    assert table["step"].tolist() == list(range(1, STEPS + 1))
    last = json.loads((tmp_path / f"runs/d32-1xC/metrics_step{STEPS}.json").read_text())
    assert table["value"][-1] == last["train/CE loss"]
    print(f"olmo-core: {len(table)} rows, loss {table['value'][0]:.4f} to {table['value'][-1]:.4f}")


def test_maxtext_trains_a_rung_and_its_logs_are_tables(tmp_path):
    config = tiny(tmp_path / "emitted", "maxtext")
    settings = ["dataset_type=synthetic", f"base_output_directory={tmp_path}/out", "hardware=cpu", "log_config=true"]
    settings += ["skip_jax_distributed_system=true", "enable_checkpointing=false", "attention=dot_product"]
    program = ("-m", "maxtext.trainers.pre_train.train", config, *settings)
    (tmp_path / "console.log").write_text(run("maxtext", *program, cwd=config.parent))
    table = exported("maxtext", tmp_path / "file.csv", config.parent)
    assert table["step"].tolist() == list(range(1, STEPS + 1))
    printed = exported("maxtext", tmp_path / "console.csv", config.parent / "emitted.json", tmp_path / "console.log")
    assert np.abs(printed["value"] - table["value"]).max() < 2e-3  # three decimals, and a z-loss of 1e-5 x 40
    print(f"maxtext: {len(table)} rows, loss {table['value'][0]:.4f} to {table['value'][-1]:.4f}")
