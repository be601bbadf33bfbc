"""Which rows of a wide table are of one run, and how many independent units a result states."""

import numpy as np
import pytest

from fitting.errors import InputError
from fitting.tables import loss_points
from launch import cli
from tests.fitting.conftest import SHARED

CASES = SHARED.parent / "cases"


def wide(tmp_path, names, *, header="params,tokens,loss", size=lambda i: 10 + i, rows_each=5):
    """A table of 4 runs x rows_each checkpoints. names: {column: function of the run's number}."""
    lines = [",".join([*names, header])]
    for i in range(4):
        for k in range(rows_each):
            lines.append(
                ",".join([*(str(of(i)) for of in names.values()), f"{size(i)}e6,{k + 1}e9,{2 + i / 7 + k / 9:.6f}"])
            )
    path = tmp_path / "wide.csv"
    path.write_text("\n".join(lines))
    return path


def run(i):
    return f"r{i}"


# {case: (names of columns, the column used, units, text of a flag)}
UNITS = {
    "run": ({"run": run}, "run", 4, None),
    "run_name": ({"run_name": run}, "run_name", 4, None),
    "capitals and blanks": ({"Run ID": lambda i: i}, "Run ID", 4, None),
    "name": ({"lr": lambda i: 0.1, "Name": run}, "Name", 4, None),
    "parent, empty in one run": (
        {"parent": lambda i: "p" * (i > 1), "run": lambda i: "p" if i == 1 else run(i)}, "parent or run", 2, None),
    "another name": ({"series": run}, None, 20, "of the same series are checkpoints of one run, add --runs series"),
    "a setting": ({"optimizer": lambda i: "adam" if i % 2 else "muon"}, None, 20, None),
    "a number": ({"lr": lambda i: 0.1 * i}, None, 20, None),
    "no column": ({}, None, 20, None),
}  # fmt: skip


@pytest.mark.parametrize("name", UNITS)
def test_the_column_of_runs_is_recognised(tmp_path, name):
    names, unit, n_units, flag = UNITS[name]
    points = loss_points.read(wide(tmp_path, names))
    assert (points.unit, len(np.unique(points.groups_n))) == (unit, n_units)
    assert points.described.startswith(f"20 points of loss, {n_units} independent units")
    assert (flag in points.flags[0]) if flag else not points.flags


def test_names_that_do_not_repeat_or_stand_for_several_sizes_are_no_runs(tmp_path):
    one_each = wide(tmp_path, {"name": run}, rows_each=1)
    assert len(np.unique(loss_points.read(one_each).groups_n)) == 4
    sweep = wide(tmp_path, {"experiment": lambda i: f"e{i % 2}"})
    assert len(np.unique(loss_points.read(sweep).groups_n)) == 20


def test_the_column_can_be_named_or_refused(tmp_path):
    path = wide(tmp_path, {"series": run, "run": lambda i: i % 2})
    for given, n_units in (("series", 4), ("run", 2), ("none", 20)):
        assert len(np.unique(loss_points.read(path, units=given).groups_n)) == n_units
    with pytest.raises(
        InputError, match=r"wide\.csv:1: no column 'x' that names runs; its columns: series, run, params"
    ):
        loss_points.read(path, units="x")
    runs = tmp_path / "runs.csv"
    runs.write_text("run,n_params,tokens,step,task,metric,value\na,1,1,1,validation,bpb,1\n")
    with pytest.raises(InputError, match="a runs table; its column run says which rows are of one run") as error:
        loss_points.read(runs, units="run")
    assert error.value.argument == "groups"


def test_copies_of_rows_are_flagged(tmp_path):
    path = wide(tmp_path, {"run": run})
    lines = path.read_text().split("\n")
    path.write_text("\n".join([*lines, lines[3], lines[7]]))
    [flag] = loss_points.read(path).flags
    assert flag.startswith("2 rows repeat an earlier one") and f"{path}:22 is the same as {path}:4;" in flag


@pytest.mark.parametrize("word", ["", "N/A", "null"])
def test_rows_without_a_value_are_left_out_and_counted(tmp_path, word):
    path = wide(tmp_path, {"run": run})
    path.write_text(path.read_text() + f"\nr9,50,60,{word}\n")
    points = loss_points.read(path)
    assert len(points) == 20 and points.left_out == (f"1 of 21 points: no value of loss (first at {path}:22)",)
    path.write_text(path.read_text() + "r9,50,N/A,2.5\n")
    with pytest.raises(InputError, match=r"wide\.csv:23: tokens is 'N/A', not a number; drop the row"):
        loss_points.read(path)


def test_a_run_that_diverged_is_not_left_out_without_a_word(tmp_path):
    path = wide(tmp_path, {"run": run})
    path.write_text(path.read_text() + "\nr9,50,60,nan\n")
    with pytest.raises(InputError, match="loss is 'nan', not a finite number; drop the row"):
        loss_points.read(path)


def test_every_verb_states_the_independent_units(tmp_path, capsys):
    if not CASES.exists():
        pytest.skip("../shared/cases is not beside the repository")
    path = str(CASES / "rows-of-a-run-taken-as-independent" / "run_name.csv")
    assert cli.main(["allocate", path, "--approach", "1", "--budget", "1e19", "--bootstrap", "9"]) == 0
    assert "720 points of loss, 24 independent units (by column run_name)" in capsys.readouterr().out
    assert cli.main(["fit", path, "--runs", "x"]) == 2
    assert capsys.readouterr().err.endswith("(--runs)\n")


def test_checkpoints_named_otherwise_have_the_standard_errors_of_runs():
    if not CASES.exists():
        pytest.skip("../shared/cases is not beside the repository")
    folder = CASES / "rows-of-a-run-taken-as-independent"
    a, b = (loss_points.read(folder / name) for name in ("run.csv", "run_name.csv"))
    assert a.groups_n.tolist() == b.groups_n.tolist() and len(set(a.groups_n)) == 24
    assert a.described == "720 points of loss, 24 independent units (by column run)"


def test_the_row_without_a_value_of_the_strangers_table():
    if not CASES.exists():
        pytest.skip("../shared/cases is not beside the repository")
    points = loss_points.read(CASES / "tables-of-spreadsheets" / "not-available.csv")
    assert len(points) == 39 and "no value of loss" in points.left_out[0]
