"""ladder fit as a user calls it."""

import json

import numpy as np
import pytest

from launch import cli, terminal


@pytest.fixture
def table(tmp_path):
    """Thirty runs of a known law with 0.2 % of noise, tokens given as FLOPs."""
    rng = np.random.default_rng(0)
    n, ratio = np.geomspace(1e7, 1e10, 30), rng.uniform(5, 100, 30)
    loss = (1.8 + 400 / n**0.34 + 1500 / (ratio * n) ** 0.36) * np.exp(0.002 * rng.standard_normal(30))
    rows = [f"{a:.6g},{6 * a * a * r:.6g},{b:.6g}" for a, r, b in zip(n, ratio, loss, strict=True)]
    path = tmp_path / "wide.csv"
    path.write_text("\n".join(["size,flops,nats", *rows]) + "\n")
    return str(path)


def test_fit_writes_what_programs_read_and_draws_what_people_see(table, tmp_path, capsys):
    out, plot = tmp_path / "fit.json", tmp_path / "fit.png"
    arguments = ["fit", table, "--n", "size", "--y", "nats", "--huber", "1e-2", "--bootstrap", "300"]
    assert cli.main([*arguments, "--json", str(out), "--plot", str(plot)]) == 0
    read = json.loads(out.read_text())
    contract = "schema_version law params se ci95 objective n_points n_resamples converged seconds settings"
    assert set(contract.split()) <= set(read) and set(read["seconds"]) == {"compile", "run"}
    assert (read["law"], read["n_points"], read["n_resamples"]) == ("chinchilla", 30, 300)
    for name, true in {"E": 1.8, "alpha": 0.34, "beta": 0.36}.items():
        assert abs(read["params"][name] - true) < 4 * read["se"][name]
        assert read["ci95"][name][0] < read["params"][name] < read["ci95"][name][1]
    assert plot.read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert "D = C / (6 N)" in shown and "nats * parameters^alpha" in shown


def test_what_is_no_number_is_null_for_programs():
    of = {"se": {"A": float("nan")}, "ci95": [(float("-inf"), 1.0)], "n": 3, "law": "power-n"}
    assert json.loads(terminal.to_json_text(of)) == {
        "schema_version": 1, "se": {"A": None}, "ci95": [[None, 1.0]], "n": 3, "law": "power-n",
    }  # fmt: skip


def test_a_users_mistake_is_one_line_and_exit_code_2(table, tmp_path, capsys):
    columns = ["--n", "size", "--y", "nats"]
    for arguments, message, flag in (
        (["--n", "size"], "no column 'loss' for y; its columns: size, flops, nats", "--y"),
        (["--n", "sise", "--y", "nats"], "no column 'sise' for N; its columns: size, flops, nats", "--n"),
        ([*columns, "--law", "chinchila"], "no law of the loss is called 'chinchila'; there are: chinchilla", "--law"),
        ([*columns, "--huber", "0"], "Huber's threshold is 0; it must be positive", "--huber"),
        ([*columns, "--bootstrap", "1"], "1 resamples: a standard error needs at least 2", "--bootstrap"),
        ([*columns, "--bootstrap", "9", "--plot", str(tmp_path / "a.xyz")], "cannot be written", None),
    ):
        assert cli.main(["fit", table, *arguments]) == 2
        err = capsys.readouterr().err
        assert message in err and err.startswith("error: ") and err.count("\n") == 1
        assert flag is None or err.endswith(f" ({flag})\n")


