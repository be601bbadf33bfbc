"""Predictions from simulated ladders: right, honest, flagged, and without peeking at the target."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fitting.errors import InputError
from fitting.forecasting import predict
from fitting.tables import comparable, points
from fitting.tables.points import Target


@pytest.fixture(scope="module")
def table(simulate):
    return simulate()


@pytest.fixture(scope="module")
def predicted(table):
    return predict.predict(table, n_resamples=20)


def entry(prediction, task):
    return next(e for e in prediction.tasks if e.task == task)


def altered(table, change):
    """The table with its columns changed in place on a copy."""
    columns = {k: v.copy() for k, v in table.columns.items()}
    change(columns)
    return replace(table, columns=columns)


def test_bpb_and_accuracy_of_the_target_are_predicted(table, predicted):
    entries = predict.with_measured(predicted, table)
    for e in entries:
        assert abs(e.error) < 0.03 and e.inside, e
        lo, hi = e.bpb_interval
        assert lo < e.bpb < hi and (hi - lo) / 2 < 0.06 * e.bpb
    quiz = next(e for e in entries if e.task == "quiz")
    assert abs(quiz.accuracy_error) < 3 and quiz.accuracy_inside
    assert entry(predicted, "validation").accuracy is None


def test_three_seeds_stay_within_3_percent_and_inside_on_most(simulate):
    entries = []
    for seed in (1, 2, 3):
        table = simulate(noise=0.005, seed=seed)
        entries += predict.with_measured(predict.predict(table, tasks=["validation"], n_resamples=20), table)
    good = [abs(e.error) < 0.03 and e.inside for e in entries]
    assert sum(good) >= 2 and len(good) == 3


def test_only_the_decayed_rows_of_the_ladder_are_fitted(table, predicted):
    assert len(predicted.points.runs) == 12
    assert not any("trunk" in run or "target" in run for run in predicted.points.runs)
    assert predicted.points.features["N"].tolist() == sorted(predicted.points.features["N"])
    assert len(set(predicted.points.groups_n)) == 4


def test_the_target_is_never_read_by_a_fit(table, predicted):
    targets = list(predicted.targets)

    def lie(columns):
        columns["value"][columns["split"] == "target"] *= 3

    again = predict.predict(altered(table, lie), targets, n_resamples=20)  # the same seed: the same resamples
    assert again.json() == predicted.json()


def test_undecayed_rows_do_not_move_step_1(table, predicted):
    def lie(columns):
        columns["value"][(columns["kind"] == "trunk") & (columns["task"] == "validation")] *= 2

    again = predict.predict(altered(table, lie), n_resamples=20)
    assert entry(again, "validation") == entry(predicted, "validation")


def test_the_json_is_plain_and_carries_what_a_report_must_state(predicted):
    out = json.loads(json.dumps(predicted.json(), allow_nan=False))
    assert out["schema_version"] == 1 and out["method"] == "default" and out["n_convention"] == "n_params"
    assert out["table_sha256"] == "0" * 64
    assert set(out["predictions"][0]) == {"target", "task", "bpb", "bpb_pi80", "acc", "acc_pi80", "flags"}
    for item in ("law", "objective", "priors", "solver", "runs_used", "resamples", "seed", "converged", "interval"):
        assert out["settings"][item] is not None, item
    assert out["settings"]["converged"] > 0.97
    assert out["settings"]["resamples"] == 20
    assert sum(out["settings"]["form_weights"].values()) == pytest.approx(1, abs=1e-3)
    assert [row["form"] for row in out["parameters"][:3]] == ["sum", "kaplan", "product"]
    for row in out["parameters"]:
        for name in ("alpha", "beta", "E"):
            value, lo, hi = row[name]
            assert lo <= hi and 0.5 * lo < value < 2 * hi


@pytest.mark.parametrize("factor, flagged", [(1.0, False), (5.0, False), (20.0, True), (1 / 8.64e19, True)])
def test_flops_that_are_not_within_a_factor_of_10_of_6nd_are_flagged(table, factor, flagged):
    """Such as PF-days in a column of FLOPs."""
    flops = {"flops": 6 * table["n_params"] * table["tokens"] * factor}
    e = entry(predict.predict(replace(table, columns=table.columns | flops), n_resamples=20), "quiz")
    assert any(comparable.FAR_FLOPS in flag and "d10000-1xC" in flag for flag in e.flags) == flagged


def test_another_seed_draws_other_resamples_and_leaves_the_forecast_alone(table, predicted):
    other, mine = predict.predict(table, n_resamples=20, seed=1).json(), predicted.json()
    assert other["predictions"] == mine["predictions"] and other["parameters"] != mine["parameters"]


def test_accuracy_at_chance_is_flagged_and_not_predicted(simulate):
    table = simulate(skilled=False, n_docs=200)
    quiz = entry(predict.predict(table, tasks=["quiz"], n_resamples=20), "quiz")
    assert quiz.accuracy == 0.25 and quiz.accuracy_interval is None and quiz.bpb_interval is not None
    assert any(flag.startswith("at chance: 0 of 12 runs") for flag in quiz.flags)


def test_accuracy_is_not_length_normalised_where_only_the_plain_one_is_above_chance(table):
    """As where choices differ by their length alone."""
    plain = entry(predict.predict(table, tasks=["quiz"], n_resamples=20), "quiz")
    of_quiz = table.select(task="quiz", metric="acc").columns
    guessing = of_quiz | {"metric": np.full_like(of_quiz["metric"], "len_norm"), "value": of_quiz["chance"]}
    both = {name: np.concatenate([table[name], guessing[name]]) for name in table.columns}
    predicted = predict.predict(replace(table, columns=both), tasks=["quiz"], n_resamples=20)
    assert entry(predicted, "quiz").accuracy == plain.accuracy and plain.accuracy_interval is not None
    law = predicted.step2["quiz"]
    assert law.metric == "acc" and law.chance.why.endswith("accuracy is acc, because len_norm is at chance")


def test_a_majority_above_chance_is_the_floor(table, simulate):
    def add(columns):
        columns["majority"] = np.where(columns["metric"] == "acc", 0.8, np.nan)

    quiz = entry(predict.predict(altered(table, add), tasks=["quiz"], n_resamples=20), "quiz")
    assert any("against 0.800" in flag for flag in quiz.flags) and quiz.accuracy_interval is None


def test_without_counts_of_documents_chance_is_said_to_be_untested(table):
    columns = {k: v for k, v in table.columns.items() if k not in ("n_docs", "chance")}
    quiz = entry(predict.predict(replace(table, columns=columns), tasks=["quiz"], n_resamples=20), "quiz")
    assert "chance not tested: the table has no n_docs and chance" in quiz.flags and quiz.accuracy_interval


def test_a_short_ladder_is_predicted_too(simulate):
    short = simulate(sizes=(26_000, 34_000, 45_000, 60_000))
    prediction = predict.predict(short, n_resamples=20)
    truth = points.measured(short, prediction.targets[0], "validation", "bpb")
    assert abs(entry(prediction, "validation").bpb / truth - 1) < 0.02


def test_few_runs_are_flagged_and_too_few_are_not_fitted(simulate):
    two_sizes = simulate(sizes=(10_000, 20_000))
    e = entry(predict.predict(two_sizes, tasks=["validation"], n_resamples=20), "validation")
    assert "few runs: 6 for a law of 5 parameters" in e.flags and e.bpb is not None
    three_runs = simulate(sizes=(10_000,))
    with pytest.raises(InputError, match="no task can be predicted: too few runs: 3 decayed runs; a forecast needs 4"):
        predict.predict(three_runs, tasks=["validation"], n_resamples=20)


def test_a_task_that_some_runs_lack_is_fitted_to_the_others(table):
    lost = (table["run"] == "d10000-1xC") & (table["task"] == "quiz")
    prediction = predict.predict(table.select(~lost), n_resamples=20)
    laws = [prediction.laws["target-2xC", task] for task in ("validation", "quiz")]
    assert [law.weights_Fn.shape[1] for law in laws] == [12, 11]


def test_far_targets_are_flagged_and_their_intervals_wider(table, predicted):
    far = predict.predict(table, [Target("far", 2e7, 1e9)], tasks=["validation"], n_resamples=20)
    e = entry(far, "validation")
    assert any(f.startswith("far extrapolation: 333 times the largest run's parameters") for f in e.flags)
    near = entry(predicted, "validation")
    assert np.diff(e.bpb_interval)[0] / e.bpb > 1.5 * np.diff(near.bpb_interval)[0] / near.bpb


def test_other_counts_of_parameters(table):
    def add(columns):
        columns["n_total"] = columns["n_params"] * 2

    doubled = altered(table, add)
    prediction = predict.predict(doubled, tasks=["validation"], n_convention="n_total", n_resamples=20)
    assert prediction.targets[0] == Target("target-2xC", 380_000, 7_600_000, n_is="n_total")
    assert prediction.json()["n_convention"] == "n_total"
    with pytest.raises(InputError, match="no count of parameters 'n_non_embedding'; it has n_params, n_total"):
        predict.predict(doubled, n_convention="n_non_embedding")
    with pytest.raises(InputError, match="its N is n_params, and the ladder's sizes are counted as n_total") as refused:
        predict.predict(doubled, [Target("t", 1e6, 1e6)], n_convention="n_total")
    assert refused.value.argument == "target"


def test_what_is_not_there_is_named(table):
    with pytest.raises(InputError, match="no target to predict") as refused:
        predict.predict(table.select(split="train"))
    assert refused.value.argument == "target"
    with pytest.raises(InputError, match="no task 'mmlu'; it has validation, quiz") as refused:
        predict.predict(table, tasks=["mmlu"])
    assert refused.value.argument == "tasks"
    with pytest.raises(InputError, match="runs decayed to their end"):
        predict.predict(table.select(kind="trunk"), [Target("t", 1e6, 1e6)])


@pytest.mark.parametrize(
    "text",
    (
        "7B",
        "7B,",
        "7B,x",
        ",",
        "7B,1,2",
        "7B=",
        "=1,2",
        "7B=1",
        "7B=a,b",
        "7B=1,-2",
        "7B=1,inf",
        "7B=1,nan",
        "7B=1,2,3,4",
    ),
)
def test_wrong_targets_are_refused(text):
    with pytest.raises(InputError, match="write N,D") as refused:
        points.parse_target(text)
    assert refused.value.argument == "target"


def test_targets_are_parsed():
    assert points.parse_target("7B-4T=6887575552,3945065873408") == Target("7B-4T", 6887575552, 3945065873408)
    assert points.parse_target("7B, 4T") == Target("7B-4T", 7e9, 4e12)
    assert points.parse_target("7B-4T=6.9e9,3.9e12,1.9e23") == Target("7B-4T", 6.9e9, 3.9e12, 1.9e23)


def test_a_given_target_finds_its_measurement_by_name_or_by_size(table):
    n, d = 190_000, 7_600_000
    assert points.measured(table, Target("target-2xC", 1, 1), "validation", "bpb") is not None
    assert points.measured(table, Target("mine", n * 1.001, d), "validation", "bpb") is not None
    assert points.measured(table, Target("mine", n * 1.1, d), "validation", "bpb") is None
    assert points.measured(table.select(split="train"), Target("mine", n, d), "validation", "bpb") is None
