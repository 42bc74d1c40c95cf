"""Records become tidy, documented tables; what cannot be read is named and skipped."""

import io

import numpy as np
import pandas as pd
import pytest
from made_records import leave_record, made_record

from isonb import config, schema, studies
from isonb.evidence import metrics, tables


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    return tmp_path / "smoke"


def write(**changes):
    return leave_record(made_record(config.smoke(**changes), validation_loss=3.5))


def test_one_row_per_run_layer_and_epoch(results):
    path = write(block="transformer", heads=4, encoding="rff", sigma=0.1)
    t = metrics.read("smoke")
    assert t.faults == ()
    (run,) = t.runs.to_dict("records")
    assert run["run_id"] == path.stem
    assert (run["network"], run["encoding"], run["sigma"], run["probe_pooling"]) == (
        "transformer-4",
        "rff",
        0.1,
        "mean",
    )
    assert (run["validation_loss"], run["test_loss"], run["mean_absolute_error"]) == (3.5, 4.1, 9)
    assert list(t.layers["layer"]) == [0, 1]
    assert list(t.layers["test_accuracy"]) == [0.125, 0.25]
    assert list(t.curves["validation_loss"]) == [5.5, 3.5, 3.5, 3.5]
    assert np.isnan(t.curves["train_loss"][0])
    assert set(t.layers["run_id"]) == set(t.curves["run_id"]) == {path.stem}
    assert t.arrays[path.stem]["test_correct_LB"].sum(axis=1).tolist() == [5, 10]  # of 40


def test_every_column_is_documented_and_none_is_dropped(results):
    write()
    t = metrics.read("smoke")
    described = {"runs": metrics.RUN_COLUMNS, "layers": metrics.LAYER_COLUMNS, "curves": metrics.CURVE_COLUMNS}
    for name, columns in described.items():
        assert list(t.frame(name)) == list(columns)
        assert all(len(text) > 10 and text.rstrip().endswith(".") for text in columns.values())
    assert set(metrics.run_row(made_record(config.smoke()))) == set(metrics.RUN_COLUMNS)
    assert set(schema.Layer.model_fields) <= set(metrics.LAYER_COLUMNS)
    assert set(schema.Epoch.model_fields) <= set(metrics.CURVE_COLUMNS)


def test_a_row_is_flat_and_holds_the_settings_and_the_results():
    cell = config.smoke(block="mixer", encoding="pix2vec")
    row = metrics.run_row(made_record(cell, validation_loss=3.25, test_accuracy=0.375))
    assert all(value is None or isinstance(value, str | int | float | bool) for value in row.values())
    assert {name: row[name] for name in cell.run.model_dump()} == cell.run.model_dump()
    assert (row["run_id"], row["study"]) == (cell.run.run_id, "smoke")
    assert (row["validation_loss"], row["test_accuracy"], row["chance"]) == (3.25, 0.375, 0.5)
    assert (row["test_loss"], row["best_layer"], row["data_train"], row["data_test"]) == (4.1, 1, 80, 40)
    baselines = [row[f"baseline_{name}"] for name in ("uniform", "channel_marginal", "neighbour_mean")]
    assert baselines == [5.545, 5.25, 3.875]


def test_probes_along_training_stand_beside_the_losses_of_their_epochs():
    cell = config.smoke(probe_along=True)
    plain, along = made_record(cell), made_record(cell.model_copy(update={"run": config.smoke(seed=1).run}))
    then = schema.ProbedEpoch(layers=along.probe.layers, best_layer=1, test_accuracy=0.25, seconds=1, epoch=1)
    along = along.model_copy(update={"probe": along.probe.model_copy(update={"along": [then]})})
    curves = metrics.tables({record.run_id: record for record in (plain, along)}).curves
    assert list(curves["epoch"]) == [0, 1, 2, 3] * 2
    assert list(curves["probe_accuracy"].fillna(-1)) == [-1, -1, -1, -1, -1, 0.25, -1, -1]
    assert set(curves["arm"]) == {metrics.MAIN}  # they are no other kind of run


