"""The notebook runs as it lies in the repository, and every result shows itself."""

from pathlib import Path

import pytest
from paths import ROOT

nbformat = pytest.importorskip("nbformat", reason="the notebook needs the extra dev")
nbclient = pytest.importorskip("nbclient", reason="the notebook needs the extra dev")

NOTEBOOK = ROOT / "examples" / "port_a_model.ipynb"

# Jupyter's own: the kernel's sockets are closed by the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def outputs():
    """The data of every output, in order, by MIME type."""
    notebook = nbformat.read(NOTEBOOK, 4)
    client = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3")
    cells = client.execute(cwd=str(Path(NOTEBOOK).parent)).cells
    every = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    return [one for one in every if one.output_type == "execute_result"], every


def test_every_result_is_short_and_has_html(outputs):
    results = {one.data["text/plain"].split("\n")[0]: one.data for one in outputs[0]}
    assert [text.split(" ")[0] for text in results] == [
        "<Model",
        "<Ledger",
        "<Explanation:",
        "Model(",
        "['config.json',",
        "<Report:",
        "<Diagnosis:",
    ]
    assert all(len(text) < 120 for text in results)
    ours = [data for text, data in results.items() if text.startswith("<")]
    assert all("text/html" in data for data in ours)
    assert "<td" in results["<Model memorise: 2 layers (LSTM, Dense)>"]["text/html"]


def test_the_repair_is_printed(outputs):
    said = "".join(one.get("text", "") for one in outputs[1] if one.output_type == "stream")
    assert "Equal now: 1 tensor corrected.\ncorrected: lstm.bias_hh_l0" in said


def test_the_repository_has_no_outputs():
    """Outputs would be figures that no command prints again."""
    cells = nbformat.read(NOTEBOOK, 4).cells
    assert not any(cell.get("outputs") for cell in cells)
