"""Flags are obeyed or refused: ../shared/cases allocate-published-ignores-flags and numbers-in-flags-not-checked."""

import json
from pathlib import Path

import numpy as np
import pytest

from launch import cli

PUBLISHED = "allocate --budget 9.3e21 --published"
LEAVE_OUT = "no effect with --published, which fits nothing; leave it out"
NUMBER = "must be a positive number"
REFUSED = {
    f"{PUBLISHED} hoffmann --approach 1": f"--approach: {LEAVE_OUT}",
    f"{PUBLISHED} hoffmann --approach 2": f"--approach: {LEAVE_OUT}",
    f"{PUBLISHED} hoffmann --law kaplan-nd": "'hoffmann' published no 'kaplan-nd'",
    f"{PUBLISHED} kaplan --law kaplan-n": "no optimum in N and D (--law)",
    f"{PUBLISHED} hoffmann --isoflop 1e20": f"--isoflop: {LEAVE_OUT}",
    f"{PUBLISHED} hoffmann --huber 0.1": f"--huber: {LEAVE_OUT}",
    f"{PUBLISHED} hoffmann --seed 0": f"--seed: {LEAVE_OUT}",
    f"{PUBLISHED} hoffmann --bootstrap 9 --n size": "--bootstrap and --n: no effect with --published",
    f"{PUBLISHED} hoffmann --critical-batch 2e8,0.21": "--critical-batch: no effect with the law chinchilla",
    f"{PUBLISHED} kaplan --unique 1e9": "'kaplan' published no 'muennighoff'",
    f"{PUBLISHED} muennighoff --unique 0": f"0: {NUMBER} (--unique)",
    f"{PUBLISHED} muennighoff --unique 1e9 --law chinchilla": "leave out --law",
    f"{PUBLISHED} hoffmann --budget -1": f"-1: {NUMBER} (--budget)",
    f"{PUBLISHED} hoffmann --budget 1e21 nan": f"nan: {NUMBER} (--budget)",
    f"{PUBLISHED} hoffmann --budget 1e400": f"inf: {NUMBER} (--budget)",
    "allocate TABLE --budget 1e21 --unique 0": f"0: {NUMBER} (--unique)",
    "allocate TABLE --budget 1e21 --unique 1e9 --approach 2": "--approach: no effect with --unique",
    "allocate TABLE --budget 1e21 --isoflop 1e20": "--isoflop: no effect with --approach 3",
    "allocate TABLE --budget 1e21 --approach 1 --law kaplan-nd": "--law: no effect with --approach 1",
    "allocate TABLE --budget 1e21 --vary x --plot a.png": "--plot: no effect with --vary",
    "allocate TABLE --budget 1e21 --approach 2 --isoflop -1": f"-1: {NUMBER} (--isoflop)",
    "allocate TABLE --budget 1e21 --approach 2 --seed -1": "seed -1: must not be negative (--seed)",
    "predict TABLE --method paper --seed 0": "--seed: no effect with --method paper, which has no intervals",
    "predict TABLE --method paper --floor uniform": "no effect with the method paper, which has no priors (--floor)",
    "predict TABLE --tasks EMPTY": "--tasks: names no task; leave it out for all",
    "eval runs/none --tasks EMPTY": "--tasks: names no task; leave it out for the tasks of the run's config",
    "eval runs/none --max-docs 0": "--max-docs 0: must be at least 1",
    "eval runs/none/checkpoints/7 --tasks a --step 3": "--step: no effect with the checkpoint runs/none/checkpoints/7",
    "train demo --rung x --profile 50": "--profile 50: write FIRST:LAST, two steps in ascending order",
    "train demo --rung x --profile 55:50": "--profile 55:50: write FIRST:LAST",
    "train demo --rung x --profile 0:٣x": "--profile 0:٣x: write FIRST:LAST",
    "logs demo --lines 0": "--lines 0: must be at least 1",
    "watch demo --every nan": "--every nan: must be positive",
    "check demo --rung x --topology v5e:4x4 --slices 0": "--slices 0: must be at least 1",
    "submit demo --backend slurm --at-once 2": "--at-once: no effect with --backend slurm",
    "plan demo model.rope_theta=-1": "model.rope_theta = -1.0: must be positive",
    "plan demo model.vocab_size=1": "model.vocab_size = 1: must be at least 2",
    "predict TABLE --target a=7e9,4e12,1.6e20": "1.6e+20 FLOPs, but 6 N D is 1.68e+23",
    "fit SAME --law kaplan-n": "its 30 points lie at 1 different (N), too few for the 2 parameters of kaplan-n",
    "fit SAME": "its 30 points lie at 1 different (N, D), too few for the 5 parameters of chinchilla",
    "fit TABLE --seed -1": "seed -1: must not be negative (--seed)",
    "fit TABLE --bootstrap 100000000": "100000000 resamples: must be 2 to 1,000,000 (--bootstrap)",
    "fit TABLE --huber nan": "Huber's threshold is nan",
    "fit TABLE --huber 1e400": "Huber's threshold is inf",
    "fit TABLE --overestimate-penalty inf": "the penalty is inf",
    "fit TABLE --figure pairs": "--figure: no effect without --plot",
    "fit TABLE --law kaplan-nd --published kaplan --huber 1": f"--huber: {LEAVE_OUT}",
    "fit TABLE --law kaplan-nd --published kaplan --weights tokens": f"--weights: {LEAVE_OUT}",
    "fit TABLE --task train": "a wide table; task is for runs tables, y names its column (--task)",
    "fit TABLE --metric bpb": "a wide table; metric is for runs tables, y names its column (--metric)",
    "fit TABLE --against train": "a wide table; against is for runs tables, y names its column (--against)",
    "fit TABLE --critical-batch 2e8,0.21": "--critical-batch: no effect with the law chinchilla; leave it out",
    "fit TABLE --u size --t length": "--u and --t: no effect with the law chinchilla; leave them out",
    "fit TABLE --b size": "--b: no effect with the law chinchilla; leave it out",  # D is in the table
    "fit TABLE --s size --law kaplan-n": "--s: no effect with the law kaplan-n; leave it out",
    "fit TABLE --s size --b length --reach 3 --weights width": "steps to a loss have no weights",
    "fit RUNS --keep-excluded": "a runs table; a column 'excluded' is of wide tables (--keep-excluded)",
    "fit RUNS --against validation": "against: validation is the fitted task itself; name another (--against)",
    "fit RUNS --against train": "--against: no effect with the law chinchilla; leave it out",
    "fit RUNS --weights tokens": "weights and labels are columns of a wide table (--weights)",
    "fit RUNS --law kaplan-n --critical-batch 2e8,0.21": "--critical-batch: no effect with the law kaplan-n; leave it",
    "allocate TABLE --budget": "--budget: name at least one, in FLOPs",
    "allocate TABLE --budget 0": f"0: {NUMBER} (--budget)",
    "allocate TABLE --budget 1e21 --critical-batch 2e8,0.2": "--critical-batch: no effect with the law chinchilla",
    "allocate TABLE --budget 1e21 --u size": "--u: no effect with --approach 3; leave it out",
    "allocate TABLE --budget 1e21 --unique 1e9 --t size": "--t: no effect with --unique, which fits the law",
    "allocate TABLE --budget 1e21 --approach 2 --weights tokens": "--weights: no effect with --approach 2",
    "allocate TABLE --budget 1e21 --reach 3": "--reach: no effect with ladder allocate, which needs the loss",
    "allocate TABLE --budget 1e21 --vary n=params,tokens --n params": "--n: no effect with --vary, which names its",
    "allocate TABLE --budget 1e21 --vary n=params,tokens --u size": "--u: no effect with --approach 3; leave it out",
    "compare TABLE TABLE --target a=1,2 b=1,2": "--target: one target at a time, and these are 2: a=1,2, b=1,2",
    "design TABLE --target a=1,2 b=1,2": "--target: one target at a time",
    "study TABLE --target a=1,2 b=1,2": "--target: one target at a time",
    "data olmes --corpora elsewhere": "--corpora: no effect with ladder data olmes; leave it out",
    "data olmes --runner direct": "--runner: no effect with ladder data olmes; leave it out",
    "data index x --runner direct": "--runner: no effect with ladder data index; leave it out",
    "data build demo --eos <|end|>": "data.eos = '<|end|>': only a tokenizer.json has other tokens to end a document",
    "data build demo --dtype uint16": "--dtype: no effect with ladder data build; leave it out",
    "data index tokens --eos <|end|>": "--eos <|end|>: token files need the id of the token that ends a document",
    "data olmes --eos 3": "--eos: no effect with ladder data olmes; leave it out",
    "data build demo --runner fast": "'fast': no such Beam runner; choose one of direct, dataflow, flink, spark",
    "data build demo --runner-option a=1": "--runner-option: no effect without --runner; leave it out",
    "data build demo --runner direct --runner-option =2": "'=2': write KEY=VALUE, for example direct_num_workers=2",
    "data build demo --runner direct --runner-option runner=x": "'runner=x': is no option of a runner; leave it out",
    "check demo --rung x --topology v5e:4x4 --recommend mesh.fsdp=4": "mesh.fsdp=4: no effect with --recommend",
    "train mine --root elsewhere": "--root: no effect with the run directory mine; leave it out",
    "train mine --corpora elsewhere": "--corpora: no effect with the run directory mine; leave it out",
    "train mine --rung x": "its config.json fixes what is trained; leave out --rung",
    "train demo --rung x --processes 2": "--processes: no effect without --coordinator; leave it out",
    "train mine --process 0": "--process: no effect without --coordinator; leave it out",
    "eval mine --rung x": "--rung: no effect with the run directory mine; leave it out",
    "eval mine --root elsewhere": "--root: no effect with the folder mine; leave it out",
    "eval mine/checkpoints/7 --rung x": "--rung: no effect with the checkpoint mine/checkpoints/7; leave it out",
    "eval model.gguf --tasks a --rung x": "--rung: no effect with the published model model.gguf; leave it out",
    "eval model.gguf --tasks a --root elsewhere": "--root: no effect with the published model model.gguf; leave it out",
    "eval model.gguf --tasks a --missing": "a published model has no checkpoints to choose from (--missing)",
    "logs mine --rung x": "--rung: no effect with the run directory mine; leave it out",
    "verify mine --rung x": "--rung: no effect with the run directory mine; leave it out",
    "status mine --root elsewhere": "--root: no effect with the folder mine; leave it out",
    "watch mine --root elsewhere": "--root: no effect with the folder mine; leave it out",
    "cancel mine --root elsewhere": "--root: no effect with the folder mine; leave it out",
    "submit demo --dry-run --retry": "--retry: no effect with --dry-run, which submits nothing; leave it out",
}
# Flags of other sources, and empty ones.
NOT_READ = {
    "ladder": {"run": "r=1,2", "step": "0", "tokens": "8", "step-column": "a"},
    "paper": {"run": "r=1,2", "step": "0", "tokens": "8", "step-column": "a"},
    "lm-eval": {"tokens": "8", "step-column": "a"},
    "llm-foundry": {"tokens": "8", "step-column": "a"},
    "wandb": {"step": "0"},
}
for source, flags in NOT_READ.items():
    for flag, value in flags.items():
        command = f"export RUNS -o out.csv --source {source} --{flag} {value}"
        REFUSED[command] = f"--source {source} does not read --{flag}; leave it out"
