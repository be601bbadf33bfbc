"""What transformers makes of exported folders: run by the Python of .cache/oracle.

    .cache/oracle/bin/python tests/real/hf_oracle.py ASKED.json ANSWERS.json

ASKED.json: {folder: {"tokens": rows of ids, "texts": [...]}}. ANSWERS.json: {folder: {"class", "problems": what
transformers missed or did not expect, "logits", "ids": of each text without special tokens, "texts": of those ids}}.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils.logging import disable_progress_bar


def answer(folder: str, asked: dict) -> dict:
    model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert model.dtype == torch.float32
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in asked["texts"]]
    with torch.inference_mode():
        logits = model.eval()(torch.tensor(asked["tokens"])).logits
    generation = GenerationConfig.from_pretrained(folder)
    assert generation.eos_token_id == tokenizer.eos_token_id == model.config.eos_token_id
    return {
        "class": type(model).__name__,
        "problems": sorted(str(name) for names in loading.values() for name in names),
        "parameters": {name: list(tensor.shape) for name, tensor in model.named_parameters()},
        "logits": logits.tolist(),
        "ids": ids,
        "texts": [tokenizer.decode(i, skip_special_tokens=True) for i in ids],
        "eos": tokenizer.eos_token_id,
    }


def main(asked: Path, answers: Path) -> None:
    disable_progress_bar()
    found = {folder: answer(folder, of_folder) for folder, of_folder in json.loads(asked.read_text()).items()}
    answers.write_text(json.dumps(found))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
