"""The demo's order of things, with runs that follow a known law instead of being trained."""

import hashlib
import io
import json
import math
import re
import shutil
from dataclasses import replace

import pytest
from rich.console import Console

from ladder.errors import InputError
from ladder.rundir.files import sealed
from ladder.rundir.record import Record
from launch import cli, prepare
from launch.backends import local
from launch.demo import compute, flow, questions, seal
from launch.scheduler import foreground, status
from launch.scheduler.loop import Round

A, ALPHA, B, BETA, E = 40.0, 0.38, 300.0, 0.38, 0.9
NATS_PER_BIT = math.log(2)


def law(n, d):
    return A / n**ALPHA + B / d**BETA + E


def demo_of_two_sizes():
    ladder = flow.ladder_of("demo", 0, ())
    return replace(ladder, rungs=tuple(rung for rung in ladder.rungs if rung.size in ("d24", "d28")))


@pytest.fixture
def staged(tmp_path, monkeypatch):
    """demo.run on a stand-in corpus, with a backend that writes what the law says; notes what was there when."""
    trained = []

    def run(directories, console, backend, follow):
        for directory in directories:
            record = Record(directory)
            if record.is_done():
                continue
            config = record.read_config()
            d = config["derived"]
            trained.append((config["split"], any(directory.parent.glob("sealed-*.json")), backend.max_jobs))
            tokens = d["steps"] * d["batch_tokens"]
            bpb = law(d["n_params"], tokens)
            row = {"step": d["steps"], "tokens": tokens, "kind": d["kind"], "task": "validation", "stderr": None}
            rows = [row | {"metric": "bpb", "value": bpb, "n_docs": None}]
            if d["parent_step"]:
                record.rewind(d["parent_step"], origin=d["parent_step"], listing={})
            record.log(rows + [row | {"metric": "loss", "value": bpb * NATS_PER_BIT, "n_docs": None}])
            record.publish(d["steps"])
            record.finish(step=d["steps"], tokens=tokens, loss=bpb * NATS_PER_BIT)
        runs = {path.name: status.read_run(path) for path in directories}
        follow(Round(runs, {name: run.state for name, run in runs.items()}, ()))
        return foreground.Outcome(done=[path.name for path in directories])

    monkeypatch.setattr(foreground, "train", run)
    monkeypatch.setattr(prepare, "check_tasks", lambda ladder: None)
    monkeypatch.setattr(prepare, "build", lambda ladder, corpora: prepare.Built(ladder, {"": tmp_path}))
    monkeypatch.setattr(questions, "write", lambda built, asked, folder: ([], []))
    monkeypatch.setattr(flow, "RESAMPLES", 50)
    return tmp_path, trained


def test_the_forecast_is_sealed_before_the_target_is_trained(staged):
    root, trained = staged
    console = Console(file=io.StringIO(), width=200)
    ladder = flow.ladder_of("demo", 0, ())
    n = len(ladder.rungs)
    page = flow.run(ladder, root, root, console, at_once=2)
    assert trained == [("train", False, 2)] * n + [("target", True, 1)]

    [path] = (root / "demo").glob("sealed-*.json")
    contents = json.loads(path.read_text())
    found, [target] = contents["forecast"], contents["targets"]
    assert contents["measured_before"] == []
    entry = next(e for e in found["predictions"] if e["task"] == "validation")
    truth = law(target["n_params"], target["tokens"])
    assert entry["bpb"] == pytest.approx(truth, rel=0.005)
    assert entry["bpb_pi80"][0] <= truth <= entry["bpb_pi80"][1]

    # `ladder predict` on the demo's own table says the same again.
    table = str(root / "demo" / "rungs.csv.gz")
    asked = f"{target['name']}={target['n_params']:.0f},{target['tokens']:.0f}"
    again = ["predict", table, "--target", asked, "--bootstrap", "50", "--json", str(root / "again.json")]
    assert cli.main(again) == 0
    again = json.loads((root / "again.json").read_text())
    assert again["predictions"] == found["predictions"] and again["table_sha256"] == found["table_sha256"]

    stages = json.loads((root / "demo" / "stages.json").read_text())
    assert [stage["name"] for stage in stages["stages"]] == ["corpus", "rungs", "prediction", "target", "report"]
    assert stages["total_seconds"] == pytest.approx(sum(stage["seconds"] for stage in stages["stages"]), abs=0.01)
    assert page == root / "demo" / "report.html"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    shown = console.file.getvalue()
    assert "wall time" in shown and f"sealed in {path}" in shown
    assert (
        f"sealed before the target was trained, unchanged since: sha256 {digest[:12]}..." in shown
        and digest in page.read_text()
    )

    # The page of its progress shows the same forecast, and what the target measures.
    shown = (root / "demo" / "status.html").read_text()
    lo, hi = entry["bpb_pi80"]
    assert f"<b>{entry['bpb']:.3f}</b> bits per byte (80 % interval {lo:.3f} to {hi:.3f})" in shown
    assert f"The target measures {truth:.4f}" in shown and 'href="report.html"' in shown
    assert str(root / "demo" / "status.html") in console.file.getvalue()

    # Again: nothing is trained, and the seal stays.
    flow.run(flow.ladder_of("demo", 0, ()), root, root, console)
    assert len(trained) == n + 1
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


