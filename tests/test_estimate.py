"""The prediction of hours and memory: its arithmetic by hand, its measurement by a trainer that takes known time."""

import contextlib
import itertools
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from made_records import made_record

from isonb import config, records, studies
from isonb.__main__ import main
from isonb.config import Execution, RunConfig
from isonb.running import estimate, predictions
from isonb.running.estimate import Throughput
from isonb.training import train

CONV_OPERATIONS = 2 * 9 * 1024 * 128 * 128  # two 3x3 convolutions of 128 channels at 1024 positions


def test_seconds_grow_by_the_operations_of_the_blocks():
    throughput = Throughput(fixed=0.001, per_operation=2e-12)
    assert throughput.seconds(RunConfig(depth=3)) == pytest.approx(0.001 + 3 * CONV_OPERATIONS * 2e-12)


def test_given_images_per_second_hold_for_the_first_cell_and_scale_to_the_others():
    cells = [config.cpu(depth=1), config.cpu(block="transformer", depth=3)]
    speeds = estimate.given(50.0, cells)
    assert speeds["conv, batches of 32"].seconds(cells[0].run) == pytest.approx(1 / 50)
    transformer = 4 * 1024 * 128**2 + 2 * 1024**2 * 128 + 2 * 1024 * 128**2
    seconds = speeds["transformer-1, batches of 32"].seconds(cells[1].run)
    assert seconds == pytest.approx(3 * transformer / CONV_OPERATIONS / 50)


def test_a_cell_trains_validates_tests_and_extracts_features():
    cell = config.cpu(epochs=6)  # four evaluation masks
    found = estimate.estimate(cell, Throughput(0.01, 0.0), (900, 100, 200), "float32")
    assert found.training == pytest.approx(6 * 900 * 0.01)
    forwards = 4 * (100 * 7 + 200) + 900 + 100 + 200  # seven validations, the test, then one pass for the features
    assert found.evaluation == pytest.approx(forwards * 0.01 / 3)
    assert found.hours == pytest.approx((54 + forwards * 0.01 / 3) / 3600)
    along = estimate.estimate(config.cpu(epochs=6, probe_along=True), Throughput(0.01, 0.0), (900, 100, 200), "float32")
    assert along.training == found.training
    assert along.evaluation == pytest.approx((forwards + 5 * 1200) * 0.01 / 3)  # the features of five more epochs


def test_an_autoregressive_cell_is_evaluated_with_one_mask():
    cell = config.cpu(epochs=6, objective="autoregressive")
    found = estimate.estimate(cell, Throughput(0.01, 0.0), (900, 100, 200), "float32")
    # seven validations of 100 images and a test of 200, once, then the features of 1200: 2100 forward passes
    assert found.evaluation == pytest.approx(7.0)


def test_every_cell_of_a_study_is_given_its_own_images(monkeypatch):
    monkeypatch.delenv("ISONB_DATA", raising=False)
    fractions, counted, images = [0.25, 1.0, 0.25, 0.5], [], estimate.images
    cells = [config.cpu(width=8, data_fraction=share, seed=seed) for seed, share in enumerate(fractions)]
    monkeypatch.setattr(studies, "cells", lambda profile: cells)
    monkeypatch.setattr(estimate, "images", lambda run, *more: counted.append(run) or images(run, *more))
    found = estimate.study("cpu", Execution(device="cpu"), images_per_second=100)
    # six epochs of a quarter, the whole, a quarter and half of 45 000 training images, 0.01 s each
    assert [one.training for one in found] == pytest.approx([675, 2700, 675, 1350])
    # four masks of 5000 images seven times and of 10 000; then the features of all, 15 000 besides the training images
    assert [one.evaluation for one in found] == pytest.approx([687.5, 800, 687.5, 725])
    assert len(counted) == 3


def test_fine_tuning_trains_twins_and_pixels_take_another_pass():
    settings = [{"probe_pixels": True}, {"finetune_epochs": 3}]
    cells = [config.cpu(), *(config.cpu(**more) for more in settings)]
    plain, pixels, tuned = (estimate.estimate(cell, Throughput(0.01, 0), (900, 100, 200), "float32") for cell in cells)
    assert plain.training == pixels.training == tuned.training
    assert pixels.evaluation - plain.evaluation == pytest.approx((900 + 200) * 0.01 / 3)
    assert tuned.evaluation - plain.evaluation == pytest.approx(2 * (3 * 900 * 0.01 + (3 * 100 + 200) * 0.01 / 3))


