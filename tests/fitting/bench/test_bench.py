"""`ladder bench` on small simulated families: what is compared, scored and calibrated."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fitting.bench import calibrate, cases, rows, summaries
from fitting.bench.cases import Case
from fitting.bench.rows import Row
from fitting.errors import InputError
from fitting.report import bench_report
from launch import cli

FAMILIES = ("one", "two", "three")


def losses(n, d, family: str):
    """A sum of powers, with other constants in each family."""
    shift = FAMILIES.index(family)
    return (1.5 + 0.1 * shift) + 300 * n**-0.33 + (400 + 50 * shift) * d**-0.29


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three families of 12 runs, each with two hidden runs at 16 and 64 times the compute."""
    where, rng = tmp_path_factory.mktemp("families"), np.random.default_rng(0)
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(1e8, 4e8, 3), np.geomspace(2e9, 1.6e10, 4)))
    hidden = [(1.6e9, 6.4e10, "target"), (3.2e9, 1.28e11, "target")]
    for family in FAMILIES:
        lines = ["run,n_params,tokens,step,task,metric,value,split"]
        runs = [(a, b, "train") for a, b in zip(n, d, strict=True)] + hidden
        for i, (a, b, split) in enumerate(runs):
            value = losses(a, b, family) * np.exp(0.003 * rng.standard_normal())
            lines.append(f"r{i},{a:.0f},{b:.0f},1,text,bpb,{value:.6f},{split}")
        (where / f"{family}-x16.csv").write_text("\n".join(lines) + "\n")
    index = [{"name": f"{family}-x16", "family": family, "inrun": family == "three"} for family in FAMILIES]
    (where / "index.json").write_text(json.dumps(index))
    return where


@pytest.fixture(scope="module")
def forecast(folder):
    return [row for case in cases.cases(folder) for row in rows.rows(case)]


def test_every_hidden_run_is_forecast_beside_the_other_methods(forecast):
    assert [(row.case.family, row.run) for row in forecast] == [(f, f"r{i}") for f in FAMILIES for i in (12, 13)]
    for row in forecast:
        assert abs(row.error) < 0.03 and abs(row.error) < 1.5 * row.half and row.distance > 2
        assert set(row.others) == {"penalised", "last value", "chinchilla", "law of C", "paper"}
        assert abs(row.others["chinchilla"]) < 0.03  # these families follow it
        assert row.others["last value"] > 0.05 and abs(row.others["penalised"] - row.error) < 0.02


def test_the_last_value_is_that_of_the_largest_fitted_run(folder, forecast):
    table = [line.split(",") for line in (folder / "one-x16.csv").read_text().splitlines()[1:]]
    largest = max(table[:12], key=lambda cells: float(cells[1]) * float(cells[2]))
    expected = np.log(float(largest[6]) / float(table[12][6]))
    assert forecast[0].others["last value"] == pytest.approx(expected)


def row(family: str, error: float, half: float, noise=0.01, improvement=0.1) -> Row:
    case = Case(family, family, None)
    return Row(case, "t", "r", "loss", error, half, {"last value": 2 * error}, noise, improvement)


def test_families_weigh_the_same_and_the_constant_width_is_of_the_others():
    many = [row("a", 0.01, 0.02)] * 9 + [row("a", 0.05, 0.02)] + [row("b", 0.03, 0.02)] * 2
    a, b, mean = summaries.summaries(many, "loss")
    assert (a.coverage, b.coverage, mean.coverage) == (0.9, 0.0, pytest.approx(0.45))
    assert a.medians == {"default": pytest.approx(1.0), "last value": pytest.approx(2.0)}
    assert mean.medians["default"] == pytest.approx((1 + 3) / 2)
    assert b.score == pytest.approx(100 * (2 * 0.02 + 10 * 0.01))  # Gneiting and Raftery 2007, equation 43
    assert (a.constant[1], b.constant[1]) == (pytest.approx(6.0), pytest.approx(2.0))


