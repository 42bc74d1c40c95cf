"""A sweep: what has to run and why, one at a time in a folder, what a failure leaves; with cells of a few lines."""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from made_records import made_record
from nbformat.v4 import new_code_cell, new_notebook

from isonb import __main__ as command_line
from isonb import config, fingerprints, records
from isonb.config import ConfigError
from isonb.running import runner, sweep

SNAKEMAKE = Path(sys.executable).with_name("snakemake")
# A cell that leaves the record that the test wrote down for it, or fails as it is told to.
SOURCE = """
import os, pathlib
from isonb import config
cell, execution = config.from_parameters({name: globals()[name] for name in ("profile", "block", "encoding", "seed")})
assert cell.run.block != os.environ.get("FAILING"), "no " + cell.run.block + " today"
made = pathlib.Path(os.environ["MADE"]) / f"{cell.run.run_id}.json"
target = pathlib.Path(os.environ["ISONB_RESULTS"]) / cell.profile / made.name
target.parent.mkdir(parents=True, exist_ok=True)
target.with_suffix(".npz").write_bytes(b"PK\\5\\6" + bytes(18))  # no arrays
target.write_bytes(made.read_bytes())
"""


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def study(tmp_path):
    """A TOML file with three cells."""
    path = tmp_path / "study.toml"
    path.write_text('profile = "smoke"\n' + "".join(f'[[cell]]\nblock = "{block}"\n' for block in config.BLOCKS))
    return path


def leave(of, **changes):
    """Leave a record and a notebook of a cell."""
    records.write_record(made_record(of).model_copy(update=changes), {})
    runner.notebook_path(of).write_text("{}")


def test_a_study_is_a_profiles_or_a_files(study):
    assert len(sweep.cells("smoke")) == 9
    assert sweep.cells(str(study)) == [config.smoke(block=block) for block in config.BLOCKS]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("profile = ", "cannot be read"),
        ("", "must hold a profile and tables"),
        ("cell = 3", "must hold a profile and tables"),
        ("cell = [1]", "must hold a profile and tables"),
        ("[[cell]]\nname = 'mine'", "There is no setting called 'name'"),
        ("prof = 'smoke'\n[[cell]]", "must hold a profile and tables"),
        ("[[cell]]\ndept = 3", "There is no setting called 'dept'"),
        ("profile = 'smok'\n[[cell]]", "profile='smok' is not allowed"),
        ("[[cell]]\n[[cell]]\nblock = 'conv'", "lists a network twice"),
    ],
)
def test_a_file_that_is_no_study_is_refused_in_a_sentence(content, message, tmp_path):
    path = tmp_path / "study.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        sweep.cells(str(path))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stdy": "cpu"}, "There is no setting called 'stdy': did you mean 'study'?"),
        ({"only": "mising"}, "only='mising' is not allowed: choose missing."),
        ({"book": "never"}, "book='never' is not allowed: choose yes or no."),
        ({"threads": "two"}, "threads='two' is not allowed: give a number of CPU threads."),
        ({"execution": "float32"}, "execution='float32' is not allowed: write 'execution={precision: float32}'."),
        ({"execution": {"precison": "float32"}}, "There is no setting called 'precison': did you mean 'precision'?"),
    ],
)
def test_what_a_study_cannot_be_run_with_is_refused_in_a_sentence(given, message):
    with pytest.raises(ConfigError) as refusal:
        sweep.check_settings({"study": "cpu", **given})
    assert str(refusal.value) == message


def test_what_a_study_can_be_run_with_is_accepted():
    sweep.check_settings({})
    sweep.check_settings({"study": "cpu", "only": "missing", "placement": "cpu", "threads": 2, "book": "no",
                          "template": "mine.ipynb", "execution": {"precision": "float32"}})  # fmt: skip


def test_only_what_is_missing_or_outdated_has_to_run_and_says_why(monkeypatch):
    listed = [config.smoke(block=block, seed=seed) for block in config.BLOCKS for seed in (0, 1)]
    listed.append(config.smoke(seed=2))
    now, old, fresh, damaged, bare, other, torn = listed
    for cell in (now, bare):
        leave(cell)
    runner.notebook_path(bare).unlink()
    leave(old, code=fingerprints.code() | {"training.train": "before"})
    leave(damaged)
    records.record_path(damaged).write_text("{")
    leave(torn)
    records.record_path(torn).with_suffix(".npz").unlink()
    leave(other, cell=config.smoke(block="transformer", seed=1, probe_epochs=3))
    expected = {
        old: "isonb.training.train has changed",
        fresh: "no record",
        damaged: "its record is damaged",
        bare: "no executed notebook",
        other: "it is judged in another way",
        torn: "its arrays are missing or damaged",
    }
    by_id = {cell.run.run_id: reason for cell, reason in expected.items()}
    assert sweep.reasons(listed) == by_id
    assert sweep.reasons(listed, only_missing=True) == {name: by_id[name] for name in by_id if name != old.run.run_id}


