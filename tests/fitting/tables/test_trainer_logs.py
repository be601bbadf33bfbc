"""Logs of MaxText, OLMo-core and Levanter, in the form that their code writes, become a runs table.

The lines were written for these tests, with values of our own, after common/metric_logger.py of MaxText 0.2.5,
train/callbacks/metric_saver.py and console_logger.py of OLMo-core 3.0.0 and tracker/json_logger.py of Levanter (2026).
"""

import json
import math

import pytest

from fitting.errors import InputError
from fitting.tables import importers, runs_table

N, BATCH, STEPS = 190_354_176, 524_288, 4
FACTS = {
    "run": "190M-1xC", "split": "train", "size": "190M", "multiple": 1, "seed": 0, "n_params": N,
    "n_non_embedding": 113_246_208, "n_total": 267_424_512, "tokens": STEPS * BATCH, "steps": STEPS,
    "batch_tokens": BATCH, "schedule": "cosine", "peak_lr": 1e-3, "lr_final_fraction": 0.1, "warmup_steps": 1,
    "decay_steps": None,
}  # fmt: skip
LOSSES = (10.5, 9.25, 8.125, 7.0625)  # of the four updates, exact as three decimals too


@pytest.fixture
def folder(tmp_path):
    """A folder as `ladder plan --emit` leaves it, with two runs."""
    runs = [FACTS, FACTS | {"run": "7B-4T", "split": "target", "n_params": 6_887_575_552, "batch_tokens": 4 * BATCH}]
    (tmp_path / "emitted.json").write_text(json.dumps({"schema_version": 1, "runs": runs}))
    return tmp_path


def maxtext_lines(z_loss: float = 0.5, run: str = "190M-1xC") -> str:
    """metrics_file: one object an update, numbers as floats, lm_loss with the z-loss in it; an evaluation after the
    second update."""
    lines = []
    for step, loss in enumerate(LOSSES):
        scalars = {"learning/loss": loss + z_loss, "learning/lm_loss": loss + z_loss, "learning/z_loss": z_loss}
        scalars |= {
            "learning/perplexity": math.exp(loss),
            "learning/total_weights": 524288.0,
            "learning/moe_lb_loss": 0,
        }
        scalars |= {"perf/step_time_seconds": 1.5, "learning/current_learning_rate": 1e-3}
        lines.append(scalars | {"step": float(step), "run_name": run})
        if step == 1:
            scalars = {
                "eval/total_loss": 1e6,
                "eval/total_weights": 1e5,
                "eval/avg_loss": 10.0,
                "eval/avg_z_loss": 0.25,
            }
            lines.append(scalars | {"step": float(step), "run_name": run})
    return "".join(json.dumps(line) + "\n" for line in lines)


def maxtext_console() -> str:
    head = "I1128 10:00:00.000000 139 "
    lines = [
        "pyconfig.py:300] Config param run_name: 190M-1xC",
        "metric_logger.py:425] number parameters: 0.267 billion",
    ]
    for step, loss in enumerate(LOSSES):
        lines.append(
            f"metric_logger.py:250] completed step: {step}, seconds: 1.500, TFLOP/s/device: 80.123, Tokens/s/device: "
            f"10922.667, total_weights: 524288, loss: {loss:.3f}, lm_loss: {loss:.3f}, perplexity: {math.exp(loss):.3f}"
        )
    lines.append(
        "metric_logger.py:289] Completed eval after train step 1, loss=9.750, perplexity=17154.229, total_weights=1e5"
    )
    return "\n".join(head + line for line in lines)


def losses(table, task: str = "train") -> list[tuple]:
    rows = table.select(task=task, metric="loss")
    return list(zip(rows["step"].tolist(), rows["tokens"].tolist(), rows["value"].tolist(), strict=True))


EXPECTED = [(i + 1, (i + 1) * BATCH, loss) for i, loss in enumerate(LOSSES)]