REFUSED["export RUNS -o out.csv --source wandb --run a=1 --tokens EMPTY"] = (
    "--tokens is empty; give it a value, or leave it out"
)


@pytest.fixture
def table(tmp_path):
    """Thirty-two runs of a law without noise."""
    n, ratio = np.repeat(np.geomspace(1e7, 3e9, 8), 4), np.tile(np.geomspace(5, 100, 4), 8)
    rows = [
        f"{a},{a * r},7e5,1024,768,{1.8 + 480 / a**0.35 + 2000 / (a * r) ** 0.37}"
        for a, r in zip(n, ratio, strict=True)
    ]
    path = tmp_path / "losses.csv"
    path.write_text("\n".join(["params,tokens,size,length,width,loss", *rows]) + "\n")
    return str(path)


@pytest.mark.parametrize("command", REFUSED)
def test_a_flag_without_effect_or_a_wrong_number_is_one_line(command, table, capsys, monkeypatch):
    same = Path(table).with_name("same.csv")
    same.write_text("params,tokens,loss\n" + "1e8,2e9,3.1\n" * 30)
    runs, run = same.with_name("runs.csv"), same.with_name("mine")
    tasks = ("validation", "train")
    rows = [f"r{i},{2**i}e6,{3**i}e8,9,{task},bpb,{3 + 1 / (i + 1)}" for i in range(8) for task in tasks]
    runs.write_text("run,n_params,tokens,step,task,metric,value\n" + "\n".join(rows) + "\n")
    run.mkdir()
    (run / "config.json").write_text("{}")
    monkeypatch.chdir(same.parent)
    words = {"TABLE": table, "SAME": str(same), "EMPTY": "", "RUNS": str(runs)}
    assert cli.main([words.get(word, word) for word in command.split()]) == 2
    err = capsys.readouterr().err
    assert REFUSED[command] in err and err.startswith("error: ") and err.count("\n") == 1