def test_pixels_and_fine_tuning_have_columns_and_are_no_other_kind_of_run():
    cells = [config.smoke(seed=1), config.smoke(probe_pixels=True, finetune_epochs=2, finetune_batch_size=4)]
    plain, more = map(made_record, cells)
    tuned = schema.Finetuned(
        accuracy=0.75, epoch=2, curve=[0.5, 0.7], scratch_accuracy=0.5, scratch_epoch=1, scratch_curve=[0.5, 0.4],
        seconds=3.5, protocol="made by a test",
    )  # fmt: skip
    layers = [layer.model_copy(update={"pixel_accuracy": 0.3 + layer.layer / 2}) for layer in more.probe.layers]
    probe = more.probe.model_copy(update={"layers": layers})
    more = more.model_copy(update={"finetune": tuned, "probe": probe})
    t = metrics.tables({record.run_id: record for record in (plain, more)})
    columns = ["finetune_epochs", "finetune_batch_size", "finetune_accuracy", "scratch_accuracy", "finetune_seconds"]
    assert t.runs[columns].fillna(-1).to_numpy().tolist() == [[0, 0, -1, -1, -1], [2, 4, 0.75, 0.5, 3.5]]
    assert t.layers["pixel_accuracy"].fillna(-1).tolist() == [-1, -1, 0.3, 0.8]
    assert t.runs["finetune_accuracy"].dtype == t.layers["pixel_accuracy"].dtype == float
    assert set(t.runs["arm"]) == {metrics.MAIN}
    assert metrics.arm(config.smoke(finetune_epochs=2, probe_inputs="masked")) == "probe_inputs=masked"


def test_no_results_give_empty_tables_with_all_columns(results):
    t = metrics.read("smoke")
    assert t.runs.empty
    assert list(t.runs) == list(metrics.RUN_COLUMNS)
    assert t.faults == ()
    assert t.frame("memory").empty


@pytest.mark.parametrize(
    ("changes", "arm"),
    [
        ({}, "main"),
        ({"depth": 3, "seed": 2, "encoding": "pix2vec"}, "main"),
        ({"block": "transformer", "heads": 4}, "main"),
        ({"block": "transformer", "positions": "none"}, "positions=none"),
        (
            {"learning_rate": 0.001, "probe_pooling": "flatten"},
            "learning_rate=0.001 probe_pooling=flatten probe_scaling=standardise",
        ),
        ({"encoding": "rff", "sigma": 10}, "sigma=10.0"),
        ({"data": "folder"}, "main"),  # other images are another set, not another setting
        ({"data": "folder", "image_fit": "crop"}, "image_fit=crop"),
    ],
)
def test_an_arm_names_what_departs_from_the_grid(changes, arm):
    assert metrics.arm(config.smoke(**changes)) == arm


def test_only_equal_images_have_an_equal_data_id():
    data = made_record(config.smoke()).data
    assert metrics.data_id(data) == metrics.data_id(data.model_copy())
    assert metrics.data_id(data) == metrics.data_id(
        data.model_copy(update={"train": 8})
    )  # a fraction, same test images
    for change in ({"test": 41}, {"sha256": {"test_batch.bin": "0"}}, {"name": "cifar10"}):
        assert metrics.data_id(data) != metrics.data_id(data.model_copy(update=change))


# Sets of images


def on(cell, validation_loss=4.0, **data):
    """A record of a cell that read the given images."""
    record = made_record(cell, validation_loss)
    return record.model_copy(update={"data": record.data.model_copy(update=data)})


def leave(*runs):
    for run in runs:
        leave_record(run)


JPEG = {"name": "cifar-10-jpeg", "sha256": {"test.bin": "1"}, "remarks": ["3 test images are training images, too."]}


def test_the_set_of_most_main_runs_comes_first():
    ours = [on(config.smoke(seed=seed)) for seed in (0, 1)]
    other = [on(config.smoke(seed=2), **JPEG), *(on(config.smoke(mask_rate=r), **JPEG) for r in (0.2, 0.3, 0.4))]
    assert metrics.by_images([*other, *ours]) == [ours, other]  # one main run of four is fewer than two of two
    assert metrics.by_images([]) == []


def test_a_set_is_named_by_its_source_and_the_images_of_its_whole():
    part = on(config.smoke(data_fraction=0.25), train=20)
    assert metrics.images_read([part, on(config.smoke())]) == "photos, 80/20/40 images"
    assert metrics.data_id(part.data) == metrics.data_id(on(config.smoke()).data)


def test_runs_on_other_images_have_tables_of_their_own(results):
    leave(on(config.smoke(seed=0), 3.0), on(config.smoke(seed=1), 3.5), on(config.smoke(seed=2), 99.0, **JPEG))
    main, other = metrics.read_sets("smoke")
    assert [t.images for t in (main, other)] == ["photos, 80/20/40 images", "cifar-10-jpeg, 80/20/40 images"]
    assert [t.remarks for t in (main, other)] == [(), ("3 test images are training images, too.",)]
    for t, losses in ((main, [3.0, 3.5]), (other, [99.0])):
        assert t.faults == ()
        assert sorted(t.runs["validation_loss"]) == losses
        for name in ("runs", "layers", "curves", "learned"):
            assert set(t.frame(name)["run_id"]) == set(t.arrays) == set(t.runs["run_id"])
    assert list(metrics.read("smoke").runs["run_id"]) == list(main.runs["run_id"])
    assert 99.0 not in set(metrics.runs("smoke")["validation_loss"])
    path, faults = metrics.write_table("smoke")
    assert faults == () and sorted(pd.read_csv(path)["validation_loss"]) == [3.0, 3.5, 99.0]


