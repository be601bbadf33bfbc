"""Other projects' files become runs tables, or one line that says what is wrong with them."""

import json

import pytest

from fitting.errors import InputError
from fitting.tables import importers
from launch import cli

MMLU = [f"eval/downstream_bpb/mmlu_{c}_test_rc_5shot_bpb" for c in importers.MMLU_WEIGHTS]
HEADER = ["_step", "throughput/total_tokens", "eval/downstream_bpb/piqa_val_rc_5shot_bpb"]
HEADER += ["eval/downstream/piqa_val_rc_5shot_len_norm", "eval/c4_en-validation/CrossEntropyLoss", *MMLU, "loss"]


def write(path, header, *rows):
    path.write_text("\n".join(",".join(map(str, row)) for row in [header, *rows]) + "\n")
    return path


def test_the_papers_exports(tmp_path):
    row = [200, 1e8, 1.2, 0.6, 3.5, 1.0, 2.0, 3.0, 4.0, 9]
    write(tmp_path / "190M-1xC.csv", HEADER, row, [400, 2e8, 1.1, "", "", 1, 1, 1, "", 9])
    write(tmp_path / "1B-1xC-rerun.csv", HEADER, row)
    write(tmp_path / "13B-5T.csv", ["_step", "batch_size_in_tokens", *HEADER[2:]], [10, 8388608, *row[2:]])
    write(tmp_path / "notes.csv", ["anything"], [1])
    table = importers.paper(tmp_path)
    assert dict(zip(table["run"], table["split"], strict=True)) == {
        "190M-1xC": "train", "1B-1xC-rerun": "extra", "13B-5T": "target"
    }  # fmt: skip
    first = table.select(run="190M-1xC", step=200)
    values = dict(zip(zip(first["task"], first["metric"], strict=True), first["value"], strict=True))
    mmlu = 0.215 * 1 + 0.335 * 2 + 0.219 * 3 + 0.231 * 4
    assert values == {
        ("piqa_val", "bpb"): 1.2, ("piqa_val", "len_norm"): 0.6, ("c4_en-validation", "loss"): 3.5,
        ("mmlu_avg_test", "bpb"): pytest.approx(mmlu),
    }  # fmt: skip
    assert set(first["n_params"]) == {190354176} and first["flops"][0] == 1903391232 * 1e8
    assert set(table.select(run="190M-1xC", step=400)["metric"]) == {"bpb"}
    assert set(table.select(run="13B-5T")["tokens"]) == {83886080}
    assert cli.main(["export", str(tmp_path), "--source", "paper", "-o", str(tmp_path / "out.csv.gz")]) == 0


def test_lm_evaluation_harness(tmp_path):
    result = {
        "results": {
            "piqa": {"alias": "piqa", "acc,none": 0.61, "acc_stderr,none": 0.01, "acc_norm,none": 0.63},
            "wikitext": {"bits_per_byte,none": 0.9, "bits_per_byte_stderr,none": "N/A"},
        },
        "n-samples": {"piqa": {"original": 1838, "effective": 1838}},
    }
    path = tmp_path / "results.json"
    path.write_text(json.dumps(result))
    table = importers.lm_eval(path, "mine", 1e9, 2e10, step=100)
    assert list(zip(table["task"], table["metric"], table["value"], strict=True)) == [
        ("piqa", "acc", 0.61), ("piqa", "len_norm", 0.63), ("wikitext", "bpb", 0.9)
    ]  # fmt: skip
    assert table["stderr"][0] == 0.01 and table["n_docs"][0] == 1838 and table["tokens"][0] == 2e10
    out = tmp_path / "o.csv"
    assert cli.main(["export", str(path), "--source", "lm-eval", "--run", "mine=1e9,2e10", "-o", str(out)]) == 0


def test_wandb_histories(tmp_path):
    path = write(tmp_path / "history.csv", ["_step", "eval/piqa/bpb", "tokens", "lr"], [0, 2, 0, 1], [10, 1.5, 80, 1])
    for tokens in ("tokens", "8"):
        table = importers.wandb(path, "mine", 1e9, tokens)
        assert (table["task"][0], table["metric"][0], table["value"][0]) == ("piqa", "bpb", 1.5)
        assert table["tokens"].tolist() == [80]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("_step,throughput/total_tokens,eval/downstream_bpb/a_rc_5shot_bpb\n1,10,x\n", "csv:2: .*'x', not a number"),
        ("_step,throughput/total_tokens,eval/downstream_bpb/a_rc_5shot_bpb\n1,10,nan\n", "csv:2: .* not a finite"),
        ("_step,eval/downstream_bpb/a_rc_5shot_bpb\n1,2\n", "csv:2: no value in column 'batch_size_in_tokens'"),
        ("eval/downstream_bpb/a_rc_5shot_bpb\n1\n", "csv:2: no value in column '_step'"),
        ("_step\n1\n", "no value in column 'batch_size_in_tokens'"),
        ("", "no column|no rows"),
    ],
)
def test_wrong_exports_are_refused_with_file_and_line(tmp_path, text, said):
    (tmp_path / "190M-1xC.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        importers.paper(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"results": 3}', '{"results": {"a": {"alias": "a"}}}'])
def test_what_is_no_result_is_refused(tmp_path, text):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"r\.json: (not a result|holds none)"):
        importers.lm_eval(path, "mine", 1e9, 1e10)


@pytest.mark.parametrize("run", ["", "mine", "mine=1", "mine=1,x", "mine=0,1", "=1,2"])
def test_a_run_must_be_named_with_its_sizes(tmp_path, run, capsys):
    arguments = ["export", str(tmp_path / "r.json"), "--source", "lm-eval", "--run", run, "-o", str(tmp_path / "o.csv")]
    assert cli.main(arguments) == 2
    assert "write NAME=N,D" in capsys.readouterr().err


def test_folders_and_sizes_that_are_not_the_papers(tmp_path):
    with pytest.raises(InputError, match=r"no file named like 190M-1xC\.csv"):
        importers.paper(tmp_path)
    write(tmp_path / "42M-1xC.csv", HEADER)
    with pytest.raises(InputError, match="size '42M' is not one of the paper's"):
        importers.paper(tmp_path)