def test_memory_counts_weights_once_and_activations_by_image():
    run = RunConfig(image_size=8, width=8)
    one, three, five = (estimate.memory_bytes(run, batch, "float32") for batch in (1, 3, 5))
    assert three - one > 0
    assert five - three == pytest.approx(three - one, abs=1)  # a byte for rounding
    assert one - (three - one) / 2 == pytest.approx(16 * parameters(run), abs=2)


def test_on_a_gpu_the_input_of_every_norm_is_kept_in_float32():
    """Two more bytes for each of 64 positions of 8 channels before each of a block's two norms."""
    run = RunConfig(image_size=8, width=8, depth=3, head_norm=False)
    cpu, gpu = (estimate.memory_bytes(run, 100, "bfloat16", on_gpu) for on_gpu in (False, True))
    assert gpu - cpu == pytest.approx(1.8 * 100 * 2 * 64 * 8 * 2 * 3, abs=1)
    assert estimate.memory_bytes(run, 100, "float32", True) == estimate.memory_bytes(run, 100, "float32", False)


def parameters(run):
    """conv: two norms and convolutions a block; an encoding of three maps and biases; a norm and the head."""
    d = run.width
    return 2 * (2 * d + 9 * d * d + d) + 3 * (d + d) + 2 * d + 768 * d + 768


def test_kept_memory_is_quadratic_only_where_it_must_be():
    def kept(size):
        run = RunConfig(block="transformer", image_size=size, width=8, positions="none")
        return estimate.memory_bytes(run, 64, "float32") - estimate.memory_bytes(run, 2, "float32")

    masked = 1.05  # the number of masked positions is drawn
    assert kept(32) < 4 * masked * kept(16)


def test_a_published_collection_needs_not_be_at_hand(monkeypatch):
    monkeypatch.delenv("ISONB_DATA", raising=False)
    assert estimate.images(config.paper().run, Execution()) == (45_000, 5_000, 10_000)
    assert estimate.images(config.paper(data_fraction=0.1).run, Execution()) == (4_500, 5_000, 10_000)


