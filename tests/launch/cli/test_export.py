"""`ladder export` on the files that other projects write: the right rows, or one line that says what is wrong."""

import csv
import json
import math
from pathlib import Path

import pytest

from launch import cli

CASES = Path(__file__).resolve().parents[4] / "shared" / "cases"


@pytest.fixture
def export(tmp_path, capsys):
    """Run `ladder export`; returns (exit code, rows of the table, what was printed)."""

    def run(*arguments) -> tuple[int, list[dict], str]:
        out = tmp_path / "out.csv"
        out.unlink(missing_ok=True)
        code = cli.main(["export", *map(str, arguments), "-o", str(out)])
        said = capsys.readouterr()
        rows = list(csv.DictReader(out.open())) if out.exists() else []
        assert (code == 0) == bool(rows)
        if code:
            assert code == 2 and said.err.count("\n") == 1 and said.err.startswith("error: ")
        return code, rows, said.out + said.err

    return run


def case(name: str) -> Path:
    if not CASES.exists():
        pytest.skip("the shared cases are not beside the repository")
    return CASES / name


def values(rows: list[dict], *columns: str) -> list[tuple]:
    return [tuple(row[column] for column in columns) for row in rows]


LM_EVAL = ("--source", "lm-eval", "--run", "r=1B,20B")


# {name: (file of ../shared/cases, flags, rows as (task, metric, value, stderr, n_docs), what is printed)}
RESULTS = {
    "before 0.4": (
        "lm-eval-before-0.4/results.json",
        [("sciq", "acc", "0.891", "0.00986", ""), ("sciq", "len_norm", "0.816", "0.01226", "")],
        "",
    ),
    "null": ("lm-eval-odd-values/task-null.json", [("t2", "acc", "0.5", "", "")], "task t1 (its results are null)"),
    "number": ("lm-eval-odd-values/n-samples-number.json", [("t2", "acc", "0.5", "", "100")], ""),
    "list": ("lm-eval-odd-values/n-samples-list.json", [("t2", "acc", "0.5", "", "")], "n-samples is a list"),
    "nan": ("lm-eval-odd-values/stderr-nan.json", [("t1", "acc", "0.5", "", "")], ""),
    "byte order mark": ("lm-eval-odd-values/bom.json", [("t1", "acc", "0.5", "", "")], ""),
    "folder": ("lm-eval-odd-values/output_folder", [("t1", "acc", "0.5", "", "")], ""),
}


@pytest.mark.parametrize("name", RESULTS)
def test_shared_results_of_lm_eval(name, export):
    file, expected, said = RESULTS[name]
    _, rows, printed = export(case(file), *LM_EVAL)
    assert values(rows, "task", "metric", "value", "stderr", "n_docs") == expected and said in printed
    assert values(rows, "n_params", "tokens")[0] == ("1000000000", "20000000000")


def test_shared_histories_of_wandb(export):
    folder = case("wandb-exports")
    flags = ("--source", "wandb", "--tokens", "491520", "--run")
    code, _, said = export(folder / "ui.csv", *flags, "small=2e7")
    assert code == 2 and "no run 'small' in this panel; write --run small-20M=N big-80M=N" in said
    _, rows, said = export(folder / "ui.csv", *flags, "small-20M=20M", "big-80M=80M")
    assert len(rows) == 40 and "small-20M - val/loss__MIN" in said and "2 values before training (0 tokens)" in said
    assert values(rows[-2:], "run", "n_params", "tokens", "task", "value") == [
        ("small-20M", "20000000", "2457600000", "val", "3.181818"),
        ("big-80M", "80000000", "2457600000", "val", "2.881818"),
    ]
    _, rows, said = export(folder / "ui.csv", *flags, "big-80M=80M")
    assert len(rows) == 20 and "run small-20M (add it to --run" in said
    _, rows, said = export(folder / "hist_nan.csv", *flags, "small=2e7")
    assert len(rows) == 20 and "20 cells that are NaN" in said and "_runtime, _timestamp, iter, lr, mfu" in said
    assert values(rows[-2:], "task", "metric", "value") == [
        ("train", "loss", "3.0818181818181816"), ("val", "loss", "3.1818181818181817")
    ]  # fmt: skip
    _, rows, said = export(folder / "names.csv", "--source", "wandb", "--tokens", "tokens", "--run", "small=2e7")
    assert values(rows, "metric", "value") == [("acc", "0.6"), ("len_norm", "0.61"), ("bpb", "1.1")]
    assert "columns eval/piqa/perplexity" in said


