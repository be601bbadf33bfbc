"""Sealed forecasts: written once, compared with the truth later; whatever has been changed since is found."""

import hashlib
import json
import re

import pytest

import fitting
from fitting.forecasting.results import TaskForecast
from fitting.report import task_report
from ladder.errors import DamagedError, InputError
from launch import cli, sealed

HEADER = "run,n_params,tokens,step,task,metric,value,split\n"
TARGET = "big=64000000,1280000000"


def bpb(n, d):
    return 0.8 + 0.5 * (n / 1e6) ** -0.3 + 0.4 * (d / 2e7) ** -0.3


def rows(sizes, multiples, split):
    return [
        f"{n:.0e}-{m}xC,{n:.0f},{20 * n * m:.0f},100,{task},{metric},{value:.5f},{split}\n"
        for n in sizes
        for m in multiples
        for task, shift in (("one", 0.0), ("two", 0.01))
        for metric, value in (("bpb", bpb(n, 20 * n * m) + shift), ("acc", 1.3 - 0.5 * bpb(n, 20 * n * m)))
    ]


RUNS = rows((1e6, 2e6, 4e6, 8e6), (1, 2, 5), "train")
TRUTH = rows((64e6,), (1,), "target")


@pytest.fixture
def table(tmp_path, monkeypatch):
    """table(lines): a runs table of these lines in this folder."""
    monkeypatch.chdir(tmp_path)

    def write(lines, name="runs.csv"):
        (tmp_path / name).write_text(HEADER + "".join(lines))
        return name

    return write


@pytest.fixture
def pages(monkeypatch):
    """What was asked to be shown, [meta of each page], in place of pages, which take seconds."""
    asked = []
    monkeypatch.setattr(task_report, "report", lambda runs, prediction, path, meta: asked.append(meta))
    return asked


def test_a_sealed_forecast_is_shown_beside_the_truth(table, tmp_path, capsys, pages):
    seal = ["predict", table(RUNS), "--target", TARGET, "--bootstrap", "20", "--seal", "new/seal.json"]
    assert cli.main(seal) == 0
    raw = (tmp_path / "new/seal.json").read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    assert capsys.readouterr().out.endswith(f"before the target is trained: {digest}\n")
    value = json.loads(raw)
    asked = {"resamples": 20, "seed": 0, "tasks": None, "floor": "families"}
    assert value["measured_before"] == [] and value["settings"] == asked
    assert cli.main(seal) == 2 and "never written over" in capsys.readouterr().err
    assert (tmp_path / "new/seal.json").read_bytes() == raw

    report = ["report", table([*TRUTH, *reversed(RUNS)]), "--sealed", "new/seal.json"]
    assert cli.main(report) == 0
    out, [entry, _] = capsys.readouterr().out, value["forecast"]["predictions"]
    assert f"{entry['bpb']:.3f}" in out and f"{bpb(64e6, 1280e6):.3f}" in out and digest in out
    shown = pages[0]["sealed"]["entries"][0]
    assert (shown.bpb, list(shown.bpb_interval), shown.accuracy) == (entry["bpb"], entry["bpb_pi80"], entry["acc"])
    assert shown.measured_bpb == pytest.approx(bpb(64e6, 1280e6), abs=1e-5) and shown.measured_accuracy is not None

    table([RUNS[0].replace(",1.7", ",1.8"), *RUNS[1:], *TRUTH])
    assert cli.main(report) == 1
    assert "not those that the sealed forecast was made of" in capsys.readouterr().out
    assert cli.main([*report, "--seed", "1"]) == 2
    assert "--seed: no effect with --sealed" in capsys.readouterr().err
    (tmp_path / "new/seal.json").write_bytes(raw.replace(b'"bpb": 1.', b'"bpb": 2.'))
    assert cli.main(report) == 2
    err = capsys.readouterr().err
    assert err == "error: new/seal.json: damaged, or edited by hand: its content does not match the hash in it\n"


def test_the_page_shows_a_sealed_forecast_and_what_is_known_about_it():
    entry = TaskForecast("big", "one", 1.25, (1.2, 1.3), measured_bpb=1.27)
    page = task_report._sealed({"lines": ["sealed <today>"], "entries": [entry]}, "bpb")
    text = re.sub("<[^>]+>", " ", page)
    assert "The sealed forecast, and what was measured" in text and "Sealed &lt;today&gt;." in text
    assert all(number in text for number in ("1.250", "1.270", "-1.6%"))
    assert task_report._sealed(None, "bpb") == ""


@pytest.mark.slow
def test_the_whole_page_of_a_sealed_forecast(table, tmp_path):
    assert (
        cli.main(["predict", table([*RUNS, *TRUTH]), "--target", TARGET, "--bootstrap", "20", "--seal", "s.json"]) == 0
    )
    assert json.loads((tmp_path / "s.json").read_text())["measured_before"] == ["big"]
    assert cli.main(["report", "runs.csv", "--sealed", "s.json", "-o", "page.html"]) == 0
    text = re.sub("<[^>]+>", " ", (tmp_path / "page.html").read_text())
    section = text.partition("The sealed forecast, and what was measured")[2][:1500]
    assert "measured before the forecast was sealed: big" in section.lower() and f"{bpb(64e6, 1280e6):.3f}" in section


CHANGES = {
    "a value": [RUNS[0].replace(",1.7", ",1.8"), *RUNS[1:]],
    "a run less": RUNS[4:],
    "a run more": RUNS + rows((16e6,), (1,), "train"),
    "a run's split": [line.replace("train", "extra") for line in RUNS[:4]] + RUNS[4:],
    "a run's size": [line.replace(",1000000,", ",1000001,") for line in RUNS[:4]] + RUNS[4:],
}


def test_the_hash_of_the_runs_changes_with_any_run_and_not_with_the_truth(table):
    def digest(lines):
        return sealed.runs_hash(fitting.read_runs(table(lines)))

    before = digest(RUNS)
    assert digest([*RUNS, *TRUTH]) == digest([*TRUTH, *reversed(RUNS)]) == before
    others = {digest(lines) for lines in CHANGES.values()}
    assert len(others) == len(CHANGES) and before not in others


NO_SEALS = {"cut": b'{"a', "list": b"[1]", "no seal": b'{"schema_version": 1}', "text": b"\xff\xfe", "empty": b""}


@pytest.mark.parametrize("name", NO_SEALS)
def test_what_is_no_sealed_forecast_is_refused_in_one_line(name, tmp_path):
    path = tmp_path / "seal.json"
    with pytest.raises(InputError, match=r"cannot be read \(No such file"):
        sealed.read(path)
    path.write_bytes(NO_SEALS[name])
    with pytest.raises(DamagedError) as raised:
        sealed.read(path)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


def test_methods_without_intervals_are_not_sealed(table, capsys):
    arguments = ["predict", table(RUNS), "--target", TARGET, "--method", "paper", "--seal", "seal.json"]
    assert cli.main(arguments) == 2
    assert "--seal: no effect with --method paper" in capsys.readouterr().err