def read(of, train, validation, test):
    """Leave the finished cell of a network that has read so many images."""
    counts = {"name": "cifar10", "train": train, "validation": validation, "test": test}
    leave(of, data=made_record(of).data.model_copy(update=counts))


@pytest.mark.parametrize("counts", [(45_000, 5_000, 200), (450, 50, 10_000)])
def test_records_of_a_part_of_cifar10_are_not_joined_by_cells_of_the_whole(counts, tmp_path, monkeypatch):
    monkeypatch.delenv("ISONB_DATA", raising=False)
    cells = kept, _ = [config.cpu(), config.cpu(seed=1)]
    read(kept, *counts)
    left = sweep.reasons(cells)
    with pytest.raises(ConfigError, match="name the folder of that part by ISONB_DATA, or by ISONB_RESULTS another"):
        sweep.require_same_data("cpu", cells, left)
    sweep.require_same_data("cpu", cells, {})  # nothing is left to run
    sweep.require_same_data("cpu", cells, {cell.run.run_id: "no record" for cell in cells})  # nothing stays
    sweep.require_same_data("cpu", cells, left, tmp_path)
    monkeypatch.setenv("ISONB_DATA", str(tmp_path))
    sweep.require_same_data("cpu", cells, left)


def test_records_of_the_whole_of_cifar10_and_of_photographs_are_joined_by_others(monkeypatch):
    monkeypatch.delenv("ISONB_DATA", raising=False)
    whole, small = config.cpu(), config.cpu(data_fraction=0.1)
    read(whole, 45_000, 5_000, 10_000)
    read(small, 4_500, 5_000, 10_000)
    photos = [config.smoke(), config.smoke(seed=1)]
    leave(photos[0])
    for cells in ([whole, small, config.cpu(seed=1)], photos):
        left = sweep.reasons(cells)
        assert list(left) == [cells[-1].run.run_id]  # one is missing, and may be added
        sweep.require_same_data("cpu", cells, left)


def test_data_are_compared_with_the_folder_that_will_be_read(tmp_path, monkeypatch):
    monkeypatch.delenv("ISONB_DATA", raising=False)
    cell = config.cpu()
    leave(cell)
    (tmp_path / "data_batch_1.bin").write_bytes(b"other images")
    assert sweep.reasons([cell]) == {}
    assert sweep.reasons([cell], folder=tmp_path) == {cell.run.run_id: "the data have changed"}
    assert sweep.reasons([cell], True, tmp_path) == {}


def test_cells_begin_in_the_studys_order_and_those_of_a_short_study_longest_first(study):
    def begun(name):
        cells = {cell.run.run_id: cell for cell in sweep.cells(name)}
        ranked = sweep.priorities(name, list(cells.values()))
        return [cells[run_id] for run_id in sorted(ranked, key=ranked.get, reverse=True)]

    for name in ("cpu", str(study)):
        assert begun(name) == sweep.cells(name)
    assert [cell.run.block for cell in begun("smoke")] == ["transformer"] * 3 + ["mixer"] * 3 + ["conv"] * 3


def test_a_sweep_and_its_report_start_without_what_executes_notebooks():
    code = "import sys; from isonb import sweep, watch; from isonb.evidence import claims, metrics"
    code += "; sys.exit('papermill' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command_of_a_cell_runs_that_cell(monkeypatch):
    cell = config.cpu(block="transformer", positions="none", encoding="rff", sigma=0.1, probe_pooling="grid4")
    passed = []
    monkeypatch.setattr(
        runner, "run_cell", lambda *given, **_: passed.append(given) or runner.Outcome("id", "run", 0.0)
    )
    words = shlex.split(sweep.command(cell, {"threads": 1, "precision": "float32"}, "my own.ipynb"))
    assert words[:3] == [sys.executable, "-m", "isonb"]
    assert command_line.main(words[3:]) == 0
    [(settings, template)] = passed
    assert config.from_parameters(settings) == (cell, config.Execution(threads=1, precision="float32"))
    assert template == Path("my own.ipynb")


