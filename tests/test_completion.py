"""Records of earlier versions gain what later ones measure, and lose nothing."""

import json

import filelock
import numpy as np
import pytest
from tiny_runs import made_images

from isonb import config, places, records
from isonb.__main__ import main
from isonb.config import VERSION, Execution
from isonb.running import completion
from isonb.training import checkpoint, data, launch, outcome, probes, train
from isonb.training import completion as of_record

IMAGES = made_images(train=40, validation=20)
SMALL = {"width": 8, "image_size": 8, "batch_size": 8, "epochs": 2, "evaluation_masks": 2, "probe_epochs": 2}


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(data, "load", lambda run, folder=None: IMAGES)


def run(**changes):
    """A cell of today: its record and arrays."""
    cell = config.smoke(**SMALL | changes)
    folder = launch.checkpoints_folder(cell, IMAGES)
    execution = Execution(device="cpu", precision="float32")
    pretrained = train.pretrain(cell.run, IMAGES, folder, execution)
    probed = probes.of_network(pretrained.network, IMAGES, cell.probe, "float32")
    return outcome.record(cell, IMAGES, pretrained, probed, execution)


def as_it_was(record, arrays):
    """What version 2 would have left of it."""
    older = record.model_copy(
        update={
            "schema_version": 2,
            "probe": record.probe.model_copy(update={"untrained": None}),
            "other_probes": [],
            "baselines": record.baselines.model_copy(update={"linear_filter": None}),
            "weights": None,
        }
    )
    return older, {name: array for name, array in arrays.items() if "untrained" not in name and "grid4" not in name}


def without_seconds(probes_of):
    return probes_of.model_copy(update={"seconds": 0})


def test_an_older_record_gains_its_twin_and_keeps_the_rest():
    new, new_arrays = run()
    older, older_arrays = as_it_was(new, new_arrays)
    records.write_record(older, older_arrays)
    assert dict(completion.study("smoke", Execution())) == {new.run_id: "untrained twin, linear filter added"}
    path = records.record_path(new.cell)
    completed, arrays = records.read_record(path), records.read_arrays(path)
    assert completed.schema_version == VERSION
    assert without_seconds(completed.probe.untrained) == without_seconds(new.probe.untrained)
    assert completed.probe.model_copy(update={"untrained": None}) == older.probe
    assert completed.baselines == new.baselines
    for made, expected in zip(completed.other_probes, new.other_probes, strict=True):
        assert (made.name, made.protocol, made.trained) == (expected.name, expected.protocol, None)
        assert without_seconds(made.untrained) == without_seconds(expected.untrained)
    for name in ("untrained_correct_LB", "grid4_untrained_correct_LB", "test_correct_LB", "filled_S"):
        np.testing.assert_array_equal(arrays[name], new_arrays[name])
    assert completed.completed.processes == 1 and completed.environment == older.environment
    assert dict(completion.study("smoke", Execution())) == {}  # nothing is left to do


def test_what_was_kept_of_the_weights_gives_the_second_pooling():
    new, new_arrays = run()
    older, older_arrays = as_it_was(new, new_arrays)
    records.write_record(older.model_copy(update={"weights": new.weights}), older_arrays)
    assert list(completion.study("smoke", Execution()))
    path = records.record_path(new.cell)
    for made, expected in zip(records.read_record(path).other_probes, new.other_probes, strict=True):
        assert without_seconds(made.trained) == without_seconds(expected.trained)
    np.testing.assert_array_equal(records.read_arrays(path)["grid4_correct_LB"], new_arrays["grid4_correct_LB"])


def test_weights_that_are_not_the_records_are_refused():
    new, _ = run()
    path = launch.checkpoints_folder(new.cell, IMAGES) / checkpoint.FINAL
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(checkpoint.CheckpointError, match=f"does not hold the weights of the record {new.run_id}: del"):
        of_record.kept_weights(new)
    path.unlink()
    assert of_record.kept_weights(new) is None


def test_records_of_other_images_are_left_alone_and_counted_after_the_others(capsys):
    new, arrays = run()
    older, older_arrays = as_it_was(new, arrays)
    records.write_record(_of_other_images(older), older_arrays)
    other, other_arrays = as_it_was(*run(seed=1))
    records.write_record(other, other_arrays)
    assert main(["complete"]) == 1
    told = capsys.readouterr()
    assert told.out == f"{other.run_id}: untrained twin, linear filter added\n"
    assert (
        told.err == "1 record of smoke read images that are not at hand: set ISONB_DATA to the folder that they read.\n"
    )


