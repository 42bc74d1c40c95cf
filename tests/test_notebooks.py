"""Every notebook runs through papermill, and runs again to the same numbers, words and figures, whatever it takes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

from isonb import places

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted((places.PROJECT / "notebooks").glob("*.ipynb"))
RULES = Path(__file__).with_name("nbval.cfg")
SMALL = {"width": 16, "image_size": 8, "data_fraction": 0.1, "epochs": 1, "probe_epochs": 2}
PARAMETERS = {"cell": SMALL}  # of the notebooks that have any


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def executed(request, tmp_path_factory):
    """A notebook executed, with the smallest of parameters if it has any, and a folder to execute it again in."""
    folder = tmp_path_factory.mktemp(request.param.stem)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ISONB_RUNS", str(folder / "runs"))
        environment.setenv("ISONB_RESULTS", str(folder / "results"))
        parameters = PARAMETERS.get(request.param.stem, {})
        papermill.execute_notebook(request.param, folder / "executed.ipynb", parameters, progress_bar=False)
    return folder / "executed.ipynb"


def again(notebook, folder):
    """What nbval says of executing a notebook once more and comparing every output."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "notebook.ipynb").write_bytes(notebook.read_bytes())
    options = ["-q", "--color=no", "-p", "no:cacheprovider", "--nbval", "--nbval-kernel-name=python3",
               "--nbval-cell-timeout=600", "--nbval-sanitize-with", RULES]  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-c", folder / "pytest.ini", *options, folder / "notebook.ipynb"]
    environment = os.environ | {"ISONB_RUNS": str(folder / "runs"), "ISONB_RESULTS": str(folder / "results")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_second_execution_shows_the_same(executed, tmp_path):
    result = again(executed, tmp_path)
    assert result.returncode == 0, result.stdout[-4000:]
    cells = [cell for cell in nbformat.read(executed, as_version=4).cells if cell.cell_type == "code"]
    assert f"{len(cells)} passed" in result.stdout


@pytest.mark.parametrize("executed", [places.TEMPLATE], ids=["cell"], indirect=True)
def test_another_number_is_noticed_and_another_time_is_not(executed, tmp_path):
    notebook = nbformat.read(executed, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    numbers = [output for output in outputs if "Without a network" in output.get("data", {}).get("text/plain", "")]
    times = [output for output in outputs if "seconds" in output.get("data", {}).get("text/plain", "")]
    assert len(numbers) == len(times) == 1
    told = numbers[0].data["text/plain"]
    numbers[0].data["text/plain"] = told.replace("uniform 5.55", "uniform 5.56")
    assert numbers[0].data["text/plain"] != told
    for kind, text in times[0].data.items():
        times[0].data[kind] = re.sub(r"(seconds +|seconds</th>\s*<td>)[\d.,]+", r"\g<1>98765.4", text)
        assert "98765.4" in times[0].data[kind]
    nbformat.write(notebook, tmp_path / "changed.ipynb")
    result = again(tmp_path / "changed.ipynb", tmp_path)
    assert result.returncode == 1
    assert "1 failed" in result.stdout, result.stdout[-4000:]
    assert "mismatch 'text/plain'" in result.stdout, result.stdout[-4000:]
