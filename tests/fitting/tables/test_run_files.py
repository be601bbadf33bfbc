"""Run directories whose files changed after they were written: that run is left out, with the reason; others count."""

import hashlib
import json

import pytest

from fitting.errors import InputError
from fitting.tables import runs_table


def sealed(value):
    """A JSON file as the trainer writes it: with the sha256 of its canonical text."""
    value = value | {"schema_version": 2}
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return json.dumps(value | {"sha256": hashlib.sha256(text.encode()).hexdigest()}, indent=2)


def segment(first, last, steps):
    row = {"kind": "full", "task": "validation", "metric": "bpb", "stderr": None, "n_docs": None}
    return "".join(json.dumps(row | {"step": s, "tokens": 100 * s, "value": 4 - s / 100}) + "\n" for s in steps)


def make(folder, name, done=True):
    """Steps 0 to 20 in two segments; of an unfinished run, the second is not yet listed by a checkpoint."""
    run = folder / name
    (run / "metrics").mkdir(parents=True)
    listing = {}
    for first, last, steps in ((0, 10, (5, 10)), (11, 20, (15, 20))):
        text, file = segment(first, last, steps), f"{first:09d}-{last:09d}.jsonl"
        (run / "metrics" / file).write_text(text)
        listing[file] = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "rows": len(steps)}
    derived = {"n_params": 1000, "flops_per_token": 6000, "kind": "full", "parent_step": None, "steps": 20}
    config = {"run_id": name, "split": "train", "derived": derived}
    (run / "config.json").write_text(sealed(config))
    if done:
        (run / "DONE.json").write_text(sealed({"run_id": name, "step": 20, "metrics": listing}))
    else:
        (run / "checkpoints" / "10").mkdir(parents=True)
        first_only = dict(list(listing.items())[:1])
        manifest = {"run_id": name, "step": 10, "metrics": first_only}
        (run / "checkpoints" / "10" / "MANIFEST.json").write_text(sealed(manifest))
    return run


FIRST, SECOND = "metrics/000000000-000000010.jsonl", "metrics/000000011-000000020.jsonl"


def replaced(name, old, new):
    return lambda run, other: (run / name).write_text((run / name).read_text().replace(old, new))


def copied(name):
    return lambda run, other: (run / name).write_bytes((other / name).read_bytes())


DAMAGES = {
    "an edited score": (replaced(SECOND, "3.8", "3.7"), f"{SECOND}: not as it was written (its hash differs)"),
    "an emptied segment": (lambda run, _: (run / FIRST).write_text(""), f"{FIRST}: not as it was written"),
    "a deleted segment": (lambda run, _: (run / FIRST).unlink(), f"{FIRST}: missing"),
    "an edited config": (replaced("config.json", "1000", "1001"), "config.json: damaged, or edited by hand"),
    "a config without a hash": (replaced("config.json", "sha256", "sha257"), "config.json: damaged, or edited"),
    "another run's config": (copied("config.json"), "config.json: belongs to run b, not to a"),
    "another run's end": (copied("DONE.json"), "DONE.json: belongs to run b, not to a"),
    "no config": (lambda run, _: (run / "config.json").unlink(), "config.json: not readable"),
    "a cut end": (lambda run, _: (run / "DONE.json").write_text("{"), "DONE.json: not a JSON object"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_left_out_and_named(tmp_path, damage):
    inflict, says = DAMAGES[damage]
    run, other = make(tmp_path, "a"), make(tmp_path, "b")
    inflict(run, other)
    table = runs_table.read(tmp_path)
    assert table.unique("run") == ["b"]
    [line] = table.left_out
    assert line.startswith("a: ") and says in line and "\n" not in line
    with pytest.raises(InputError, match="no run can be read: a: "):
        runs_table.read(run)


def test_a_finished_run_without_its_last_rows_is_left_out(tmp_path):
    """A listing that agrees with the files, but nothing was measured at the end."""
    make(tmp_path, "b")
    run = make(tmp_path, "a")
    text = segment(11, 20, (15,))
    (run / SECOND).write_text(text)
    done = json.loads((run / "DONE.json").read_text())
    done["metrics"]["000000011-000000020.jsonl"] = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "rows": 1}
    done.pop("sha256")
    (run / "DONE.json").write_text(sealed(done))
    assert "metrics: no row of its last step, 20" in runs_table.read(tmp_path).left_out[0]
    done["metrics"].popitem()
    (run / "DONE.json").write_text(sealed(done))
    assert "metrics: ends at step 10, but the run is done at step 20" in runs_table.read(tmp_path).left_out[0]


def test_of_an_unfinished_run_only_what_a_checkpoint_lists_is_read(tmp_path):
    run = make(tmp_path, "a", done=False)
    assert runs_table.read(tmp_path, unfinished=True)["step"].tolist() == [5, 10]
    replaced(FIRST, "3.9", "3.8")(run, None)
    with pytest.raises(InputError, match="its hash differs"):
        runs_table.read(tmp_path, unfinished=True)


def test_evaluations_hold_a_hash_and_are_listed(tmp_path):
    run, folder = make(tmp_path, "a"), tmp_path / "a" / "evaluations"
    row = {"step": 20, "tokens": 2000, "kind": "full", "task": "quiz", "metric": "acc", "value": 0.5, "n_docs": 9}
    folder.mkdir()
    good = sealed({"run_id": "a", "step": 20, "evaluation": "12", "rows": [row]})
    path = folder / "000000020-12.json"
    path.write_text(good)
    (folder / "INDEX.json").write_text(sealed({"run_id": "a", "files": [path.name]}))
    assert runs_table.read(run).select(task="quiz")["value"].tolist() == [0.5]
    for change, says in (
        (lambda: path.write_text(good.replace("0.5", "0.6")), "12.json: damaged, or edited by hand"),
        (lambda: path.write_text(good.replace('"a"', '"b"')), "12.json: damaged"),
        (path.unlink, "12.json: missing; evaluate again: ladder eval --missing"),
    ):
        change()
        with pytest.raises(InputError) as error:
            runs_table.read(run)
        assert says in str(error.value)