def check_facts(table) -> None:
    """N, D and FLOPs by our conventions; the last update is the end of the run; what a table holds is read back."""
    assert set(table["n_params"]) == {N} and set(table["n_total"]) == {267_424_512.0}
    assert (table["flops"] == 6 * table["n_params"] * table["tokens"]).all()
    assert set(table["step"][table["final"]]) == {STEPS} and set(table["split"]) == {"train"}


def test_metrics_file_of_maxtext(folder, tmp_path):
    (folder / "190M-1xC.metrics.jsonl").write_text(maxtext_lines())
    table = importers.maxtext([folder], {})
    check_facts(table)
    assert losses(table) == EXPECTED
    assert losses(table, "validation") == [(2, 2 * BATCH, 9.75)]
    assert any("learning/perplexity" in line for line in table.left_out)
    runs_table.write(table, tmp_path / "out.csv")
    assert losses(runs_table.read(tmp_path / "out.csv")) == EXPECTED


def test_console_of_maxtext_and_that_the_exact_value_counts(folder):
    (folder / "log.txt").write_text(maxtext_console())
    table = importers.maxtext([folder / "log.txt"], {})
    check_facts(table)
    assert losses(table) == [(step, tokens, round(loss, 3)) for step, tokens, loss in EXPECTED]
    assert losses(table, "validation") == [(2, 2 * BATCH, 9.75)]
    assert any("three decimals" in line for line in table.left_out)
    (folder / "a.metrics.jsonl").write_text(maxtext_lines())
    assert losses(importers.maxtext([folder], {})) == EXPECTED


def test_a_resumed_and_a_cut_off_log_of_maxtext(folder):
    """After a preemption the file goes on at an earlier step; the last line may be cut off."""
    text = maxtext_lines()
    again = text.splitlines()[-1].replace("7.5625", "7.75")
    (folder / "m.jsonl").write_text(f'{text}{again}\n{{"learning/loss": 7.')
    table = importers.maxtext([folder], {})
    assert losses(table)[-1] == (4, 4 * BATCH, 7.25)
    assert any("stand twice" in line for line in table.left_out) and any("cut off?" in line for line in table.left_out)
    (folder / "m.jsonl").write_text("\n".join(text.splitlines()[:3]))
    table = importers.maxtext([folder], {})
    assert not table["final"].any() and any("ends at step 2 of 4" in line for line in table.left_out)


def save_olmo_core(folder) -> None:
    """metrics_stepN.json of two steps; the second repeats the evaluation of the first, and has one of its own."""
    folder.mkdir()
    first = {
        "train/CE loss": 9.25,
        "train/PPL": 10404.6,
        "throughput/total tokens": 2 * BATCH,
        "optim/LR (group 0)": 1e-3,
    }
    evals = {
        "eval/lm/c4_en-validation/CE loss": 9.5,
        "eval/lm/c4_en-validation/PPL": 13359.7,
        "eval/downstream/arc_easy_test_rc_5shot (accuracy)": 0.25,
        "eval/downstream/arc_easy_test_rc_5shot (accuracy v2)": 0.28,
        "eval/downstream/arc_easy_test_rc_5shot (length-normalized accuracy v2)": 0.27,
        "eval/downstream/arc_easy_test_rc_5shot (BPB v2)": 1.75,
        "eval/downstream/arc_easy_test_rc_5shot (soft loss v2)": 0.9,
    }
    later = {"train/CE loss": 7.0625, "throughput/total tokens": 4 * BATCH}
    later |= {"eval/downstream/arc_easy_test_rc_5shot (BPB v2)": 1.5}
    (folder / "metrics_step2.json").write_text(json.dumps(first | evals))
    (folder / "metrics_step4.json").write_text(json.dumps(first | evals | later))
    (folder / "metrics.json").write_text(json.dumps(first | evals | later))


