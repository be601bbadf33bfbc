"""`ladder export RUN_DIR --to hf DIR`: the folder of a checkpoint, or one line that says what is wrong."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from ladder.rundir.files import sealed
from tests.ladder.conftest import World
from tests.ladder.convert import hf_folders, hf_models

FILES = {
    "README.md",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}
MODEL = hf_models.MODELS["olmo2, tied"]


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory):
    world, root = World(tmp_path_factory.mktemp("world")), tmp_path_factory.mktemp("runs")
    return hf_folders.write_run(world, root, MODEL, hf_models.random_params(MODEL))


def test_the_folder_holds_the_checkpoint_and_the_runs_own_numbers(run_directory, tmp_path, capsys):
    folder = tmp_path / "new" / "model"
    assert hf_folders.export(run_directory, folder, "--step", str(hf_folders.STEP)) == 0
    assert f"{folder.name}: step 3" in "".join(capsys.readouterr().out.split("\n"))
    assert {path.name for path in folder.iterdir()} == FILES
    up = load_file(folder / "model.safetensors")["model.layers.1.mlp.up_proj.weight"]
    np.testing.assert_array_equal(up, hf_models.random_params(MODEL)["blocks"]["up"][1].T)
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["Olmo2ForCausalLM"] and config["eos_token_id"] == 255
    card = (folder / "README.md").read_text()
    assert f"# {run_directory.name}\n" in card and "| a\\|b | loss | 1.25 |  |  |" in card
    assert "| training tokens | 384 (step 3 of 60) |" in card


def test_what_cannot_be_exported_is_one_line_and_exit_code_2(run_directory, tmp_path, capsys):
    run_id = run_directory.name
    for name in ("fit-12345678", "full", "empty/checkpoints", "no-checkpoint"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "full/file").write_text("")
    (tmp_path / "fit-12345678/config.json").write_text(
        sealed({"run_id": "fit-12345678", "derived": {"steps": 0}, "runs": []})
    )
    unsaved = tmp_path / "no-checkpoint" / run_id
    unsaved.mkdir()
    (unsaved / "config.json").write_text((run_directory / "config.json").read_text())
    new = tmp_path / "new"
    for directory, folder, arguments, says in (
        (tmp_path / "fit-12345678", new, (), "a fit directory, which has no model"),
        (tmp_path / "none", new, (), "no config.json; name a run directory"),
        (run_directory.parent, new, (), "no config.json; name a run directory"),
        (unsaved, new, (), "no checkpoint to export; train it first"),
        (run_directory, new, ("--step", "4"), "no checkpoint of step 4; there are 3 (--step)"),
        (run_directory, new, ("--step", "x"), "--step x: with --to name one checkpoint"),
        (run_directory, new, ("--step", "3", "4"), "with --to name one checkpoint"),
        (run_directory, new, ("--where", "task=a"), "--where: no effect with --to"),
        (run_directory, new, ("--source", "wandb"), "--source: no effect with --to"),
        (run_directory, tmp_path / "full", (), "is not empty; name a new folder"),
        (run_directory, tmp_path / "file", (), "is a file; name a new folder"),
        (run_directory, "gs://bucket/model", (), "write to a folder of this machine"),
    ):
        assert hf_folders.export(directory, folder, *arguments) == 2, says
        message = capsys.readouterr().err
        assert says in message and message.count("\n") == 1, message
        assert not new.exists()


def test_a_damaged_checkpoint_is_not_exported(run_directory, tmp_path, capsys):
    largest = max((run_directory / "checkpoints").rglob("d/*"), key=lambda path: path.stat().st_size)
    content = largest.read_bytes()
    largest.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    try:
        assert hf_folders.export(run_directory, tmp_path / "new") == 2
    finally:
        largest.write_bytes(content)
    assert "its hash differs; choose another checkpoint" in capsys.readouterr().err
