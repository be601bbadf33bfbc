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
    "predict TABLE --tasks EMPTY": "--tasks: names no task; leave it out for all",
    "eval runs/none --tasks EMPTY": "--tasks: names no task; leave it out for the tasks of the run's config",
    "eval runs/none --max-docs 0": "--max-docs 0: must be at least 1",
    "eval runs/none/checkpoints/7 --tasks a --step 3": "--step: no effect with the checkpoint runs/none/checkpoints/7",
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
}


@pytest.fixture
def table(tmp_path):
    """Thirty-two runs of a law without noise."""
    n, ratio = np.repeat(np.geomspace(1e7, 3e9, 8), 4), np.tile(np.geomspace(5, 100, 4), 8)
    rows = [f"{a},{a * r},{1.8 + 480 / a**0.35 + 2000 / (a * r) ** 0.37}" for a, r in zip(n, ratio, strict=True)]
    path = tmp_path / "losses.csv"
    path.write_text("\n".join(["params,tokens,loss", *rows]) + "\n")
    return str(path)


@pytest.mark.parametrize("command", REFUSED)
def test_a_flag_without_effect_or_a_wrong_number_is_one_line(command, table, capsys):
    same = Path(table).with_name("same.csv")
    same.write_text("params,tokens,loss\n" + "1e8,2e9,3.1\n" * 30)
    words = {"TABLE": table, "SAME": str(same), "EMPTY": ""}
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
        lines = [f"{n},{d},{loss},{6 * float(n) * float(d) / unit}" for n, d, loss in rows]
        Path(table).write_text("\n".join(["params,tokens,loss,flops", *lines]) + "\n")
        flags = loss_points.read(table).flags
        assert any(comparable.FAR_FLOPS in flag for flag in flags) == flagged
