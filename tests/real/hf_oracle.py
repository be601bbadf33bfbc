"""What transformers makes of exported folders: run by the Python of .cache/oracle.

    .cache/oracle/bin/python tests/real/hf_oracle.py ASKED.json ANSWERS.json

ASKED.json: {folder: {"tokens": rows of ids, "texts": [...], "requests": [[ids, how many of the last are scored]]}}.
ANSWERS.json: {folder: {"class", "dtype": of its weights, "problems": what transformers missed or did not expect,
"logits": in float32, "ids": of each text without special tokens, "texts": of those ids, "scores": of each request}}.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils.logging import disable_progress_bar


def answer(folder: str, asked: dict) -> dict:
    model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    dtype = str(model.dtype)
    model.float()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in asked["texts"]]
    with torch.inference_mode():
        logits = model.eval()(torch.tensor(asked["tokens"])).logits
    generation = GenerationConfig.from_pretrained(folder)
    assert generation.eos_token_id == tokenizer.eos_token_id == model.config.eos_token_id
    return {
        "class": type(model).__name__,
        "dtype": dtype,
        "problems": sorted(str(name) for names in loading.values() for name in names),
        "parameters": {name: list(tensor.shape) for name, tensor in model.named_parameters()},
        "logits": logits.tolist(),
        "scores": [score(model, ids, n) for ids, n in asked.get("requests", ())],
        "ids": ids,
        "texts": [tokenizer.decode(i, skip_special_tokens=True) for i in ids],
        "eos": tokenizer.eos_token_id,
    }


def score(model, ids: list[int], n: int) -> float:
    """The log-probability of the last n ids after the others, in nats."""
    with torch.inference_mode():
        log_p = model(torch.tensor([ids[:-1]]), logits_to_keep=n).logits[0].double().log_softmax(-1)
    return log_p[torch.arange(n), torch.tensor(ids[-n:])].sum().item()


def main(asked: Path, answers: Path) -> None:
    disable_progress_bar()
    found = {folder: answer(folder, of_folder) for folder, of_folder in json.loads(asked.read_text()).items()}
    answers.write_text(json.dumps(found))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
