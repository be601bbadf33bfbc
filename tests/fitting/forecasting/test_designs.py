"""Designs that people use, and tables that are not whole: forecast with the width that follows, or one line."""

import json

import numpy as np
import pytest

import fitting
from launch import cli

HEADER = "run,n_params,tokens,step,task,metric,value"
TARGET = (7e9, 1.4e11)


def loss(n, d):
    """Hoffmann et al. 2022, table A.3."""
    return 1.69 + 406.4 * n**-0.34 + 410.7 * d**-0.28


def accuracy(value):
    return 0.25 + 0.7 / (1 + np.exp(5 * (value - 2.6)))


def isoflop():
    """Four budgets, each run its own size."""
    return [(n, c / 6 / n) for c in (1e18, 3e18, 1e19, 3e19) for n in np.geomspace(0.5, 2, 5) * (c / 120) ** 0.5]


DESIGNS = {
    "isoflop": isoflop(),
    "fixed tokens per parameter": [(n, 20 * n) for n in np.geomspace(5e7, 1.6e9, 8)],
    "one length": [(n, 1.4e11) for n in np.geomspace(5e7, 1.6e9, 7)],
    "two sizes": [(n, r * n) for n in (2e8, 8e8) for r in (10, 20, 40, 80)],
    "few runs": [(n, r * n) for n in (2e8, 8e8) for r in (20, 40)],
}


def written(path, runs, values, metric="bpb", task="text"):
    lines = [
        f"r{i},{n:.0f},{d:.0f},1,{task},{metric},{v:.6f}"
        for i, ((n, d), v) in enumerate(zip(runs, values, strict=True))
    ]
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return str(path)


def predicted(path, tmp_path, target=TARGET):
    """(exit code, entries of the JSON) of ladder predict."""
    out = tmp_path / "pred.json"
    code = cli.main(
        ["predict", path, "--target", f"T={target[0]:.0f},{target[1]:.0f}", "--bootstrap", "2", "--json", str(out)]
    )
    return code, json.loads(out.read_text())["predictions"] if out.exists() else []


@pytest.mark.parametrize("name", DESIGNS)
def test_designs_that_people_use_are_forecast(name, tmp_path):
    runs = DESIGNS[name]
    noise = np.exp(0.002 * np.random.default_rng(0).standard_normal(len(runs)))
    path = written(tmp_path / "t.csv", runs, [loss(n, d) * z for (n, d), z in zip(runs, noise, strict=True)])
    code, [entry] = predicted(path, tmp_path)
    lo, hi = entry["bpb_pi80"]
    assert code == 0 and abs(entry["bpb"] / loss(*TARGET) - 1) < 0.04
    assert lo * 0.985 < loss(*TARGET) < hi * 1.015


def test_what_the_runs_do_not_determine_widens_the_interval_and_is_said(tmp_path):
    runs = DESIGNS["one length"]
    path = written(tmp_path / "t.csv", runs, [loss(n, d) for n, d in runs])
    _, [near] = predicted(path, tmp_path)
    _, [far] = predicted(path, tmp_path, (7e9, 4e12))
    width = [(e["bpb_pi80"][1] - e["bpb_pi80"][0]) / e["bpb"] for e in (near, far)]
    assert width[1] > 3 * width[0]
    assert any("how the loss falls with tokens is the prior's, not the runs'" in flag for flag in far["flags"])
    assert any("the runs do not determine the law at the target" in flag for flag in far["flags"])


def test_diverged_runs_are_left_out_and_named(tmp_path):
    runs = [(n, r * n) for n in np.geomspace(1e8, 8e8, 4) for r in (20, 40, 80)]
    values = np.array([loss(n, d) for n, d in runs])
    _, [clean] = predicted(written(tmp_path / "clean.csv", runs, values), tmp_path)
    values[[4, 8]] *= 1.6
    _, [diverged] = predicted(written(tmp_path / "t.csv", runs, values), tmp_path)
    assert abs(diverged["bpb"] / clean["bpb"] - 1) < 0.004
    named = [flag for flag in diverged["flags"] if "diverged" in flag]
    assert len(named) == 2 and "r4 (loss 52% above" in named[0] and "r8 (loss 54% above" in named[1]
    assert not any("diverged" in flag for flag in clean["flags"])