def test_one_sweep_at_a_time_holds_a_folder_until_its_process_ends():
    code = "import time; from isonb import sweep; it = sweep.hold('smoke', 'cpu'); print('held', flush=True)"
    code += "; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(sweep.SweepError, match=rf"\(study cpu, process {first.pid}, since \d\d:\d\d\): wait for"):
            sweep.hold("smoke", "smoke")
        first.kill()
    sweep.hold("smoke", "smoke").close()


def planned(tmp_path, **reasons):
    folder = tmp_path / "runs/smoke/sweep/1"
    plan = sweep.Plan(study="smoke", profile="smoke", started=time.time() - 65, reasons=reasons, reused=4)
    plan.write(folder)
    return folder


def test_what_failed_is_listed_with_its_last_line_and_its_logs(tmp_path):
    folder = planned(tmp_path, good="no record", bad="no record", killed="no record", waiting="no record")
    (folder / "good.done").touch()
    (folder / "bad.log").write_text("Traceback\nValueError: too much\n\n")
    (folder / "killed.log").touch()
    path = sweep.write_failures(folder)
    assert path == tmp_path / "runs/smoke/FAILURES.md"
    words = path.read_text()
    assert words.startswith("# 3 of 4 cells failed\n\n`make study PROFILE=smoke` runs them again.")
    assert "## bad\n\n    ValueError: too much\n" in words and str(tmp_path / "runs/smoke/logs/bad.log") in words
    assert words.count("ended without a word") == 2 and "## good" not in words
    assert sweep.summary(folder) == "Study smoke: 1 run, 4 reused, 3 failed, in 1 min 5 s."

    for name in ("bad", "killed", "waiting"):
        (folder / f"{name}.done").touch()
    assert sweep.write_failures(folder) is None and not path.exists()


def test_a_new_sweep_leaves_no_old_ones_folder(tmp_path):
    old = planned(tmp_path, good="no record")
    new = old.with_name("2")
    sweep.Plan.read(old).write(new)
    assert new.exists() and not old.exists()


def test_a_book_is_built_again_after_any_change_of_what_it_is_built_from(tmp_path, monkeypatch):
    (tmp_path / "book").mkdir()
    chapter = tmp_path / "book/index.md"
    chapter.write_text("one")
    (tmp_path / "_config.yml").write_text("title: none")
    monkeypatch.setattr(records, "PROJECT", tmp_path)
    monkeypatch.setattr(sweep, "PAGE", tmp_path / "_build/html/index.html")
    monkeypatch.setattr(sweep, "CONTENTS", tmp_path / "_build/contents.sha256")
    assert not sweep.is_built()

    def build(status):
        def run(command):
            page = sweep.PAGE
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text("the page")
            return status

        monkeypatch.setattr(sweep, "_run", run)
        return sweep.build_book()

    assert build(0) == 0 and sweep.is_built()
    os.utime(chapter, (1, 1))
    (tmp_path / "book/__pycache__").mkdir()
    (tmp_path / "book/__pycache__/x.pyc").touch()
    assert sweep.is_built()
    for changed in (chapter, tmp_path / "results/smoke/a.json"):
        changed.parent.mkdir(parents=True, exist_ok=True)
        changed.write_text("other")
        assert not sweep.is_built()
        assert build(1) == 1 and not sweep.is_built()
        assert build(0) == 0 and sweep.is_built()


def test_of_what_the_books_builder_says_only_noise_is_left_out(capfd):
    said = f"import sys; print('a page'); sys.stderr.write('a fault\\n[App] {sweep.NOISE}.\\nthe end'); sys.exit(3)"
    assert sweep._run([sys.executable, "-c", said]) == 3
    assert capfd.readouterr() == ("a page\n", "a fault\nthe end")


# The Snakefile


