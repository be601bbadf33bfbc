"""Run directories that nothing trained, and a ladder that trains in a minute."""

import json
import math
from dataclasses import replace
from random import Random

from configs import demo
from ladder.rundir.record import Record
from launch import prepare

A, ALPHA, B, BETA, E = 40.0, 0.38, 300.0, 0.38, 0.9


def law(n, d):
    return A / n**ALPHA + B / d**BETA + E


def run(root, name, parent=None, split="train", ladder="mine", **derived):
    """A run directory that is not begun."""
    derived = {"flops_per_token": 100, "batch_tokens": 64, "steps": 10, "parent_run": parent, "size": "d8"} | derived
    derived = {"kind": "branch" if parent else "full"} | derived
    config = {"run_id": name, "ladder": ladder, "split": split, "rung": {"parent_step": 4 if parent else None}}
    Record(root / name).write_config(config | {"derived": derived})
    return root / name


def ladder_that_follows_a_law(root):
    """root/mine: twelve runs, done, whose validation bpb is `law`."""
    for n in (20_000, 40_000, 80_000, 160_000):
        for multiple in (1, 2, 4):
            tokens = 20 * n * multiple
            counts = {"n_params": n, "n_total": n, "n_non_embedding": n, "tokens": tokens, "seed": 0, "parent": None}
            more = {"multiple": multiple, "schedule": "cosine", "peak_lr": 0.1, "lr_final_fraction": 0.1}
            more |= {"corpus": "c", "tokenizer": "t", "batch_tokens": tokens // 10, "size": f"n{n}"}
            record = Record(run(root / "mine", f"n{n}-{multiple}xC", **counts, **more))
            bpb = law(n, tokens)
            row = {"step": 10, "tokens": tokens, "kind": "full", "task": "validation", "stderr": None, "n_docs": None}
            record.log([row | {"metric": "bpb", "value": bpb}, row | {"metric": "loss", "value": bpb * math.log(2)}])
            record.publish(10)
            record.finish(step=10, tokens=tokens, loss=bpb * math.log(2))
    return root / "mine"


def small_ladder(root):
    """Two trunks with two branches each, and a target to predict: (its run directories' jobs, everything built)."""
    random = Random(0)
    words = ["".join(random.choices("etaoinshrdlu", k=random.randint(2, 9))) for _ in range(200)]
    text = root / "text.jsonl"
    text.write_text("".join(json.dumps({"text": " ".join(random.choices(words, k=100))}) + "\n" for _ in range(600)))
    few = demo.Eval((), validation_tokens=1 << 12)
    rungs = [r for d in (8, 12) for r in demo.trunk_and_branches(demo._rung(d, 1, few, 0), (1.0, 2.0))]
    data = replace(rungs[0].data, text=(str(text),), validation=0.2)
    ladder = demo.Ladder("small", tuple(rungs), (demo._rung(16, 1, few, 0),))
    return prepare.build(ladder.map(lambda rung: replace(rung, data=data, save_every=20)), root / "corpora")
