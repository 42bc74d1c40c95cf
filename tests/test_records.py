"""Result files: what is written can be read, what is damaged is named, and nothing half-written is left."""

import itertools
import json

import numpy as np
import pytest
from made_records import made_arrays, made_record

from isonb import config, numerics, records
from isonb.validation import ConfigError


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


def test_a_record_and_its_arrays_are_read_as_they_were_written(results):
    cell = config.smoke(block="transformer", heads=4, encoding="rff", probe_pooling="grid4")
    record, arrays = made_record(cell), made_arrays()
    path = records.write_record(record, arrays)
    assert path == records.record_path(cell) == results / "smoke" / f"{cell.run.run_id}.json"
    assert records.read_record(path) == record
    read = records.read_arrays(path)
    assert read.keys() == arrays.keys()
    assert all(np.array_equal(read[name], arrays[name]) and read[name].dtype == arrays[name].dtype for name in arrays)
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, path.with_suffix(".npz").name]
    assert list(records.read_study("smoke")) == [record]
    assert list(records.read_study("cpu")) == []


def test_a_record_is_plain_json_that_names_its_schema():
    path = records.write_record(made_record(config.smoke()), {})
    content = json.loads(path.read_text())
    assert content["schema_version"] == config.VERSION
    assert content["numerics"] == numerics.NUMERICS
    assert content["cell"]["study"] == "smoke"
    assert content["cell"]["run"] == config.smoke().run.model_dump()
    assert path.read_text().endswith("}\n")


def test_results_go_to_the_project_unless_told(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "elsewhere"))
    assert records.runs_folder("cpu") == tmp_path / "elsewhere" / "cpu"
    monkeypatch.delenv("ISONB_RESULTS")
    monkeypatch.delenv("ISONB_RUNS")
    assert records.results_folder("cpu") == records.PROJECT / "book" / "results" / "cpu"
    assert records.runs_folder("cpu") == records.PROJECT / "_runs" / "cpu"


# Writing


def test_a_record_appears_after_its_arrays(monkeypatch):
    written = []
    write = records.write_atomically
    monkeypatch.setattr(records, "write_atomically", lambda path, content: (written.append(path), write(path, content)))
    path = records.write_record(made_record(config.smoke()), made_arrays())
    assert written == [path.with_suffix(".npz"), path]


# Reading


def damaged(change):
    """The path of a record whose JSON was changed."""
    path = records.write_record(made_record(config.smoke()), made_arrays())
    content = json.loads(path.read_text())
    change(content)
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
        (lambda content: content["cell"]["run"].update(block="lstm"), "(block='lstm' is not allowed"),
        (lambda content: content["baselines"].update(uniform=float("nan")), "uniform"),
    ],
)
def test_a_foreign_record_is_named_with_what_is_wrong_and_what_to_do(change, cause):
    path = damaged(change)
    for read in (records.read_record, lambda _: list(records.read_study("smoke"))):
        with pytest.raises(records.RecordError) as refusal:
            read(path)
        sentence = str(refusal.value)
        assert len(sentence) - len(str(path)) < 400
        assert sentence.startswith(f"{path} is not a result file of this version (")
        assert cause in sentence and sentence.endswith("delete it and run its cell again.")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff\xfe", b"null"])
def test_a_damaged_record_is_named(content):
    path = records.write_record(made_record(config.smoke()), {})
    path.write_bytes(content)
    with pytest.raises(records.RecordError) as refusal:
        records.read_record(path)
    assert str(path) in str(refusal.value)


def test_a_missing_record_is_named(tmp_path):
    with pytest.raises(records.RecordError, match=r"nothing\.json"):
        records.read_record(tmp_path / "nothing.json")


