"""Forecasts that nobody can change afterwards unseen: written before the target is trained, compared with it later.

The file holds the forecast, what it was made of, and the hash of all this. Publish the hash of the file (that of
`sha256sum`) before the target is trained: then the file can be checked against it by anyone.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import fitting
from fitting.tables.points import Target
from fitting.tables.runs_table import KEY, Table
from ladder.config import canonical_json
from ladder.errors import DamagedError, InputError
from ladder.rundir import files
from launch import prepare, terminal


@dataclass(frozen=True)
class Sealed:
    """What a file holds, and the sha256 of the file."""

    contents: dict
    sha256: str

    @property
    def targets(self) -> list[Target]:
        return [Target(t["name"], t["n_params"], t["tokens"], t.get("flops")) for t in self.contents["targets"]]


def check_new(path: Path) -> None:
    """Raises InputError where the file exists: a seal is written once."""
    if path.exists():
        raise InputError(f"{path}: exists; a sealed forecast is never written over, so name another file (--seal)")


def write(
    path: Path, runs: Table, targets: Sequence[Target], result, settings: dict, measured: Sequence[str] = ()
) -> str:
    """Write a forecast of the default method to a new file; returns the sha256 of the file. settings: what it takes to
    make the same forecast again: tasks (None for all), resamples, seed. measured: targets that are known to be trained
    already, besides those in the table. Raises InputError where the file exists."""
    prediction = result.prediction
    in_table = [entry.target for entry in result if (entry.measured_bpb, entry.measured_accuracy) != (None, None)]
    contents = {
        "sealed_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "table": runs.source,
        "table_sha256": runs.sha256,
        "runs_sha256": runs_hash(runs),
        "targets": [target.json() for target in targets],
        "measured_before": sorted({*in_table, *measured}),
        "metrics": {"loss": prediction.measurements.metric}
        | {"accuracy": {task: step.metric for task, step in prediction.step2.items()}},
        "settings": settings,
        "code_sha256": code_hash(),
        "packages": prepare.packages(),
        "forecast": result.json(),
    }
    text = files.sealed(json.loads(terminal.to_json_text(contents)))
    path.parent.mkdir(parents=True, exist_ok=True)
    if not files.create(path, text):
        check_new(path)
    return hashlib.sha256(text.encode()).hexdigest()


def read(path: Path) -> Sealed:
    """Raises DamagedError, in one line, where the file is not as it was written."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}) (--sealed)") from None
    contents = files.unsealed(raw, path)
    if contents.get("schema_version") != files.SCHEMA_VERSION or "sealed_at" not in contents:
        raise DamagedError(f"{path}: no sealed forecast; ladder predict TABLE --seal FILE writes one")
    return Sealed(contents, hashlib.sha256(raw).hexdigest())


def runs_hash(runs: Table) -> str:
    """sha256 of all rows but the targets', in an order of their own: the same after a target has been measured."""
    train, rows = runs.select(split=["train", "extra"]).columns, []
    for values in zip(*(column.tolist() for column in train.values()), strict=True):
        row = dict(zip(train, values, strict=True))
        rows.append({name: value for name, value in row.items() if value not in ("", None) and value == value})
    rows.sort(key=lambda row: [str(row.get(name)) for name in KEY])
    return hashlib.sha256(canonical_json(rows).encode()).hexdigest()


def code_hash() -> str:
    """sha256 of the names and the contents of all files of the room `fitting`, which makes the forecasts."""
    root, total = Path(fitting.__file__).parent, hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.suffix in (".py", ".json")):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return total.hexdigest()


def compared(sealed: Sealed, runs: Table) -> list:
    """The sealed predictions as TaskForecasts, with what the targets' runs in the table have measured since."""
    from fitting.forecasting.results import TaskForecast
    from fitting.tables.points import measured

    metrics, entries = sealed.contents["metrics"], []
    targets = {target.name: target for target in sealed.targets}
    for row in sealed.contents["forecast"]["predictions"]:
        accuracy = metrics["accuracy"].get(row["task"])
        target, ends = targets[row["target"]], [row[name] and tuple(row[name]) for name in ("bpb_pi80", "acc_pi80")]
        truth = [measured(runs, target, row["task"], name) if name else None for name in (metrics["loss"], accuracy)]
        entries.append(
            TaskForecast(
                target.name, row["task"], row["bpb"], ends[0], row["acc"], ends[1], tuple(row["flags"]), *truth
            )
        )
    return entries


def facts(sealed: Sealed, runs: Table) -> tuple[list[str], list[str]]:
    """(what the seal says, what has changed since: [] if nothing)."""
    contents, changed = sealed.contents, []
    said = [f"sealed {contents['sealed_at']}; sha256 of the file, to compare with the published one: {sealed.sha256}"]
    if contents["measured_before"]:
        said.append(f"measured before the forecast was sealed: {', '.join(contents['measured_before'])}")
    if runs_hash(runs) != contents["runs_sha256"]:
        changed.append(f"the runs in {runs.source} are not those that the sealed forecast was made of")
    if code_hash() != contents["code_sha256"]:
        said.append("the code that forecasts has changed since; the sealed numbers are those of the code of then")
    return said, changed