@pytest.mark.parametrize("least, most", [(0.0, 0.9), (0.3, 1.0)])
def test_accuracies_of_0_and_1_are_data(least, most, tmp_path):
    runs = [(n, r * n) for n in np.geomspace(1e8, 8e8, 4) for r in (20, 40, 80)]
    values = np.array([loss(n, d) for n, d in runs])
    accs = accuracy(values)
    accs[values.argmax()], accs[values.argmin()] = least, most
    lines = [
        f"r{i},{n:.0f},{d:.0f},1,quiz,{m},{v:.6f}"
        for i, (n, d) in enumerate(runs)
        for m, v in (("bpb", values[i]), ("acc", accs[i]))
    ]
    (tmp_path / "t.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    code, [entry] = predicted(str(tmp_path / "t.csv"), tmp_path)
    assert code == 0 and 0 <= entry["acc_pi80"][0] < entry["acc"] < entry["acc_pi80"][1] <= 1


def test_accuracy_alone_gets_the_direct_law(tmp_path):
    """-ln of the accuracy above chance falls as a power of N and D."""
    runs = [(n, r * n) for n in np.geomspace(1e8, 8e8, 4) for r in (20, 40, 80)]

    def direct(n, d):
        return 0.25 + 0.75 * np.exp(-(60 * n**-0.25 + 70 * d**-0.22))

    path = written(tmp_path / "t.csv", runs, [direct(n, d) for n, d in runs], "acc", "arc_easy")
    code, [entry] = predicted(path, tmp_path)
    assert code == 0 and entry["bpb"] is None and entry["acc"] == pytest.approx(direct(*TARGET), abs=0.02)
    assert entry["acc_pi80"][0] < entry["acc"] < entry["acc_pi80"][1] and list(entry["acc_routes"]) == ["direct"]
    assert "accuracy by the direct law of N and D alone" in entry["flags"]


REFUSED = {
    "the same run again and again": ([(1e9, 2e10)] * 8, "have the same parameters and tokens"),
    "three runs": ([(1e8, 2e9), (2e8, 4e9), (4e8, 8e9)], "too few runs: 3 decayed runs; a forecast needs 4"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_where_nothing_is_predicted_the_exit_code_is_2(name, tmp_path, capsys):
    runs, message = REFUSED[name]
    path = written(tmp_path / "t.csv", runs, [loss(n, d) for n, d in runs])
    assert predicted(path, tmp_path)[0] == 2
    err = capsys.readouterr().err
    assert message in err and "no task can be predicted" in err and err.count("\n") == 1


def test_a_task_that_is_left_out_is_named_with_its_reason(tmp_path):
    runs = DESIGNS["two sizes"]
    path = tmp_path / "t.csv"
    written(path, runs, [loss(n, d) for n, d in runs])
    with path.open("a") as file:
        file.writelines(f"r{i},{n:.0f},{d:.0f},1,gen,f1,0.4\n" for i, (n, d) in enumerate(runs))
    _, entries = predicted(str(path), tmp_path)
    assert [e["task"] for e in entries] == ["text", "gen"]
    assert entries[1]["flags"] == ["not predicted: it has only f1, no bpb or accuracy"]


def test_losses_as_a_wide_table_and_as_arrays_are_one_forecast(tmp_path, capsys):
    runs = DESIGNS["isoflop"]
    n, d = np.array(runs).T.round()
    rows = [f"{a:.0f},{b:.0f},{float(loss(a, b))!r}" for a, b in zip(n, d, strict=True)]
    (tmp_path / "wide.csv").write_text("\n".join(["params,tokens,loss", *rows]) + "\n")
    code, [entry] = predicted(str(tmp_path / "wide.csv"), tmp_path)
    assert code == 0 and entry["task"] == "loss" and "bits per byte" not in capsys.readouterr().out
    target = fitting.Target("T", *TARGET)
    of_arrays = fitting.forecast(N=n, D=d, y=loss(n, d), targets=[target], resamples=2)["T", "loss"]
    assert of_arrays.bpb == pytest.approx(entry["bpb"])
    assert list(of_arrays.bpb_interval) == pytest.approx(entry["bpb_pi80"])
    with pytest.raises(fitting.InputError, match="give runs, or the arrays N, D and y of runs"):
        fitting.forecast(N=n, targets=[target])


def test_checkpoints_of_a_wide_table_are_not_runs(tmp_path):
    """Of the rows of one run the last is its end; the others do not enter step 1."""
    runs = [(n, r * n) for n in np.geomspace(1e8, 8e8, 4) for r in (20, 40)]
    rows = [
        f"run{i},{n:.0f},{share * d:.0f},{loss(n, share * d) * (1.2 if share < 1 else 1):.6f}"
        for i, (n, d) in enumerate(runs) for share in (0.25, 0.5, 1)
    ]  # fmt: skip
    (tmp_path / "wide.csv").write_text("\n".join(["run,params,tokens,loss", *rows]) + "\n")
    _, [entry] = predicted(str(tmp_path / "wide.csv"), tmp_path)
    assert entry["bpb"] == pytest.approx(loss(*TARGET), rel=0.03)