def test_a_seal_stays_when_the_rungs_change_and_one_of_a_trained_target_says_so(staged, monkeypatch, capsys):
    root, trained = staged
    monkeypatch.setattr(flow, "_report", lambda *_: None)
    console, ladder = Console(file=io.StringIO(), width=300), demo_of_two_sizes()
    flow.run(ladder, root, root, console)
    path, target = seal.path_of(ladder, root / "demo"), ladder.targets[0].run_id
    before = path.read_bytes()
    shutil.rmtree(root / "demo" / ladder.rungs[-1].run_id)
    monkeypatch.setitem(globals(), "E", 0.91)  # trained again, by other code
    flow.run(ladder, root, root, console)
    assert path.read_bytes() == before
    said = "are not those that the sealed forecast was made of"
    assert capsys.readouterr().out.count(said) == 1 and f"{said}: sha256" in console.file.getvalue()
    path.unlink()
    flow.run(ladder, root, root, console)
    assert json.loads(path.read_text())["measured_before"] == [target]
    assert "sealed after the target was trained, unchanged since" in console.file.getvalue()
    assert [split for split, *_ in trained].count("target") == 1


def test_other_runs_in_the_folder_do_not_enter(staged):
    """A run of another text lies there with absurd numbers."""
    root, _ = staged
    ladder = flow.ladder_of("demo", 0, ())
    [stray] = prepare.write(prepare.Built(ladder, {"": root}), ladder.rungs[-1:], root)
    stray.rename(stray.with_name("stray"))
    record = Record(stray.with_name("stray"))
    config = json.loads((record.directory / "config.json").read_text()) | {"run_id": "stray"}
    config.pop("sha256")
    (record.directory / "config.json").write_text(sealed(config))
    steps = config["derived"]["steps"]
    row = {"step": steps, "tokens": 167936, "kind": "branch", "task": "validation", "metric": "bpb", "value": 99.0}
    first = config["derived"]["parent_step"]
    record.rewind(first, origin=first, listing={})
    record.log([row | {"stderr": None, "n_docs": None}])
    record.publish(steps)
    record.finish(step=steps, tokens=167936, loss=60.0)
    flow.run(ladder, root, root, Console(file=io.StringIO()))
    found = json.loads(seal.path_of(ladder, root / "demo").read_text())["forecast"]
    assert "stray" not in found["settings"]["runs_used"]
    assert len(found["settings"]["runs_used"]) == sum(rung.kind == "branch" for rung in ladder.rungs)


@pytest.mark.parametrize("platforms, cores, runs", [("cpu", 2, 2), ("cpu", 64, 4), ("tpu", 64, 1), ("", 2, 1)])
def test_runs_share_the_cores_but_no_accelerator(monkeypatch, platforms, cores, runs):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert local.runs_at_once() == runs


def test_a_diverged_run_ends_the_demo_with_78(staged, monkeypatch, capsys):
    root, _ = staged
    monkeypatch.setattr(foreground, "train", lambda *_: foreground.Outcome(diverged=["d16-trunk"]))
    assert cli.main(["demo", "--root", str(root)]) == 78
    assert "d16-trunk" in capsys.readouterr().err


def test_every_seed_and_every_text_has_its_own_runs():
    ladders = [
        flow.ladder_of("demo", 0, ()),
        flow.ladder_of("demo", 1, ()),
        flow.ladder_of("demo-quick", 2, ("a.txt",)),
    ]
    assert [ladder.name for ladder in ladders] == ["demo", "demo-s1", "demo-quick-s2"]
    assert {rung.data.text for rung in ladders[2].all} == {("a.txt",)}


@pytest.mark.parametrize(
    ("asked", "command"),
    [
        (("demo", 0, ()), "ladder demo"),
        (("demo-quick", 3, ()), "ladder demo --quick --seed 3"),
        (("demo-full", 0, ("my notes",)), "ladder demo --full --text 'my notes'"),
        (("forecast", 1, ("a.txt",)), "ladder demo --forecast --seed 1 --text a.txt"),
    ],
)
def test_the_report_says_how_to_get_it_again(asked, command):
    assert flow._command(flow.ladder_of(*asked)) == command


def test_a_forecast_stands_beside_a_law_of_compute(staged):
    root, trained = staged
    console = Console(file=io.StringIO(), width=120)
    page = flow.run(flow.ladder_of("forecast", 0, ()), root, root, console, against_compute=True)
    shown = console.file.getvalue()
    assert "validation at 100 times the compute of the largest rung" in shown
    [row] = [line for line in shown.splitlines() if "law of compute" in line and "E" not in line and "%" in line]
    assert re.search(r"[+-]\d+\.\d%", row)
    assert "<h2>Against compute</h2>" in page.read_text()
    assert page.with_name("compute.png").stat().st_size > 10_000
    assert trained[-1][:2] == ("target", True)


@pytest.mark.parametrize("spare", [0, -1])
def test_a_forecast_refuses_text_that_its_target_would_read_twice(spare):
    ladder = flow.ladder_of("forecast", 0, ())
    [target] = ladder.targets
    windows = target.steps * target.batch_sequences + spare
    built = prepare.Built(ladder, {}, windows={target.data.corpus: windows})
    if spare == 0:
        return compute.check_text(built)
    with pytest.raises(InputError, match="add text"):
        compute.check_text(built)


def test_the_kinds_of_a_demo_exclude_each_other(capsys):
    assert cli.main(["demo", "--forecast", "--quick"]) == 2
    assert "--forecast" in capsys.readouterr().err