def test_the_shared_file_of_the_paper_without_steps(export, tmp_path):
    folder = case("paper-folder-file-without-step")
    _, rows, _ = export(folder, "--source", "paper")
    assert values(rows, "run", "split", "tokens", "step")[1] == ("7B-4T", "target", "3945065873408", "940577")


def test_several_results_are_one_table_in_one_call(export, tmp_path):
    folder = case("checkpoints-exported-one-by-one")
    files = [folder / "results_step350.json", folder / "results_step1400.json"]
    flags = ("--source", "lm-eval", "--run", "m=70M,175M", "m=70M,700M", "--step", "350", "1400")
    _, rows, _ = export(*files, *flags)
    assert values(rows, "tokens", "step", "final") == [("175000000", "350", "false"), ("700000000", "1400", "true")]
    _, rows, _ = export(*files, *flags, "--where", "step=1.4K")
    assert values(rows, "step", "final") == [("1400", "true")]
    # One file at a time, and then joined: the run ends at its last step, whatever each export said of its one step.
    for i, file in enumerate(files):
        export(file, "--source", "lm-eval", "--run", flags[3 + i], "--step", flags[6 + i])
        (tmp_path / "out.csv").rename(tmp_path / f"{i}.csv")
    _, rows, _ = export(tmp_path / "0.csv", tmp_path / "1.csv")
    assert values(rows, "step", "final") == [("350", "false"), ("1400", "true")]
    code, _, said = export(tmp_path / "0.csv", tmp_path / "0.csv")
    assert code == 2 and "appears twice" in said


# As lm-evaluation-harness 0.4 writes them (README and docs/interface.md of the harness): names, filters, groups, "N/A".
NEW = {
    "results": {
        "piqa": {"alias": "piqa", "acc,none": 0.61, "acc_stderr,none": 0.01, "acc_norm,none": 0.63},
        "wikitext": {"word_perplexity,none": 21.0, "bits_per_byte,none": 0.9, "bits_per_byte_stderr,none": "N/A"},
        "gsm8k": {
            "exact_match,strict-match": 0.1, "exact_match_stderr,strict-match": 0.02,
            "exact_match,flexible-extract": 0.2,
        },
        "squad": {"exact,none": 40.0, "f1,none": 45.3},
        "drop": {"em,none": 0.1, "f1,none": 0.25, "f1_stderr,none": None},
        "lambada": {"acc,none": "N/A"},
    },
    "groups": {"leaderboard_bbh": {"alias": "BBH", "acc_norm,none": 0.5, "acc_norm_stderr,none": 0.1}},
    "n-samples": {"piqa": {"original": 1838, "effective": 100}, "gsm8k": 1319},
}  # fmt: skip


