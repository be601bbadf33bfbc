"""Save random models with transformers, and say what it computes with them: run by the Python of .cache/oracle.

    .cache/oracle/bin/python tests/real/hf_saved.py ASKED.json ANSWERS.json

ASKED.json: {folder: {"config": the arguments of AutoConfig.for_model, "dtype", "tokenizer": a tokenizer.json,
"special": names of its special tokens, "tokens": rows of ids, "texts": [...]}}. ANSWERS.json: {folder: {"class",
"logits": in float32, of the weights as they were saved, "ids": of each text}}.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar


def answer(folder: str, asked: dict) -> dict:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**asked["config"]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (parameter.ndim == 1))
    model.to(getattr(torch, asked["dtype"])).save_pretrained(folder, max_shard_size="60KB")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=asked["tokenizer"], **asked["special"])
    tokenizer.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = model(torch.tensor(asked["tokens"])).logits
    ids = [tokenizer(t, add_special_tokens=False, split_special_tokens=True)["input_ids"] for t in asked["texts"]]
    return {"class": type(model).__name__, "logits": logits.tolist(), "ids": ids}


def main(asked: Path, answers: Path) -> None:
    disable_progress_bar()
    found = {folder: answer(folder, of_folder) for folder, of_folder in json.loads(asked.read_text()).items()}
    answers.write_text(json.dumps(found))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
