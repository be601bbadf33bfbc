"""`ladder export`: runs, or other projects' results, as one runs table; or the model of one run."""

import math
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from ladder.errors import InputError
from launch import terminal
from launch.cli.options import refuse

Source = Literal["ladder", "paper", "lm-eval", "llm-foundry", "wandb", "maxtext", "olmo-core", "levanter"]
# Which flags each source reads; any other is refused.
FLAGS = {
    "ladder": (),
    "paper": (),
    "lm-eval": ("run", "step"),
    "llm-foundry": ("run", "step"),
    "wandb": ("run", "tokens", "step-column"),
    "maxtext": ("run", "tokens"),
    "olmo-core": ("run", "tokens"),
    "levanter": ("run", "tokens"),
}
# Logs of trainers; what they do not say of a run stands in emitted.json, beside its config.
TRAINERS = ("maxtext", "olmo-core", "levanter")


def export(
    tables: Annotated[
        Positional[tuple[str, ...]],
        arg(metavar="TABLE ...", help="runs/NAME, a runs table, or another project's files", help_behavior_hint=""),
    ],
    /,
    *,
    out: Annotated[Path | None, arg(metavar="FILE", aliases=["-o"], help_behavior_hint="")] = None,
    to: Annotated[tuple[Literal["hf"], str] | None, arg(metavar="hf DIR", help_behavior_hint="")] = None,
    source: Source = "ladder",
    run: Annotated[tuple[str, ...], arg(metavar="NAME=N,D ...")] = (),
    step: Annotated[tuple[str, ...], arg(metavar="STEP ...")] = (),
    tokens: Annotated[str | None, arg(metavar="COLUMN|NUMBER")] = None,
    step_column: Annotated[str | None, arg(metavar="COLUMN")] = None,
    where: Annotated[tuple[str, ...], arg(metavar="COLUMN=VALUE ...")] = (),
) -> None:
    """Write runs as one runs table: the finished runs of a folder, or other projects' results. Or write a run's model.

    Example: ladder export runs/demo -o demo.csv.gz
    Example: ladder export 1B.json 3B.json --source lm-eval --run 1B=1.3B,26B 3B=3.2B,64B -o table.csv

    Example: ladder export emitted/ logs/ --source maxtext -o table.csv

    Example: ladder export runs/demo/RUN_ID --to hf my-model

    Args:
        out: the runs table to write, .csv or .csv.gz
        to: write the model of a run directory to a new folder that Hugging Face transformers opens
        source: paper: a folder of the task-ladder paper's CSVs; lm-eval: result JSONs, samples or folders of them;
            llm-foundry: result JSONs; wandb: CSVs of histories or panels; maxtext, olmo-core, levanter: logs and
            folders, with the configs of `ladder plan --emit`
        run: name, parameters and training tokens of each file's run (one for all files: the same run); for wandb, and
            a trainer's runs that --emit did not write, name and parameters; 1B-10xC=1.3B,260B
        step: of the run when it was evaluated, of each file or one for all (lm-eval, llm-foundry; 0 without it);
            with --to, which checkpoint (the newest without it)
        tokens: wandb: the column with training tokens ("tokens" without it); wandb, trainers: or how many in a step
        step_column: wandb: the column with the training step (_step, or Step of a panel, without it)
        where: only rows with this value in this column, for example task=piqa_val; of one column, any of several values
    """
    if not tables:
        raise InputError("name what to export, for example: ladder export runs/demo -o demo.csv.gz")
    if to is not None:
        unused = {"out": out, "run": run, "tokens": tokens, "step_column": step_column, "where": where}
        return _model(tables, to[1], step, unused | {"source": source != "ladder"})
    if out is None:
        raise InputError("name the file to write, -o runs.csv.gz for a runs table; or --to hf DIR for a model")
    from fitting.tables import join, runs_table

    if not out.name.endswith((".csv", ".csv.gz")):
        raise InputError(f"{out}: a runs table is written as .csv or .csv.gz")
    for flag, value in {"run": run, "step": step, "tokens": tokens, "step-column": step_column}.items():
        if value not in (None, ()) and flag not in FLAGS[source]:
            raise InputError(f"--source {source} does not read --{flag}; leave it out")
    with terminal.working(f"reading {', '.join(tables)}"):
        runs = join.where(join.join(_read(tables, source, run, step, tokens, step_column)), where)
    runs_table.write(runs, out)
    for line in runs.left_out:
        print(f"left out: {line}")
    print(f"{out}: {len(runs)} rows of {len(runs.unique('run'))} runs")


