"""The runner, tried with templates of a few lines: what counts as finished, what is kept, what is left untouched."""

import ast
import json
import os
from typing import Literal

import nbformat
import numpy as np
import pytest
from made_records import leave_record, made_arrays, made_record
from nbformat.v4 import new_code_cell, new_notebook
from papermill import iorw, parameterize

from isonb import config, numerics, records, studies
from isonb.__main__ import main
from isonb.running import outdated, runner
from isonb.validation import choice

pytestmark = pytest.mark.slow

PARAMETERS = "study = 'smoke'\nblock = 'conv'\nencoding = None\ndepth = None\nseed = None"
# Leaves what the test wrote down as the record of the cell that its parameters describe.
LEAVE_RECORD = """
import json, os, pathlib
import numpy as np
from isonb import config, records, schema
cell, execution = config.from_parameters({name: globals()[name] for name in ("study", "block", "encoding", "seed")})
record = schema.Record(**json.loads(os.environ[f"RECORD_{cell.run.block}"]))
path = records.write_record(record, dict(np.load(os.environ["ARRAYS"])))
"""


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "runs"))
    np.savez(tmp_path / "arrays.npz", **made_arrays())
    monkeypatch.setenv("ARRAYS", str(tmp_path / "arrays.npz"))
    for block in config.BLOCKS:
        monkeypatch.setenv(f"RECORD_{block}", json.dumps(made_record(config.smoke(block=block)).model_dump()))


@pytest.fixture
def template(tmp_path):
    def write(*sources: str):
        cells = [new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}), *map(new_code_cell, sources)]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), tmp_path / "template.ipynb")
        return tmp_path / "template.ipynb"

    return write


