"""The paper's methods against figures obtained with the paper's own scripts."""

import json

import numpy as np
import pytest

from fitting import paper, paper_study, table
from fitting.errors import InputError
from fitting.points import Target, targets_of


@pytest.fixture(scope="module")
def runs():
    from conftest import SHARED

    if not (SHARED / "olmo_ladder_runs.csv.gz").exists():
        pytest.skip("the paper's published runs are not beside the repository")
    read = table.read(SHARED / "olmo_ladder_runs.csv.gz")
    return read.select(read["metric"] != "loss")


@pytest.fixture(scope="module")
def expected():
    from conftest import SHARED

    return json.loads((SHARED / "task_ladder_expected.json").read_text())


@pytest.mark.parametrize(
    ("method", "bpb", "acc"),
    [("paper", "step1_pred_bpb", "chained_pred_acc"), ("paper-c", "flops_pred_bpb", "flops_chained_pred_acc"),
     ("paper-single", None, "single_step_pred_acc")],
)  # fmt: skip
def test_predictions_of_7b_4t_equal_the_papers(runs, expected, method, bpb, acc):
    [target] = targets_of(runs)
    flops = expected["tasks"]["mmlu_avg_test"]["7B-4T"]["C"]
    target = Target(target.name, target.n_params, target.tokens, flops)
    entries = paper.predict(runs, [target], None, method)
    assert len(entries) == 8
    for entry in entries:
        theirs = expected["tasks"][entry["task"]]["7B-4T"]
        if bpb:
            assert entry["bpb"] == pytest.approx(theirs[bpb], abs=1e-5)
        assert entry["acc"] == pytest.approx(theirs[acc], abs=1e-4 if method == "paper" else 1e-3)
    if method == "paper":
        error = [100 * abs(e["acc"] - expected["tasks"][e["task"]]["7B-4T"]["actual_acc"]) for e in entries]
        assert np.mean(error) == pytest.approx(3.816, abs=1e-3)


def test_variance_equals_the_papers(runs, expected):
    theirs = expected["variance_1.3B_10xC_last10"]
    rows = paper_study.variance(runs, "1B-10xC")
    assert len(rows) == 8
    for row in rows:
        of = theirs[f"{row['task']}_5shot"]
        for mine, name in (("bpb_sd", "loss_sd"), ("bpb_cv", "loss_cv"), ("acc_sd", "acc_sd"), ("acc_cv", "acc_cv")):
            assert row[mine] == pytest.approx(of[name], abs=1e-9)


def test_smaller_ladders_err_as_the_papers_do_where_they_determine_the_law(runs, expected):
    theirs = expected["compute_vs_error_7B-4T"]
    few = ["piqa_val", "csqa_val"]
    rows = paper_study.compute_versus_error(runs.select(task=few), targets_of(runs)[0])
    assert len(rows) == len(theirs) == 24 and sum(r["determined"] for r in rows) >= 14
    for row, of in zip(rows, theirs.values(), strict=True):
        if row["determined"]:
            assert row["points"] == pytest.approx(np.mean([of[f"{t}_5shot"]["chained_pts"] for t in few]), abs=0.1)


def test_what_a_method_lacks_is_said(runs):
    with pytest.raises(InputError, match="needs FLOPs: NAME=N,D,FLOPS"):
        paper.predict(runs, [Target("t", 1e9, 1e11)], ["piqa_val"], "paper-c")


def test_targets_and_extra_runs_enter_no_fit(runs):
    target = Target("7B-4T", 6.9e9, 3.9e12)
    for task in ("piqa_val",):
        all_rows = paper.predict(runs, [target], [task])
        train_only = paper.predict(runs.select(split="train"), [target], [task])
        assert all_rows == train_only
