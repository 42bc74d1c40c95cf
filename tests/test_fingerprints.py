"""Fingerprints: what changes them, what does not, and that no module with an effect on a number is left out."""

import ast
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

import isonb
from isonb import config, fingerprints
from isonb.training import data

PACKAGE = Path(isonb.__file__).parent
SOURCE = '"""What it is."""\n\ndef f(x, y=2):\n    """Why."""\n    return x * y  # a product\n'


@pytest.fixture
def of(tmp_path):
    def fingerprint(source):
        path = tmp_path / f"{hashlib.sha256(source.encode()).hexdigest()}.py"
        path.write_text(source)
        return fingerprints.of_module(path)

    return fingerprint


@pytest.mark.parametrize(
    "same",
    [
        SOURCE.replace("# a product", "# times"),
        SOURCE.replace("Why.", "Because.").replace("What it is", "Another thing"),
        SOURCE.replace('"""Why."""\n    ', "").removeprefix('"""What it is."""'),
        SOURCE.replace("x * y", "(x\n        * y)"),
    ],
    ids=["comment", "docstring", "no docstring", "line breaks"],
)
def test_words_and_layout_leave_a_fingerprint_as_it_is(same, of):
    assert of(same) == of(SOURCE)


@pytest.mark.parametrize(
    "other",
    [
        SOURCE.replace("y=2", "y=3"),
        SOURCE.replace("y=2", "y=2.0"),
        SOURCE.replace("x * y", "y * x"),
        SOURCE.replace("return x * y", "return"),
        SOURCE.replace("return x * y", "'''Why.'''; return x * y"),
        SOURCE.replace("def f", "def g"),
        SOURCE + "f(1)",
        SOURCE.replace("x * y", "''"),
        SOURCE.replace("x * y", "None"),
    ],
)
def test_any_change_of_the_code_shows(other, of):
    assert of(other) != of(SOURCE)
    assert len(of(other)) == fingerprints.LETTERS


def test_an_empty_field_that_only_newer_pythons_have_is_left_out():
    tree = ast.parse(SOURCE)
    function = tree.body[1]
    older = fingerprints._canonical(tree)
    function.type_params, function._fields = [], (*function._fields, "type_params")
    assert fingerprints._canonical(tree) == older


def test_what_changed_between_two_versions_of_the_code(monkeypatch):
    theirs, ours = {"a": "1", "b": "2", "c": "3", "d": "4"}, {"a": "1", "b": "x", "c": "y", "e": "5"}
    assert fingerprints.changed(theirs, ours) == ["b", "c", "d", "e"]
    monkeypatch.setattr(fingerprints, "SAME_BITS", {"b": {"2", "x", "7"}, "c": {"y", "z"}, "a": {"1", "x"}})
    assert fingerprints.changed(theirs, ours) == fingerprints.changed(ours, theirs) == ["c", "d", "e"]


def test_versions_of_the_same_bits_are_of_modules_as_they_are_now():
    """An entry without the present version excuses nothing, and can go."""
    now = fingerprints.code()
    assert all(now[name] in versions and len(versions) > 1 for name, versions in fingerprints.SAME_BITS.items())


def imports(path):
    """The package's modules that a module imports, by their names within it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name.removeprefix("isonb.") for name in found if name.startswith("isonb.")}


def path_of(module):
    path = PACKAGE.joinpath(*module.split("."))
    return path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"


def test_every_module_that_a_computation_imports_is_listed_once():
    """Models, training, and whatever they import: each decides a number, or is said not to."""
    reached = {
        str(path.relative_to(PACKAGE).with_suffix("")).replace("/", ".")
        for folder in ("models", "training")
        for path in (PACKAGE / folder).glob("*.py")
    }
    waiting = list(reached)
    while waiting:
        new = {name for name in imports(path_of(waiting.pop())) if path_of(name).is_file()} - reached
        new -= {"models", "training"}
        reached |= new
        waiting += new
    listed = [*fingerprints.PRETRAINING, *fingerprints.PROBING, *fingerprints.EXTRAS, *fingerprints.WITHOUT_EFFECT]
    assert len(listed) == len(set(listed))
    assert reached | {"__init__"} == set(listed)
    assert all((PACKAGE / f"{name.replace('.', '/')}.py").is_file() for name in listed)


def test_the_empty_modules_are_empty_and_no_torch_is_needed():
    for module in ("training", "models"):
        assert not [node for node in ast.parse(path_of(module).read_text()).body if not isinstance(node, ast.Expr)]
    code = "import sys; from isonb import fingerprints; fingerprints.code(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_networks_fingerprint_is_of_the_code_that_trains_and_of_the_images(monkeypatch):
    before = fingerprints.of_training({"file": "00"})
    assert fingerprints.of_training({"file": "01"}) != before
    assert fingerprints.of_training({"other": "00"}) != before
    whole = fingerprints.code

    def changed(module):
        return lambda modules: whole(modules) | ({module: "changed"} if module in modules else {})

    monkeypatch.setattr(fingerprints, "code", changed("training.probe"))
    assert fingerprints.of_training({"file": "00"}) == before  # a probe's code does not train
    monkeypatch.setattr(fingerprints, "code", changed("training.train"))
    assert fingerprints.of_training({"file": "00"}) != before


@pytest.fixture
def images(tmp_path):
    """A CIFAR-10 of one image a file, one training file missing, and a file that is not part of it."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in ("data_batch_1.bin", "data_batch_3.bin", "test_batch.bin"):
        (folder / name).write_bytes(bytes(2 * data.CIFAR10_RECORD))
    (folder / "readme.html").write_text("not read")
    return folder


def test_data_at_hand_have_the_fingerprint_that_a_run_records(images, monkeypatch):
    run = config.cpu().run
    loaded = data.load(run, images).sha256
    assert fingerprints.data(run, images) == fingerprints.data(run, images.parent) == loaded
    monkeypatch.setenv("ISONB_DATA", str(images.parent))
    assert fingerprints.data(run) == loaded
    (images / "batches.meta.txt").write_text("\n".join(data.CIFAR10_CLASSES))
    assert fingerprints.data(run) == data.load(run).sha256 != loaded


def test_a_changed_file_shows_in_a_process_that_looked_before(images):
    run = config.cpu().run
    before = fingerprints.data(run, images)
    (images / "test_batch.bin").write_bytes(bytes(3 * data.CIFAR10_RECORD))
    assert fingerprints.data(run, images) != before


def test_without_data_at_hand_there_is_nothing_to_compare(images, tmp_path, monkeypatch):
    monkeypatch.delenv("ISONB_DATA", raising=False)
    assert fingerprints.data(config.cpu().run) == {}
    assert fingerprints.data(config.smoke().run, images) == {}  # photographs
    (tmp_path / "empty").mkdir()
    assert fingerprints.data(config.cpu().run, tmp_path / "empty") == {}
