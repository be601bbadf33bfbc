"""The notebooks of docs/tutorials run from their first cell to their last, without a network, and are kept without
outputs."""

import json
import sys
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

NOTEBOOKS = {path.stem: path for path in sorted((Path(__file__).parents[2] / "docs/tutorials").glob("*.ipynb"))}
AT_ONCE = ("predict_from_a_table",)
SAYS = {  # what the notebook prints at its end, or close to it
    "chinchilla": "besiroglu  median ratio 1.00",
    "ladder_on_your_text": "report.html",
    "predict_from_a_table": "accuracy: predicted 0.",
    "what_a_tpu_ladder_costs": "of state",
    "which_recipe_wins": "the new recipe is better",
}


def cells(name: str) -> list[dict]:
    return [cell for cell in json.loads(NOTEBOOKS[name].read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in AT_ONCE else pytest.mark.slow) for name in NOTEBOOKS]
)
def test_every_cell_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # a dry run asks buckets where it is installed
    shell = InteractiveShell.instance()
    shell.reset()
    for cell in cells(name):
        shell.run_cell("".join(cell["source"])).raise_error()
    assert SAYS[name] in capsys.readouterr().out


def test_they_are_kept_without_outputs():
    assert set(NOTEBOOKS) == set(SAYS)
    for name in NOTEBOOKS:
        assert [cell for cell in cells(name) if cell["outputs"] or cell["execution_count"]] == []
