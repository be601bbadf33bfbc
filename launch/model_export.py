"""`ladder export RUN_DIR --to hf DIR`: a checkpoint as a folder that transformers opens, with a model card."""

import json
from collections.abc import Callable
from pathlib import Path

from ladder.config import Model, Rung
from ladder.errors import InputError
from ladder.rundir import config_file, evaluations
from ladder.rundir.files import as_path
from ladder.rundir.record import Record
from ladder.sizes import n_non_embedding, n_params, n_total

# The columns of the card's table of scores.
COLUMNS = ("task", "metric", "value", "stderr", "n_docs")


def to_hf(run: str, folder: str, step: int | None = None) -> tuple[int, int]:
    """(step, bytes of the tensors) of the checkpoint that was written to `folder`. step: None for the newest.

    The parameters are read and written one after the other, so that memory holds the largest one, not the model.
    config.json is written last: without it, transformers opens no folder that was not completed.
    Raises InputError where the run, the checkpoint or its tokenizer cannot be read, or the folder is not empty.
    """
    out = _empty_folder(folder)
    record = Record(as_path(run))
    config, rung = _read(record)
    step = _checkpoint(record, step)

    from ladder.loop.run import open_tokenizer
    from ladder.rundir.checkpoint import Checkpoints

    tokenizer = open_tokenizer(config, rung)
    eos = tokenizer.eos if rung.data.eos_id is None else rung.data.eos_id
    read = Checkpoints(record.directory / "checkpoints").reader(step, rung.model.param_dtype)
    card = _card(record, rung, step)

    n_bytes = write(out, rung.model, lambda name: read(("params", *name.split("."))), tokenizer, eos, card)
    return step, n_bytes


def write(out: Path, model: Model, read: Callable, tokenizer, eos: int, card: str) -> int:
    """Write the folder; the bytes of its tensors. read: a parameter by its dotted name (hf.tensors)."""
    from ladder.convert import hf, hf_config, hf_tokenizer, safetensors_files

    out.mkdir(parents=True, exist_ok=True)
    entries = hf.entries(model)
    safetensors_files.write(out, entries, hf.tensors(model, read))
    (out / "tokenizer.json").write_text(hf_tokenizer.definition(tokenizer), encoding="utf-8")
    _write_json(out / "tokenizer_config.json", hf_tokenizer.config(tokenizer, eos, model.seq_len))
    _write_json(out / "generation_config.json", hf_config.token_ids(eos, tokenizer.bos))
    (out / "README.md").write_text(card, encoding="utf-8")
    _write_json(out / "config.json", hf_config.write(model, eos, tokenizer.bos))
    return sum(entry.n_bytes for entry in entries)


def _empty_folder(folder: str) -> Path:
    if "://" in folder:
        raise InputError(f"--to hf {folder}: write to a folder of this machine, then copy it")
    out = Path(folder)
    if out.exists() and not out.is_dir():
        raise InputError(f"--to hf {folder}: is a file; name a new folder")
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"--to hf {folder}: is not empty; name a new folder, or delete this one")
    return out


def _read(record: Record) -> tuple[dict, Rung]:
    """(config.json, its rung) of a run directory."""
    if not (record.directory / "config.json").exists():
        raise InputError(f"{record.directory}: no config.json; name a run directory, such as runs/demo/RUN_ID")
    if "rung" not in record.read_config():
        raise InputError(f"{record.directory}: a fit directory, which has no model; name the directory of a run")
    return config_file.read(record)


def _checkpoint(record: Record, step: int | None) -> int:
    saved = record.saved_steps()
    if not saved:
        raise InputError(f"{record.directory}: no checkpoint to export; train it first")
    if step is not None and step not in saved:
        listed = ", ".join(map(str, saved))
        raise InputError(f"{record.directory}: no checkpoint of step {step}; there are {listed}", "step")
    return saved[-1] if step is None else step


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _card(record: Record, rung: Rung, step: int) -> str:
    """README.md: what was trained, on how much, and what it scored at this step."""
    model, optimizer = rung.model, rung.optimizer
    facts = {
        "run": record.directory.name,
        "kind": rung.kind if rung.parent is None else f"{rung.kind} of run {rung.parent} from step {rung.parent_step}",
        "family": model.family,
        "shape": f"{model.n_layers} layers, width {model.d_model}, {model.n_heads} heads "
        f"({model.kv_heads} key-value heads), feed-forward {model.d_ff}",
        "context": f"{model.seq_len:,} tokens",
        "parameters without the input embedding": f"{n_params(model):,}",
        "parameters of the blocks' matrices": f"{n_non_embedding(model):,}",
        "all parameters": f"{n_total(model):,}",
        "training tokens": f"{step * rung.batch_tokens:,} (step {step:,} of {rung.steps:,})",
        "batch": f"{rung.batch_tokens:,} tokens",
        "learning rate": f"{optimizer.peak_lr:g} at most, {optimizer.schedule} schedule, AdamW",
        "seed": rung.seed,
        "corpus": rung.content,
        "tokenizer": rung.data.tokenizer_hash,
    }
    lines = ["---", "library_name: transformers", "pipeline_tag: text-generation", "---", ""]
    lines += [f"# {record.directory.name}", "", "Trained and exported by ladder.", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in facts.items()]
    rows = _scores(record, step)
    lines += ["", f"## Scores at step {step:,}", ""]
    if not rows:
        lines.append("This checkpoint was not evaluated.")
    else:
        lines += ["Losses are in nats per token, bpb in bits per byte.", ""]
        lines += [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
        lines += [f"| {' | '.join(_cell(row.get(column)) for column in COLUMNS)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _scores(record: Record, step: int) -> list[dict]:
    """The rows of this step, from training and from `ladder eval`; of a task and metric the last that was recorded."""
    rows = [row for row in record.rows() if row["step"] == step] + evaluations.of_step(record.directory, step)
    return list({(row["task"], row["metric"]): row for row in rows}.values())


def _cell(value) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    return "" if value is None else " ".join(str(value).replace("|", "\\|").split())
