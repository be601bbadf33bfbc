"""The forecast of a table: (N, D) -> loss of every task -> its accuracy, for every target, with intervals.

Step 1 is `posterior`, one for each task and target, step 2 is `accuracy`. Intervals come from `inference.calibration`.
Rows of split "target" enter neither step. The task-ladder paper's method, to the letter, is in fitting/bhagia2024.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from fitting.errors import InputError
from fitting.forecasting import diagnostics, measurements, penalised, posterior
from fitting.forecasting.accuracy import AccuracyLaw
from fitting.forecasting.measurements import Measurements
from fitting.forecasting.posterior import LossForecast, Posterior
from fitting.forecasting.results import SuiteForecast, TaskForecast
from fitting.inference.calibration import calibration, half_width_of_mean
from fitting.laws.forms import FORMS
from fitting.tables.points import Points, Target, measured, measured_rows, targets_of
from fitting.tables.runs_table import SCHEMA_VERSION, Table

MIN_RUNS = 4
# N and D that lie within this factor do not vary.
VARIES = 1.1


@dataclass(frozen=True)
class Prediction:
    """The result of `predict`; `json()` is pred.json.

    laws, losses: {(target, task): law near the target, and its forecast there}, for tasks whose loss is predicted.
    n_resamples, seed: of `parameters`.
    """

    measurements: Measurements
    targets: tuple[Target, ...]
    laws: dict[tuple[str, str], Posterior]
    losses: dict[tuple[str, str], LossForecast]
    tasks: tuple[TaskForecast, ...]
    suite: tuple[SuiteForecast, ...]
    settings: dict
    table_sha256: str
    n_resamples: int
    seed: int

    @cached_property
    def parameters(self) -> penalised.Parameters | None:
        """Penalised fits of every form to every task and target, and to resamples of the runs, in the order of laws.

        Fitted when they are first asked for: the forecast does not need them.
        """
        if not self.laws:
            return None
        loss_Tn = np.array([self.points.bpb_Tn[self.points.tasks.index(task)] for _, task in self.laws])
        n, d, laws = self.points.features["N"], self.points.features["D"], list(self.laws.values())
        groups_n = self.points.groups_n
        return penalised.fit(n, d, loss_Tn, laws, groups_n, self.n_resamples, self.seed)

    @property
    def points(self) -> Points:
        return self.measurements.points

    @property
    def step2(self) -> dict[str, AccuracyLaw]:
        return self.measurements.accuracies

    @property
    def fitted(self) -> tuple[str, ...]:
        """The tasks whose loss is predicted, in the table's order."""
        return tuple(task for task in self.points.tasks if (self.targets[0].name, task) in self.laws)

    def entry(self, target: Target, task: str) -> TaskForecast:
        return next(e for e in self.tasks if (e.target, e.task) == (target.name, task))

    def json(self) -> dict:
        return {
            "schema_version": SCHEMA_VERSION,
            "table_sha256": self.table_sha256,
            "method": self.settings["method"],
            "n_convention": self.settings["n_convention"],
            "targets": [target.json() for target in self.targets],
            "predictions": [entry.json() for entry in self.tasks],
            "suite": [row.json() for row in self.suite],
            "parameters": [row | {"target": key[0], "task": key[1]} for key, row in self._parameter_rows()],
            "settings": self.settings | {"converged": self.parameters.converged if self.parameters else None},
        }

    def _parameter_rows(self):
        for i, (key, law) in enumerate(self.laws.items()):
            for form, values in self.parameters.intervals(i).items():
                yield key, {"form": form, "weight": law.form_weights[form]} | values


def predict(
    table: Table, targets: list[Target] | None = None, *, tasks: list[str] | None = None,
    n_convention: str = "n_params", n_resamples: int = 200, seed: int = 0, floor: str = "families",
) -> Prediction:  # fmt: skip
    """Predict loss and accuracy of targets (default: those in the table) for tasks (default: all).

    floor: a name in posterior.FLOORS: the prior of each law's E. It matters most far beyond the runs.
    n_resamples, seed: resamples of the runs, which say how far each parameter is known; the forecast does not depend on
    them.

    Raises InputError where nothing can be predicted from the table, or where it counts parameters otherwise than a
    target. A task that cannot be predicted has bpb None and a flag that says why.
    """
    targets = targets_of(table, n_convention) if targets is None else list(targets)
    _check_targets(table, targets, n_convention)
    read = measurements.read(table, tasks, n_convention)
    rerun_noise = diagnostics.rerun_noise(table, read.points, n_convention)
    laws, losses, entries = {}, {}, []
    for target in targets:
        for task in read.tasks:
            law, reason = law_of(read, target, task, floor)
            forecast = law and law.forecast(target.N, target.D)
            if law:
                laws[target.name, task], losses[target.name, task] = law, forecast
            entry = _entry(table, read, target, task, law, forecast, reason)
            flags = diagnostics.loss(law, forecast, read, target, task, rerun_noise.get(task)) if law else []
            entries.append(replace(entry, flags=(*flags, *entry.flags)))
    if not any(e.bpb or e.accuracy_interval for e in entries):
        reasons = list(dict.fromkeys(flag for e in entries for flag in e.flags[:1]))
        raise InputError(f"{table.source}: no task can be predicted: {'; '.join(reasons)}")
    entries += [
        TaskForecast(target.name, task, flags=(why,)) for target in targets for task, why in read.unread.items()
    ]
    suite = tuple(_suite(target, entries, losses) for target in targets)
    settings = _settings(table, read, laws, n_convention, n_resamples, seed, floor)
    return Prediction(
        read, tuple(targets), laws, losses, tuple(entries), suite, settings, table.sha256, n_resamples, seed
    )


