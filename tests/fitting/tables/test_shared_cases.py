"""Tables of strangers that once got a wrong answer without a word (../shared/cases): the right value, or one line."""

import numpy as np
import pytest

from fitting.bhagia2024 import methods
from fitting.errors import InputError
from fitting.tables import loss_points, points, runs_table
from fitting.tables.points import Target
from tests.fitting.conftest import SHARED

BIG = Target("big", 7e10, 1e12)


@pytest.fixture
def case():
    def find(name: str):
        if not (SHARED.parent / "cases").exists():
            pytest.skip("../shared/cases is not beside the repository")
        return SHARED.parent / "cases" / name

    return find


def law(read, e, a, alpha, b, beta):
    return e + a / read.features["N"] ** alpha + b / read.features["D"] ** beta


def test_of_checkpoints_joined_to_a_run_the_last_is_its_end(case):
    read = loss_points.read(case("checkpoints-exported-one-by-one/joined.csv"), task="wikitext")
    assert len(read) == 12 == len(set(read.groups_n))
    np.testing.assert_allclose(read.y_n, law(read, 0.5, 40, 0.3, 60, 0.3), rtol=1e-12)
    [line] = read.left_out
    assert line.startswith("24 rows as ends of 12 runs: marked final before the last step of their run")


def test_a_validation_before_the_last_step_has_its_own_tokens(case):
    path = case("validation-not-at-the-last-step/runs.csv")
    read = loss_points.read(path, task="val", metric="loss")
    assert len(read) == 8 and read.features["D"].min() == 0.98 * 4e8
    np.testing.assert_allclose(read.y_n, law(read, 1.7, 400, 0.34, 1200, 0.36), rtol=1e-12)
    assert read.flags == (f"val: {points.EARLY}",)
    assert loss_points.read(path, task="train", metric="loss").features["D"].min() == 4e8


def test_a_table_without_bpb_says_what_it_has_and_what_reads_it(case, monkeypatch):
    runs = runs_table.read(case("metric-absent-blamed-on-decay/acc_only.csv"))
    with pytest.raises(InputError, match=r"no metric 'bpb'; it has acc\. .*ladder predict") as error:
        points.ladder_points(runs, None, "n_params")
    assert "decayed" not in str(error.value)
    # The real fit takes many seconds (it has five parameters for eight points); here the mean stands for it.
    mean = lambda features, acc_n, chance: methods.Fit({}, lambda x: acc_n.mean() * len(features["N"]) / 8)  # noqa: E731
    monkeypatch.setattr(methods, "single_step", mean)
    [entry] = methods.predict(runs, [BIG], method="paper-single")
    assert entry.task == "arc" and entry.accuracy == pytest.approx(0.475)


def test_accuracy_in_percent_is_refused(case):
    with pytest.raises(InputError, match=r"runs\.csv:3: acc is 41\.9323; it must lie between 0 and 1 \(percent\?"):
        runs_table.read(case("accuracy-in-percent/runs.csv"))


HEADER = "run,n_params,tokens,step,task,metric,value"
TABLES = {  # header, rows, split or task asked for, message
    "only early rows": (HEADER, ["a,1,1,9,v,bpb,1", "a,1,2,10,t,bpb,1"], "v", "no 'v' near the end of a run: a has it"),
    "the metric is early": (
        HEADER, ["a,1,1,9,t,bpb,1", "a,1,2,10,t,loss,1"], "t", "at step 9 of 10, not in the last 3%"),
    "another metric": (HEADER, ["a,1,1,9,t,loss,1"], "t", "no metric 'bpb'; it has loss"),
    "nothing final": (HEADER + ",final", ["a,1,1,9,t,bpb,1,false"], "t", 'no final row in split "train"'),
    "no task": (HEADER, ["a,1,1,9,t,bpb,1"], "v", "no task 'v'; it has t"),
    "only targets": (HEADER + ",split", ["a,1,1,9,t,bpb,1,target"], "t", 'no row in split "train"'),
    "checkpoints without steps": (
        HEADER, ["a,1,1,0,t,bpb,1", "a,1,2,0,v,bpb,1"], "t", ":3: run 'a' has 1 and 2 tokens at step 0; give every"),
    "percent": (HEADER, ["a,1,1,1,t,len_norm,50"], "t", ":2: len_norm is 50; it must lie between 0 and 1"),
    "chance in percent": (HEADER + ",chance", ["a,1,1,1,t,acc,0.5,25"], "t", ":2: chance is 25; it must lie"),
    "f1 in percent": (HEADER, ["a,1,1,1,t,f1,45.3"], "t", ":2: f1 is 45.3; it must lie between 0 and 1 (percent?"),
    "negative": (HEADER, ["a,1,1,1,t,acc,-0.5"], "t", ":2: acc is -0.5"),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_what_a_table_lacks(tmp_path, name):
    header, rows, task, message = TABLES[name]
    (tmp_path / "t.csv").write_text("\n".join([header, *rows]))
    with pytest.raises(InputError) as error:
        points.ladder_points(runs_table.read(tmp_path / "t.csv"), [task], "n_params")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_rows_after_the_last_final_row_are_stated_and_do_not_move_the_end_of_a_run(tmp_path):
    rows = ["a,1,1,100,t,bpb,2,true", "a,1,2,200,t,bpb,1,false", "b,2,1,100,t,bpb,3,false", "b,2,2,200,t,bpb,2,true"]
    (tmp_path / "t.csv").write_text("\n".join([HEADER + ",final", *rows]))
    runs = runs_table.read(tmp_path / "t.csv")
    reason = "later than the last row of their run that is marked final"
    assert runs.left_out == (f"1 rows as ends of 1 run: {reason} (first at {tmp_path}/t.csv:3)",)
    ends = points.ladder_points(runs, None, "n_params")
    assert ends.features["D"].tolist() == [1, 2] and ends.bpb_Tn.tolist() == [[2, 2]]


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_rows_does_not_matter(tmp_path, order):
    rows = ["a,1,1,9,t,bpb,1,true", "a,1,2,10,t,bpb,2,true", "b,1,3,10,t,bpb,3,true", "b,1,1,5,t,bpb,9,false"]
    (tmp_path / "t.csv").write_text("\n".join([HEADER + ",final", *rows[::order]]))
    ends = points.ladder_points(runs_table.read(tmp_path / "t.csv"), None, "n_params")
    assert ends.runs == ("a", "b") and ends.features["D"].tolist() == [2, 3] and ends.bpb_Tn.tolist() == [[2, 3]]