def test_sets_of_the_same_name_and_number_are_told_apart(results):
    leave(on(config.smoke(seed=0)), on(config.smoke(seed=1), sha256={"test.bin": "1"}))
    names = [t.images for t in metrics.read_sets("smoke")]
    ids = [t.runs["data_id"].iloc[0] for t in metrics.read_sets("smoke")]
    assert names == [f"photos, 80/20/40 images ({name})" for name in ids]


def test_a_damaged_file_is_a_fault_of_no_set_but_the_first(results):
    leave(on(config.smoke(seed=0)), on(config.smoke(seed=1), **JPEG))
    (results / "broken.json").write_text("{")
    assert [len(t.faults) for t in metrics.read_sets("smoke")] == [1, 0]


def test_tables_of_different_images_are_refused():
    runs = [on(config.smoke(seed=0)), on(config.smoke(seed=1), **JPEG)]
    with pytest.raises(ValueError, match="must not be compared"):
        metrics.tables({run.run_id: run for run in runs})


def of_study(**settings):
    run = config.cpu(**settings).run
    return next(cell for cell in studies.cells("cpu") if cell.run == run)


def test_an_arm_is_compared_within_a_set_of_images(results):
    arm = {"block": "transformer", "positions": "none"}
    for seed, main, changed, images in ((0, 4.0, 4.5, {}), (1, 4.0, 6.0, JPEG)):
        leave(
            on(of_study(block="transformer", seed=seed), main, **images),
            on(of_study(seed=seed, **arm), changed, **images),
        )
    leave(on(of_study(block="transformer", seed=2), 4.0), on(of_study(seed=2, **arm), 9.0, **JPEG))  # not comparable
    rows = tables.arms("cpu").set_index(["setting", "network"])
    of_arm = rows.loc[[("positions=none", "transformer (1 head), continuous, size 1")]]
    assert of_arm[["loss", "change of loss", "seeds", "images"]].values.tolist() == [
        ["4.500", "+0.500", "1 of 3", "photos, 80/20/40 images"],
        ["6.000", "+2.000", "1 of 3", "cifar-10-jpeg, 80/20/40 images"],
    ]
    assert set(rows.drop(index=of_arm.index)["images"]) == {"-"}


def test_the_table_of_a_study_says_which_images_only_where_they_differ(results):
    leave(on(config.smoke(block="conv")))
    assert "images" not in tables.study("smoke")
    leave(on(config.smoke(block="mixer"), **JPEG))
    rows = tables.study("smoke").query("encoding == 'continuous'").set_index("block")
    assert rows["images"].tolist() == [
        "photos, 80/20/40 images",
        "cifar-10-jpeg, 80/20/40 images",
        *["not run"] * (len(rows) - 2),
    ]


def test_particulars_have_the_remarks_on_the_images():
    assert "remarks" not in tables.particulars(on(config.smoke())).loc["data"].index
    data = tables.particulars(on(config.smoke(), official=False, **JPEG)).loc["data", "value"]
    assert data.to_dict() == {"name": "cifar-10-jpeg", "train": "80", "validation": "20", "test": "40",
                              "official": "no", "remarks": "3 test images are training images, too."}  # fmt: skip


# What cannot be read


DAMAGES = {
    "half a record": lambda path: path.write_text(path.read_text()[:100]),
    "a list": lambda path: path.write_text("[1, 2]"),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "another version": lambda path: path.write_text(
        path.read_text().replace(f'"schema_version": {config.VERSION}', '"schema_version": 9')
    ),
    "a field too many": lambda path: path.write_text(path.read_text().replace('"run_id"', '"colour": 1, "run_id"', 1)),
    "no arrays": lambda path: path.with_suffix(".npz").unlink(),
    "half the arrays": lambda path: path.with_suffix(".npz").write_bytes(path.with_suffix(".npz").read_bytes()[:80]),
    "arrays that are none": lambda path: path.with_suffix(".npz").write_bytes(b"text"),
    "a bit turned over in the arrays": lambda path: _turn_over(path.with_suffix(".npz")),
}


def _turn_over(path):
    content = bytearray(path.read_bytes())
    content[content.index(b".npy") + 40] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_named_and_skipped(results, damage):
    good, bad = write(seed=1), write(seed=2)
    damage(bad)
    t = metrics.read("smoke")
    assert list(t.runs["run_id"]) == [good.stem]
    assert set(t.arrays) == {good.stem}
    (fault,) = t.faults
    assert bad.stem in fault


