"""All studies by the name that `ladder study NAME` takes."""

from collections.abc import Callable

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