@pytest.fixture
def clock(tmp_path, monkeypatch):
    """A trainer whose steps take 0.2 s at depth 1 and 0.5 s at depth 3, by a clock of its own."""
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "results"))
    trained = []

    def pretrain(run, images, folder, execution, on_step):
        ticks = itertools.count(step=0.2 if run.depth == 1 else 0.5)
        monkeypatch.setattr(estimate.time, "perf_counter", lambda: next(ticks))
        for step in range(len(images.train) // run.batch_size):
            trained.append(run.depth)
            on_step(step, 0, 0.0)

    monkeypatch.setattr(train, "pretrain", pretrain)
    return trained


def test_hours_on_a_device_are_operations_over_its_speed(monkeypatch):
    monkeypatch.setenv("ISONB_DATA", "/nowhere")  # what is at hand does not matter
    rows = {(row["network"], row["size"]): row for row in estimate.by_speed("paper", (1, 8))}
    assert len(rows) == 18 and sum(int(row["cells"]) for row in rows.values()) == len(studies.cells("paper"))
    # forward passes of a conv block: three a step for 51 x 45 000 images, one for 4 masks of 5000 validation images
    # before and after each epoch and of 10 000 test images, one for the features of all 60 000
    passes = 3 * 51 * 45_000 + 4 * (52 * 5_000 + 10_000) + 60_000
    hours = 301_989_888 * passes / 1e12 / 3600
    assert rows["conv", "1"]["hours at 1"] == f"{hours:.2f}"
    assert rows["conv", "12"]["hours at 8"] == f"{12 * hours / 8:.2f}"
    assert rows["transformer-4", "12"]["memory"] > rows["transformer-4", "1"]["memory"]


def test_a_measurement_is_a_line_through_two_depths_and_is_made_once(clock):
    cells = [config.cpu(batch_size=4), config.cpu(batch_size=4, seed=1)]
    speeds = estimate.measured(cells, Execution(device="cpu"))
    [throughput] = speeds.values()
    assert throughput.seconds(RunConfig(depth=1)) == pytest.approx(0.2 / 4)
    assert throughput.seconds(RunConfig(depth=6)) == pytest.approx((0.2 + 5 * 0.15) / 4)
    assert estimate.measured(cells, Execution(device="cpu")) == speeds
    assert clock == 13 * [1] + 7 * [3]  # after three others, ten steps take two seconds, and no fewer than four do


@pytest.mark.parametrize("content", ["{", '{"conv": {"fixed": 1.0}}'])
def test_a_damaged_measurement_is_made_again(content, clock):
    cache = estimate.cache(Execution(device="cpu"))
    cache.parent.mkdir(parents=True)
    cache.write_text(content)
    [throughput] = estimate.measured([config.cpu(batch_size=4)], Execution(device="cpu")).values()
    assert throughput.seconds(RunConfig(depth=1)) == pytest.approx(0.2 / 4)
    assert len(clock) == 13 + 7 and "per_operation" in cache.read_text()


def test_batches_of_another_size_are_measured_anew_up_to_the_largest(clock):
    """A step takes 0.2 s at depth 1 whatever its batch, so an image of 32 takes an eighth of one of 4."""
    four, *more = (config.cpu(batch_size=size) for size in (4, 32, 128))
    [small] = estimate.measured([four], Execution(device="cpu")).values()
    [large] = estimate.measured(more, Execution(device="cpu")).values()
    assert small.seconds(four.run) == pytest.approx(0.05)
    assert large.seconds(more[0].run) == pytest.approx(0.00625)
    assert len(clock) == 2 * (13 + 7)
    mixed = estimate.measured([four, *more], Execution(device="cpu"))
    assert [mixed[estimate.timed_as(cell.run)] for cell in (four, *more)] == [small, large, large]
    assert len(clock) == 2 * (13 + 7)


def test_an_interrupted_measurement_ends_the_command_and_is_not_kept(tmp_path, monkeypatch, capsys):
    """The interrupt comes when enough steps for a median are timed, but for less than the seconds asked for."""
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path))
    monkeypatch.setattr(estimate, "SECONDS", 1e9)
    tiny = config.smoke(image_size=8, width=4, batch_size=1)
    monkeypatch.setattr(studies, "cells", lambda profile: [tiny])
    steps, real = [], train.pretrain

    def pretrain(run, images, folder, execution, on_step):
        def interrupted(step, *more):
            steps.append(step)
            on_step(step, *more)
            if step == 9:
                os.kill(os.getpid(), signal.SIGINT)

        return real(run, images, folder, execution, interrupted)

    monkeypatch.setattr(train, "pretrain", pretrain)
    assert main(["estimate", "--profile", "smoke", "--device", "cpu"]) == 130
    assert steps == [*range(1, 11)]  # the trainer finishes one more step, and the other depth is not begun
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "Interrupted: give the same command again to go on.\n")
    assert not estimate.cache(Execution(device="cpu")).exists()


def test_heads_and_causal_blocks_have_a_throughput_of_their_own():
    kinds = [RunConfig(block="conv"), RunConfig(block="transformer", heads=4), RunConfig(objective="autoregressive")]
    assert [estimate.kind(run) for run in kinds] == ["conv", "transformer-4", "conv, causal"]


def test_short_steps_are_timed_until_they_are_many(monkeypatch):
    times = itertools.count(step=0.001)
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: next(times))

    def pretrain(run, images, folder, execution, on_step):
        assert len(images.train) == run.batch_size * (3 + 64)
        for step in range(3 + 64):
            on_step(step, 0, 0.0)

    monkeypatch.setattr(train, "pretrain", pretrain)
    assert estimate._seconds_per_image(RunConfig(batch_size=2), 1, Execution()) == pytest.approx(0.001 / 2)


