"""Networks probed on other images than their own: compared on the same test images, by hand, and never with others."""

import os
import subprocess
import sys

import numpy as np
import pytest
from made_records import made_arrays, made_record
from published_files import write_imagenet32, write_stl10

from isonb import config, records, schema
from isonb.evidence import NOT_RUN, metrics, tables, titles, transfer

LEARNT = {
    "name": "cifar10, classes 0-4",
    "classes": list("abcde"),
    "train": 80,
    "validation": 20,
    "test": 40,
    "sha256": {},
}
PROBED = {**LEARNT, "name": "cifar10, classes 5-9", "classes": list("fghij"), "test": 8}


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "results"))


def probes(right, best):
    """Of a network of one block, of which a layer gets so many of eight images right, and is chosen; the other one."""
    layers = [
        schema.Layer(
            layer=n,
            train_accuracy=0.5,
            validation_accuracy=0.2 if n == best else 0.1,
            test_accuracy=(right if n == best else 1) / 8,
        )
        for n in (0, 1)
    ]
    return {"layers": layers, "best_layer": best, "test_accuracy": right / 8, "seconds": 1}


def leave(cell, right, untrained, probed=PROBED, **changes):
    """A record of a cell whose trained network gets the first so many images right in layer 1, and whose twin in 0."""
    names_others = bool(cell.probe.classes)
    record = made_record(cell)
    probe = schema.Probe(
        **probes(right, best=1),
        chance=0.2,
        protocol="made up",
        untrained=schema.Probes(**probes(untrained, best=0)),
        data=schema.Data(**probed) if names_others else None,
    )
    data = schema.Data(**(LEARNT if names_others else probed))
    record = record.model_copy(update={"probe": probe, "data": data, **changes})
    arrays = made_arrays(record)
    arrays["test_correct_LB"] = np.array([np.arange(8) < 1, np.arange(8) < right])
    arrays["untrained_correct_LB"] = np.array([np.arange(8) < untrained, np.arange(8) < 1])
    records.write_record(record, arrays)


def cells(block="conv", seed=0):
    common = {"block": block, "depth": 1, "seed": seed}
    return config.cpu(**common, classes="0-4", probe_classes="5-9"), config.cpu(**common, classes="5-9")


def row(network="convolution, continuous, size 1"):
    return transfer.table("cpu").set_index("network").loc[network]


def test_without_a_run_every_network_reads_not_run():
    assert list(transfer.table("cpu")["seeds"]) == ["0 of 3"] * len(config.GRID_BLOCKS)
    assert {NOT_RUN} == set(row()[list(transfer.COLUMNS)])
    assert NOT_RUN in transfer.in_words("cpu")
    assert list(transfer.table("smoke")["network"]) == [NOT_RUN]


def test_gains_are_of_the_same_test_images_and_their_difference_is_counted_by_hand():
    other, same = cells()
    leave(other, right=5, untrained=3)
    assert set(row()[list(transfer.COLUMNS)]) == {NOT_RUN}  # its reference has yet to run
    leave(same, right=6, untrained=2)
    assert dict(row()) == {
        "untrained": "37.5",  # 3 of 8
        "trained on others": "62.5",
        "trained on the same": "75.0",
        "difference": "-12.5",  # no interval from one seed
        "seeds": "1 of 3",
    }
    words = transfer.in_words("cpu")
    assert words.endswith("Study cpu, 8 test images.")
    assert "+25.0 points" in words and "+50.0" in words and "In 1 of the 1" in words
    assert row("mixer, continuous, size 1")["seeds"] == "0 of 3"
    leave(other, right=3, untrained=3)
    assert "In 0 of the 1" in transfer.in_words("cpu")  # as good as the untrained one is not ahead of it


def test_seeds_that_have_both_are_averaged_with_an_interval():
    for seed, right in ((0, 5), (1, 4)):
        other, same = cells(seed=seed)
        leave(other, right=right, untrained=3)
        leave(same, right=6, untrained=3)
    leave(cells(seed=2)[0], right=8, untrained=0)  # alone
    shown = row()
    assert (shown["seeds"], shown["trained on others"], shown["untrained"]) == ("2 of 3", "56.2", "37.5")
    # Over two seeds Student's t has 12.706 on one degree of freedom: the seeds' means are -12.5 and -25 points, half of
    # whose distance is 6.25; the images' means are 0, of one -50 (image 4) and of one -100 (image 5).
    half = np.hypot(12.706 * 6.25, 1.96 * np.std([0, 0, 0, 0, -50, -100, 0, 0], ddof=1) / np.sqrt(8))
    assert str(shown["difference"]) == f"-18.8 ({-18.75 - half:+.1f} to {-18.75 + half:+.1f})"


@pytest.mark.parametrize("change", [{"name": "cifar10"}, {"sha256": {"a": "1"}}, {"classes": list("fghik")}])
def test_a_reference_on_other_test_images_is_not_compared(change):
    other, same = cells()
    leave(other, right=5, untrained=3)
    leave(same, right=6, untrained=3, probed=PROBED | change)
    assert row()["seeds"] == "0 of 3"