def _check_targets(table: Table, targets: list[Target], n_convention: str) -> None:
    if not targets:
        raise InputError(f'{table.source}: no target to predict: name one (or add rows with split "target")', "target")
    for target in targets:
        if target.n_is != n_convention:
            raise InputError(
                f"target {target.name}: its N is {target.n_is}, and the ladder's sizes are counted as {n_convention}",
                "target",
            )


def law_of(read: Measurements, target: Target, task: str, floor: str = "families") -> tuple[Posterior | None, str]:
    """(the law of a task near a target, ""), or (None, the reason why there is none).

    floor: a name in posterior.FLOORS.
    """
    loss_n = read.points.bpb_Tn[read.points.tasks.index(task)]
    has_n = ~np.isnan(loss_n)
    n, d = (read.points.features[name][has_n] for name in ("N", "D"))
    if not has_n.any():
        return None, "no loss in the table: accuracy is predicted from N and D alone"
    if len(n) < MIN_RUNS:
        return None, f"too few runs: {len(n)} decayed runs; a forecast needs {MIN_RUNS}"
    if max(n.max() / n.min(), d.max() / d.min()) < VARIES:
        return None, f"all {len(n)} runs have the same parameters and tokens, so nothing says how the loss falls"
    return posterior.fit(n, d, loss_n[has_n], target.N, target.D, posterior.FLOORS[floor]), ""


def _entry(table, read: Measurements, target: Target, task: str, law, forecast, reason: str) -> TaskForecast:
    """The forecast of one task, with the flags of its rows and of its accuracy."""
    accuracy = read.accuracies.get(task)
    rows = measured_rows(table, target, task, read.metric), *((accuracy.rows,) if accuracy else ())
    flags = (*((reason,) if reason else ()), *read.points.flags(task, *rows))
    entry = TaskForecast(target.name, task, flags=flags)
    if law:
        entry = replace(entry, bpb=forecast.loss, bpb_interval=forecast.interval)
    if accuracy is None:
        return entry
    predicted = accuracy.predict(target, forecast)
    if predicted:
        entry = replace(entry, accuracy=predicted.value, accuracy_interval=predicted.interval, routes=predicted.routes)
    elif not accuracy.chance.above:
        entry = replace(entry, accuracy=accuracy.chance.level)
    return replace(entry, flags=(*entry.flags, *diagnostics.accuracy(accuracy, entry)))


def _suite(target: Target, entries: list[TaskForecast], losses: dict) -> SuiteForecast:
    """The mean over all predicted tasks, whose errors correlate."""
    shared, means = calibration().tasks, {}
    mine = [e for e in entries if e.target == target.name]
    for name in ("bpb", "accuracy"):
        predicted = [e for e in mine if getattr(e, f"{name}_interval")]
        if predicted:
            mean = float(np.mean([getattr(e, name) for e in predicted]))
            ends = np.array([getattr(e, f"{name}_interval") for e in predicted])
            half = half_width_of_mean((ends[:, 1] - ends[:, 0]) / 2, shared)
            interval = (mean - half, mean + half) if name == "bpb" else (max(mean - half, 0.0), min(mean + half, 1.0))
            means |= {name: mean, f"{name}_interval": interval, f"{name}_tasks": tuple(e.task for e in predicted)}
    return SuiteForecast(target.name, **means)


def with_measured(prediction: Prediction, table: Table) -> list[TaskForecast]:
    """The predictions with what the target's run in the table measured, where it has been trained."""
    entries = []
    for entry in prediction.tasks:
        target = next(t for t in prediction.targets if t.name == entry.target)
        acc = None
        if entry.task in prediction.step2:
            acc = measured(table, target, entry.task, prediction.step2[entry.task].metric)
        bpb = measured(table, target, entry.task, prediction.measurements.metric)
        entries.append(replace(entry, measured_bpb=bpb, measured_accuracy=acc))
    return entries


def _settings(
    table: Table, read: Measurements, laws: dict, n_convention: str, n_resamples: int, seed: int, floor: str
) -> dict:
    """The items that a report of a scaling law must state (Li et al. 2025, "(Mis)fitting")."""
    weights = [law.form_weights for law in laws.values()]
    constants = calibration()
    return {
        "method": "default",
        "law": "average of " + "; ".join(form.formula for form in FORMS),
        "form_weights": {form.name: round(float(np.mean([w[form.name] for w in weights])), 4) for form in FORMS}
        if weights
        else {},
        "weights_from": "posterior probability of each form, averaged over tasks and targets",
        "objective": "posterior mean of ln loss; runs weighted by compute and nearness in tokens per parameter",
        "solver": "grid of exponents and floor, coefficients by non-negative least squares, float64",
        "priors": "ln exponents ~ N(ln 0.29, 0.45), their ln ratio ~ N(0, 0.25), floor/smallest loss ~ "
        + "Beta({:g}, {:g})".format(*posterior.FLOORS[floor].floor),
        "runs_used": list(read.points.runs),
        "runs_left_out": [*table.left_out, *diagnostics.diverged(read)],
        "point": "mean of a decayed run's last evaluations (at most 5, of its last 3 % of steps)",
        "n_convention": n_convention,
        "loss": read.metric,
        "interval": "80 %: run noise and predicted improvement, constants from calibration.json",
        "interval_constants": {"noise": constants.loss_noise, "improvement": constants.loss_improvement},
        "parameters_from": "penalised fits by jaxopt LevenbergMarquardt, vmapped over forms, tasks, resamples",
        "resampling": "Bayesian bootstrap of groups of runs",
        "resamples": n_resamples,
        "seed": seed,
        "step2": "mean of Hill and logistic in the loss, and a direct law of N and D",
    }  # fmt: skip