def test_a_record_in_the_wrong_place_is_foreign(results):
    good = write(seed=1)
    renamed = good.with_name("other.json")
    renamed.write_text(good.read_text())
    renamed.with_suffix(".npz").write_bytes(good.with_suffix(".npz").read_bytes())
    elsewhere = results.parent / "cpu" / good.name
    elsewhere.parent.mkdir()
    elsewhere.write_text(good.read_text())
    elsewhere.with_suffix(".npz").write_bytes(good.with_suffix(".npz").read_bytes())
    assert [("other.json" in fault) for fault in metrics.read("smoke").faults] == [True]
    assert [("a record of the study smoke" in fault) for fault in metrics.read("cpu").faults] == [True]


def test_single_frames_warn_of_what_they_skip(results):
    write(seed=1)
    bad = write(seed=2)
    bad.write_text("{")
    for frame in (metrics.runs, metrics.layers, metrics.curves):
        with pytest.warns(UserWarning, match=bad.stem):
            assert set(frame("smoke")["seed"]) == {1}


def test_the_written_table_reads_back(results):
    write(seed=1)
    write(seed=2).write_text("{")
    path, faults = metrics.write_table("smoke")
    assert path == results / "table.csv"
    assert len(faults) == 1
    table = pd.read_csv(io.BytesIO(path.read_bytes()))
    assert list(table) == list(metrics.RUN_COLUMNS)
    assert table["validation_loss"].tolist() == [3.5]


def test_results_of_earlier_numerics_are_a_set_of_their_own():
    now, before = made_record(config.smoke()), made_record(config.smoke(seed=1)).model_copy(update={"numerics": 0})
    sets = metrics.by_images([before, now])
    assert {metrics.images_read(of_set) for of_set in sets} == {
        "photos, 80/20/40 images", "photos, 80/20/40 images, numerics 0",
    }  # fmt: skip
    with pytest.raises(ValueError, match="must not be compared"):
        metrics.tables({run.run_id: run for run in (now, before)})


def test_the_studys_own_source_comes_before_a_larger_set_of_another():
    own = on(config.smoke())
    others = [on(config.smoke(data="folder", collection="birds", seed=seed), name="birds") for seed in range(3)]
    assert metrics.by_images([*others, own]) == [[own], others]


def test_a_sets_counts_are_those_of_one_run():
    most, less = on(config.smoke(), train=80, validation=20), on(config.smoke(seed=1), train=60, validation=40)
    part = on(config.smoke(seed=2), train=8, validation=20)
    assert metrics.images_read([part, less, most]) == "photos, 80/20/40 images"


def test_a_collection_is_no_departure_from_the_grid():
    birds = config.cell("cpu", data="folder", collection="birds", block="mixer")
    assert metrics.arm(birds) == metrics.MAIN
    assert metrics.arm(config.cell("cpu", data="folder", collection="birds", image_fit="crop")) == "image_fit=crop"


def test_the_untrained_twin_and_other_protocols_have_columns_of_their_own(results):
    record = made_record(config.smoke(), test_accuracy=0.25)
    layers = [
        layer.model_copy(update={"test_accuracy": 0.3, "validation_accuracy": 0.5}) for layer in record.probe.layers
    ]
    twin = schema.Probes(layers=layers, best_layer=1, test_accuracy=0.3, seconds=1)
    others = [
        schema.OtherProbe(name="grid4 l2", protocol="made", trained=None, untrained=twin),
        schema.OtherProbe(name="l2", protocol="made", trained=record.probe),
    ]
    probe = record.probe.model_copy(update={"untrained": twin})
    path = leave_record(record.model_copy(update={"probe": probe, "other_probes": others}))
    write(seed=1)  # a record without any of this
    t = metrics.read("smoke")
    run, older = (t.runs.set_index("run_id").loc[name] for name in (path.stem, *({*t.runs["run_id"]} - {path.stem})))
    assert (run["untrained_accuracy"], run["untrained_best_layer"], run["gain"]) == (0.3, 1, pytest.approx(-0.05))
    assert (run["grid4_l2_untrained_accuracy"], run["l2_accuracy"]) == (0.3, 0.25)
    assert run[["grid4_l2_accuracy", "grid4_accuracy", "l2_untrained_accuracy"]].isna().all()
    assert older[["untrained_accuracy", "gain", "l2_accuracy", "grid4_untrained_accuracy"]].isna().all()
    of_run = t.layers[t.layers["run_id"] == path.stem]
    assert of_run[["untrained_validation_accuracy", "untrained_test_accuracy"]].values.tolist() == [[0.5, 0.3]] * 2
