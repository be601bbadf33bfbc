"""A small form of `make proof-goldens`, without the trained runs. It allows for the rounding of another processor."""

import json

import pytest

from tests.golden import cases

QUICK = ("allocate-published", "fit-few-runs", "fit-kaplan-n")
RELATIVE = 1e-6


def check(name: str, folder, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    assert cases.compared(name, json.loads(json.dumps(cases.CASES[name]())), RELATIVE) == []


@pytest.mark.parametrize("name", QUICK)
def test_recorded_results_have_not_moved(name, tmp_path, monkeypatch):
    check(name, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["allocate-isoflop", "allocate-law", "compare", "predict-simulated"])
def test_further_recorded_results_have_not_moved(name, tmp_path, monkeypatch):
    check(name, tmp_path, monkeypatch)