def test_results_of_lm_eval_with_filters_groups_and_text(export, tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(NEW))
    _, rows, said = export(tmp_path / "results.json", *LM_EVAL, "--step", "100")
    assert values(rows, "task", "metric", "value", "stderr", "n_docs", "step") == [
        ("leaderboard_bbh", "len_norm", "0.5", "0.1", "", "100"),
        ("piqa", "acc", "0.61", "0.01", "100", "100"),
        ("piqa", "len_norm", "0.63", "", "100", "100"),
        ("wikitext", "bpb", "0.9", "", "", "100"),
        ("gsm8k:strict-match", "exact_match", "0.1", "0.02", "1319", "100"),
        ("gsm8k:flexible-extract", "exact_match", "0.2", "", "1319", "100"),
        ("drop", "f1", "0.25", "", "", "100"),
    ]
    for line in (
        "metric word_perplexity of wikitext",
        "metric exact of squad",
        "f1,none of squad (45.3 is in percent)",
        "metric em of drop",
        'acc,none of lambada (its value is "N/A")',
    ):
        assert f"left out: {tmp_path / 'results.json'}: {line}\n" in said


def sample(doc_id: int, answers: list[str], scores: list[float], target, **metrics) -> str:
    """A line of samples_*.jsonl as --log_samples writes it: numbers as text, requests by number."""
    arguments = {f"gen_args_{i}": {"arg_0": f"Question {doc_id}", "arg_1": text} for i, text in enumerate(answers)}
    responses = [[str(score), "False"] for score in scores]
    record = {"doc_id": doc_id, "doc": {}, "target": target, "arguments": arguments, "filter": "none"}
    return json.dumps(record | {"resps": [[r] for r in responses], "filtered_resps": responses} | metrics)


def test_bits_per_byte_of_correct_answers_from_samples(export, tmp_path):
    folder = tmp_path / "out" / "model"
    folder.mkdir(parents=True)
    lines = [
        sample(0, [" né", " no"], [-2.0, -3.0], "0", acc=1.0),
        sample(1, [" ab", " abcd"], [-1.0, -4.0], " abcd", acc=0),
    ]
    (folder / "samples_piqa_2024-05-01T10-00-00.000000.jsonl").write_text("\n".join(lines))
    (folder / "results_2024-05-01T10-00-00.000000.json").write_text('{"results": {"piqa": {"acc,none": 0.25}}}')
    (folder / "results_2024-05-01T11-00-00.000000.json").write_text('{"results": {"piqa": {"acc,none": 0.5}}}')
    _, rows, said = export(tmp_path / "out", *LM_EVAL)
    bpb = [2 / (4 * math.log(2)), 4 / (5 * math.log(2))]  # " né" has 4 bytes
    found = {row["metric"]: row for row in rows}
    assert found["acc"]["value"] == "0.5" and "acc of piqa in " in said
    assert float(found["bpb"]["value"]) == pytest.approx(sum(bpb) / 2, rel=1e-15)
    assert float(found["bpb"]["stderr"]) == pytest.approx(abs(bpb[0] - bpb[1]) / 2, rel=1e-12)
    assert found["bpb"]["n_docs"] == "2"
    _, rows, _ = export(next(folder.glob("samples*")), *LM_EVAL)
    assert values(rows, "task", "metric")[0] == ("piqa", "acc") and rows[0]["value"] == "0.5"


GENERATED = json.dumps(
    {"target": "42", "arguments": {"gen_args_0": {"arg_0": "Q", "arg_1": {"until": ["\n"]}}}, "resps": [["42"]]}
    | {"filtered_resps": ["42"], "filter": "strict-match", "exact_match": 1.0}
)
# {what the correct answer cannot be told from: (a line of samples, the reason that is printed)}
NO_GOLD = {
    "generated": (GENERATED, "no log-likelihoods of answers"),
    "the same answer to two questions": (sample(0, [" x", " x"], [-1, -2], " x", acc=1.0), "names 2 of the 2 answers"),
    "an index that is an answer too": (sample(0, [" 1", " 0"], [-1, -2], "0", acc=1.0), "names 2 of the 2 answers"),
    "an unknown answer": (sample(0, [" a", " b"], [-1, -2], "c", acc=1.0), "names 0 of the 2 answers"),
    "a wrong index": (sample(0, [" a", " b"], [-1, -2], "1", acc=1.0), "contradict each other"),
    "infinite": (sample(0, [" a", " b"], [-math.inf, -2], "0", acc=0.0), "is not finite"),
    "cut": (sample(0, [" a", " b"], [-2], "0", acc=0.0), "2 requests and 1 log-likelihoods"),
}