# Minima of the law of repeated tokens, searched with its formula (N, D, loss).
OF_UNIQUE_TOKENS = {"5e9": (5.54e9, 2.80e11, 2.379), "25e9": (6.82e9, 2.27e11, 2.225)}


@pytest.mark.parametrize("unique", OF_UNIQUE_TOKENS)
def test_a_published_law_of_repeated_tokens_obeys_unique(unique, tmp_path):
    out = tmp_path / "allocate.json"
    assert cli.main([*PUBLISHED.split(), "muennighoff", "--unique", unique, "--json", str(out)]) == 0
    [row] = json.loads(out.read_text())["allocations"]
    n, d, loss = OF_UNIQUE_TOKENS[unique]
    assert (row["n_params"], row["tokens"]) == pytest.approx((n, d), rel=3e-3)
    assert row["loss"] == pytest.approx(loss, abs=5e-4) and row["epochs"] == row["tokens"] / float(unique)


def test_a_published_law_is_chosen_by_its_name(tmp_path):
    out, exponents = tmp_path / "allocate.json", {}
    for law in ("kaplan-nd", "kaplan-ns"):
        assert cli.main([*PUBLISHED.split(), "kaplan", "--law", law, "--json", str(out)]) == 0
        exponents[law] = json.loads(out.read_text())["exponents"]["N"]
    assert exponents["kaplan-nd"] == pytest.approx(1 / (1 + 0.076 / 0.103))
    assert exponents["kaplan-ns"] == pytest.approx(1 / (1 + 0.077 / 0.76 + 0.077 / 0.21))  # equation B.7


