"""The rules of the house that no import contract can say; `lint-imports` keeps the others."""

import ast
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

import isonb

PROJECT = Path(isonb.__file__).parent.parent
MODULES = sorted((PROJECT / "isonb").rglob("*.py"))
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))


def name_of(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def imported(tree: ast.AST) -> set[str]:
    """Full names of the modules and names that a piece of code imports."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_can_be_held_in_the_head(path):
    assert len(path.read_text().splitlines()) <= 400
    assert path.stem not in {"utils", "helpers", "misc", "common"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_is_public_is_explained(path):
    tree = ast.parse(path.read_text())
    public = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    public = [tree, *(node for node in public if not node.name.startswith("_"))]
    assert [getattr(node, "name", path.name) for node in public if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_is_unpickled_or_evaluated(path):
    tree = ast.parse(path.read_text())
    assert not {name for name in imported(tree) if name.split(".")[0] in {"pickle", "dill", "cloudpickle", "joblib"}}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not {ast.unparse(node.func) for node in calls} & {"eval", "exec", "os.system"}
    for call in calls:
        if ast.unparse(call.func) == "torch.load":  # of weights that come as such a file: what it says is not run
            assert "weights_only=True" in map(ast.unparse, call.keywords)


def test_only_the_trainer_knows_other_processes():
    trees = {name_of(path): ast.parse(path.read_text()) for path in MODULES}
    users = {name for name, tree in trees.items() if any("torch.distributed" in one for one in imported(tree))}
    assert users == {"isonb/training/world.py"}


@pytest.mark.slow
def test_the_reading_half_and_the_command_line_open_without_what_is_slow_to_import():
    computing = {"packing", "unpacking", "probing", "samples", "tuning"}  # read networks, each opened by its verb
    paths = [path for path in MODULES if not {"models", "training"} & set(path.parts) and path.stem not in computing]
    modules = [re.sub(r"(/__init__)?\.py$", "", name_of(path)).replace("/", ".") for path in paths]
    slow = {"torch", "rfc3987_syntax.syntax_helpers"}  # the second is what nbformat would load
    code = f"import sys, {', '.join(modules)}; sys.exit(bool({slow} & {{*sys.modules}}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_a_notebook_is_thin_and_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(notebook.cells) <= 15
    assert notebook.metadata.kernelspec.name == "python3"
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == (path.stem == "cell")

    tree = ast.parse("\n".join(cell.source for cell in code))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda)]


def test_the_readme_cuts_the_part_of_cifar10_that_the_committed_records_have_read():
    readme = (PROJECT / "README.md").read_text()
    said = re.findall(r"head -c \$\(\((\d+) \* (\d+)\)\) \S*/(\w+\.bin)", readme)
    data = [json.loads(path.read_text())["data"] for path in sorted((PROJECT / "book/results/cpu").glob("*.json"))]
    whole = max(data, key=lambda read: read["train"])  # some were given a part of the part
    images = {"data_batch_1.bin": whole["train"] + whole["validation"], "test_batch.bin": whole["test"]}
    record = 1 + 3 * 32 * 32  # a label and three planes
    assert {name: (int(count), int(size)) for count, size, name in said} == {
        name: (count, record) for name, count in images.items()
    }
    classes = re.search(r"printf '%s\\n' ([\w ]+) >", readme).group(1).split()
    content = "".join(f"{name}\n" for name in classes).encode()
    assert hashlib.sha256(content).hexdigest() == whole["sha256"]["batches.meta.txt"]


def test_the_project_names_one_version_everywhere():
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    newest = re.search(r"^## \[(\d[^]]*)\]", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert {citation["version"], citation["preferred-citation"]["version"], newest.group(1)} == {isonb.__version__}