def files(folder):
    """What lies there, locks apart."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return sorted(str(path.relative_to(folder)) for path in paths)


def test_a_finished_cell_leaves_its_notebook_beside_its_record_and_is_not_run_again(template, tmp_path):
    run_id = config.smoke().run.run_id
    outcome = runner.run_cell({"block": "conv"}, template("print('trained', seed)", LEAVE_RECORD))
    assert (outcome.run_id, outcome.status) == (run_id, "run")
    assert files(tmp_path / "results") == [f"smoke/{run_id}.{suffix}" for suffix in ("ipynb", "json", "npz")]
    assert files(tmp_path / "runs") == [f"smoke/logs/{run_id}.log"]
    assert (tmp_path / "runs/smoke/logs" / f"{run_id}.log").read_text() == "trained 0\n"

    notebook = nbformat.read(tmp_path / "results/smoke" / f"{run_id}.ipynb", as_version=4)
    injected = notebook.cells[1]
    assert "seed = 0" in injected.source and "block = 'conv'" in injected.source.replace('"', "'")
    assert [cell.execution_count for cell in notebook.cells] == [1, 2, 3, 4]

    assert runner.run_cell({"block": "conv"}, template("1 / 0")).status == "reused"


def test_a_damaged_record_is_replaced(template):
    source = template(LEAVE_RECORD)
    runner.run_cell({}, source)
    path = records.record_path(config.smoke())
    good = path.read_bytes()
    path.write_text("{")
    outcome = runner.run_cell({}, source)
    assert (outcome.status, outcome.reason) == ("run", "its record is damaged")
    assert path.read_bytes() == good


def test_arrays_that_were_lost_are_made_again(template):
    source = template(LEAVE_RECORD)
    runner.run_cell({}, source)
    arrays = records.record_path(config.smoke()).with_suffix(".npz")
    arrays.unlink()
    assert runner.run_cell({}, source).status == "run"
    assert arrays.exists()


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda path: None, "No such file or directory"),
        (lambda path: path.mkdir(), "it is not a regular file"),
        (os.mkfifo, "it is not a regular file"),
        (lambda path: path.write_text("print(1)"), "it is no notebook"),
        (lambda path: path.write_text("[]"), "it is no notebook"),
        (lambda path: path.write_bytes(b"\xff" * 9), "it is no notebook"),
        (lambda path: path.write_bytes(b"[" * 100_000), "it is no notebook"),
    ],
)
def test_a_template_that_is_none_is_refused_before_anything_starts(make, cause, tmp_path, capsys):
    path = tmp_path / "my own.ipynb"
    make(path)
    assert main(["run-cell", "--template", str(path)]) == 2
    sentence = f"{path} cannot be run as a template ({cause}): name a notebook, as notebooks/cell.ipynb.\n"
    assert capsys.readouterr().err == sentence
    assert not (tmp_path / "runs").exists()


def test_a_cell_that_reaches_its_end_although_it_was_asked_to_stop_is_kept(template):
    deaf = "import os, signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    deaf += "os.kill(os.getppid(), signal.SIGTERM)\ntime.sleep(1)"
    assert runner.run_cell({"block": "conv"}, template(deaf, LEAVE_RECORD)).status == "run"
    assert outdated.why(config.smoke()) == ""


def test_of_a_progress_bar_the_last_state_stays(template):
    bar = "import sys, time\nfor step in range(3):\n    print(f'\\rstep {step}', end='', file=sys.stderr, flush=True)"
    runner.run_cell({}, template(bar + "\n    time.sleep(0.3)", LEAVE_RECORD))
    notebook = nbformat.read(records.notebook_path(config.smoke()), as_version=4)
    assert [output.text for output in notebook.cells[2].outputs] == ["step 2"]


def test_two_executions_give_the_same_bytes(template, tmp_path):
    path = records.notebook_path(config.smoke())
    source = template("print('trained')", LEAVE_RECORD)
    runner.run_cell({}, source)
    first = path.read_bytes()
    path.unlink()
    assert runner.run_cell({}, source).status == "run"
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("sources", "reason"),
    [
        (["1 / 0", LEAVE_RECORD], "ZeroDivisionError: division by zero"),
        ([LEAVE_RECORD, "import sys\nsys.exit(0)"], "SystemExit: 0"),
        ([LEAVE_RECORD, "import os\nos._exit(0)"], "DeadKernelError: Kernel died"),
        (["print('no record')"], "left no record of this cell"),
        ([LEAVE_RECORD.replace("RECORD_{cell.run.block}", "RECORD_mixer")], "left no record of this cell"),
        ([LEAVE_RECORD, "import time\ntime.sleep(60)"], "CellTimeoutError: A cell timed out"),
        ([LEAVE_RECORD, "[].figure"], "AttributeError: 'list' object has no attribute 'figure'"),
        ([LEAVE_RECORD.replace("np.load(", "np.load(os.devnull or "), "pass"], "EOFError"),
        ([LEAVE_RECORD + "pathlib.Path(path).write_text('{')"], "cannot be read as a result"),
    ],
    ids=["exception", "exit", "dead kernel", "no record", "other cell", "timeout", "figure", "no arrays", "damaged"],
)
def test_a_failed_cell_says_why_and_its_notebook_is_kept_away_from_the_results(sources, reason, template, tmp_path):
    run_id = config.smoke().run.run_id
    with pytest.raises(runner.CellError, match=reason) as error:
        runner.run_cell({}, template(*sources), timeout=2 if "Timeout" in reason else None)
    assert "\n" not in str(error.value)
    assert files(tmp_path / "results") == []
    assert files(tmp_path / "runs") == [f"smoke/failed/{run_id}.ipynb", f"smoke/logs/{run_id}.log"]
    assert str(tmp_path / "runs/smoke/failed" / f"{run_id}.ipynb") in str(error.value)


def test_a_cell_that_failed_can_be_run_again(template, tmp_path):
    with pytest.raises(runner.CellError):
        runner.run_cell({}, template("1 / 0"))
    assert runner.run_cell({}, template(LEAVE_RECORD)).status == "run"
    assert not list((tmp_path / "runs").rglob("*.ipynb"))


@pytest.mark.parametrize("settings", [{"dept": 3}, {"depth": 0}, {"study": "smok"}])
def test_settings_that_cannot_be_run_are_refused_before_anything_is_written(settings, template, tmp_path):
    with pytest.raises(config.ConfigError, match=next(iter(settings))):
        runner.run_cell(settings, template(LEAVE_RECORD))
    assert not (tmp_path / "results").exists() and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("study", config.STUDIES)
def test_the_parameters_of_a_studys_cells_describe_them_completely(study):
    for cell in studies.cells(study):
        assert config.from_parameters(runner.parameters(cell)) == (cell, config.Execution())


@pytest.mark.parametrize(
    "cell",
    [
        config.smoke(block="transformer", positions="none", heads=4),
        config.cpu(block="conv", positions="learned", encoding="rff", sigma=0.1, probe_pooling="flatten"),
    ],
    ids=["positions left out", "several departures"],
)
def test_the_parameters_of_an_ablation_describe_it_completely(cell):
    assert config.from_parameters(runner.parameters(cell)) == (cell, config.Execution())


def test_execution_settings_are_passed_on():
    parameters = runner.parameters(config.smoke(), config.Execution(threads=2))
    assert config.from_parameters(parameters) == (config.smoke(), config.Execution(threads=2))


def test_a_record_of_other_numerics_is_replaced(template):
    cell = config.smoke()
    old = made_record(cell).model_copy(update={"numerics": numerics.NUMERICS - 1})
    leave_record(old)
    records.notebook_path(cell).write_text("{}")
    assert runner.run_cell({"block": "conv"}, template(LEAVE_RECORD)).status == "run"
    assert outdated.why(cell) == ""


def test_a_record_that_no_runner_has_left_is_shown_with_no_other_runs_notebook(template):
    cell = config.smoke()
    runner.run_cell({}, template(LEAVE_RECORD))
    assert records.notebook_of(records.finished(cell)) == records.notebook_path(cell)
    leave_record(made_record(cell, validation_loss=3.5))  # as papermill and JupyterLab leave one
    assert records.notebook_of(records.finished(cell)) is None
    outcome = runner.run_cell({}, template(LEAVE_RECORD))
    assert (outcome.status, outcome.reason) == ("run", "no executed notebook")
    assert records.finished(cell).training.validation_loss == 4.0


@pytest.mark.parametrize(
    "change", [lambda text: text.replace("trained 0", "trained 1"), lambda text: text[:-1], lambda text: ""]
)
def test_a_notebook_that_was_changed_is_made_again(change, template):
    source = template("print('trained', seed)", LEAVE_RECORD)
    runner.run_cell({}, source)
    path = records.notebook_path(config.smoke())
    whole = path.read_text()
    path.write_text(change(whole))
    assert runner.run_cell({}, source).status == "run"
    assert path.read_text() == whole


def test_a_cell_whose_code_has_changed_while_it_ran_leaves_nothing_and_says_so(template, tmp_path, monkeypatch):
    record = made_record(config.smoke()).model_copy(update={"numerics": numerics.NUMERICS - 1})
    monkeypatch.setenv("RECORD_conv", json.dumps(record.model_dump()))
    with pytest.raises(runner.CellError, match="the code has changed while it ran: run it again"):
        runner.run_cell({}, template(LEAVE_RECORD))
    assert files(tmp_path / "results") == []


@pytest.mark.parametrize("has_notebook", [True, False])
def test_a_record_of_a_newer_version_is_neither_reused_nor_replaced(has_notebook, template, tmp_path):
    path = records.record_path(config.smoke())
    path.parent.mkdir(parents=True)
    content = json.dumps({"schema_version": config.VERSION + 1})
    path.write_text(content)
    if has_notebook:
        records.notebook_path(config.smoke()).write_text("{}")
    with pytest.raises(records.NewerRecordError, match=f"{path.name} was written by a newer version of isonb"):
        runner.run_cell({}, template(LEAVE_RECORD))
    assert path.read_text() == content and not (tmp_path / "runs").exists()


# The template


def parameters_of(notebook) -> dict[str, object]:
    """What the cells of parameters, the notebook's and those that papermill has put in, leave in the namespace."""
    tags = {"parameters", "injected-parameters"}
    source = "\n".join(cell.source for cell in notebook.cells if tags & {*cell.metadata.get("tags", [])})
    names = [target.id for line in ast.parse(source).body for target in line.targets]
    values = [ast.literal_eval(line.value) for line in ast.parse(source).body]
    return dict(zip(names, values, strict=True))