def test_ranges_of_distance_hold_their_decayed_runs():
    at = [("a", 5, 0.01), ("a", 9, 0.03), ("b", 20, 0.01), ("a", 1000, 0.05)]  # family, times the compute, error
    decayed = [replace(row(family, error, 0.02), distance=np.log(times)) for family, times, error in at]
    undecayed = replace(decayed[0], case=Case("a", "a", None, in_run=True))
    grid = bench_report.by_distance("loss", summaries.by_distance([*decayed, undecayed], "loss"))
    assert [name for name, _ in grid.columns] == ["family", "under 10", "10 to 30", "over 100"]
    assert [list(cells) for cells in grid.rows] == [
        ["a", "50% of 2", "", "0% of 1"], ["b", "", "100% of 1", ""],
        ["median error", "2.00", "1.00", "5.00"], ["mean width", "4.0", "4.0", "4.0"],
    ]  # fmt: skip


def test_reliability_of_normal_errors_is_the_level():
    rng = np.random.default_rng(0)
    sd = 0.01
    errors = [row(family, sd * z, 1.2815515655 * sd) for family in "ab" for z in rng.standard_normal(4000)]
    for level, held in summaries.reliability(errors):
        assert held == pytest.approx(level, abs=0.02)


def test_the_constants_of_simulated_errors_are_found():
    """Student errors with 4 degrees of freedom, whose scale is that of half-widths 1.5 noise and 0.2 improvement."""
    rng, simulated = np.random.default_rng(0), []
    for family in "abcd":
        for _ in range(1500):
            noise, improvement = rng.uniform(0.002, 0.03), rng.uniform(0.01, 0.3)
            scale = np.hypot(1.5 * noise, 0.2 * improvement) / 1.533  # the 90 % quantile
            simulated.append(row(family, scale * rng.standard_t(4), 1.0, noise, improvement))
    found = calibrate.calibrate(simulated)
    assert found["noise"] == pytest.approx(1.5, rel=0.1) and found["improvement"] == pytest.approx(0.2, rel=0.1)
    assert found["families"] == list("abcd") and found["targets"] == 6000
    assert np.mean(list(found["leave_family_out_coverage"].values())) == pytest.approx(0.8, abs=0.01)
    with pytest.raises(InputError, match="2 families of decayed runs: the constants need 3"):
        calibrate.calibrate([r for r in simulated if r.case.family in "ab"])


def test_the_command_writes_tables_a_page_and_the_docs(folder, tmp_path, capsys):
    page, docs, out = tmp_path / "bench.html", tmp_path / "forecasts.md", tmp_path / "bench.json"
    docs.write_text(f"before\n{bench_report.BEGIN}\nold\n{bench_report.END}\nafter\n")
    options = ["-o", str(page), "--markdown", str(docs), "--json", str(out)]
    assert cli.main(["bench", str(folder), *options]) == 0
    shown = capsys.readouterr().out
    assert "one" in shown and "mean of the families" in shown
    text = docs.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "\nold\n" not in text
    assert "| one | 1 | 2 |" in text and "calibration.json" in text and "study" in text
    assert (tmp_path / "forecasts-reliability.png").read_bytes().startswith(b"\x89PNG")
    assert "Reliability" in page.read_text() and len(json.loads(out.read_text())["rows"]) == 6


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("index.json", '[{"name": "gone", "family": "f"}]', "names 'gone', but there is no gone.csv.gz beside it"),
        ("t.csv", "run,n_params,tokens,step,task,metric,value\nr,1e8,1e9,1,t,bpb,3\n", 'no row has split "target"'),
        ("notes.txt", "", "no table (.csv, .csv.gz, .jsonl) to forecast"),
        ("index.json", "{", "index.json"),
        ("index.json", '[{"name": 3}]', "index.json"),
    ],
)
def test_wrong_folders_are_one_line(tmp_path, capsys, name, content, message):
    (tmp_path / name).write_text(content)
    assert cli.main(["bench", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
