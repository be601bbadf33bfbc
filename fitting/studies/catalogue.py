"""All studies by the name that `ladder study NAME` takes."""

from collections.abc import Callable
from dataclasses import replace

from fitting.errors import InputError
from fitting.studies import batch, branches, critical_batch, noise, shape
from fitting.studies.results import Study
from fitting.studies.scaling import analysis as scaling
from fitting.tables.runs_table import Table

STUDIES: dict[str, Callable[..., Study]] = {
    "shape": shape.analyse,
    "scaling": scaling.analyse,
    "batch": batch.analyse,
    "branches": branches.analyse,
    "noise": noise.analyse,
}


def analyse(name: str, table: Table, batch_study=None) -> Study:
    """The study of a table. Reasons do not repeat which table they are about. batch_study: for "scaling", study.json of
    a study "batch" of the same text. Raises InputError where the table lacks what every statement of the study
    needs."""
    if batch_study is not None and name != "scaling":
        raise InputError(f"a batch study is read by the study scaling, not by {name}", "batch_study")
    beside = {"batch": lambda: critical_batch.read(batch_study)} if batch_study is not None else {}
    study, source = STUDIES[name](table, **beside), f"{table.source}: "
    statements = [replace(statement, why=statement.why.removeprefix(source)) for statement in study.statements]
    return replace(study, statements=tuple(statements), notes=tuple(note.replace(source, "") for note in study.notes))