def test_the_template_lists_settings_only_and_leaves_all_of_them_to_the_study():
    listed = parameters_of(nbformat.read(runner.TEMPLATE, as_version=4))
    assert set(listed) <= {"study", *config.setting_names()}
    assert config.from_parameters(listed) == (config.smoke(), config.Execution())


def with_parameters(given):
    """The template as papermill executes it with some parameters."""
    template = iorw.load_notebook_node(str(runner.TEMPLATE))
    return parameterize.parameterize_notebook(template, given, kernel_name="python3", language="python")


@pytest.mark.parametrize("model", [*config.MODELS, "execution"])
def test_every_setting_arrives_whether_or_not_the_template_lists_it(model):
    prefix, fields = config.PREFIXES.get(model, ""), config.MODELS.get(model, config.Execution).model_fields
    names = [prefix + name for name in fields]
    arrived = parameters_of(with_parameters({name: f"a {name}" for name in names}))
    assert [arrived[name] for name in names] == [f"a {name}" for name in names]


def test_a_setting_that_is_added_reaches_a_cell_without_a_change_of_the_template(monkeypatch):
    class Added(config.RunConfig):
        flavour: Literal["sweet", "salty"] = choice("sweet", "-", "made up by a test", since=config.VERSION + 1)

    monkeypatch.setitem(config.MODELS, "run", Added)
    cell = config.cell("cpu", block="mixer", flavour="salty")
    notebook = with_parameters(runner.parameters(cell))
    assert "flavour" not in nbformat.read(runner.TEMPLATE, as_version=4).cells[1].source
    assert config.from_parameters(parameters_of(notebook)) == (cell, config.Execution())
    assert cell.run.flavour == "salty" and cell.run.run_id != config.cell("cpu", block="mixer").run.run_id