def test_a_record_says_on_which_images_each_number_is_and_is_compared_with_no_other():
    other, same = cells()
    leave(other, right=5, untrained=3)
    leave(same, right=6, untrained=3)
    record, reference = (records.read_record(records.record_path(cell)) for cell in (other, same))
    assert (record.data.name, record.probed_on.name, record.probed_on.test) == (LEARNT["name"], PROBED["name"], 8)
    assert (reference.probe.data, reference.probed_on.name) == (None, PROBED["name"])
    assert len({metrics.images_id(one) for one in (record, reference, made_record(config.cpu()))}) == 3
    assert len(metrics.by_images([record, reference])) == 2
    on_its_own = record.model_copy(update={"probe": record.probe.model_copy(update={"data": None})})
    assert on_its_own.data == record.data
    assert len(metrics.by_images([record, on_its_own])) == 2
    assert metrics.images_read([record]) == ("cifar10, classes 0-4, 80/20/40 images, probed on cifar10, classes 5-9")
    assert metrics.run_row(record)["probe_test"] == 8
    parts = tables.particulars(record)["value"]
    assert (parts["data", "name"], parts["probed on", "name"]) == (LEARNT["name"], PROBED["name"])
    assert titles.title(other) == ("Convolution, continuous, size 1, classes 0-4, probed on classes 5-9, seed 0")


def test_runs_on_some_classes_stand_in_no_table_of_the_grid():
    other, same = cells()
    leave(other, right=5, untrained=3)
    leave(same, right=6, untrained=3)
    assert len(metrics.read_sets("cpu")) == 1
    assert metrics.runs("cpu").empty
    assert "images" not in tables.study("cpu")
    assert not tables.arms("cpu")["setting"].str.contains("classes").any()
    path, _ = metrics.write_table("cpu")
    assert path.read_text().count("cifar10, classes 5-9") == 2  # all runs are in the file


def test_a_record_whose_probes_are_on_other_images_than_it_says_is_refused():
    other, _ = cells()
    leave(other, right=5, untrained=3)
    record = records.read_record(records.record_path(other))
    with pytest.raises(config.ConfigError, match="its probes are not on the images that its settings name"):
        schema.Record(**record.model_dump() | {"probe": record.probe.model_copy(update={"data": None}).model_dump()})


@pytest.mark.slow
def test_six_images_of_each_source_go_through_the_whole_program(tmp_path):
    """In the official layouts: pre-trained on one source, probed and fine-tuned on another, and then reused."""
    write_imagenet32(tmp_path / "data" / "Imagenet32_train_npz", [[7, 8, 9], [7, 8, 9]], [7, 8])
    write_stl10(tmp_path / "data" / "stl10_binary", [0, 1, 2, 0, 1, 2], [0, 1, 2], unlabelled=6, folds=["0 1 2 3"])
    (tmp_path / "data" / "Imagenet32_val_npz").mkdir()
    (tmp_path / "data" / "Imagenet32_train_npz" / "val_data.npz").rename(
        tmp_path / "data" / "Imagenet32_val_npz" / "val_data.npz"
    )
    tiny = {"epochs": 1, "warmup_epochs": 0.5, "width": 8, "batch_size": 4, "evaluation_masks": 1, "probe_epochs": 2}
    others = {"probe_data": "stl10", "probe_fold": 1, "finetune_data": "stl10", "finetune_epochs": 1}
    settings = {"data": "imagenet32", **tiny, **others, "device": "cpu", "threads": 1}
    folders = {"ISONB_DATA": "data", "ISONB_RESULTS": "results", "ISONB_RUNS": "runs", "XDG_CACHE_HOME": "cache"}
    environment = os.environ | {name: str(tmp_path / folder) for name, folder in folders.items()}
    command = [sys.executable, "-m", "isonb", "run-cell", *(f"{name}={value}" for name, value in settings.items())]

    def run(*more):
        done = subprocess.run([*command, *more], env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    status, words = run()
    assert status == 0, words
    [path] = (tmp_path / "results" / "smoke").glob("*.json")
    record, arrays = records.read(path)
    assert (record.data.name, record.data.train, record.data.test) == ("imagenet32", 5, 2)
    assert (record.probed_on.name, record.probed_on.train, record.probed_on.test) == ("stl10, fold 1", 3, 3)
    assert (record.tuned_on.name, record.tuned_on.train) == ("stl10", 5)
    assert arrays["test_correct_LB"].shape == arrays["untrained_correct_LB"].shape == (2, 3)
    assert arrays["test_loss_B"].shape == (2,)
    assert arrays["finetune_correct_B"].shape == (3,)
    assert "fold_indices.txt" in record.probe.data.sha256
    status, words = run()
    assert status == 0 and "reused" in words
    status, words = run("probe_classes=0-1")
    assert status != 0 and "is of probes or fine-tuning on other images, and would be lost" in words
