"""The log of another trainer as a runs table: what the importers of MaxText, OLMo-core and Levanter have in common.

A reader makes `Measured` of the lines of one file. Here they become rows: a run has one value of a metric at a step, N
and D by our conventions (n_params: all parameters but the input embedding; FLOPs: 6 n_params tokens), and is at its end
at the last step of its config.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fitting.errors import InputError
from fitting.tables import reader
from fitting.tables.importers import emitted
from fitting.tables.importers.metrics import check_share, csv_rows, is_number, listed, number
from fitting.tables.runs_table import Table, from_rows

# A run is at its end at the last step that was logged, if that is this share of its steps: not every step is logged.
END = 0.99
# Columns of a run that emitted.json gives.
FACTS = (
    *("split", "size", "multiple", "seed", "n_non_embedding", "n_total", "batch_tokens", "steps"),
    *("schedule", "peak_lr", "lr_final_fraction", "warmup_steps", "decay_steps"),
)


@dataclass(frozen=True)
class Measured:
    """One value. step: updates done. rounded: as printed, not as computed."""

    step: float
    task: str
    metric: str
    value: float
    place: str
    rounded: bool = False


@dataclass
class Log:
    """What one file holds of one run.

    run: its name, and tokens: {step: tokens seen}, if the file says so. unknown: names that are no metric of a runs
    table. not_finite: places of values that are NaN or no numbers. notes: what else was left out.
    """

    measured: list[Measured] = field(default_factory=list)
    tokens: dict[float, float] = field(default_factory=dict)
    run: str | None = None
    unknown: set[str] = field(default_factory=set)
    not_finite: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Trainer:
    """name: for messages. patterns: of its files in a folder. read: Log of a file that is no CSV. metric: (task,
    metric) of a name in its logs, or None. first_step: the number of its first update. tokens: the name of the tokens
    seen."""

    name: str
    patterns: tuple[str, ...]
    read: Callable[[Path, str], Log]
    metric: Callable[[str], tuple[str, str] | None]
    first_step: int
    tokens: str | None = None


def table(trainer: Trainer, paths: Iterable, n_params: dict[str, float], tokens_per_step: float | None) -> Table:
    """The runs table of logs: files, or folders of them. n_params, tokens_per_step: of runs that no emitted.json lists.

    Table.left_out names what was not imported. Raises InputError where a run is not known, or nothing is measured.
    """
    paths = [reader.as_path(path) for path in paths]
    known = emitted.find(paths)
    logs, left_out, unknown = [], [], set()
    for file, is_named in _files(trainer, paths):
        file_logs = _csv(trainer, file) if _is_csv(file) else [trainer.read(file, reader.content(file)[1])]
        if not any(log.measured for log in file_logs):
            reasons = "; ".join(note for log in file_logs for note in log.notes)
            if is_named:
                raise InputError(f"{file}: no metrics of {trainer.name} in it{f' ({reasons})' if reasons else ''}")
            left_out.append(f"{file}: no metrics of {trainer.name}")
            continue
        for log in file_logs:
            logs.append((file, _run(file, log.run, known | n_params), log))
            left_out += [f"{file}: {note}" for note in log.notes]
            unknown |= log.unknown
            if log.not_finite:
                left_out.append(f"{len(log.not_finite)} values that are not finite (first at {log.not_finite[0]})")
    rows = []
    for run in dict.fromkeys(run for _, run, _ in logs):
        of_run = [log for _, name, log in logs if name == run]
        values, notes = _values(of_run, run)
        tokens = {step: tokens for log in of_run for step, tokens in log.tokens.items()}
        rows += _rows(run, values, known.get(run), n_params.get(run), tokens, tokens_per_step)
        left_out += notes + _unfinished(run, rows)
    if not rows:
        raise InputError(f"no metrics of {trainer.name} in {', '.join(map(str, paths))}")
    left_out += [f"what is no metric of a runs table: {listed(unknown)}"] if unknown else []
    return from_rows(rows, ", ".join(map(str, paths)), tuple(left_out))


def flattened(metrics: dict, prefix: str = "") -> dict[str, object]:
    """Nested objects as one, with the keys joined by "/"."""
    flat = {}
    for key, value in metrics.items():
        flat |= flattened(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def measure(log: Log, trainer: Trainer, metrics: dict[str, object], step: float, place: str, rounded=False) -> None:
    """Add the metrics of one step, by the names of the trainer, to a log."""
    for name, value in metrics.items():
        if name == trainer.tokens and is_number(value):
            log.tokens[step] = value
            continue
        known = trainer.metric(name)
        if known is None:
            log.unknown.add(name)
        elif is_number(value):
            check_share(known[1], value, f"{place}: {name}")
            log.measured.append(Measured(step, *known, value, place, rounded))
        else:
            log.not_finite.append(f"{place}: {name}")


def _files(trainer: Trainer, paths: list) -> list[tuple[Path, bool]]:
    """(file, whether it was named itself). Raises InputError for a path that is not there, or an empty folder."""
    files = []
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        if not path.is_dir():
            files += [(path, True)] if path.name != emitted.NAME else []
            continue
        inside = {file for pattern in trainer.patterns for file in path.rglob(pattern) if file.name != emitted.NAME}
        if not inside and not (path / emitted.NAME).exists():
            raise InputError(f"{path}: no {', '.join(trainer.patterns)} in this folder")
        files += [(file, False) for file in sorted(inside, key=_by_number)]
    return list(dict.fromkeys(files))


def _by_number(file) -> tuple:
    """Orders metrics_step9 before metrics_step10."""
    digits = "".join(c for c in file.stem if c.isdigit())
    return str(file.parent), int(digits or 10**18), file.name


def _is_csv(file) -> bool:
    return file.name.endswith((".csv", ".csv.gz"))


def _csv(trainer: Trainer, file) -> list[Log]:
    """A history or a panel ("RUN - METRIC") of Weights & Biases, as CSV: a Log for each run."""
    rows = csv_rows(file)
    header = [name for name in rows[0][1] if name]
    step_column = next((name for name in ("_step", "Step") if name in header), None)
    if step_column is None:
        raise InputError(f"{rows[0][0]}: no column _step or Step; there are: {', '.join(header)}")
    panel = {name: name.rpartition(" - ")[::2] for name in header if " - " in name and step_column == "Step"}
    logs = {}
    for place, row in rows:
        if row[step_column] in (None, ""):
            continue
        step = number(row, step_column, place) + 1 - trainer.first_step
        by_run = {}
        for column in header:
            if column == step_column or row[column] in (None, "", "NaN", "nan"):
                continue
            run, name = panel.get(column, (None, column))
            try:
                by_run.setdefault(run, {})[name] = float(row[column])
            except ValueError:
                logs.setdefault(run, Log(run=run)).unknown.add(name)
        for run, metrics in by_run.items():
            measure(logs.setdefault(run, Log(run=run)), trainer, metrics, step, place)
    return list(logs.values())


def _run(file, said: str | None, known: dict) -> str:
    """The run of a file: what the file says, else the part of its path that is the name of a known run."""
    name = file.name
    names = [said] if said else []
    names += [name[:i] for i in range(len(name), 0, -1) if i == len(name) or name[i] in ".-_"]
    names += [folder.name for folder in list(file.parents)[: emitted.PARENTS]]
    found = next((name for name in names if name in known), None)
    if found is None and len(known) == 1 and not said:
        return next(iter(known))
    if found is None:
        shown = said or name.partition(".")[0]
        text = f"run {shown!r}: no {emitted.NAME} beside this log lists it; name the folder of its configs as well, or "
        raise InputError(f"{file}: {text}give its parameters and the tokens in a step: --run {shown}=N --tokens M")
    return found


def _values(logs: list[Log], run: str) -> tuple[list[Measured], list[str]]:
    """One value for each step, task and metric of a run, and notes about the others.

    An exact value counts before one as printed, and of two, as after a resume, the later one.
    """
    values, replaced = {}, 0
    for log in logs:
        for one in log.measured:
            key = (one.step, one.task, one.metric)
            earlier = values.get(key)
            if earlier and one.rounded and not earlier.rounded:
                continue
            replaced += bool(earlier) and earlier.rounded == one.rounded and earlier.value != one.value
            values[key] = one
    note = f"run {run}: {replaced} values of steps that stand twice (a resume?); the last value is kept"
    return sorted(values.values(), key=lambda one: one.step), [note] if replaced else []


def _rows(
    run: str,
    values: list[Measured],
    facts: dict | None,
    n: float | None,
    logged: dict[float, float],
    per_step: float | None,
) -> list[dict]:
    """Rows of one run. facts: of emitted.json; else n and, of the tokens, what is logged or per_step."""
    common = {"run": run, "n_params": n or facts["n_params"]}
    common |= {name: facts.get(name) for name in FACTS} if facts else {}
    rows, last = [], max((one.step for one in values), default=0.0)
    for one in values:
        batch = facts["batch_tokens"] if facts else per_step
        tokens = one.step * batch if batch else logged.get(one.step)
        if tokens is None:
            raise InputError(f"{one.place}: run {run}: its log has no tokens; give those in a step: --tokens M")
        if tokens <= 0:  # before training: laws need D > 0
            continue
        row = common | {"tokens": tokens, "step": one.step, "flops": 6 * common["n_params"] * tokens}
        row |= {"task": one.task, "metric": one.metric, "value": one.value, "place": one.place}
        rows.append(row | {"final": one.step == last >= END * (facts["steps"] if facts else last)})
    return rows


def _unfinished(run: str, rows: list[dict]) -> list[str]:
    """A note where the log of a run does not reach the last step of its config."""
    of_run = [row for row in rows if row["run"] == run]
    last = max((row["step"] for row in of_run), default=0.0)
    steps = of_run[0].get("steps") if of_run else None
    if steps is None or last >= steps:
        return []
    if any(row["final"] for row in of_run):
        return [f"run {run}: steps after {last:g}, its end here (its config has {steps})"]
    return [f"run {run} as a finished run (its log ends at step {last:g} of {steps})"]