def test_cells_that_share_a_machine_are_timed_while_they_do(tmp_path, monkeypatch):
    """Two processes meet before either is timed, so one after the other would never end."""
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path))
    run, execution = RunConfig(image_size=8, width=4, batch_size=1), Execution(device="cpu", threads=1)
    with ThreadPoolExecutor(2) as pool:
        meeting = threading.Barrier(2, timeout=60)

        def seconds(*given):
            meeting.wait()
            assert given == (run, depth, execution)
            return float(depth)

        monkeypatch.setattr(estimate.futures, "ProcessPoolExecutor", lambda *_: contextlib.nullcontext(pool))
        monkeypatch.setattr(estimate, "_seconds_per_image", seconds)
        depth = 3
        assert estimate._seconds_at_once(run, depth, execution, 2) == 3.0


def test_an_estimate_is_remembered_for_dry_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path))
    cell = config.smoke()
    alone, together = (estimate.Estimate(cell, seconds, seconds / 2, 2**30) for seconds in (60.0, 100.0))
    estimate.remember([alone], [together])
    expected = predictions.Prediction(alone=90.0, together=150.0, memory_bytes=2**30)
    assert predictions.read() == {cell.run.run_id: expected}
    estimate.remember([alone])
    assert predictions.read()[cell.run.run_id].together is None


def test_the_real_trainer_can_be_measured(tmp_path):
    run = RunConfig(image_size=8, width=4, batch_size=1)
    threads = torch.get_num_threads()
    assert estimate.calibrate(run, Execution(device="cpu")).seconds(run) > 0
    assert torch.get_num_threads() == threads


def test_the_command_prints_each_kind_of_cell_the_total_and_how_wrong_it_was(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    assert main(["estimate", "--profile", "smoke", "--images-per-second", "1000"]) == 0
    before = capsys.readouterr().out.splitlines()
    assert len([line for line in before if line.endswith("GiB")]) == 9
    assert before[-1] == "No cell of this profile has run yet, so the error of these numbers is unknown."
    cell = studies.cells("smoke")[0]
    record = made_record(cell, 3.0)
    took = 3 * len_of_photos() / 1000 * 2  # twice as long as predicted
    training = record.training.model_copy(update={"seconds": took})
    records.write_record(record.model_copy(update={"training": training}), {})
    assert main(["estimate", "--profile", "smoke", "--images-per-second", "1000"]) == 0
    after = capsys.readouterr().out.splitlines()[-1]
    assert after == f"{cell.run.run_id} trained for {took:.0f} s; predicted {took / 2:.0f} s, -50%."


def test_what_was_measured_is_remembered_though_a_record_is_damaged_and_the_rest_is_interrupted(
    clock, monkeypatch, capsys
):
    cells = [config.smoke(batch_size=4, seed=seed) for seed in (0, 1)]
    monkeypatch.setattr(studies, "cells", lambda profile: cells)
    monkeypatch.setattr("isonb.running.placement.cores", lambda: 2)
    records.write_record(made_record(cells[0]), {}).write_text("{")
    measured = estimate.study

    def study(profile, execution, images_per_second=None, at_once=1):
        if at_once > 1:
            raise KeyboardInterrupt
        return measured(profile, execution, images_per_second, at_once)

    monkeypatch.setattr(estimate, "study", study)
    assert main(["estimate", "--profile", "smoke", "--device", "cpu"]) == 130
    assert "hours for 2 cells" in capsys.readouterr().out
    assert predictions.read().keys() == {cell.run.run_id for cell in cells}


def len_of_photos():
    return estimate.images(config.smoke().run, Execution())[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "smok"], "profile='smok' is not allowed: choose smoke, cpu, paper.\n"),
        (["--images-per-second", "0"], "images-per-second=0 is not allowed: it must be above 0.\n"),
        (["--images-per-second", "-3"], "images-per-second=-3 is not allowed: it must be above 0.\n"),
    ],
)
def test_a_request_that_cannot_be_met_is_one_sentence(arguments, message, capsys):
    assert main(["estimate", *arguments]) == 2
    assert capsys.readouterr().err == message


def test_a_cache_holds_readable_numbers(clock):
    estimate.measured([config.cpu()], Execution(device="cpu"))
    [found] = json.loads(estimate.cache(Execution(device="cpu")).read_text()).values()
    assert set(found) == {"fixed", "per_operation"}