@pytest.mark.parametrize("name", NO_GOLD)
def test_samples_without_a_certain_correct_answer_give_no_bpb(name, export, tmp_path):
    line, reason = NO_GOLD[name]
    (tmp_path / "samples_t.jsonl").write_text(line)
    _, rows, said = export(tmp_path / "samples_t.jsonl", *LM_EVAL)
    assert {row["metric"] for row in rows} <= {"acc", "exact_match"} and "bpb of t (" in said and reason in said


def test_samples_of_one_answer_and_with_unconditional_requests(export, tmp_path):
    (tmp_path / "samples_lambada.jsonl").write_text(sample(0, [" word"], [-5 * math.log(2)], " word", acc=0.0))
    _, rows, _ = export(tmp_path / "samples_lambada.jsonl", *LM_EVAL, "--where", "metric=bpb")
    assert float(rows[0]["value"]) == pytest.approx(1)
    record = json.loads(sample(0, [" a", " b", " a", " b"], [-1, -2, -9, -8], "1", acc=0.0))
    for i in (2, 3):
        record["arguments"][f"gen_args_{i}"]["arg_0"] = ""
    (tmp_path / "samples_mi.jsonl").write_text(json.dumps(record))
    _, rows, _ = export(tmp_path / "samples_mi.jsonl", *LM_EVAL, "--where", "metric=bpb")
    assert float(rows[0]["value"]) == pytest.approx(2 / (2 * math.log(2)))
    # 0.4.0: an array, requests as lists, numbers as numbers.
    old = {"target": 1, "arguments": [["Q", " a"], ["Q", " b"]], "filtered_resps": [[-1, False], [-2, False]], "acc": 0}
    (tmp_path / "mine_t.jsonl").write_text(json.dumps([old], indent=2))
    _, rows, _ = export(tmp_path / "mine_t.jsonl", *LM_EVAL, "--where", "metric=bpb")
    assert float(rows[0]["value"]) == pytest.approx(2 / (2 * math.log(2)))


