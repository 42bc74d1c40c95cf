"""The prediction of hours and memory of a study: its arithmetic by hand, and what the command prints and remembers."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_records import leave_record, made_record

from isonb import config, rows, studies
from isonb.__main__ import main
from isonb.config import Execution, RunConfig
from isonb.running import estimate, predictions, throughput
from isonb.running.throughput import Throughput
from isonb.training.sources import DataError


def test_a_cell_trains_validates_tests_and_extracts_features():
    cell = config.cpu(epochs=6)  # four evaluation masks
    plain = estimate.estimate(cell, Throughput(0.01, 0.0), [(900, 100, 200)] * 3, "float32")
    assert plain.training == pytest.approx(6 * 900 * 0.01)
    forwards = 4 * (100 * 7 + 200) + 2 * (900 + 100 + 200)  # seven validations, the test, features of two networks
    assert plain.evaluation == pytest.approx(forwards * 0.01 / 3)
    assert plain.hours == pytest.approx((54 + forwards * 0.01 / 3) / 3600)
    along = estimate.estimate(
        config.cpu(epochs=6, probe_along=True), Throughput(0.01, 0.0), [(900, 100, 200)] * 3, "float32"
    )
    assert along.training == plain.training
    assert along.evaluation == pytest.approx((forwards + 5 * 1200) * 0.01 / 3)  # the features of five more epochs


def test_an_autoregressive_cell_is_evaluated_with_one_mask():
    cell = config.cpu(epochs=6, objective="autoregressive")
    cost = estimate.estimate(cell, Throughput(0.01, 0.0), [(900, 100, 200)] * 3, "float32")
    # seven validations of 100 images and a test of 200, once, then twice the features of 1200: 3300 forward passes
    assert cost.evaluation == pytest.approx(11.0)


def test_fine_tuning_trains_twins_and_pixels_take_another_pass():
    settings = [{"probe_pixels": True}, {"finetune_epochs": 3}]
    cells = [config.cpu(), *(config.cpu(**more) for more in settings)]
    plain, pixels, tuned = (
        estimate.estimate(cell, Throughput(0.01, 0), [(900, 100, 200)] * 3, "float32") for cell in cells
    )
    assert plain.training == pixels.training == tuned.training
    assert pixels.evaluation - plain.evaluation == pytest.approx((900 + 200) * 0.01 / 3)
    assert tuned.evaluation - plain.evaluation == pytest.approx(2 * (3 * 900 * 0.01 + (3 * 100 + 200) * 0.01 / 3))


def test_probes_and_fine_tuning_on_other_images_cost_what_those_cost():
    counts = [(900, 100, 200), (40, 10, 50), (60, 20, 30)]
    settings = [{}, {"finetune_epochs": 3}]
    plain, tuned = (
        estimate.estimate(config.cpu(epochs=6, **more), Throughput(0.01, 0), counts, "float32") for more in settings
    )
    assert plain.evaluation == pytest.approx((4 * (100 * 7 + 200) + 2 * 100) * 0.01 / 3)
    assert tuned.evaluation - plain.evaluation == pytest.approx(2 * (3 * 60 * 0.01 + (3 * 20 + 30) * 0.01 / 3))


def test_a_study_counts_the_images_that_each_part_of_a_cell_reads(monkeypatch):
    monkeypatch.delenv("ISONB_DATA", raising=False)
    others = {"probe_data": "stl10", "probe_fold": 1, "finetune_epochs": 1, "finetune_data": "cifar100"}
    monkeypatch.setattr(studies, "cells", lambda study: [config.cpu(width=8, **others)])
    [cost] = estimate.study("cpu", Execution(device="cpu"), images_per_second=100)
    # of CIFAR-10 four masks of 5000 images seven times and of 10 000; of a fold of STL-10 1000 and 8000 images, twice;
    # of CIFAR-100 two networks that train on 45 000 images, and look once at 5000 and at 10 000
    forwards = 4 * (7 * 5000 + 10_000) + 2 * 9000 + 2 * 15_000
    assert cost.evaluation == pytest.approx(0.01 * (forwards / 3 + 2 * 45_000))


def test_a_published_collection_needs_not_be_at_hand(monkeypatch):
    monkeypatch.delenv("ISONB_DATA", raising=False)
    assert estimate.images(config.paper().run, Execution()) == (45_000, 5_000, 10_000)
    assert estimate.images(config.paper(data_fraction=0.1).run, Execution()) == (4_500, 5_000, 10_000)
    assert estimate.images(config.paper(data="cifar100").run, Execution()) == (45_000, 5_000, 10_000)


def test_a_source_of_unknown_size_has_to_be_at_hand_and_is_counted(monkeypatch):
    monkeypatch.delenv("ISONB_DATA", raising=False)
    assert estimate.published(RunConfig(data="photos")) is estimate.published(RunConfig(data="folder")) is None
    # ten photographs, each with 160, 16 and 40 crops; a share of the training crops alone
    assert estimate.images(RunConfig(data_fraction=0.5), Execution()) == (800, 160, 400)
    with pytest.raises(DataError, match="ISONB_DATA"):
        estimate.images(RunConfig(data="folder"), Execution())


def test_published_numbers_are_those_of_the_row_and_of_what_a_folder_holds(monkeypatch):
    """A made-up source of 100 and 30 images, of which a folder has 8, 2 and 3."""
    row = dataclasses.replace(rows.SOURCES["cifar10"], published=(100, 30))
    monkeypatch.setitem(rows.SOURCES, "cifar10", row)
    splits = {name: SimpleNamespace(index_S=range(n)) for name, n in {"train": 8, "validation": 2, "test": 3}.items()}
    asked = []
    source = SimpleNamespace(load=lambda run, folder: asked.append(folder) or SimpleNamespace(**splits))
    monkeypatch.setattr(rows.Source, "load", lambda row: source)
    monkeypatch.delenv("ISONB_DATA", raising=False)
    run = RunConfig(data="cifar10", validation_fraction=0.2, data_fraction=0.5)
    assert estimate.images(run, Execution()) == (40, 20, 30)
    assert estimate.images(run, Execution(data_folder="/images")) == (8, 2, 3)
    monkeypatch.setenv("ISONB_DATA", "/others")
    assert estimate.images(run, Execution()) == (8, 2, 3)
    assert asked == [Path("/images"), None]


def test_every_cell_of_a_study_is_given_its_own_images(monkeypatch):
    monkeypatch.delenv("ISONB_DATA", raising=False)
    fractions, counted, images = [0.25, 1.0, 0.25, 0.5], [], estimate.images
    cells = [config.cpu(width=8, data_fraction=share, seed=seed) for seed, share in enumerate(fractions)]
    monkeypatch.setattr(studies, "cells", lambda study: cells)
    monkeypatch.setattr(estimate, "images", lambda run, *more: counted.append(run) or images(run, *more))
    costs = estimate.study("cpu", Execution(device="cpu"), images_per_second=100)
    # six epochs of a quarter, the whole, a quarter and half of 45 000 training images, 0.01 s each
    assert [one.training for one in costs] == pytest.approx([675, 2700, 675, 1350])
    # four masks of 5000 images seven times and of 10 000; then twice the features of all, which are 15 000 besides the
    # training images
    assert [one.evaluation for one in costs] == pytest.approx([775, 1000, 775, 850])
    assert len(counted) == 3


@pytest.mark.slow
def test_hours_on_a_device_are_operations_over_its_speed(monkeypatch):
    monkeypatch.setenv("ISONB_DATA", "/nowhere")  # what is at hand does not matter
    table = {(row["network"], row["size"]): row for row in estimate.by_speed("paper", (1, 8))}
    kinds = 4 * 4 + 2 + 2  # networks of each size, autoregressive ones, and those with a palette
    assert len(table) == kinds and sum(int(row["cells"]) for row in table.values()) == len(studies.cells("paper"))
    # forward passes of a conv block: three a step for 51 x 45 000 images, one for 4 masks of 5000 validation images
    # before and after each epoch and of 10 000 test images, two for the features of all 60 000
    passes = 3 * 51 * 45_000 + 4 * (52 * 5_000 + 10_000) + 2 * 60_000
    hours = 301_989_888 * passes / 1e12 / 3600
    assert table["conv", "1"]["hours at 1"] == f"{hours:.2f}"
    assert table["conv", "12"]["hours at 8"] == f"{12 * hours / 8:.2f}"
    small, large = (float(table["transformer-4", size]["memory"].removesuffix(" GiB")) for size in ("1", "12"))
    assert large > small


def test_an_estimate_is_remembered_for_dry_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path))
    cell = config.smoke()
    alone, together = (estimate.Estimate(cell, seconds, seconds / 2, 2**30) for seconds in (60.0, 100.0))
    estimate.remember([alone], [together])
    expected = predictions.Prediction(alone=90.0, together=150.0, memory_bytes=2**30)
    assert predictions.read() == {cell.run.run_id: expected}
    estimate.remember([alone])
    assert predictions.read()[cell.run.run_id].together is None


def test_the_command_prints_each_kind_of_cell_the_total_and_how_wrong_it_was(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    assert main(["estimate", "--study", "smoke", "--images-per-second", "1000"]) == 0
    before = capsys.readouterr().out.splitlines()
    assert len([line for line in before if line.endswith("GiB")]) == len(studies.cells("smoke"))
    assert before[-1] == "No cell of this study has run yet, so the error of these numbers is unknown."
    cell = studies.cells("smoke")[0]
    record = made_record(cell, 3.0)
    took = 3 * len_of_photos() / 1000 * 2  # twice as long as predicted
    training = record.training.model_copy(update={"seconds": took})
    leave_record(record.model_copy(update={"training": training}))
    assert main(["estimate", "--study", "smoke", "--images-per-second", "1000"]) == 0
    after = capsys.readouterr().out.splitlines()[-1]
    assert after == f"{cell.run.run_id} trained for {took:.0f} s; predicted {took / 2:.0f} s, -50%."


def test_what_was_measured_is_remembered_though_a_record_is_damaged_and_the_rest_is_interrupted(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(throughput, "measured", lambda cells, *_: throughput.given(100.0, cells))
    cells = [config.smoke(batch_size=4, seed=seed) for seed in (0, 1)]
    monkeypatch.setattr(studies, "cells", lambda study: cells)
    monkeypatch.setattr("isonb.running.placement.cores", lambda: 2)
    leave_record(made_record(cells[0])).write_text("{")
    measured = estimate.study

    def study(study, execution, images_per_second=None, at_once=1):
        if at_once > 1:
            raise KeyboardInterrupt
        return measured(study, execution, images_per_second, at_once)

    monkeypatch.setattr(estimate, "study", study)
    assert main(["estimate", "--profile", "smoke", "--device", "cpu"]) == 75
    assert "hours for 2 cells" in capsys.readouterr().out
    assert predictions.read().keys() == {cell.run.run_id for cell in cells}


def len_of_photos():
    return estimate.images(config.smoke().run, Execution())[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--study", "smok"], "study='smok' is not allowed: choose smoke, cpu, paper.\n"),
        (["--images-per-second", "0"], "images-per-second=0 is not allowed: it must be from 0.001 to 1e9.\n"),
        *(
            (
                ["--images-per-second", word],
                f"images-per-second={word} is not allowed: it must be from 0.001 to 1e9.\n",
            )
            for word in ("inf", "nan", "1e-300", "1e+10")
        ),
        (["--images-per-second", "-3"], "images-per-second=-3 is not allowed: it must be from 0.001 to 1e9.\n"),
    ],
)
def test_a_request_that_cannot_be_met_is_one_sentence(arguments, message, capsys):
    assert main(["estimate", *arguments]) == 2
    assert capsys.readouterr().err == message
