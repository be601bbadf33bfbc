"""Run directories that nothing trained."""

import math

from ladder.record import Record

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
