"""The task-ladder paper's CSVs become a runs table, or one line that says what is wrong with them."""

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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("_step,throughput/total_tokens,eval/downstream_bpb/a_rc_5shot_bpb\n1,10,x\n", "csv:2: .*'x', not a number"),
        ("_step,throughput/total_tokens,eval/downstream_bpb/a_rc_5shot_bpb\n1,10,nan\n", "csv:2: .* not a finite"),
        (
            "_step,eval/downstream_bpb/a_rc_5shot_bpb\n1,2\n",
            "csv:2: no column 'batch_size_in_tokens'; there are: _step",
        ),
        ("_step,batch_size_in_tokens,loss\n1,,2\n", "csv:2: no value in column 'batch_size_in_tokens'"),
        ("eval/downstream_bpb/a_rc_5shot_bpb\n1\n", "csv:2: no column '_step', and not both of 'throughput/total_tok"),
        ("throughput/total_tokens\n1\n", "csv:2: no column '_step', and not both of"),
        ("_step\n1\n", "no column 'batch_size_in_tokens'"),
        ("", "no column|no rows"),
    ],
)
def test_wrong_exports_are_refused_with_file_and_line(tmp_path, text, said):
    (tmp_path / "190M-1xC.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        importers.paper(tmp_path)


def test_folders_and_sizes_that_are_not_the_papers(tmp_path):
    with pytest.raises(InputError, match=r"no file named like 190M-1xC\.csv"):
        importers.paper(tmp_path)
    write(tmp_path / "42M-1xC.csv", HEADER)
    with pytest.raises(InputError, match="size '42M' is not one of the paper's"):
        importers.paper(tmp_path)


# The headers of github.com/allenai/OLMo-ladder at commit f14a8cf, src/scripts/other/data: a file of a second seed
# (peteish-seed-1/190M-1xC.csv: no tokens) and the 13B run (peteish-final-new/13B-5T.csv: no step, other task names).
TEXTS = [
    "c4_en",
    "dolma_books",
    "dolma_common-crawl",
    "dolma_pes2o",
    "dolma_reddit",
    "dolma_stack",
    "dolma_wiki",
    "ice",
]
TEXTS += ["m2d2_s2orc", "pile", "wikitext_103"]
LOSSES = [f"eval/{text}-validation/CrossEntropyLoss" for text in TEXTS]
CATEGORIES = ["mmlu_stem", "mmlu_humanities", "mmlu_social_sciences", "mmlu_other"]
TASKS = [f"{category}_{split}" for split in ("val", "test") for category in CATEGORIES]
TASKS += ["hellaswag_val", "arc_easy_val", "arc_easy_test", "arc_challenge_val", "arc_challenge_test", "boolq_val"]
TASKS += ["csqa_val", "openbookqa_val", "openbookqa_test", "piqa_val", "socialiqa_val", "winogrande_val"]
ACCURACIES = [f"eval/downstream/{t}_rc_5shot_{'acc' if t == 'boolq_val' else 'len_norm'}" for t in TASKS]
SETTINGS = ["learning_rate_peak", "batch_size_in_tokens"]
SECOND_SEED = ["_step", *LOSSES, *(f"eval/downstream_bpb/{task}_rc_5shot_bpb" for task in TASKS), *ACCURACIES]
SECOND_SEED += [f"eval/downstream_{m}/{task}_rc_5shot_{m}" for m in ("soft", "soft_log") for task in TASKS] + SETTINGS
SHORT = ["hellaswag", "arc_easy", "arc_challenge", "boolq", "csqa", "openbookqa", "piqa", "socialiqa", "winogrande"]
THIRTEEN_B = ["throughput/total_tokens", *LOSSES, *(f"eval/downstream_bpb/{task}_rc_5shot_bpb_bpb" for task in SHORT)]
THIRTEEN_B += [f"eval/downstream_bpb/{category}_var_bpb_bpb" for category in CATEGORIES]
IS_ACC = ("arc_easy", "boolq", "winogrande")
THIRTEEN_B += [f"eval/downstream/{task}_rc_5shot_{'acc' if task in IS_ACC else 'len_norm'}" for task in SHORT]
THIRTEEN_B += [f"eval/downstream/{category}_var_len_norm" for category in CATEGORIES]
THIRTEEN_B += [f"eval/downstream/{task}_mc_5shot_acc" for task in SHORT]
THIRTEEN_B += [f"eval/downstream/{category}_mc_5shot_len_norm" for category in CATEGORIES] + SETTINGS


def test_the_real_headers(tmp_path):
    row = [200, *[0.5] * (len(SECOND_SEED) - 3), 0.001, 524288]
    write(tmp_path / "190M-1xC.csv", SECOND_SEED, row)
    write(tmp_path / "13B-5T.csv", THIRTEEN_B, [5000080130048, *[0.5] * (len(THIRTEEN_B) - 3), 0.0003, 8388608])
    table = importers.paper(tmp_path)
    ends = zip(table["run"], table["step"], table["tokens"], strict=True)
    assert set(ends) == {("190M-1xC", 200, 200 * 524288), ("13B-5T", 596056, 5000080130048)}
    small = table.select(run="190M-1xC")
    counts = {metric: int((small["metric"] == metric).sum()) for metric in small.unique("metric")}
    assert counts == {"loss": 11, "bpb": 13, "len_norm": 12, "acc": 1}  # the mean of MMLU stands for its categories
    assert small.select(metric="acc").unique("task") == ["boolq_val"]
    left_out = dict(line.removeprefix("columns ").split(": ") for line in table.left_out)
    assert {prefix: len(names.split(", ")) for prefix, names in left_out.items()} == {
        "": 1, "eval/downstream/": 4 + 4 + 9 + 4, "eval/downstream_bpb/": 4 + 9 + 4, "eval/downstream_soft/": 20,
        "eval/downstream_soft_log/": 20,
    }  # fmt: skip
    assert left_out[""] == "learning_rate_peak"
