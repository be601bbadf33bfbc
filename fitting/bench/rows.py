"""Forecast the hidden runs of a case, by the default and by the methods that it is compared with."""

import time
from dataclasses import dataclass, field, replace

import numpy as np

from fitting.bench.cases import Case
from fitting.bench.methods import others
from fitting.errors import InputError
from fitting.forecasting import measurements
from fitting.forecasting.posterior import LossForecast
from fitting.forecasting.predict import law_of
from fitting.tables import runs_table
from fitting.tables.points import Target, measured, targets_of
from fitting.tables.runs_table import Table


@dataclass(frozen=True)
class Row:
    """One hidden run of one task. error, half: of ln loss, or of an accuracy in points, with their 80 % half-width.

    others: {method: its error}. noise, improvement: what the half-width is made of. distance: ln of its compute over
    that of the largest fitted run. seconds: of the default's law.
    """

    case: Case
    task: str
    run: str
    metric: str
    error: float
    half: float
    others: dict[str, float] = field(default_factory=dict)
    noise: float = 0.0
    improvement: float = 0.0
    distance: float = 0.0
    seconds: float = 0.0


def rows(case: Case) -> list[Row]:
    """Forecast every target of a case, in every task. Raises InputError where the table cannot be read."""
    table = runs_table.read(case.path)
    targets = targets_of(table)
    if not targets:
        raise InputError(f'{case.path}: no row has split "target", so there is nothing to forecast')
    read = measurements.read(table, None, "n_params")
    laws, seconds = {}, {}
    for target in targets:
        for task in read.tasks:
            began = time.perf_counter()
            law, _ = law_of(read, target, task)
            if law:
                laws[target.name, task] = law
                seconds[target.name, task] = time.perf_counter() - began
    compared = others(table, read, laws, targets)
    found = []
    for target in targets:
        for task in read.tasks:
            law = laws.get((target.name, task))
            forecast = law and law.forecast(target.N, target.D)
            truth = law and measured(table, target, task, read.metric)
            if truth:
                row = _loss_row(case, read, target, task, law, forecast, truth, compared[target.name, task])
                found.append(replace(row, seconds=seconds[target.name, task]))
            if row := _accuracy_row(case, table, read, target, task, forecast):
                found.append(row)
    return found


def _distance(read, target: Target) -> float:
    features = read.points.features
    return float(np.log(target.N * target.D / (features["N"] * features["D"]).max()))


def _loss_row(case, read, target, task, law, forecast: LossForecast, truth: float, compared: dict) -> Row:
    log, improvement = float(np.log(truth)), law.best_run - forecast.log_loss
    errors = {name: value - log for name, value in compared.items()}
    error, distance = forecast.log_loss - log, _distance(read, target)
    half = float(forecast.half_width)
    return Row(case, task, target.name, "loss", error, half, errors, law.noise, improvement, distance)


def _accuracy_row(case, table: Table, read, target: Target, task: str, forecast: LossForecast | None) -> Row | None:
    step2 = read.accuracies.get(task)
    accuracy = None if step2 is None else measured(table, target, task, step2.metric)
    predicted = None if accuracy is None else step2.predict(target, forecast)
    if predicted is None:
        return None
    lo, hi = predicted.interval
    largest = step2.acc_n[np.argmax(step2.N_n * step2.D_n)]
    errors = {name: 100 * (value - accuracy) for name, value in ({"last value": largest} | predicted.routes).items()}
    error, distance = 100 * (predicted.value - accuracy), _distance(read, target)
    return Row(case, task, target.name, "accuracy", error, 50 * (hi - lo), errors, distance=distance)
