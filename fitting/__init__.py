"""Scaling laws of language models: runs table -> laws -> predictions. Start reading at api/loss.py or api/tasks.py.

Shape letters in array names: n points, m predictions, T tasks, R resamples (row 0 of 1 + R is the fit), P parameters,
F forms, H holdouts, S starts, K runs, G grid. Imports nothing heavy until a name is used.
"""

import importlib

_MODULES = {
    "Fit": "api.loss",
    "fit": "api.loss",
    "from_json": "api.loss",
    "isoflop": "api.compute_optimal",
    "allocate": "api.compute_optimal",
    "ComputeOptimal": "api.compute_optimal",
    "Allocation": "api.compute_optimal",
    "Estimate": "api.results",
    "Forecast": "api.tasks",
    "forecast": "api.tasks",
    "read_runs": "api.tasks",
    "runs_table": "api.tasks:runs_table_of",
    "backtest": "api.tasks",
    "compare": "api.tasks",
    "design": "api.tasks",
    "read_noise": "inference.measured",
    "Target": "tables.points",
    "TaskForecast": "forecasting.results",
    "Law": "laws.custom",
    "Param": "laws.base",
    "LAWS": "laws.catalogue",
    "PUBLISHED": "laws.published",
    "InputError": "errors",
    "FitWarning": "errors",
}
__all__ = list(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module 'fitting' has no attribute {name!r}; it has {', '.join(__all__)}")
    module, _, attribute = _MODULES[name].partition(":")
    return getattr(importlib.import_module(f"fitting.{module}"), attribute or name)


def __dir__() -> list[str]:
    return __all__
