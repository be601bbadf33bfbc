"""`ladder study NAME`: from the runs of a study to its page."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from fitting.errors import InputError as FitInputError
from ladder.errors import InputError
from ladder.rundir.files import write_atomic
from launch import display, terminal
from launch.scheduler import submission

NAMES = ("shape", "scaling", "batch", "branches", "noise")
FILE = "study.json"
ERRORS = "errors"  # the error analysis of the task-ladder paper, on a table


@dataclass(frozen=True)
class Reported:
    """page: None where nothing can be reported yet. lines: why, or which runs are missing."""

    page: Path | None
    lines: tuple[str, ...]


def is_table(name: str) -> bool:
    """Whether it names a file or a folder, not a study."""
    return name not in NAMES and ("." in name or "/" in name or Path(name).exists())


def check_name(name: str) -> None:
    """Raise InputError where there is no such study."""
    if name not in NAMES:
        near = get_close_matches(name, (*NAMES, ERRORS), n=1, cutoff=0.0)[0]
        raise InputError(
            f"no study {name!r}; did you mean {near!r}? Write one of {', '.join(NAMES)}, or: ladder study errors TABLE"
        )


def report(name: str, folder: Path, command: Sequence[str], batch_study: Path | None = None) -> Reported:
    """Write report.html and study.json of the submitted runs in a folder that are finished. command: that made them.
    batch_study: for scaling, study.json of a study batch; None: the one beside the folder, if there is one."""
    from fitting.studies import catalogue
    from fitting.tables import runs_table

    runs = [job.run_id for job in submission.read(folder).jobs if not job.is_fit]
    try:
        table = runs_table.read(folder)
        chosen = table.select(run=runs)
        if not len(chosen):
            raise FitInputError(f"{folder}: no run of this study is finished")
        missing = _missing(table, runs)
        study = catalogue.analyse(name, chosen, _batch_study(name, folder, batch_study))
    except FitInputError as error:
        return Reported(None, (f"nothing to report yet: {error}",))
    page = folder / "report.html"
    _write(
        study,
        page,
        [shlex.join(command)],
        {"runs": f"{len(runs) - len(missing)} of {len(runs)}"} | _facts(chosen),
        missing,
    )
    write_atomic(folder / FILE, terminal.to_json_text(study.json() | {"missing": list(missing)}))
    return Reported(page, missing)


def report_table(
    name: str, path: str, page: Path, command: Sequence[str], json: Path | None, batch_study: Path | None = None
) -> None:
    """Write the page of a runs table from anywhere; batch_study as in `report`. Raises InputError where the table lacks
    what the study needs."""
    from fitting.studies import catalogue
    from fitting.tables import runs_table

    beside = _batch_study(name, Path(path), batch_study)
    table = runs_table.read(path)
    study = catalogue.analyse(name, table, beside)
    _write(study, page, [shlex.join(command)], _facts(table), table.left_out)
    if json:
        terminal.write_json(json, study.json() | {"missing": list(table.left_out)})


def _batch_study(name: str, runs: Path, given: Path | None) -> Path | None:
    """study.json of the batch sizes that belongs to the runs of a study scaling: the given one, or that of
    study-batch beside study-scaling (study-batch-tpu beside study-scaling-tpu). Raises InputError where the given one
    has no critical batch size."""
    if name != "scaling":
        return None
    if given is not None:
        from fitting.studies import critical_batch

        critical_batch.read(given)
        return given
    beside = runs.with_name(runs.name.replace("scaling", "batch")) / FILE
    return beside if "scaling" in runs.name and beside.exists() else None


def _missing(table, runs: Sequence[str]) -> tuple[str, ...]:
    why = {run: reason for run, _, reason in (line.partition(": ") for line in table.left_out)}
    finished = set(table["run"])
    return tuple(f"{run}: {why.get(run, 'not begun')}" for run in runs if run not in finished)


def _facts(table) -> dict[str, str]:
    corpora = ", ".join(filter(None, table.unique("corpus"))) if "corpus" in table else ""
    return {"table": f"{table.source}, sha256 {table.sha256[:16]}", "corpus": corpora}


def _write(study, page: Path, commands: list[str], facts: dict[str, str], missing: Sequence[str]) -> None:
    from fitting.studies.page import page as html_page

    write_atomic(page, html_page(study, commands, facts, missing))
    display.tables([study.table], terminal.console())
    display.flags(study.notes)
