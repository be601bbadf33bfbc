"""docs/tutorial.ipynb runs from its first cell to its last."""

import pytest

from tests.fitting.conftest import SHARED
from tools import notebook


@pytest.mark.slow
def test_every_cell_runs():
    table = SHARED / "olmo_ladder_runs.csv.gz"
    if not table.exists():
        pytest.skip("the paper's published runs are not beside the repository")
    cells = notebook.executed(table).cells
    outputs = [cell.outputs for cell in cells if cell.cell_type == "code"]
    assert len(outputs) > 15 and all(outputs[i] for i in (1, -1))
    text = "".join(str(output.get("data", output.get("text"))) for cell in outputs for output in cell)
    assert "7B-4T" in text and "image/png" in text and "Traceback" not in text


def test_it_holds_no_path_of_a_machine_and_its_outputs():
    text = notebook.NOTEBOOK.read_text()
    assert "image/png" in text and '"/' not in text.replace('"../', "")