@pytest.fixture
def snakemake(study, tmp_path, monkeypatch):
    """Run the Snakefile on the three cells, from a notebook of a few lines, without the book."""
    parameters = new_code_cell(
        "profile = block = encoding = seed = threads = device = None", metadata={"tags": ["parameters"]}
    )
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    template = new_notebook(cells=[parameters, new_code_cell(SOURCE)], metadata={"kernelspec": kernel})
    nbformat.write(template, tmp_path / "template.ipynb")
    monkeypatch.setenv("MADE", str(tmp_path / "made"))
    (tmp_path / "made").mkdir()
    for cell in sweep.cells(str(study)):
        (tmp_path / "made" / f"{cell.run.run_id}.json").write_text(made_record(cell).model_dump_json())

    def run(*words, **environment):
        settings = ["--config", f"study={study}", f"template={tmp_path}/template.ipynb", "book=no"]
        return subprocess.run(
            [SNAKEMAKE, *settings, *words], cwd=records.PROJECT, env={**os.environ, **environment},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def test_a_failing_cell_leaves_the_others_alone_and_only_it_runs_again(snakemake, study, tmp_path):
    cells = sweep.cells(str(study))
    first = snakemake(FAILING="mixer")
    assert first.returncode == 1, first.stderr
    assert "Study " in first.stdout and "2 run, 0 reused, 1 failed" in first.stdout
    failures = (tmp_path / "runs/smoke/FAILURES.md").read_text()
    assert "no mixer today" in failures and failures.count("## ") == 1
    table = (tmp_path / "results/smoke/table.csv").read_text()
    assert [cell.run.run_id in table for cell in cells] == [True, False, True]
    assert "C1 " in (tmp_path / "results/smoke/claims.txt").read_text()

    dry = snakemake("-n")
    assert dry.returncode == 0
    assert f"{cells[1].run.run_id}: no record; time and memory not predicted yet" in dry.stdout + dry.stderr
    assert cells[0].run.run_id not in dry.stdout + dry.stderr
    assert records.finished(cells[1]) is None

    second = snakemake()
    assert second.returncode == 0, second.stderr
    assert "1 run, 2 reused, 0 failed" in second.stdout
    assert not (tmp_path / "runs/smoke/FAILURES.md").exists()

    os.utime(records.record_path(cells[0]), (1, 1))  # a checkout's times mean nothing
    third = snakemake()
    assert third.returncode == 0 and "all of its 3 cells are there" in third.stderr and not third.stdout


def said_in(done):
    """The lines of standard error, but for the one in which Snakemake names its profile."""
    return [line for line in done.stderr.splitlines() if not line.startswith("Using workflow specific profile")]


@pytest.mark.parametrize("variable", ["ISONB_RUNS", "ISONB_RESULTS"])
@pytest.mark.parametrize("place", ["/proc/nobody", "a file", "a file/below"])
def test_a_folder_that_cannot_be_used_is_one_sentence(variable, place, snakemake, tmp_path):
    (tmp_path / "a file").touch()
    done = snakemake(**{variable: str(tmp_path / place)})  # of an absolute path, that path
    assert done.returncode == 1
    [sentence] = said_in(done)
    assert sentence.startswith(f"{tmp_path / place}")
    assert sentence.endswith("name another folder by ISONB_RUNS and ISONB_RESULTS.")


def test_a_target_that_is_not_there_is_one_sentence(snakemake):
    done = snakemake("--", "nosuch")
    assert done.returncode == 1
    [sentence] = said_in(done)
    assert "No rule to produce nosuch" in sentence


def test_whatever_keeps_a_sweep_from_starting_is_one_sentence():
    assert sweep.in_a_sentence(ConfigError("depth=0 is not allowed.")) == "depth=0 is not allowed."
    full = OSError(28, "No space left on device", "/runs/plan.json")
    assert sweep.in_a_sentence(full).startswith("/runs/plan.json cannot be used (No space left on device): mend it, or")
    try:
        {}["one"]
    except KeyError as fault:
        sentence = sweep.in_a_sentence(fault)
    assert sentence.startswith(f"The study cannot be run (KeyError: 'one'; {__file__}, line ")
    assert sentence.endswith("): this is a fault of the program, so tell its authors.")


def test_a_second_sweep_in_the_folder_says_so_and_leaves_the_first_alone(snakemake):
    held = sweep.hold("smoke", "smoke")
    second = snakemake()
    held.close()
    assert second.returncode == 1
    [sentence] = said_in(second)
    assert f"process {os.getpid()}" in sentence


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "study=smok"], "profile='smok' is not allowed: choose smoke, cpu, paper."),
        (["--config", "placement=gpu"], "placement='gpu' is not allowed: choose auto, cpu, gpu-each, gpu-all, given."),
    ],
)
def test_a_sweep_that_cannot_be_is_one_sentence(words, message):
    done = subprocess.run([SNAKEMAKE, *words], cwd=records.PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr
