"""Runs that start from a published model: its weights, a fresh optimizer, and the same bits however often they stop."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from ladder.config import Data, Eval
from ladder.convert import pretrained
from ladder.errors import InputError
from ladder.loop import train
from ladder.loop.run import open_run
from ladder.rundir.checkpoint import Checkpoints
from ladder.rundir.record import Record
from launch import cli
from tests.ladder.convert import hf_folders

pytestmark = pytest.mark.usefixtures("quick_compile")
STEPS = 12


def short(world, **changes):
    rung = world.rung(eval=Eval(validation_tokens=0), save_every=4, **changes)
    return replace(rung, tokens=STEPS * rung.batch_tokens)


@pytest.fixture(scope="module")
def published(world, tmp_path_factory):
    """(run directory, its last checkpoint as a Hugging Face folder)."""
    root = tmp_path_factory.mktemp("published")
    (directory,) = world([short(world)], root / "runs")
    train.train(directory)
    assert hf_folders.export(directory, root / "model") == 0
    return directory, root / "model"


def last_state(directory, abstract_state) -> dict:
    return Checkpoints(directory / "checkpoints").read(STEPS, abstract_state)


@pytest.mark.slow
def test_a_run_starts_from_the_weights_and_resumes_to_the_bit(world, published, tmp_path):
    of, folder = published
    rung = short(world, init_from=str(folder), seed=1)
    (whole,), (stopped,) = (world([rung], tmp_path / name) for name in ("whole", "stopped"))
    config = json.loads((whole / "config.json").read_text())["rung"]
    assert (config["init_from"], config["init_hash"]) == (str(folder), pretrained.content_hash(folder))

    run = open_run(Record(whole))
    (step, first), abstract = run.restore(), run.program.abstract_state
    assert step == 0 and not any(np.any(leaf) for leaf in jax.tree.leaves(first["optimizer"]))
    assert same(first["params"], last_state(of, abstract)["params"])
    assert jax.tree.map(lambda x: x.sharding, first) == run.program.shardings

    train.train(whole)
    run = open_run(Record(stopped))
    with pytest.raises(StopIteration):  # dies in the step after its first checkpoint
        train._loop(run, *run.restore(), run.program.train_step, stops_after(run, run.rung.save_every))
    folder.rename(folder.with_name("gone"))  # a run that has a checkpoint does not need it
    try:
        train.train(stopped)
    finally:
        folder.with_name("gone").rename(folder)
    assert same(last_state(whole, abstract), last_state(stopped, abstract))


def stops_after(run, step: int):
    def should_stop(_) -> bool:
        if run.checkpoints.steps()[-1:] == [step]:
            raise StopIteration
        return False

    return should_stop


def same(a, b) -> bool:
    return jax.tree.all(jax.tree.map(lambda x, y: np.asarray(x).tobytes() == np.asarray(y).tobytes(), a, b))


def test_ladder_eval_scores_the_folder_as_its_run(world, published, tmp_path, capsys):
    evaluations, out = [], tmp_path / "out.json"
    for where in published:
        assert cli.main(["eval", str(where), "--tasks", str(world.requests), "--json", str(out)]) == 0
        evaluations += json.loads(out.read_text())["evaluations"]
    assert (evaluations[1]["run_id"], evaluations[1]["step"]) == ("model", None)
    of_run, of_folder = ({(r["task"], r["metric"]): r["value"] for r in made["rows"]} for made in evaluations)
    assert of_folder == pytest.approx(of_run, rel=1e-6) and ("colours", "bpb") in of_run
    for arguments, says in ((["--step", "3"], "has no checkpoints to choose from (--step)"), ([], "(--tasks)")):
        tasks = ["--tasks", str(world.requests)] if arguments else []
        assert cli.main(["eval", str(published[1]), *tasks, *arguments]) == 2
        assert says in capsys.readouterr().err


def test_the_run_id_depends_on_the_weights_and_not_on_where_they_lie(world, published, tmp_path):
    plain, copy = short(world), tmp_path / "copy"
    copy.mkdir()
    for path in published[1].iterdir():
        (copy / path.name).write_bytes(path.read_bytes())

    def identity(folder) -> str:
        return world.build([replace(plain, init_from=str(folder))]).ladder.rungs[0].identity

    here = identity(published[1])
    assert here == identity(copy) != plain.identity
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    assert identity(copy) not in (here, plain.identity)


def test_a_model_that_does_not_fit_is_refused(world, published, tmp_path):
    rung = short(world, init_from=str(published[1]))
    wide = replace(rung, model=replace(rung.model, d_ff=64))
    with pytest.raises(InputError, match=r"its d_ff is 32, model.d_ff of this rung is 64; set model\.d_ff=32"):
        world([wide], tmp_path)
    with pytest.raises(InputError, match=r"its n_kv_heads is 2, model.n_kv_heads of this rung is 1"):
        world([replace(rung, model=replace(rung.model, n_kv_heads=1))], tmp_path)
    other = Data(text=(str(world.text),), validation=0.2, tokenizer="bpe:300")
    with pytest.raises(InputError, match=r"has another tokenizer than data.tokenizer = 'bpe:300'; set data.tokenizer="):
        world([replace(rung, model=replace(rung.model, vocab_size=320))], tmp_path, data=other)
    with pytest.raises(InputError, match=r"has no config\.json"):
        world([replace(rung, init_from=str(tmp_path))], tmp_path)
    with pytest.raises(InputError, match=r"nowhere: no published model here; name a Hugging Face folder or a \.gguf"):
        world([replace(rung, init_from=str(tmp_path / "nowhere"))], tmp_path)
    with pytest.raises(InputError, match=r"init_hash = 'ab': is filled in when init_from is set; leave it out"):
        replace(rung, init_from=None, init_hash="ab")


def test_weights_that_changed_since_the_run_was_written_are_refused(world, published, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for path in published[1].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (directory,) = world([short(world, init_from=str(folder))], tmp_path / "runs")
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"its weights have the hash .*, this run starts from"):
        train.train(directory)


def test_a_branch_starts_from_its_trunk(world, published):
    from configs.wsd import trunk_and_branches

    trunk, branch = trunk_and_branches(short(world, init_from=str(published[1])), (0.5,))
    plain = trunk_and_branches(short(world), (0.5,))
    built = world.build([trunk, branch]).ladder.rungs
    unset = world.build(plain).ladder.rungs
    assert built[0].init_hash and built[0].identity != unset[0].identity and built[1].parent == built[0].identity
    alone = replace(built[1], parent=unset[1].parent)
    assert alone.identity == unset[1].identity
