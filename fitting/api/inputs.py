"""Read what users give to the public functions: columns or arrays, positive numbers, levels of intervals."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fitting.errors import InputError
from fitting.tables import frames, loss_points
from fitting.tables.loss_points import LossPoints, Reading


def points_of(data, named: dict, y, weights, groups) -> LossPoints:
    """Points from a table (named: {feature: column}) or, where data is None, from arrays (named: {feature: array}).

    Raises InputError where a column's name or an array is missing.
    """
    if data is None:
        if y is None:
            raise InputError("y: the loss is missing; give it as an array, or name a table and its column", "y")
        named = named | {"y": y, "weights": weights, "groups": groups}
        arrays = {k: v for k, v in named.items() if v is not None and not isinstance(v, str)}
        for k, v in named.items():
            if isinstance(v, str) and v != loss_points.FROM_N_AND_D:
                raise InputError(f"{k}: a column's name without a table; give the table first", k)
        data, named, y = arrays, {k: k for k in named if k in arrays and k not in ("y", "weights", "groups")}, "y"
        weights, groups = (k if k in arrays else None for k in ("weights", "groups"))
    how = Reading(dict(named), y, weights=weights, units=groups)
    if isinstance(data, str | Path):
        return loss_points.read(data, how)
    return loss_points.of_cells(frames.cells(data), "data", how)


def positive(names: Sequence[str], given: Mapping) -> dict[str, np.ndarray]:
    """The given numbers as arrays. Raises InputError where names differ, or where one is not positive and finite."""
    if set(given) != set(names):
        raise InputError(f"give {', '.join(names)}, not {', '.join(given) or 'nothing'}", "features")
    arrays = {k: np.asarray(v, float) for k, v in given.items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all() or (name in loss_points.POSITIVE and not (array > 0).all()):
            raise InputError(f"{name}: must be positive numbers", name)
    return arrays


def share(level: float) -> float:
    if not 0 < level < 1:
        raise InputError(f"level = {level:g}: a share between 0 and 1, such as 0.95", "level")
    return level
