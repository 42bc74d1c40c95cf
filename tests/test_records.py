"""Result files: what is written can be read, what is damaged is named, and nothing half-written is left."""

import hashlib
import itertools
import json

import numpy as np
import pytest
from made_records import leave_record, made_arrays, made_record

from isonb import config, disk, numerics, places, records, schema
from isonb.__main__ import main
from isonb.validation import ConfigError


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


def without_checksums(record):
    return record and record.model_copy(update={"checksums": None})


def test_a_record_and_its_arrays_are_read_as_they_were_written(results):
    cell = config.smoke(block="transformer", heads=4, encoding="rff", probe_pooling="grid4")
    record, arrays = made_record(cell), made_arrays()
    path = records.write_record(record, arrays)
    assert path == records.record_path(cell) == results / "smoke" / f"{cell.run.run_id}.json"
    assert without_checksums(records.read_record(path)) == record
    read = records.read_arrays(path)
    assert read.keys() == arrays.keys()
    assert all(np.array_equal(read[name], arrays[name]) and read[name].dtype == arrays[name].dtype for name in arrays)
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, path.with_suffix(".npz").name]
    assert [without_checksums(one) for one in records.read_study("smoke")] == [record]
    assert list(records.read_study("cpu")) == []


def test_a_record_is_plain_json_that_names_its_schema():
    path = leave_record(made_record(config.smoke()))
    content = json.loads(path.read_text())
    assert content["schema_version"] == config.VERSION
    assert content["numerics"] == numerics.NUMERICS
    assert content["cell"]["study"] == "smoke"
    assert content["cell"]["run"] == config.smoke().run.model_dump()
    assert path.read_text().endswith("}\n")


def test_results_go_to_the_project_unless_told(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "elsewhere"))
    assert places.runs_folder("cpu") == tmp_path / "elsewhere" / "cpu"
    monkeypatch.delenv("ISONB_RESULTS")
    monkeypatch.delenv("ISONB_RUNS")
    assert places.results_folder("cpu") == places.PROJECT / "book" / "results" / "cpu"
    assert places.runs_folder("cpu") == places.PROJECT / "_runs" / "cpu"


# Writing


@pytest.fixture
def written(monkeypatch):
    """The paths of files in the order in which they were written."""
    paths, write = [], disk.write_atomically
    monkeypatch.setattr(disk, "write_atomically", lambda path, content: (write(path, content), paths.append(path)))
    return paths


def test_a_record_appears_after_what_it_vouches_for(written):
    path = leave_record(made_record(config.smoke()), b"{}")
    assert written == [path.with_suffix(".npz"), path.with_suffix(".ipynb"), path]