def test_metric_files_of_olmo_core(folder):
    save_olmo_core(folder / "190M-1xC")
    table = importers.olmo_core([folder], {})
    check_facts(table)
    assert losses(table) == [EXPECTED[1], EXPECTED[3]]
    assert losses(table, "c4_en-validation") == [(2, 2 * BATCH, 9.5)]  # not that of step 2 again
    task = table.select(task="arc_easy_test_rc_5shot")
    assert list(zip(task["step"].tolist(), task["metric"], task["value"].tolist(), strict=True)) == [
        (2, "acc", 0.28), (2, "len_norm", 0.27), (2, "bpb", 1.75), (4, "bpb", 1.5)
    ]  # fmt: skip
    assert any("(accuracy)" in line and "soft loss" in line for line in table.left_out)


def test_console_of_olmo_core(folder):
    head = "2026-11-28 10:00:00.000\thost:0\tolmo_core.train.callbacks.console_logger:79\tINFO\t"
    text = "".join(
        f"{head}[step={i + 1}/4,epoch=1,eta=1h]\n    train/CE loss={loss:.3f}\n    throughput/total tokens=1.049B\n"
        f"    optim/LR (group 0)=9.73E-05\n"
        for i, loss in enumerate(LOSSES)
    )
    (folder / "190M-1xC.log").write_text(text + "    eval/downstream/x (BPB v2)=1.234\n")
    table = importers.olmo_core([folder], {})
    check_facts(table)
    assert losses(table) == [(step, tokens, round(loss, 3)) for step, tokens, loss in EXPECTED]
    assert set(table["task"]) == {"train"} and any("metrics_stepN.json" in line for line in table.left_out)


def levanter_log(parameters: bool = True) -> str:
    head = "2026-11-28T10:00:00 - 0 - levanter.json_logger - json_logger.py:86 - INFO :: "
    records = [{"event": "hparams", "hparams": {"trainer": {"id": "190M-1xC", "seed": 0}}}] if parameters else []
    for step, loss in enumerate(LOSSES):
        records.append({"event": "log", "step": step, "metrics": {"optim/learning_rate": 1e-3}})
        records.append({"event": "log", "step": step, "metrics": {"train/loss": loss, "global_step": step}})
        records.append({"event": "log", "step": step, "metrics": {"throughput/total_tokens": (step + 1) * BATCH}})
    evaluation = {"eval/loss": 7.5, "eval/bpb": 2.5, "eval/c4/loss": 7.25, "eval/macro_loss": 7.4, "eval/ema/loss": 9.0}
    records.append({"event": "log", "step": 3, "metrics": evaluation | {"lm_eval": {"piqa": {"acc_norm": 0.5}}}})
    records.append({"event": "finish", "summary": {"train/loss": 7.0625}})
    return "".join(f"{head}{json.dumps({'tracker': 'json_logger'} | record)}\n" for record in records)


@pytest.mark.parametrize("name", ["anything.log", "190M-1xC.log"])
def test_log_of_levanter(folder, name):
    (folder / name).write_text("Starting\n" + levanter_log(parameters=name == "anything.log"))
    table = importers.levanter([folder], {})
    check_facts(table)
    assert losses(table) == EXPECTED
    ends = table.select(step=4)
    assert {(t, m): v for t, m, v in zip(ends["task"], ends["metric"], ends["value"].tolist(), strict=True)} == {
        ("train", "loss"): 7.0625, ("validation", "loss"): 7.5, ("validation", "bpb"): 2.5, ("c4", "loss"): 7.25,
        ("piqa", "len_norm"): 0.5,
    }  # fmt: skip
    assert any("eval/ema/loss" in line and "eval/macro_loss" in line for line in table.left_out)


# {source: (importer, name of the training loss, the number of the first update)}
HISTORIES = {
    "maxtext": (importers.maxtext, "learning/lm_loss", 0),
    "olmo-core": (importers.olmo_core, "train/CE loss", 1),
    "levanter": (importers.levanter, "train/loss", 0),
}


