"""Estimate the constants of the loss's interval from families whose truth is known: `ladder bench --calibrate`.

Half-width^2 = (noise constant x run noise)^2 + (improvement constant x predicted improvement)^2. The two constants
maximise the likelihood of Student errors (4 degrees of freedom, so that one wild case does not decide), cases within a
family and families weighing the same. Both are then multiplied by one factor, with which the intervals hold 80 % of a
family that they were not estimated from (mean over families).
"""

import json
from pathlib import Path

import numpy as np
from scipy import optimize, stats

from fitting import files
from fitting.bench.rows import Row
from fitting.errors import InputError
from fitting.inference.calibration import FILE, LEVEL

DEGREES = 4.0
MIN_FAMILIES = 3
START = (1.5, 0.15)
FACTORS = np.geomspace(0.5, 3.0, 200)


def calibrate(rows: list[Row]) -> dict:
    """{"noise", "improvement", "families", ...}: the constants and what they rest on.

    Reads errors of decayed runs' losses. Raises InputError where there are fewer than MIN_FAMILIES families.
    """
    chosen = [row for row in rows if row.metric == "loss" and not row.case.in_run]
    families = list(dict.fromkeys(row.case.family for row in chosen))
    if len(families) < MIN_FAMILIES:
        raise InputError(f"{len(families)} families of decayed runs: the constants need {MIN_FAMILIES}", "calibrate")
    parts = {family: [row for row in chosen if row.case.family == family] for family in families}
    left_out = {family: _estimated([parts[other] for other in families if other != family]) for family in families}

    def held(factor: float) -> dict[str, float]:
        return {family: _coverage(parts[family], factor * left_out[family]) for family in families}

    factor = min(FACTORS, key=lambda f: abs(np.mean(list(held(f).values())) - LEVEL))
    noise, improvement = factor * _estimated(list(parts.values()))
    return {
        "noise": round(float(noise), 3),
        "improvement": round(float(improvement), 4),
        "source": "ladder bench --calibrate",
        "families": families,
        "cases": len({row.case.name for row in chosen}),
        "targets": len(chosen),
        "factor": round(float(factor), 3),
        "leave_family_out_coverage": {family: round(value, 3) for family, value in held(factor).items()},
    }


def _estimated(parts: list[list[Row]]) -> np.ndarray:
    """[2]: the constants that maximise the likelihood."""
    arrays = [_arrays(part) for part in parts]

    def loss(log_constants: np.ndarray) -> float:
        constants = np.exp(log_constants)
        return float(np.mean([_negative_log_likelihood(constants, *array) for array in arrays]))

    return np.exp(optimize.minimize(loss, np.log(START), method="Nelder-Mead").x)


def _arrays(part: list[Row]) -> tuple[np.ndarray, ...]:
    names = [row.case.name for row in part]
    weight = np.array([1 / names.count(name) for name in names])
    columns = (np.array([getattr(row, name) for row in part]) for name in ("error", "noise", "improvement"))
    return *columns, weight / weight.sum()


def _negative_log_likelihood(constants, error, noise, improvement, weight) -> float:
    scale = _half(constants, noise, improvement) / stats.t.ppf((1 + LEVEL) / 2, DEGREES)
    return float(-weight @ (stats.t.logpdf(error / scale, DEGREES) - np.log(scale)))


def _half(constants, noise, improvement) -> np.ndarray:
    return np.hypot(constants[0] * noise, constants[1] * improvement)


def _coverage(part: list[Row], constants) -> float:
    error, noise, improvement, _ = _arrays(part)
    return float(np.mean(np.abs(error) <= _half(constants, noise, improvement)))


def write(path: Path, constants: dict) -> None:
    """Write a calibration file: the package's own, with these constants of the loss."""
    stored = json.loads(FILE.read_text(encoding="utf-8")) | {"loss": constants}
    with files.replaced(path) as part:
        part.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