def test_a_record_names_the_sha256_of_its_arrays_and_of_its_notebook():
    path = leave_record(made_record(config.smoke()), b"executed")
    sums = json.loads(path.read_text())["checksums"]
    assert sums["notebook"] == hashlib.sha256(b"executed").hexdigest()
    assert sums["arrays"] == hashlib.sha256(path.with_suffix(".npz").read_bytes()).hexdigest()
    assert records.notebook_of(records.read_record(path)) == path.with_suffix(".ipynb")


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_write_that_is_cut_short_leaves_no_record_with_another_ones_files(writes, monkeypatch):
    cell = config.smoke()
    leave_record(made_record(cell), b"old")
    write, left = disk.write_atomically, iter(range(writes))

    def write_while_there_is_room(path, content):
        if next(left, None) is None:
            raise OSError(28, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(disk, "write_atomically", write_while_there_is_room)
    with pytest.raises(OSError, match="No space left"):
        leave_record(made_record(cell, validation_loss=3.0, test_accuracy=0.5), b"new")
    if writes:
        with pytest.raises(records.RecordError, match="not those that were written with the record"):
            records.finished(cell)
    else:
        record = records.finished(cell)
        assert record.training.validation_loss == 4.0 and records.notebook_of(record).read_bytes() == b"old"


def test_while_a_runner_executes_its_notebook_a_record_is_no_result_yet(tmp_path, results, monkeypatch):
    monkeypatch.setenv("ISONB_STAGE", str(tmp_path / "stage"))
    path = leave_record(made_record(config.smoke()))
    assert path.parent == tmp_path / "stage" and not results.exists()
    record, arrays = records.read(path)
    assert records.write_record(record, arrays, b"executed").parent == results / "smoke"


@pytest.mark.parametrize(
    ("name", "content"), [("json", b"{"), ("npz", b"not an archive"), ("json", None), ("npz", None)]
)
def test_a_damaged_record_is_kept_aside_when_its_cell_has_run_again(name, content):
    path = leave_record(made_record(config.smoke()), b"executed")
    part = path.with_suffix(f".{name}")
    part.unlink()
    part.write_bytes(content) if content else part.mkdir()
    leave_record(made_record(config.smoke(), validation_loss=3.5), b"again")
    assert records.finished(config.smoke()).training.validation_loss == 3.5
    aside = part.with_name(f"{part.name}.damaged")
    assert aside.read_bytes() == content if content else aside.is_dir()
    assert [one.training.validation_loss for one in records.read_study("smoke")] == [3.5]


def test_each_damaged_file_is_kept_and_so_is_a_notebook_that_is_not_the_records():
    path = leave_record(made_record(config.smoke()), b"first")
    for content in (b"{", b"["):
        path.write_bytes(content)
        leave_record(made_record(config.smoke()), b"first")
    assert {part.name: part.read_bytes() for part in path.parent.glob("*.json.damaged*")} == {
        f"{path.name}.damaged": b"{",
        f"{path.name}.damaged-2": b"[",
    }
    notebook = path.with_suffix(".ipynb")
    notebook.write_bytes(b"changed")
    leave_record(made_record(config.smoke()), b"second")
    assert (
        notebook.read_bytes() == b"second"
        and (notebook.parent / f"{notebook.name}.damaged-3").read_bytes() == b"changed"
    )
    notebook.unlink()
    notebook.mkdir()
    leave_record(made_record(config.smoke()), b"third")
    assert notebook.read_bytes() == b"third"


def test_hidden_files_are_no_records():
    path = leave_record(made_record(config.smoke()))
    (path.parent / f"._{path.name}").write_bytes(b"as another system leaves beside each file")
    assert [record.run_id for record in records.read_study("smoke")] == [path.stem]


# Reading


def changed(change, *, sealed=True):
    """The path of a record whose JSON was changed; by somebody who made its own checksum fit, unless it is sealed."""
    path = leave_record(made_record(config.smoke()))
    content = json.loads(path.read_text())
    change(content)
    if not sealed:
        rest = {name: value for name, value in content.items() if name != "checksums"}
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
        content["checksums"]["record"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda content: content.update(schema_version="two"), "schema_version is 'two', no version"),
        (lambda content: content.update(schema_version=True), "schema_version is True, no version"),
        (lambda content: content.update(schema_version=0), "schema_version=0 is not allowed"),
        (lambda content: content.pop("schema_version"), "schema_version"),
        (lambda content: content.update(extra=1), "'extra'"),
        (lambda content: content.pop("probe"), "(probe is missing)"),
        (lambda content: content["training"].update(test_loss="low"), "test_loss"),
        (lambda content: content["training"].update(test_loss=-5.0), "test_loss=-5.0 is not allowed"),
        (lambda content: content["training"].update(curve=[]), "the epochs of the learning curve are not 0, 1"),
        (lambda content: content["training"]["curve"].pop(1), "the epochs of the learning curve are not 0, 1"),
        (lambda content: content["training"]["curve"].pop(), "its learning curve has 2 of 3 epochs"),
        (lambda content: content["training"].update(validation_loss=3.0), "validation_loss is not that of the last"),
        (lambda content: content["probe"].update(test_accuracy=2.5), "test_accuracy=2.5 is not allowed"),
        (lambda content: content["probe"].update(test_accuracy=0.5), "test_accuracy is not that of the chosen layer"),
        (lambda content: content["probe"].update(best_layer=7), "test_accuracy is not that of the chosen layer"),
        (lambda content: content["probe"]["layers"].pop(0), "the probed layers are not 0, 1"),
        (
            lambda content: content["probe"]["layers"][0].update(validation_accuracy=0.5),
            "is not the best on validation",
        ),
        (lambda content: content["training"].update(steps=0), "it took 0 steps, not 20 in each of 3 epochs"),
        (lambda content: content["training"].update(seconds=1e308), "seconds=1e+308 is not allowed"),
        (lambda content: content["training"]["curve"][2].update(images=8), "has not all 80 training images"),
        (lambda content: content["training"]["curve"][0].update(images=80), "has not all 80 training images"),
        (lambda content: content["probe"].update(chance=0.0), "cannot be as rare as chance says"),
        (lambda content: content["data"].update(classes=["a"]), "classes=['a'] is not allowed"),
        (lambda content: content["data"].update(test=0), "test=0 is not allowed"),
        (lambda content: content["counts"].update(parameters=1), "its counts are not those of a network of 1 blocks"),
        (lambda content: content["counts"].update(multiply_accumulates=1), "its counts are not those of a network"),
        (lambda content: content["counts"].update(parameters=-1), "parameters=-1 is not allowed"),
        (lambda content: content["reconstruction"].update(mean_absolute_error=256), "mean_absolute_error=256"),
        (lambda content: content["encoding"]["after"].pop(), "after="),
        (lambda content: content.update(run_id="conv"), "run_id is 'conv', but its settings are those of conv-"),
        (lambda content: content["cell"]["run"].update(seed=1), "but its settings are those of conv-continuous-L1-s1-"),
        (lambda content: content["cell"]["run"].update(block="lstm"), "(block='lstm' is not allowed"),
        (lambda content: content["baselines"].update(uniform=float("nan")), "NaN, which is not a number"),
    ],
)
def test_a_record_of_what_cannot_be_is_named_with_what_is_wrong_and_what_to_do(change, cause):
    path = changed(change, sealed=False)
    for read in (records.read_record, lambda _: list(records.read_study("smoke"))):
        with pytest.raises(records.RecordError) as refusal:
            read(path)
        sentence = str(refusal.value)
        assert len(sentence) - len(str(path)) < 400
        assert sentence.startswith(f"{path} cannot be read as a result (")
        assert cause in sentence and sentence.endswith("): run its cell again, which keeps a copy of it.")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["training"].update(test_loss=4.2),
        lambda content: content["training"].update(seconds=2),
        lambda content: content["data"].update(name="fotos"),
        lambda content: content["checksums"].update(record="0" * 64),
        lambda content: content.update(numerics=0),
    ],
)
def test_a_record_with_a_changed_number_or_word_is_not_believed(change):
    with pytest.raises(records.RecordError, match="its numbers are not those that were written"):
        records.read_record(changed(change))


