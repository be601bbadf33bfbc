"""Reading, checking and writing runs tables, and run directories by the contract of DESIGN.md."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitting.errors import InputError
from fitting.tables import runs_table, spreadsheet

HEADER = "run,n_params,tokens,step,task,metric,value"
GOOD = [
    "a-1xC,1000,20000,10,validation,bpb,2.5",
    "a-1xC,1000,40000,20,validation,bpb,2.25",
    "b-1xC,2000,40000,20,validation,bpb,2.0",
]


def written(tmp_path, rows, header=HEADER, name="t.csv"):
    path = tmp_path / name
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_columns_and_the_final_row_of_each_run(tmp_path):
    t = runs_table.read(written(tmp_path, GOOD))
    assert len(t) == 3 and t["value"].tolist() == [2.5, 2.25, 2.0]
    assert t["final"].tolist() == [False, True, True]
    assert t["split"].tolist() == ["train"] * 3
    assert t.unique("run") == ["a-1xC", "b-1xC"]
    assert t.select(run="a-1xC", final=True)["step"].tolist() == [20]
    assert len(t.select(run=["a-1xC", "b-1xC"])) == 3


def test_a_trunk_has_no_final_row(tmp_path):
    rows = [GOOD[0] + ",trunk", GOOD[2] + ",branch"]
    assert runs_table.read(written(tmp_path, rows, HEADER + ",kind"))["final"].tolist() == [False, True]


def test_optional_numbers_may_be_absent_and_other_columns_are_kept(tmp_path):
    rows = [GOOD[0] + ",,x", GOOD[2] + ",100,"]
    t = runs_table.read(written(tmp_path, rows, HEADER + ",n_docs,note"))
    assert np.isnan(t["n_docs"][0]) and t["n_docs"][1] == 100
    assert t["note"].tolist() == ["x", ""]


CASES = [
    ("one column missing", "run,n_params,tokens,step,task,metric", ["a,1,1,1,t,bpb"], "t.csv:1: no column value"),
    ("column twice", HEADER + ",value", [GOOD[0] + ",1"], "t.csv:1: column 'value' appears twice"),
    ("no rows", HEADER, [], "no rows"),
    ("NaN", HEADER, [GOOD[0], "a-1xC,1000,40000,20,validation,bpb,nan"], "t.csv:3: value is 'nan'"),
    ("infinity", HEADER, ["a,1000,1,1,t,bpb,inf"], "t.csv:2: value is 'inf'"),
    ("text in a number", HEADER, [GOOD[0], "b,2k,1,1,t,bpb,1"], "t.csv:3: n_params is '2k', not a number"),
    ("empty value", HEADER, ["a,1000,1,1,t,bpb,"], "t.csv:2: value is empty"),
    ("empty task", HEADER, ["a,1000,1,1,,bpb,1"], "t.csv:2: task is empty"),
    ("D = 0", HEADER, ["a,1000,0,1,t,bpb,1"], "t.csv:2: tokens is 0; it must be positive"),
    ("N < 0", HEADER, ["a,-5,1,1,t,bpb,1"], "t.csv:2: n_params is -5"),
    ("duplicate", HEADER, [GOOD[0], GOOD[1], GOOD[0]], "t.csv:4: run=a-1xC, task=validation, metric=bpb, step=10"),
    ("too few fields", HEADER, [GOOD[0], "a,1,2"], "t.csv:3: 3 fields, the header has 7"),
    ("open quote", HEADER, [GOOD[0], 'a,"1'], "t.csv:3: not CSV"),
    ("two N", HEADER, [GOOD[0], "a-1xC,1001,1,1,t,bpb,1"], "t.csv:3: run 'a-1xC' has n_params 1000.0 and 1001.0"),
    ("bad split", HEADER + ",split", [GOOD[0] + ",test"], "t.csv:2: split is 'test'"),
    ("bad final", HEADER + ",final", [GOOD[0] + ",maybe"], "t.csv:2: final is 'maybe'"),
    ("bad n_docs", HEADER + ",n_docs", [GOOD[0] + ",many"], "t.csv:2: n_docs is 'many'"),
]


@pytest.mark.parametrize("header,rows,message", [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_what_is_wrong_and_where(tmp_path, header, rows, message):
    with pytest.raises(InputError) as error:
        runs_table.read(written(tmp_path, rows, header))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_files_that_are_no_tables(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        runs_table.read(tmp_path / "absent.csv")
    binary = tmp_path / "b.csv"
    binary.write_bytes(b"\xff\x00\xfe\x80" * 9)
    with pytest.raises(InputError, match="not readable as text"):
        runs_table.read(binary)
    cut = tmp_path / "c.csv.gz"
    cut.write_bytes(gzip.compress(HEADER.encode() * 50)[:-20])
    with pytest.raises(InputError, match="not readable as text"):
        runs_table.read(cut)


def test_json_lines_and_their_errors(tmp_path):
    names = HEADER.split(",")
    lines = [json.dumps(dict(zip(names, ["a", 1000, 20000, 10, "t", "bpb", v], strict=True))) for v in (2.5,)]
    path = tmp_path / "t.jsonl"
    path.write_text(lines[0] + "\n")
    assert runs_table.read(str(path))["value"].tolist() == [2.5]
    for bad, message in (
        (lines[0][:30], "t.jsonl:2: not a JSON object"),
        ("[1]", "t.jsonl:2: not a JSON object, but list"),
        ("[" * 100_000, "t.jsonl:2: not a JSON object"),
        (lines[0].replace("2.5", "NaN").replace("10,", "11,"), "t.jsonl:2: value is nan"),
        (lines[0].replace("2.5", "[1]").replace("10,", "11,"), "t.jsonl:2: value is '[1]', not a number"),
        (lines[0].replace("2.5", "true").replace("10,", "11,"), "t.jsonl:2: value is True, not a finite"),
    ):
        path.write_text(lines[0] + "\n" + bad + "\n")
        with pytest.raises(InputError) as error:
            runs_table.read(path)
        assert message in str(error.value) and "\n" not in str(error.value)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=6), st.integers(0, 200), st.booleans(), st.sampled_from(["t.csv", "t.jsonl", "t.csv.gz"]))
def test_damaged_tables_are_read_or_refused_in_one_line(tmp_path_factory, damage, at, replace, name):
    text = ("\n".join([HEADER, *GOOD]) + "\n").encode()
    raw = text[:at] + damage + text[at + (len(damage) if replace else 0) :]
    path = tmp_path_factory.mktemp("fuzz") / name
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    try:
        t = runs_table.read(path)
    except InputError as error:
        assert "\n" not in str(error) and name in str(error)
    else:
        assert np.isfinite(t["value"]).all() and (t["tokens"] > 0).all()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8),
            st.floats(min_value=0, allow_nan=False, allow_infinity=False),
        ),
        min_size=1,
        max_size=6,
        unique_by=lambda row: row[0],
    ),
    st.sampled_from(["t.csv", "t.csv.gz"]),
)
def test_written_tables_are_read_back(tmp_path_factory, rows, name):
    folder = tmp_path_factory.mktemp("round")
    lines = [
        json.dumps(dict(zip(HEADER.split(","), [run, 10**12 + 1, 5, 3, "t", "bpb", v], strict=True))) for run, v in rows
    ]
    (folder / "t.jsonl").write_text("\n".join(lines))
    first = runs_table.read(folder / "t.jsonl")
    runs_table.write(first, folder / name)
    second = runs_table.read(folder / name)
    for column in first.columns:
        np.testing.assert_array_equal(first[column], second[column])
    again = folder / f"again-{name}"
    runs_table.write(second, again)
    assert again.read_bytes() == (folder / name).read_bytes()


# Run directories


def make_run(folder, name, *, done=True, kind="branch", last=20, split="train", stopped=None):
    run = folder / name
    (run / "metrics").mkdir(parents=True)
    derived = {"size": "d8", "multiple": 1, "kind": kind, "parent": None, "seed": 0, "n_params": 1000}
    derived |= {"n_non_embedding": 900, "n_total": 1100, "flops_per_token": 6000, "tokens": 2000, "steps": last}
    derived |= {"batch_tokens": 100, "peak_lr": 0.01, "schedule": "wsd", "corpus": "abc", "lr_final_fraction": 0.1}
    config = {"schema_version": 1, "run_id": name, "ladder": "demo", "split": split, "derived": derived}
    (run / "config.json").write_text(json.dumps(config, indent=2))
    for first, final in ((1, 10), (11, last)):
        row = {"step": final, "tokens": 100 * final, "kind": kind, "task": "validation", "metric": "bpb"}
        row |= {"value": 3.0 - final / 100, "stderr": None, "n_docs": None, "evaluation": "0000000000000012"}
        (run / "metrics" / f"{first:09d}-{final:09d}.jsonl").write_text(json.dumps(row) + "\n")
    before = {"step": 0, "tokens": 0, "kind": kind, "task": "validation", "metric": "bpb", "value": 8.0}
    (run / "metrics" / "000000000-000000000.jsonl").write_text(json.dumps(before) + "\n")
    if done:
        (run / "DONE.json").write_text(json.dumps({"schema_version": 1, "step": last, "tokens": 100 * last}))
    if stopped:
        (run / "STOPPED.json").write_text(
            json.dumps({"schema_version": 1, "state": "diverged", "step": 7, "reason": "NaN"})
        )
    return run


def test_finished_run_directories_become_a_table(tmp_path):
    make_run(tmp_path, "d8-1xC-s0-aaaaaaaa")
    make_run(tmp_path, "d8-trunk-s0-bbbbbbbb", kind="trunk")
    make_run(tmp_path, "d8-2xC-s0-cccccccc", done=False)
    make_run(tmp_path, "d8-4xC-s0-dddddddd", done=False, stopped=True)
    make_run(tmp_path, "d32-1xC-s0-eeeeeeee", split="target", kind="full")
    (tmp_path / "report.html").write_text("not a run")
    t = runs_table.read(tmp_path)
    assert len(t) == 6  # the evaluation before the first step has no D
    assert t.select(final=True)["run"].tolist() == ["d32-1xC-s0-eeeeeeee", "d8-1xC-s0-aaaaaaaa"]
    assert t.select(run="d8-1xC-s0-aaaaaaaa")["flops"].tolist() == [6e6, 12e6]
    assert t.select(split="target").unique("run") == ["d32-1xC-s0-eeeeeeee"]
    assert t.left_out == (
        "d8-2xC-s0-cccccccc: not finished (no DONE.json)",
        "d8-4xC-s0-dddddddd: diverged at step 7",
    )
    runs_table.write(t, tmp_path / "t.csv")
    exported = runs_table.read(tmp_path / "t.csv")
    assert exported.sha256 == t.sha256
    np.testing.assert_array_equal(exported["final"], t["final"])
    assert exported.unique("evaluation") == ["0000000000000012"]


def test_evaluations_made_afterwards_are_read_where_they_have_no_fewer_docs(tmp_path):
    run = make_run(tmp_path, "d8-1xC-s0-aaaaaaaa")
    row = {"step": 20, "tokens": 2000, "kind": "full", "task": "quiz", "metric": "acc", "stderr": 0.1}
    with (run / "metrics" / "000000011-000000020.jsonl").open("a") as segment:
        for metric in ("acc", "soft"):
            segment.write(json.dumps(row | {"metric": metric, "value": 0.1, "n_docs": 50}) + "\n")
    (run / "evaluations").mkdir()
    for name, rows in {
        "000000020-1.jsonl": [("acc", 0.2, 100), ("len_norm", 0.3, 100)],
        "000000020-2.jsonl": [("acc", 0.4, 100), ("soft", 0.5, 49)],
        "000000020-3.jsonl": [("acc", 0.6, 10)],
    }.items():
        lines = [json.dumps(row | {"metric": m, "value": value, "n_docs": n}) for m, value, n in rows]
        (run / "evaluations" / name).write_text("".join(line + "\n" for line in lines))
    quiz = runs_table.read(tmp_path).select(task="quiz")
    assert dict(zip(quiz["metric"], quiz["value"], strict=True)) == {"acc": 0.4, "len_norm": 0.3, "soft": 0.1}
    assert quiz["final"].all() and set(quiz["flops"]) == {12e6}
    (run / "evaluations" / "000000020-4.jsonl").write_text('{"step": 20}\n')
    with pytest.raises(InputError, match=r"evaluations/000000020-4\.jsonl:1: no step, tokens or kind"):
        runs_table.read(tmp_path)


def test_one_run_directory_alone_is_a_table(tmp_path):
    assert runs_table.read(make_run(tmp_path, "d8-1xC-s0-aaaaaaaa")).unique("run") == ["d8-1xC-s0-aaaaaaaa"]


def test_folders_without_finished_runs_are_refused(tmp_path):
    with pytest.raises(InputError, match="no run directories"):
        runs_table.read(tmp_path)
    make_run(tmp_path, "d8-1xC-s0-aaaaaaaa", done=False)
    with pytest.raises(InputError, match="no finished run among 1 run directories"):
        runs_table.read(tmp_path)


@pytest.mark.parametrize(
    "file,content,message",
    [
        ("metrics/000000011-000000020.jsonl", '{"step": 20, "tok', "000000011-000000020.jsonl:1: not a JSON object"),
        ("metrics/000000011-000000020.jsonl", '{"step": 20}', "000000011-000000020.jsonl:1: no step, tokens or kind"),
        ("config.json", '{"schema_version": 1}', "config.json: no 'derived'"),
        ("config.json", "{}", "config.json: damaged, or edited by hand"),
        ("DONE.json", '{"schema_version": 1}', "DONE.json: damaged: step is None"),
        ("config.json", "{", "config.json: not a JSON object"),
        ("DONE.json", "", "DONE.json: not a JSON object"),
    ],
)
def test_damaged_run_directories_are_named(tmp_path, file, content, message):
    run = make_run(tmp_path, "d8-1xC-s0-aaaaaaaa")
    (run / file).write_text(content)
    with pytest.raises(InputError) as error:
        runs_table.read(tmp_path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_long_table_has_the_same_cells_checks_and_lines_as_a_short_one(tmp_path, monkeypatch):
    """Tables are parsed in blocks; a row that differs is parsed alone."""
    monkeypatch.setattr(spreadsheet, "_BLOCK", 64)
    lines = [f"r{i // 10},1e6,{1e7 + i % 10},{i % 10},piqa,bpb,{1 + i / 1000!r}" for i in range(400)]
    plain = runs_table.read(written(tmp_path, lines))
    assert plain["value"].tolist() == [1 + i / 1000 for i in range(400)] and plain["run"][-1] == "r39"
    others = {
        "line ends of Windows": "\r\n".join([HEADER, *lines]),
        "line ends of old Macs": "\r".join([HEADER, *lines]),
        "a quoted cell": "\n".join([HEADER, *lines[:200], lines[200].replace("piqa", '"piqa"'), *lines[201:]]),
        "empty rows": "\n".join([HEADER, *lines[:200], ",,,,,,", "", *lines[200:], "", ""]),
        "empty cells behind the end": "\n".join([HEADER, *lines[:200], lines[200] + ",,", *lines[201:]]),
        "blanks": "\n".join([HEADER, *lines[:200], lines[200].replace(",", " , "), *lines[201:]]),
    }
    for name, text in others.items():
        (tmp_path / "t.csv").write_bytes(text.encode())
        read = runs_table.read(tmp_path / "t.csv")
        assert all((read[column] == plain[column]).all() for column in plain.columns), name
    for wrong, said in (
        (lines[300] + ",7", "t.csv:302: 8 fields, the header has 7"),
        (lines[300].replace("1.3", "x"), "t.csv:302: value is 'x', not a number"),
        (lines[300].replace("1.3", "inf"), "t.csv:302: value is 'inf', not a finite number"),
        (lines[300].replace("1.3", ""), "t.csv:302: value is empty"),
        (lines[300].replace("1e6", "-1"), "t.csv:302: n_params is -1; it must be positive"),
        (lines[299], r"t.csv:302: run=r29, task=piqa, metric=bpb, step=9.0 appears twice \(first at .*t.csv:301\)"),
        (lines[309].replace("1e6", "2e6").replace(",9,", ",10,"), "t.csv:303: run 'r30' has n_params 2000000.0 and 1"),
    ):
        with pytest.raises(InputError, match=said):
            runs_table.read(written(tmp_path, [*lines[:300], wrong, *lines[301:]]))