ACC = "InContextLearningMultipleChoiceAccuracy"
# llm-foundry: metrics as composer logs them; the table that eval.py prints; a file of DCLM.
FOUNDRY = {
    "logged": (
        {"metrics/piqa/10-shot/" + ACC: 0.68, "metrics/piqa/0-shot/" + ACC: 0.66, "metrics": {"mmlu": {"5-shot": {
            "anatomy": {ACC: 0.3}}}, "eval": {"LanguageCrossEntropy": 2.5}}, "time/token": 5,
         "metrics/jeopardy/3-shot/InContextLearningQAAccuracy": 0.1},
        [("piqa_10-shot", "acc", "0.68"), ("piqa_0-shot", "acc", "0.66"), ("mmlu_anatomy", "acc", "0.3"),
         ("eval", "loss", "2.5"), ("jeopardy", "exact_match", "0.1")],
        "time: token",
    ),
    "table": (
        [{"Category": "commonsense", "Benchmark": "copa", "Subtask": "", "Accuracy": 0.49, "Number few shot": "0-shot",
          "Model": "m"}],
        [("copa", "acc", "0.49")],
        "",
    ),
    "dclm": (
        {"name": "heavy", "eval_metrics": {"perplexity": 3.66, "downstream_perpexity": {"piqa": 2.87},
                                           "icl": {"piqa": 0.678, "copa": 0.61}}, "Core": 0.107},
        [("piqa", "acc", "0.678"), ("copa", "acc", "0.61")],
        "eval_metrics/downstream_perpexity: piqa",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUNDRY)
def test_results_of_llm_foundry(name, export, tmp_path):
    content, expected, said = FOUNDRY[name]
    (tmp_path / "f.json").write_text(json.dumps(content))
    _, rows, printed = export(tmp_path / "f.json", "--source", "llm-foundry", "--run", "r=1B,20B")
    assert values(rows, "task", "metric", "value") == expected and said in printed


# Headers as wandb writes them: history().to_csv of composer, of transformers, of a resumed run.
HISTORIES = {
    "one name for two columns": (
        ["_step,train/piqa/acc,eval/piqa/acc,eval/piqa/acc_stderr", "10,0.5,0.6,0.01"],
        [("10", "train/piqa", "acc", "0.5", ""), ("10", "eval/piqa", "acc", "0.6", "0.01")],
        "",
    ),
    "composer": (
        [f"_step,metrics/piqa/10-shot/{ACC},metrics/copa/0-shot/{ACC},metrics/eval/LanguageCrossEntropy",
         "10,0.5,0.6,3"],
        [("10", "piqa", "acc", "0.5", ""), ("10", "copa", "acc", "0.6", ""), ("10", "eval", "loss", "3", "")],
        "",
    ),
    "a resumed run": (
        ["_step,eval/loss,lr", "10,3,1", "20,2.5,1", "20,,1", "10,2.9,1", "20,2.4,1"],
        [("10", "eval", "loss", "2.9", ""), ("20", "eval", "loss", "2.4", "")],
        "2 values of steps that stand twice",
    ),
    "columns that are never filled": (
        ["_step,eval/loss,eval/piqa/acc", "10,3,NaN"],
        [("10", "eval", "loss", "3", "")],
        "1 cells that are NaN",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HISTORIES)
def test_histories_of_wandb(name, export, tmp_path):
    lines, expected, said = HISTORIES[name]
    (tmp_path / "h.csv").write_text("\n".join(lines))
    _, rows, printed = export(tmp_path / "h.csv", "--source", "wandb", "--run", "r=20M", "--tokens", "8")
    assert [(*row[:4], row[4] or "") for row in values(rows, "step", "task", "metric", "value", "stderr")] == expected
    assert said in printed


def test_the_step_column_is_named_where_wandb_counts_otherwise(export, tmp_path):
    (tmp_path / "h.csv").write_text("_step,train/global_step,eval/loss\n10,1000,3\n11,,\n20,2000,2.5\n")
    flags = (tmp_path / "h.csv", "--source", "wandb", "--run", "r=20M", "--tokens", "0.5M")
    code, _, said = export(*flags)
    assert code == 2 and "h.csv:2: _step is 10 and train/global_step is 1000" in said and "--step-column" in said
    _, rows, _ = export(*flags, "--step-column", "train/global_step")
    assert values(rows, "step", "tokens") == [("1000", "500000000"), ("2000", "1000000000")]
    _, rows, _ = export(*flags, "--step-column", "_step")
    assert values(rows, "step", "tokens") == [("10", "5000000"), ("20", "10000000")]
    code, _, said = export(*flags, "--step-column", "epoch")
    assert code == 2 and "no column 'epoch'" in said and "train/global_step" in said


def test_histories_that_were_put_together_are_refused(export, tmp_path):
    (tmp_path / "h.csv").write_text("Name,_step,eval/loss\na,10,3\na,20,2.5\nb,10,2.9\n")
    code, _, said = export(tmp_path / "h.csv", "--source", "wandb", "--run", "a=20M", "--tokens", "8")
    assert code == 2 and "h.csv:4: the history of a second run (Name is 'b', before 'a')" in said


def test_a_panel_over_tokens(export, tmp_path):
    (tmp_path / "p.csv").write_text('"tokens","a - b - val/loss","a - b - _step"\n"1000","3","10"\n"2000","2.5","20"\n')
    flags = (tmp_path / "p.csv", "--source", "wandb", "--run", "a - b=20M", "--tokens", "tokens")
    code, _, said = export(*flags)
    assert code == 2 and "no column '_step'" in said
    _, rows, _ = export(*flags, "--step-column", "tokens")
    assert values(rows, "run", "task", "step", "tokens") == [
        ("a - b", "val", "1000", "1000"),
        ("a - b", "val", "2000", "2000"),
    ]


RESULT = '{"results": {"a": {"acc,none": 0.5}}}'
# {name: (text of the file r.json, arguments after it, what is said)}
WRONG = {
    "empty": ("", LM_EVAL, "not a result of lm-evaluation-harness: not JSON"),
    "array": ("[]", LM_EVAL, 'no object "results"'),
    "no results": ("{}", LM_EVAL, 'no object "results"'),
    "no metrics": ('{"results": {"a": {"alias": "a", "em": 1}}}', LM_EVAL, "holds none of the metrics acc"),
    "percent": ('{"results": {"a": {"acc,none": 45.3}}}', LM_EVAL, "task a: acc is 45.3; it must lie between 0 and 1"),
    "deep": ("[" * 100_000, LM_EVAL, "not JSON"),
    "of llm-foundry": ('{"eval_metrics": {"icl": {"a": 0.5}}}', LM_EVAL, "--source llm-foundry"),
    "not of llm-foundry": (RESULT, ("--source", "llm-foundry", "--run", "r=1,2"), "not a result of llm-foundry"),
    "a step for each": (RESULT, (*LM_EVAL, "--step", "1", "2"), "--step: 2 values for 1 files"),
    "negative step": (RESULT, (*LM_EVAL, "--step", "-1"), "a step is 0 or more"),
    "no step": (RESULT, (*LM_EVAL, "--step", "end"), "'end' is not a number"),
    "a flag of another source": (RESULT, ("--source", "paper", "--run", "r=1,2"), "--source paper does not read --run"),
    "where": (RESULT, (*LM_EVAL, "--where", "task"), "write COLUMN=VALUE"),
    "where column": (RESULT, (*LM_EVAL, "--where", "tsk=a"), "no column 'tsk'; there are: run, n_params"),
    "where value": (RESULT, (*LM_EVAL, "--where", "task=b"), "no row with task=b; task is one of: a"),
    "where number": (RESULT, (*LM_EVAL, "--where", "step=b"), "'b' is not a number"),
    "where truth": (RESULT, (*LM_EVAL, "--where", "final=b"), "write true or false"),
    "no run": (RESULT, ("--source", "lm-eval"), "write NAME=N,D"),
} | {
    f"run {text}": (RESULT, ("--source", "lm-eval", "--run", text), "write NAME=N,D")
    for text in ("", "mine", "mine=1", "mine=1,x", "mine=0,1", "=1,2", "mine=1,nan", "mine=1,1e400", "mine=1X,2")
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line(name, export, tmp_path):
    text, arguments, said = WRONG[name]
    (tmp_path / "r.json").write_text(text)
    code, _, printed = export(tmp_path / "r.json", *arguments)
    assert code == 2 and said in printed


def test_folders_without_results_or_with_those_of_two_models(export, tmp_path):
    code, _, said = export(tmp_path, *LM_EVAL)
    assert code == 2 and "no results_*.json" in said
    for model in ("a", "b"):
        (tmp_path / model).mkdir()
        (tmp_path / model / "results_2024.json").write_text(RESULT)
    code, _, said = export(tmp_path, *LM_EVAL)
    assert code == 2 and "give each with its own --run" in said
    _, rows, _ = export(tmp_path / "a", tmp_path / "b", "--source", "lm-eval", "--run", "a=1B,2B", "b=1.5B,4T")
    assert values(rows, "run", "n_params", "tokens") == [
        ("a", "1000000000", "2000000000"),
        ("b", "1500000000", "4000000000000"),
    ]
    code, _, said = export(tmp_path / "nowhere", *LM_EVAL)
    assert code == 2 and "no such file or folder" in said
