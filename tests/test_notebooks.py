"""The notebooks of docs/notebooks run from their first cell to their last, and are committed as they were written."""

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import mamlcli
from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    """A notebook as nbformat has it: names and values, as attributes."""
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kernel of the Python that runs the tests, whatever others are installed."""
    folder = tmp_path / "jupyter" / "kernels" / "of-the-tests"
    folder.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "tests", "language": "python"}))
    for name, value in {
        "JUPYTER_PATH": tmp_path / "jupyter",
        "JUPYTER_RUNTIME_DIR": tmp_path / "runtime",
        "IPYTHONDIR": tmp_path / "ipython",
        "JUPYTER_PLATFORM_DIRS": 1,
        "PYDEVD_DISABLE_FILE_VALIDATION": 1,
    }.items():
        monkeypatch.setenv(name, str(value))
    return folder.name


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # what nbclient leaves open, and Python closes
def test_every_cell_runs_and_says_nothing_but_its_result(path: Path, kernel: str, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    notebook = read(path)
    client = NotebookClient(notebook, timeout=300, kernel_name=kernel, resources={"metadata": {"path": str(work)}})
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"] == []
    shown = [output.data for output in outputs if "data" in output]
    assert sum("image/png" in data for data in shown) >= 1
    assert sum("data:image/png" in data.get("text/html", "") for data in shown) >= 1
    assert sum("<table" in data.get("text/html", "") for data in shown) >= 3


def test_it_is_committed_without_what_a_run_leaves(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell for cell in cells if cell.outputs or cell.execution_count]
    assert notebook.metadata.kernelspec.name == "python3"


def test_it_uses_public_names_alone(path: Path) -> None:
    cells = [cell.source for cell in read(path).cells if cell.cell_type == "code"]
    source = "\n".join(cells)
    used = {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "m"
    }
    assert used - {"__doc__"} <= set(mamlcli.__all__)
    assert set(re.findall(r"mamlcli[.\w]*", source)) == {"mamlcli"}


def test_what_it_links_is_there(path: Path) -> None:
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    assert links
    assert all((path.parent / link).exists() for link in links)
