"""The paper's methods against figures obtained with the paper's own scripts."""

import json

import numpy as np
import pytest

from fitting.bhagia2024 import error_analysis, methods
from fitting.errors import InputError
from fitting.tables.points import Target, targets_of


@pytest.fixture
def expected(shared):
    return json.loads(shared("task_ladder_expected.json").read_text())


@pytest.mark.parametrize(
    ("method", "bpb", "acc"),
    [("paper", "step1_pred_bpb", "chained_pred_acc"), ("paper-c", "flops_pred_bpb", "flops_chained_pred_acc"),
     pytest.param("paper-single", None, "single_step_pred_acc", marks=pytest.mark.proof)],
)  # fmt: skip
def test_predictions_of_7b_4t_equal_the_papers(published, expected, method, bpb, acc):
    [target] = targets_of(published)
    flops = expected["tasks"]["mmlu_avg_test"]["7B-4T"]["C"]
    target = Target(target.name, target.N, target.D, flops)
    entries = methods.predict(published, [target], None, method)
    assert len(entries) == 8
    for entry in entries:
        theirs = expected["tasks"][entry.task]["7B-4T"]
        if bpb:
            assert entry.bpb == pytest.approx(theirs[bpb], abs=1e-5)
        assert entry.accuracy == pytest.approx(theirs[acc], abs=1e-4 if method == "paper" else 1e-3)
    if method == "paper":
        error = [100 * abs(e.accuracy - expected["tasks"][e.task]["7B-4T"]["actual_acc"]) for e in entries]
        assert np.mean(error) == pytest.approx(3.816, abs=1e-3)


@pytest.mark.slow
def test_a_single_step_from_n_and_d_to_accuracy_equals_the_papers(published, expected):
    [entry] = methods.predict(published, targets_of(published), ["arc_easy_test"], "paper-single")
    theirs = expected["tasks"]["arc_easy_test"]["7B-4T"]["single_step_pred_acc"]
    assert entry.bpb is None and entry.accuracy == pytest.approx(theirs, abs=1e-3)


def test_variance_equals_the_papers(published, expected):
    theirs = expected["variance_1.3B_10xC_last10"]
    rows = error_analysis.variance(published, "1B-10xC")
    assert len(rows) == 8
    for row in rows:
        of = theirs[f"{row['task']}_5shot"]
        for mine, name in (("bpb_sd", "loss_sd"), ("bpb_cv", "loss_cv"), ("acc_sd", "acc_sd"), ("acc_cv", "acc_cv")):
            assert row[mine] == pytest.approx(of[name], abs=1e-9)


def assert_errs_as_the_papers(published, theirs: list, smaller: list, tasks: list) -> None:
    """Where the runs do not determine the law, the paper's figure is one of those that rounding gives."""
    rows = error_analysis.compute_versus_error(published.select(task=tasks), targets_of(published)[0], smaller)
    for row, expected in zip(rows, theirs, strict=True):
        points = np.mean([expected[f"{task}_5shot"]["chained_pts"] for task in tasks])
        low, high = row["points_range"] or (row["points"], row["points"])
        assert low - 0.1 <= points <= high + 0.1, row["ladder"]


def test_smaller_ladders_err_as_the_papers_do(published, expected):
    theirs, smaller = [*expected["compute_vs_error_7B-4T"].values()], error_analysis.ladders(published)
    assert len(smaller) == len(theirs) == 24
    determined = [i for i, (_, _, is_determined, *_) in enumerate(smaller) if is_determined]
    assert len(determined) >= 14
    some = determined[::4]
    assert_errs_as_the_papers(published, [theirs[i] for i in some], [smaller[i] for i in some], ["csqa_val"])


@pytest.mark.proof
def test_all_smaller_ladders_err_as_the_papers_do(published, expected):
    pairs = [*zip(expected["compute_vs_error_7B-4T"].values(), error_analysis.ladders(published), strict=True)]
    for tasks, is_determined in ((["piqa_val", "csqa_val"], True), (["csqa_val"], False)):
        theirs, smaller = zip(*(pair for pair in pairs if pair[1][2] == is_determined), strict=True)
        assert_errs_as_the_papers(published, theirs, [*smaller], tasks)


@pytest.mark.parametrize(
    "targets,message",
    [
        ([Target("t", 1e9, 1e11)], "target t: the method paper-c needs its FLOPs: NAME=N,D,FLOPS"),
        ([], "no target to predict: name one"),
    ],
)
def test_what_a_method_lacks_is_said(published, targets, message):
    with pytest.raises(InputError, match=message) as error:
        methods.predict(published, targets, ["piqa_val"], "paper-c")
    assert error.value.argument == "target"


def test_targets_and_extra_runs_enter_no_fit(published):
    target = Target("7B-4T", 6.9e9, 3.9e12)
    for task in ("piqa_val",):
        all_rows = methods.predict(published, [target], [task])
        train_only = methods.predict(published.select(split="train"), [target], [task])
        assert all_rows == train_only


def test_tasks_at_chance_are_left_out_of_the_errors_of_accuracy(simulate):
    for skilled in (True, False):
        table = simulate(skilled=skilled, n_docs=200)
        [target] = targets_of(table)
        assert set(error_analysis.at_chance(table)) == (set() if skilled else {"quiz"})
        smaller = error_analysis.ladders(table)[-1:]
        assert bool(list(error_analysis.compute_versus_error(table, target, smaller))) == skilled