@pytest.mark.parametrize("source", HISTORIES)
def test_histories_and_panels_of_wandb(folder, source):
    read, column, first = HISTORIES[source]
    lines = [f"{i + first},{loss},x" for i, loss in enumerate(LOSSES)]
    (folder / "190M-1xC.csv").write_text("\n".join([f"_step,{column},note", *lines]))
    table = read([folder / "190M-1xC.csv"], {})
    check_facts(table)
    assert losses(table) == EXPECTED
    lines = [f"{i + first},{loss},{loss / 2}" for i, loss in enumerate(LOSSES)]
    (folder / "panel.csv").write_text("\n".join([f"Step,190M-1xC - {column},7B-4T - {column}", *lines]))
    table = read([folder / "panel.csv"], {})
    assert losses(table.select(run="190M-1xC")) == EXPECTED
    assert losses(table.select(run="7B-4T"))[0] == (1, 4 * BATCH, 5.25) and table.unique("split") == ["train", "target"]


def test_a_run_that_was_not_emitted(tmp_path):
    (tmp_path / "m.jsonl").write_text(maxtext_lines(run="mine"))
    with pytest.raises(InputError, match=r"run 'mine': no emitted.json .* --run mine=N --tokens M"):
        importers.maxtext([tmp_path], {})
    with pytest.raises(InputError, match=r"its log has no tokens; give those in a step: --tokens M"):
        importers.maxtext([tmp_path], {"mine": 1e9})
    table = importers.maxtext([tmp_path], {"mine": 1e9}, BATCH)
    assert losses(table) == EXPECTED and set(table["step"][table["final"]]) == {4}
    (tmp_path / "own.log").write_text(levanter_log(parameters=False))
    assert losses(importers.levanter([tmp_path / "own.log"], {"own": 1e9})) == EXPECTED  # it has its tokens


def test_the_last_step_that_was_logged_is_the_end_if_it_is_close(folder):
    """Of 400 updates, logged every 50 and 3 before the end; and of 405, which leaves it 8 before the end."""
    lines = [json.dumps({"learning/lm_loss": 3.0, "step": step - 1.0, "run_name": "x"}) for step in (50, 350, 397)]
    (folder / "x.jsonl").write_text("\n".join(lines))
    for steps, ends, note in ((400, [397.0], "steps after 397, its end here"), (405, [], "ends at step 397 of 405")):
        (folder / "emitted.json").write_text(json.dumps({"runs": [FACTS | {"run": "x", "steps": steps}]}))
        table = importers.maxtext([folder], {})
        assert table["step"][table["final"]].tolist() == ends and any(note in line for line in table.left_out)


def test_the_configs_may_lie_elsewhere(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("logs")
    (elsewhere / "m.jsonl").write_text(maxtext_lines())
    assert losses(importers.maxtext([folder, elsewhere], {})) == EXPECTED


# {what is wrong: (files of the folder, the message)}
WRONG = {
    "no logs": ({}, "no metrics of MaxText in"),
    "another file": ({"notes.txt": "hello"}, "no metrics of MaxText in"),
    "a damaged list": ({"emitted.json": '{"runs": [{"run": "a"}]}'}, "not as `ladder plan --emit` wrote it"),
    "NaN alone": (
        {"m.jsonl": '{"learning/lm_loss": NaN, "step": 0.0, "run_name": "190M-1xC"}'},
        "no metrics of MaxText",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_line_says_what_is_wrong(folder, name):
    files, message = WRONG[name]
    for file, text in files.items():
        (folder / file).write_text(text)
    with pytest.raises(InputError, match=message) as error:
        importers.maxtext([folder], {})
    assert "\n" not in str(error.value)


def test_values_that_are_not_finite_are_counted(folder):
    lines = maxtext_lines().replace("7.5625", "NaN")
    (folder / "m.jsonl").write_text(lines)
    table = importers.maxtext([folder], {})
    assert len(losses(table)) == 3 and any("not finite (first at" in line for line in table.left_out)