def test_a_table_is_held_against_published_constants(tmp_path, capsys):
    n, d = np.meshgrid(np.geomspace(1e6, 1e9, 5), np.geomspace(1e8, 1e10, 5))
    said = ((6.4e13 / n) ** (0.076 / 0.103) + 1.8e13 / d) ** 0.103  # Kaplan et al. 2020, Table 2
    rows = [f"{a},{b},{1.02 * c}" for a, b, c in zip(n.ravel(), d.ravel(), said.ravel(), strict=True)]
    path, out = tmp_path / "wide.csv", tmp_path / "said.json"
    path.write_text("\n".join(["params,tokens,loss", *rows]) + "\n")
    arguments = ["fit", str(path), "--law", "kaplan-nd", "--published"]
    assert cli.main([*arguments, "kaplan", "--json", str(out)]) == 0
    assert "25 points lie +2.0% (median" in capsys.readouterr().out
    assert json.loads(out.read_text())["ratio"] == pytest.approx(1.02)
    assert cli.main([*arguments, "hoffmann"]) == 2
    err = capsys.readouterr().err
    assert "published no 'kaplan-nd'" in err and err.endswith(" (--published)\n")
    assert cli.main(["fit", str(path), "--law", "kaplan-ns", "--published", "kaplan"]) == 2
    assert "kaplan-ns needs S_min" in capsys.readouterr().err


def test_allocate_says_what_to_train(table, tmp_path, capsys):
    out, plot = tmp_path / "allocate.json", tmp_path / "allocate.svg"
    arguments = ["allocate", table, "--n", "size", "--y", "nats", "--budget", "1e21", "1e23", "--bootstrap", "100"]
    assert cli.main([*arguments, "--json", str(out), "--plot", str(plot)]) == 0
    read = json.loads(out.read_text())
    assert [row["flops"] for row in read["allocations"]] == [1e21, 1e23] and read["approach"] == "3: parametric"
    for row in read["allocations"]:
        low, high = row["n_params_ci95"]
        assert low < row["n_params"] < high and row["n_params"] * row["tokens"] * 6 == pytest.approx(row["flops"])
    assert "<svg" in plot.read_text() and "tokens per parameter" in capsys.readouterr().out
    assert cli.main(["allocate", "--published", "kaplan", "--budget", "1e21"]) == 0
    assert "tokens of a batch" in capsys.readouterr().out
    for wrong, message in (
        (["allocate", "--budget", "1e21"], "give a TABLE, or --published NAME"),
        (["allocate", table, "--published", "kaplan", "--budget", "1"], "give a TABLE, or --published NAME"),
        ([*arguments, "--approach", "2"], "0 budgets with a minimum between their sizes"),
        ([*arguments, "--approach", "1"], "no interior minimum"),
        ([*arguments, "--critical-batch", "2e8"], "--critical-batch '2e8': write B_STAR,ALPHA_B"),
    ):
        assert cli.main(wrong) == 2
        assert message in capsys.readouterr().err


def test_extrapolate_says_what_cannot_be_told_yet(tmp_path, capsys):
    """(Predictions are tested in tests/fitting/loss_laws/test_learning_curves.py.)"""
    of_run = "r1,1000,cosine,600,20,0,0.1,64,train,loss"
    header = "run,n_params,schedule,steps,warmup_steps,decay_steps,lr_final_fraction,batch_tokens,task,metric,n_docs"
    path, out, plot = tmp_path / "runs.csv", tmp_path / "ends.json", tmp_path / "ends.png"
    lines = [f"{of_run},{docs},{step},{64 * step},{5 - step / 100}" for step, docs in ((30, 10), (60, 20), (90, 20))]
    path.write_text("\n".join([f"{header},step,tokens,value", *lines]) + "\n")
    assert cli.main(["extrapolate", str(path), "--json", str(out), "--plot", str(plot)]) == 0
    read = json.loads(out.read_text())
    assert [flag.split(":")[1] for flag in read["flags"]] == [" r1 is scored on 10 and 20 docs"]
    [end] = read["ends"]
    assert (end["run"], end["steps"], end["predicted"], end["why"]) == ("r1", 600, None, "too little of it is known")
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "so the error of these predictions is unknown" in capsys.readouterr().out
    assert cli.main(["extrapolate", str(path), "--metric", "bpb"]) == 2
    assert "no rows of task 'train' with metric 'bpb'" in capsys.readouterr().err
