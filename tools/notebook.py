"""Run docs/tutorial.ipynb and keep its outputs: python tools/notebook.py TABLE (the paper's runs, from `ladder data
paper`)."""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "tutorial.ipynb"


def executed(table: Path, seconds: int = 600) -> nbformat.NotebookNode:
    """The notebook with the outputs of running it on a table, in a folder of its own. Raises CellExecutionError."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    os.environ["LADDER_TABLE"] = str(table.resolve())
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=seconds, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of this run
    return notebook


if __name__ == "__main__":
    nbformat.write(executed(Path(sys.argv[1])), NOTEBOOK)