def _model(runs: tuple[str, ...], folder: str, step: tuple[str, ...], unused: dict) -> None:
    from launch import model_export

    refuse("with --to", unused)
    if len(runs) > 1:
        raise InputError(f"--to: {len(runs)} runs; name one run directory at a time")
    if len(step) > 1 or not all(text.isdecimal() and len(text) < 16 for text in step):
        raise InputError(f"--step {' '.join(step)}: with --to name one checkpoint, such as --step 400")
    with terminal.working(f"writing {folder}"):
        written, n_bytes = model_export.to_hf(runs[0], folder, int(step[0]) if step else None)
    terminal.console().print(f"{folder}: step {written:,}, {n_bytes / 1e6:,.1f} MB of tensors", markup=False)


def _read(files: tuple[str, ...], source: Source, run, step, tokens: str | None, step_column: str | None) -> list:
    """The table of each file."""
    from fitting.tables import importers, runs_table

    if source == "ladder":
        return [runs_table.read(file) for file in files]
    if source == "paper":
        return [importers.paper(file) for file in files]
    if source in TRAINERS:
        read = {"maxtext": importers.maxtext, "olmo-core": importers.olmo_core, "levanter": importers.levanter}[source]
        return [read(files, _parameters([_run(text, 1) for text in run]), _tokens_in_a_step(tokens))]
    runs = [_run(text, 1 if source == "wandb" else 2) for text in run or ("",)]
    if source == "wandb":
        everyone = _parameters(runs)
        panels = [importers.is_panel(file) for file in files]
        # A panel is asked for every run; a history is one run's, in the order of the files.
        of_file = [everyone] * len(files) if all(panels) else [{name: n} for name, (n,) in _each(runs, files, "run")]
        of_file = [everyone if panel else own for panel, own in zip(panels, of_file, strict=True)]
        tokens = tokens or "tokens"
        return [importers.wandb(file, own, tokens, step_column) for file, own in zip(files, of_file, strict=True)]
    read = importers.lm_eval if source == "lm-eval" else importers.llm_foundry
    steps = _each([_step(text) for text in step or ("0",)], files, "step")
    of_file = zip(files, _each(runs, files, "run"), steps, strict=True)
    return [read(file, name, *sizes, at) for file, (name, sizes), at in of_file]


def _parameters(runs: list[tuple[str, list[float]]]) -> dict[str, float]:
    """{name: N} of --run NAME=N. Raises InputError where a run has two."""
    n_params = {name: n for name, (n,) in runs}
    if any(n_params[name] != n for name, (n,) in runs):
        raise InputError("--run: a run has two numbers of parameters")
    return n_params


def _tokens_in_a_step(text: str | None) -> float | None:
    from fitting.tables.quantities import quantity

    value = None if text is None else quantity(text)
    if value is not None and not 0 < value < math.inf:
        raise InputError(f"--tokens {text}: the tokens in a step must be positive")
    return value


def _each(values: list, files: tuple[str, ...], flag: str) -> list:
    """One value for each file. Raises InputError unless there is one for each, or one for all."""
    if len(values) not in (1, len(files)):
        raise InputError(f"--{flag}: {len(values)} values for {len(files)} files; give one for each, or one for all")
    return values * len(files) if len(values) == 1 else values


def _step(text: str) -> float:
    from fitting.tables.quantities import quantity

    value = quantity(text)
    if not 0 <= value < math.inf:
        raise InputError(f"--step {text}: a step is 0 or more")
    return value


def _run(text: str, n_numbers: int) -> tuple[str, list[float]]:
    """ "NAME=N" or "NAME=N,D" -> (name, numbers). A name may contain "="."""
    from fitting.errors import InputError as NotANumber
    from fitting.tables.quantities import quantity

    name, _, numbers = text.rpartition("=")
    try:
        values = [quantity(v) for v in numbers.split(",")]
    except NotANumber:
        values = []
    if not name or len(values) != n_numbers or not all(0 < v < math.inf for v in values):
        form, example = ("NAME=N,D", "1B-10xC=1.3B,260B") if n_numbers == 2 else ("NAME=N", "1B-10xC=1.3B")
        raise InputError(f"--run {text!r}: write {form}, positive numbers, such as {example}")
    return name, values
