"""A table with several ways to count N and C and two tunings, of a law whose optima are found by brute force."""

import csv
import json

import numpy as np
import pytest

from fitting.errors import InputError
from fitting.loss_laws import decomposition
from launch import cli

E, A, ALPHA, B, BETA = 1.7, 400.0, 0.34, 900.0, 0.34
BUDGETS = np.geomspace(1e17, 1e21, 5)
HEAD = 100.0  # the input embedding or the head of a model of N parameters has HEAD N^(2/3): vocabulary times width


def loss(n, d, tuning):
    """The law; one learning rate for all sizes costs those far from 3e8 parameters."""
    return (E + A / n**ALPHA + B / d**BETA) * (1 + 0.001 * np.log(n / 3e8) ** 2 * (tuning == "one rate"))


def without_head(n):
    return n - HEAD * n ** (2 / 3)


def optimum(c, tuning, budget):
    """Brute force: the N of the least loss that `budget`, as counted by budget(n, d), allows."""
    n = np.exp(np.linspace(np.log(3e6), np.log(3e11), 200_001))
    d = c / budget(n)
    return n[np.argmin(loss(n, d, tuning))]


def exponent(count, tuning, budget):
    at = [count(optimum(c, tuning, budget)) for c in BUDGETS]
    return np.polyfit(np.log(BUDGETS), np.log(at), 1)[0]


def write(path, rows):
    with open(path, "w", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def run(capsys, *arguments):
    assert cli.main(["allocate", *arguments]) == 0
    return capsys.readouterr().out


def test_isoflops_by_count_of_parameters_and_tuning(tmp_path, capsys):
    rng, rows = np.random.default_rng(0), []
    for tuning in ("one rate", "tuned"):
        for c in BUDGETS:
            best = optimum(c, tuning, lambda n: 6 * n)
            for n in best * np.geomspace(0.4, 2.5, 9):
                y = loss(n, c / (6 * n), tuning) * np.exp(0.0003 * rng.standard_normal())
                rows.append({"all": n, "blocks": without_head(n), "flops": c, "loss": y, "tuning": tuning})
    path, out = write(tmp_path / "grid.csv", rows), tmp_path / "out.json"
    shown = run(
        capsys, path, "--budget", "1e22", "--approach", "2", "--vary", "n=blocks,all", "tuning", "--bootstrap", "300",
        "--json", str(out),
    )  # fmt: skip
    result = json.loads(out.read_text())
    counts, true = {"blocks": without_head, "all": lambda n: n}, {}
    for cell in result["cells"]:
        of = cell["settings"]
        true[of["n"], of["tuning"]] = exponent(counts[of["n"]], of["tuning"], lambda n: 6 * n)
        lo, hi = cell["exponent_ci95"]
        assert cell["exponent"] == pytest.approx(true[of["n"], of["tuning"]], abs=0.015) and lo < cell["exponent"] < hi
    assert true["all", "tuned"] == pytest.approx(0.5, abs=1e-3)
    assert true["blocks", "tuned"] > 0.52 and true["all", "one rate"] < 0.49  # the choices matter
    by_count, by_tuning = result["moves"]
    a = true
    expected = (a["all", "one rate"] - a["blocks", "one rate"] + a["all", "tuned"] - a["blocks", "tuned"]) / 2
    assert by_count["moves"] == pytest.approx(expected, abs=0.01)
    total = a["all", "tuned"] - a["blocks", "one rate"]
    assert by_count["moves"] + by_tuning["moves"] == pytest.approx(result["total"])
    assert result["total"] == pytest.approx(total, abs=0.015)
    # The same runs counted twice: the difference is far better known than either exponent.
    width = {m["factor"]: m["moves_ci95"][1] - m["moves_ci95"][0] for m in result["moves"]}
    assert width["n"] < width["tuning"] / 3
    assert "one rate" in shown and "moves the exponent by" in shown


def test_envelopes_by_count_of_compute(tmp_path, capsys):
    """C = 6 N D of the blocks leaves out the head, which weighs most in small models."""
    rows = []
    for n in np.geomspace(1e7, 3e10, 40):
        for d in np.geomspace(1e8, 1e12, 60):
            of = {"run": f"{n:.4g}", "blocks": without_head(n), "all": n, "tokens": d}
            rows.append(of | {"flops": 6 * n * d, "loss": loss(n, d, "tuned")})
    path, out = write(tmp_path / "curves.csv", rows), tmp_path / "out.json"
    run(
        capsys, path, "--budget", "1e22", "--approach", "1", "--vary", "n=blocks,all", "c=6ND,flops", "--bootstrap",
        "20", "--json", str(out),
    )  # fmt: skip
    result = json.loads(out.read_text())
    counts = {"blocks": without_head, "all": lambda n: n}
    for cell in result["cells"]:
        count = counts[cell["settings"]["n"]]
        of_c = count if cell["settings"]["c"] == "6ND" else counts["all"]
        true = exponent(count, "tuned", lambda n, of_c=of_c: 6 * of_c(n))
        assert cell["exponent"] == pytest.approx(true, abs=0.02), cell
    assert sum(m["moves"] for m in result["moves"]) == pytest.approx(result["total"])


class Exponent(decomposition.Frontier):
    """A frontier of which only the exponent matters."""

    def __init__(self, a):
        super().__init__("", "", np.zeros(3), np.array([a, a, a]))


def test_moves_are_shapley_values_or_follow_the_given_order():
    factors = [decomposition.Factor(name, ("0", "1")) for name in ("n", "c", "tuning")]
    exponents = {"000": 0.88, "100": 0.80, "110": 0.62, "111": 0.50}
    path = {tuple(cell): Exponent(a) for cell, a in exponents.items()}
    moves = [m["moves"] for m in decomposition.moves(factors, path)]
    assert moves == pytest.approx([-0.08, -0.18, -0.12])
    additive = {tuple(f"{i:03b}"): Exponent(0.5 + i / 100) for i in range(8)}  # 4, 2 and 1 hundredths
    assert [m["moves"] for m in decomposition.moves(factors, additive)] == pytest.approx([0.04, 0.02, 0.01])
    twice = additive | {("1", "1", "0"): Exponent(0.5 + 0.06 + 0.06)}  # n and c together: more, shared by both
    n, c, tuning = (m["moves"] for m in decomposition.moves(factors, twice))
    assert n - 0.04 == pytest.approx(c - 0.02) and n + c + tuning == pytest.approx(0.07)
    assert decomposition.moves(factors, {k: v for k, v in path.items() if k != tuple("110")}) == []


@pytest.mark.parametrize("text", ["n", "n=params", "n=a,a", "tuning=a,b", ""])
def test_a_factor_that_is_no_choice_is_refused(text):
    with pytest.raises(InputError, match="write n=COLUMN,COLUMN") as error:
        decomposition.parse(text)
    assert error.value.argument == "vary"


def test_mistakes_are_said_in_one_line(tmp_path, capsys):
    path = write(tmp_path / "t.csv", [{"params": 1e8, "flops": 1e19, "loss": 3.0, "tuning": "a"}] * 2)
    for arguments, message in (
        (["--vary", "c=6ND,flops"], "for c= --approach 1 or 2"),
        (["--vary", "warmup"], "t.csv:1: no column 'warmup'; its columns: params, flops, loss, tuning (--vary)"),
        (["--vary", "tuning"], "column 'tuning' has one setting only"),
    ):
        assert cli.main(["allocate", path, "--budget", "1e20", *arguments]) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1