def test_damaged_missing_and_pickled_arrays_are_named():
    path = records.write_record(made_record(config.smoke()), made_arrays())
    arrays = path.with_suffix(".npz")
    whole = arrays.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes(255 - byte for byte in whole[middle : middle + 50]) + whole[middle + 50 :]
    for content in (b"", b"no archive", whole[: len(whole) // 2], flipped):
        arrays.write_bytes(content)
        with pytest.raises(
            records.RecordError, match=f"{path.stem}.npz cannot be read .*: delete it and run its cell again"
        ):
            records.read_arrays(path)
    np.savez(arrays, made=np.array([{"an": "object"}], object))
    with pytest.raises(records.RecordError, match="cannot be read"):
        records.read_arrays(path)
    arrays.unlink()
    with pytest.raises(records.RecordError, match="cannot be read"):
        records.read_arrays(path)


def test_a_damaged_compressed_stream_is_named():
    path = records.write_record(made_record(config.smoke()), {"zeros": np.zeros(1000)})
    content = bytearray(path.with_suffix(".npz").read_bytes())
    start = 30 + int.from_bytes(content[26:28], "little") + int.from_bytes(content[28:30], "little")  # past the header
    content[start] = 0xFF  # deflate knows no block of type 3
    path.with_suffix(".npz").write_bytes(content)
    with pytest.raises(records.RecordError, match=r"cannot be read \(Error -3 .*: delete it and run its cell again"):
        records.read_arrays(path)


@pytest.mark.parametrize("changes", [{"probe_pooling": "grid4"}, {"probe_epochs": 3}, {"finetune_epochs": 2}])
def test_only_exactly_the_same_cell_is_finished(changes):
    cell = config.smoke()
    assert records.finished(cell) is None
    record = made_record(cell)
    records.write_record(record, {})
    assert records.finished(cell) == record
    other = config.smoke(**changes)  # the same network, probed in another way: the same file
    assert records.record_path(other) == records.record_path(cell)
    assert records.finished(other) is None
    assert records.finished(config.smoke(seed=1)) is None


def test_a_record_with_probes_along_training_has_what_is_asked_of_one_without():
    plain, along = config.smoke(), config.smoke(probe_along=True)
    assert plain.run.run_id == along.run.run_id
    records.write_record(made_record(plain), {})
    assert records.finished(along) is None
    records.write_record(made_record(along), {})
    assert records.finished(plain) == records.finished(along) == made_record(along)
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
    records.write_record(made_record(config.smoke()), {})
    assert records.finished(more) is None
    records.write_record(made_record(more), {})
    fewer = [
        dict(zip(extras, values, strict=True)) for values in itertools.product(*((None, v) for v in extras.values()))
    ]
    for settings in fewer:
        assert records.finished(config.smoke(**settings)) == made_record(more)
    for settings in others:
        assert records.finished(config.smoke(**settings)) is None


def test_a_record_of_a_time_before_extras_is_read():
    path = records.write_record(made_record(config.smoke()), {})
    content = json.loads(path.read_text())
    del content["probe"]["along"], content["cell"]["probe"]["along"], content["cell"]["probe"]["pixels"]
    del content["finetune"], content["cell"]["finetune"]
    for layer in content["probe"]["layers"]:
        del layer["pixel_accuracy"]
    path.write_text(json.dumps(content))
    assert records.finished(config.smoke()) == made_record(config.smoke())


def as_version_1(content):
    """The content of a record as the first version wrote it."""
    cell = {name: value for name, value in content["cell"].items() if name != "study"}
    for name in ("test_fraction", "image_fit"):
        del cell["run"][name]
    for name in ("official", "remarks"):
        del content["data"][name]
    del content["numerics"]
    cell = {"profile": "smoke", **cell}
    return content | {"schema_version": 1, "cell": cell, "code": {"draws": "ca6395fb99f5"}}


def test_a_record_of_the_first_version_is_read_in_the_words_of_this_one():
    path = records.write_record(made_record(config.smoke()), {})
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
    path = damaged(lambda content: content.update(schema_version=config.VERSION + 1, anything=1))
    with pytest.raises(records.NewerRecordError) as refusal:
        records.read_record(path)
    sentence = str(refusal.value)
    assert sentence.startswith(f"{path} was written by a newer version of isonb (schema version {config.VERSION + 1};")
    assert sentence.endswith("update isonb.") and "delete" not in sentence
    before = path.read_bytes()
    with pytest.raises(records.NewerRecordError):
        records.write_record(made_record(config.smoke()), {})
    assert path.read_bytes() == before


def test_a_record_of_later_numerics_is_one_of_a_newer_version():
    path = damaged(lambda content: content.update(numerics=numerics.NUMERICS + 1))
    with pytest.raises(records.NewerRecordError, match=r"newer version of isonb \(numerics \d+; this one knows up to"):
        records.read_record(path)


def test_a_record_nested_without_end_is_a_damaged_one():
    path = damaged(lambda content: None)
    path.write_text("[" * 100_000)
    with pytest.raises(records.RecordError, match="is not a result file"):
        records.read_record(path)


def test_what_is_doubtful_about_the_images_is_kept():
    record = made_record(config.smoke())
    data = record.data.model_copy(update={"official": False, "remarks": ["Twins in training and test."]})
    path = records.write_record(record.model_copy(update={"data": data}), {})
    assert records.read_record(path).data == data


def test_a_damaged_record_is_not_quietly_run_again():
    path = records.write_record(made_record(config.smoke()), {})
    path.write_text("{")
    with pytest.raises(records.RecordError, match=path.name):
        records.finished(config.smoke())


def test_a_record_refuses_what_json_cannot_say():
    with pytest.raises(ConfigError, match="uniform=nan is not allowed"):
        records.Baselines(uniform=float("nan"), channel_marginal=5.0, neighbour_mean=4.0)
