"""All studies by the name that `ladder study NAME` takes."""

from collections.abc import Callable
from dataclasses import replace

from fitting.studies import batch, branches, noise, scaling, shape
from fitting.studies.results import Study
from fitting.tables.runs_table import Table

STUDIES: dict[str, Callable[[Table], Study]] = {
    "shape": shape.analyse,
    "scaling": scaling.analyse,
    "batch": batch.analyse,
    "branches": branches.analyse,
    "noise": noise.analyse,
}


def analyse(name: str, table: Table) -> Study:
    """The study of a table. Reasons do not repeat which table they are about. Raises InputError where the table lacks
    what every statement of the study needs."""
    study, source = STUDIES[name](table), f"{table.source}: "
    statements = [replace(statement, why=statement.why.removeprefix(source)) for statement in study.statements]
    return replace(study, statements=tuple(statements), notes=tuple(note.replace(source, "") for note in study.notes))