@pytest.mark.parametrize("is_at_hand", [True, False])
def test_a_record_of_a_time_before_checksums_gains_them_and_keeps_its_notebook(is_at_hand, capsys):
    new, arrays = run()
    path = records.write_record(new if is_at_hand else _of_other_images(new), arrays)
    content = json.loads(path.read_text()) | {"schema_version": 3}
    del content["checksums"]
    if not is_at_hand:
        content["probe"]["untrained"] = None
    path.write_text(json.dumps(content))
    records.notebook_path(new.cell).write_bytes(b"executed")
    assert main(["complete"]) == (0 if is_at_hand else 1)
    assert capsys.readouterr().out == f"{new.run_id}: checksums added\n"
    sealed = records.finished(new.cell)
    assert (sealed.schema_version, records.notebook_of(sealed).read_bytes()) == (VERSION, b"executed")
    assert sealed.training == new.training
    records.notebook_path(new.cell).write_bytes(b"changed")
    assert records.notebook_of(sealed) is None


def test_a_damaged_record_does_not_stop_the_others(capsys):
    path = records.write_record(*as_it_was(*run()))
    (path.parent / "a.json").write_text("{")
    assert main(["complete"]) == 1
    told = capsys.readouterr()
    assert told.out == f"{path.stem}: untrained twin, linear filter added\n"
    assert told.err.startswith(str(path.parent / "a.json")) and len(told.err.splitlines()) == 1


def _of_other_images(record):
    return record.model_copy(update={"data": record.data.model_copy(update={"sha256": {"other": "00"}})})


def test_nothing_is_downloaded_to_complete_a_record(monkeypatch):
    new, arrays = run()
    older, _ = as_it_was(new, arrays)
    of_cifar = older.cell.run.model_copy(update={"data": "cifar10"})
    older = older.model_copy(update={"cell": older.cell.model_copy(update={"run": of_cifar})})
    monkeypatch.delenv("ISONB_DATA", raising=False)
    monkeypatch.setattr(data, "load", lambda *_: pytest.fail("the images were loaded"))
    with pytest.raises(data.DataError, match="not those at hand"):
        of_record.Completion(Execution()).complete(
            older.model_copy(update={"data": new.data.model_copy(update={"sha256": {"a": "b"}})}), {}
        )


def test_a_cell_that_is_being_run_is_left_alone():
    new, arrays = run()
    records.write_record(*as_it_was(new, arrays))
    with filelock.FileLock(places.runs_folder("smoke") / "running" / f"{new.run_id}.lock"):
        assert dict(completion.study("smoke", Execution())) == {new.run_id: "left alone, as it is being run"}
    assert records.read_record(records.record_path(new.cell)).probe.untrained is None


def test_cells_that_share_a_twin_probe_it_once(monkeypatch):
    calls = []
    by_each = probes.by_each
    for rate in (0.01, 0.003):
        records.write_record(*as_it_was(*run(learning_rate=rate)))
    records.write_record(*as_it_was(*run(seed=1)))
    monkeypatch.setattr(probes, "by_each", lambda network, *rest: calls.append(network) or by_each(network, *rest))
    assert len(list(completion.study("smoke", Execution()))) == 3
    assert [network.config.seed for network in calls] == [0, 1]


def test_a_record_whose_weights_are_gone_is_not_completed_again():
    new, new_arrays = run()
    older, older_arrays = as_it_was(new, new_arrays)
    records.write_record(older.model_copy(update={"weights": new.weights}), older_arrays)
    (launch.checkpoints_folder(new.cell, IMAGES) / checkpoint.FINAL).unlink()
    assert len(list(completion.study("smoke", Execution()))) == 1
    assert list(completion.study("smoke", Execution())) == []


def test_a_record_of_earlier_numerics_stays_as_it_is(monkeypatch):
    new, arrays = run()
    older, older_arrays = as_it_was(new, arrays)
    records.write_record(older, older_arrays)
    monkeypatch.setattr(of_record, "NUMERICS", new.numerics + 1)
    assert list(completion.study("smoke", Execution())) == []


def test_twins_that_see_other_masks_are_not_shared(monkeypatch):
    masked = {"probe_inputs": "masked"}
    for rate in (0.15, 0.6):
        records.write_record(*as_it_was(*run(mask_rate=rate, **masked)))
    calls = []
    by_each = probes.by_each
    monkeypatch.setattr(probes, "by_each", lambda network, *rest: calls.append(network) or by_each(network, *rest))
    assert len(list(completion.study("smoke", Execution()))) == 2
    assert sorted(network.config.mask_rate for network in calls) == [0.15, 0.6]


def test_kept_weights_give_what_was_learned_of_positions():
    new, arrays = run(block="transformer")
    records.write_record(new, {name: array for name, array in arrays.items() if name != "positions_QN"})
    assert dict(completion.study("smoke", Execution())) == {new.run_id: "learned positions added"}
    found = records.read_arrays(records.record_path(new.cell))
    np.testing.assert_array_equal(found["positions_QN"], arrays["positions_QN"])