def test_flops_in_another_unit_are_flagged(table):
    from fitting.tables import comparable, loss_points

    rows = [line.split(",") for line in Path(table).read_text().splitlines()[1:]]
    for unit, flagged in ((1.0, False), (1.3, False), (8.64e19, True)):
        lines = [f"{n},{d},{loss},{6 * float(n) * float(d) / unit}" for n, d, *_, loss in rows]
        Path(table).write_text("\n".join(["params,tokens,loss,flops", *lines]) + "\n")
        flags = loss_points.read(table).flags
        assert any(comparable.FAR_FLOPS in flag for flag in flags) == flagged


def test_allocate_obeys_the_budget_with_vary(tmp_path, capsys):
    n, ratio = np.repeat(np.geomspace(1e7, 3e9, 8), 4), np.tile(np.geomspace(5, 100, 4), 8)
    rows = [
        f"{a},{1.2 * a},{a * r},{1.8 + 480 / a**0.35 + 2000 / (a * r) ** 0.37}" for a, r in zip(n, ratio, strict=True)
    ]
    path, out = tmp_path / "losses.csv", tmp_path / "out.json"
    path.write_text("\n".join(["params,total,tokens,loss", *rows]) + "\n")
    command = ["allocate", str(path), "--bootstrap", "20", "--json", str(out), "--budget", "1e20", "1e21"]
    assert cli.main([*command, "--vary", "n=params,total"]) == 0
    shown, by_params = capsys.readouterr().out, json.loads(out.read_text())["cells"][0]["allocations"]
    assert "parameters for 1e+20 FLOPs" in shown and "parameters for 1e+21 FLOPs" in shown
    assert cli.main(command) == 0
    alone = json.loads(out.read_text())["allocations"]
    assert [row["flops"] for row in by_params] == [1e20, 1e21]
    assert [row["n_params"] for row in by_params] == pytest.approx([row["n_params"] for row in alone], rel=1e-6)
