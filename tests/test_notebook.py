"""The notebook runs from top to bottom."""

import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = pathlib.Path(__file__).parents[1] / "docs" / "quickstart.ipynb"


@pytest.mark.tensorflow_only(reason="the converter reads TensorFlow graphs")
def test_the_notebook_trains_converts_and_draws(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.get("text", "") for output in outputs)
    assert "done: trained from scratch" in text
    top1 = float(text.partition("top-1: ")[2].partition("%")[0])
    assert top1 > 50  # guessing gives 10
    assert "the same class as the Keras model on" in text
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