def test_a_record_without_checksums_is_one_of_an_earlier_version_or_none():
    with pytest.raises(records.RecordError, match="its checksums are missing"):
        records.read_record(changed(lambda content: content.pop("checksums")))


def test_the_layout_of_a_record_does_not_matter():
    path = leave_record(made_record(config.smoke()))
    before = records.read_record(path)
    path.write_text(json.dumps(json.loads(path.read_text()), indent=4, sort_keys=True))
    assert records.read_record(path) == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff\xfe", b"null", b'{"a": 1, "a": 1}', b"[" * 100_000])
def test_a_damaged_record_is_named(content):
    path = leave_record(made_record(config.smoke()))
    path.write_bytes(content)
    with pytest.raises(records.RecordError) as refusal:
        records.read_record(path)
    assert str(path) in str(refusal.value)


def test_a_missing_record_is_named(tmp_path):
    with pytest.raises(records.RecordError, match=r"nothing\.json"):
        records.read_record(tmp_path / "nothing.json")


def test_a_record_under_another_name_is_named():
    path = leave_record(made_record(config.smoke()))
    other = path.with_stem("conv-continuous-L1-s7-00000000")
    path.rename(other)
    with pytest.raises(records.RecordError, match=f"it is the record of {path.stem}"):
        records.read_record(other)


def test_damaged_and_missing_arrays_are_named_and_so_is_their_record_not_believed():
    path = leave_record(made_record(config.smoke()))
    arrays = path.with_suffix(".npz")
    whole = arrays.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for content in (b"", b"no archive", whole[:middle], flipped, whole + b"\0", None):
        arrays.unlink()
        if content is not None:
            arrays.write_bytes(content)
        for read in (records.read_record, records.read_arrays):
            with pytest.raises(records.RecordError, match=f"{path.stem}.npz cannot be read as a result"):
                read(path)
        arrays.touch()


def answers(layers=2, images=40):
    correct_LB = np.zeros((layers, images), bool)
    correct_LB[0, :5] = correct_LB[1:, :10] = True  # 0.125 and 0.25 of 40
    return correct_LB


@pytest.mark.parametrize(
    ("name", "array", "cause"),
    [
        ("test_correct_LB", answers(images=7), "test_correct_LB is bool of the shape"),
        ("test_correct_LB", answers(layers=3), "test_correct_LB is bool of the shape"),
        ("test_correct_LB", answers().astype(float), "test_correct_LB is float64 of the shape"),
        ("test_correct_LB", ~answers(), "test_correct_LB has not the accuracies of the record"),
        ("test_correct_LB", None, "test_correct_LB is missing"),
        ("test_loss_B", np.full(7, 4.1, np.float32), "test_loss_B is float32 of the shape"),
        ("test_loss_B", np.full(40, np.nan, np.float32), "test_loss_B has not the loss of the record"),
        ("test_loss_B", np.full(40, np.inf, np.float32), "test_loss_B has not the loss of the record"),
        (
            "test_loss_B",
            np.r_[np.inf, np.full(39, 4.1)].astype(np.float32),
            "test_loss_B has not the loss of the record",
        ),
        ("test_loss_B", np.full(40, 3.0, np.float32), "test_loss_B has not the loss of the record"),
        ("is_masked_BHWC", np.ones((3, 32, 32, 3), bool), "filled_S is uint8 of the shape"),
        ("original_BHWC", np.zeros((3, 8, 8, 3), np.uint8), "original_BHWC is uint8 of the shape"),
        ("filled_S", np.zeros(4, np.uint8), "filled_S is uint8 of the shape"),
    ],
)
def test_arrays_that_are_not_what_their_record_says_are_refused(name, array, cause):
    record = made_record(config.smoke())
    arrays = made_arrays(record) | {name: array}
    path = records.write_record(record, {key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(records.RecordError, match=cause):
        records.read_arrays(path)


def test_an_image_without_a_masked_pixel_has_no_loss():
    record = made_record(config.smoke())
    loss_B = np.full(40, 4.1, np.float32)
    loss_B[3] = np.nan
    path = records.write_record(record, made_arrays(record) | {"test_loss_B": loss_B})
    assert np.isnan(records.read_arrays(path)["test_loss_B"]).sum() == 1


@pytest.mark.parametrize("changes", [{"probe_pooling": "grid4"}, {"probe_epochs": 3}, {"finetune_epochs": 2}])
def test_only_exactly_the_same_cell_is_finished(changes):
    cell = config.smoke()
    assert records.finished(cell) is None
    record = made_record(cell)
    leave_record(record)
    assert without_checksums(records.finished(cell)) == record
    other = config.smoke(**changes)  # the same network, probed in another way: the same file
    assert records.record_path(other) == records.record_path(cell)
    assert records.finished(other) is None
    assert records.finished(config.smoke(seed=1)) is None


def test_a_record_with_probes_along_training_has_what_is_asked_of_one_without():
    plain, along = config.smoke(), config.smoke(probe_along=True)
    assert plain.run.run_id == along.run.run_id
    leave_record(made_record(plain))
    assert records.finished(along) is None
    leave_record(made_record(along))
    assert records.finished(plain) == records.finished(along)
    assert without_checksums(records.finished(along)) == made_record(along)
    assert records.finished(config.smoke(probe_epochs=3)) is None


@pytest.mark.parametrize(
    ("extras", "others"),
    [
        ({"probe_pixels": True}, [{"probe_along": True}, {"probe_pixels": True, "probe_epochs": 3}]),
        ({"finetune_epochs": 3}, [{"finetune_epochs": 2}, {"finetune_epochs": 3, "finetune_learning_rate": 0.01}]),
        (
            {"probe_along": True, "probe_pixels": True, "finetune_epochs": 3},
            [{"probe_solver": "lbfgs"}, {"finetune_epochs": 4}, {"finetune_epochs": 3, "probe_inputs": "masked"}],
        ),
    ],
)
def test_a_record_of_more_has_what_is_asked_of_less_and_of_nothing_else(extras, others):
    more = config.smoke(**extras)
    leave_record(made_record(config.smoke()))
    assert records.finished(more) is None
    leave_record(made_record(more))
    fewer = [
        dict(zip(extras, values, strict=True)) for values in itertools.product(*((None, v) for v in extras.values()))
    ]
    for settings in fewer:
        assert without_checksums(records.finished(config.smoke(**settings))) == made_record(more)
    for settings in others:
        assert records.finished(config.smoke(**settings)) is None


# Earlier and later versions


def as_version(version):
    """What changes a record into one of an earlier version, as it was before there were checksums."""

    def change(content):
        content.update(schema_version=version)
        del content["checksums"]

    return change


def test_a_record_of_a_time_before_checksums_is_read_with_whatever_lies_beside_it():
    path = changed(as_version(3))
    path.with_suffix(".ipynb").write_text("{}")
    record = records.read_record(path)
    assert record.checksums is None and record.schema_version == 3
    assert records.notebook_of(record) == path.with_suffix(".ipynb")
    path.with_suffix(".npz").unlink()
    with pytest.raises(records.RecordError, match="No such file"):
        records.read_record(path)


def test_a_record_of_a_time_before_extras_is_read():
    path = changed(as_version(2))
    content = json.loads(path.read_text())
    del content["probe"]["along"], content["cell"]["probe"]["along"], content["cell"]["probe"]["pixels"]
    del content["finetune"], content["cell"]["finetune"]
    for layer in content["probe"]["layers"]:
        del layer["pixel_accuracy"]
    path.write_text(json.dumps(content))
    expected = made_record(config.smoke()).model_copy(update={"schema_version": 2})
    assert records.finished(config.smoke()) == expected


def as_version_1(content):
    """The content of a record as the first version wrote it."""
    cell = {name: value for name, value in content["cell"].items() if name != "study"}
    for name in ("test_fraction", "image_fit"):
        del cell["run"][name]
    for name in ("official", "remarks"):
        del content["data"][name]
    del content["numerics"]
    cell = {"profile": "smoke", **cell}
    del content["checksums"]
    return content | {"schema_version": 1, "cell": cell, "code": {"draws": "ca6395fb99f5"}}


def test_a_record_of_the_first_version_is_read_in_the_words_of_this_one():
    path = leave_record(made_record(config.smoke()))
    path.write_text(json.dumps(as_version_1(json.loads(path.read_text()))))
    record = records.read_record(path)
    expected = made_record(config.smoke()).model_copy(update={"schema_version": 1, "numerics": 1})
    assert record == expected
    assert records.finished(config.smoke()) == expected


def test_every_committed_record_is_read_under_its_own_name(monkeypatch):
    monkeypatch.delenv("ISONB_RESULTS")
    for study in config.STUDIES:
        for record in records.read_study(study):
            assert record.run_id == record.cell.run.run_id
            assert records.record_path(record.cell).exists()


def test_a_record_of_a_newer_version_is_neither_read_nor_taken_for_damaged():
    path = changed(lambda content: content.update(schema_version=config.VERSION + 1, anything=1))
    with pytest.raises(records.NewerRecordError) as refusal:
        records.read_record(path)
    sentence = str(refusal.value)
    assert sentence.startswith(f"{path} was written by a newer version of isonb (schema version {config.VERSION + 1};")
    assert sentence.endswith("update isonb.") and "delete" not in sentence
    before = path.read_bytes()
    with pytest.raises(records.NewerRecordError):
        leave_record(made_record(config.smoke()))
    assert path.read_bytes() == before


def test_a_record_of_later_numerics_is_one_of_a_newer_version():
    path = changed(lambda content: content.update(numerics=numerics.NUMERICS + 1))
    with pytest.raises(records.NewerRecordError, match=r"newer version of isonb \(numerics \d+; this one knows up to"):
        records.read_record(path)


def test_what_is_doubtful_about_the_images_is_kept():
    record = made_record(config.smoke())
    data = record.data.model_copy(update={"official": False, "remarks": ["Twins in training and test."]})
    path = leave_record(record.model_copy(update={"data": data}))
    assert records.read_record(path).data == data


def test_a_damaged_record_is_not_quietly_run_again():
    path = leave_record(made_record(config.smoke()))
    path.write_text("{")
    with pytest.raises(records.RecordError, match=path.name):
        records.finished(config.smoke())


def test_a_record_refuses_what_json_cannot_say():
    with pytest.raises(ConfigError, match="uniform=nan is not allowed"):
        schema.Baselines(uniform=float("nan"), channel_marginal=5.0, neighbour_mean=4.0)


@pytest.mark.parametrize("place", ["", "smoke"])
def test_a_file_in_the_place_of_the_results_is_not_taken_for_none(results, place, capsys):
    (results / place).parent.mkdir(parents=True, exist_ok=True)
    (results / place).write_text("")
    assert main(["claims"]) == 2
    assert capsys.readouterr().err == (
        f"{results / place} is not a folder: move it away, or set ISONB_RESULTS to another folder.\n"
    )
