"""The throughput of a kind of network: its arithmetic by hand, its measurement by a trainer that takes known time."""

import contextlib
import itertools
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from isonb import config, studies
from isonb.__main__ import main
from isonb.config import Execution, RunConfig
from isonb.running import throughput
from isonb.running.throughput import Throughput
from isonb.training import train

CONV_OPERATIONS = 2 * 9 * 1024 * 128 * 128  # two 3x3 convolutions of 128 channels at 1024 positions


def test_seconds_grow_by_the_operations_of_the_blocks():
    speed = Throughput(fixed=0.001, per_operation=2e-12)
    assert speed.seconds(RunConfig(depth=3)) == pytest.approx(0.001 + 3 * CONV_OPERATIONS * 2e-12)


def test_given_images_per_second_hold_for_the_first_cell_and_scale_to_the_others():
    cells = [config.cpu(depth=1), config.cpu(block="transformer", depth=3)]
    speeds = throughput.given(50.0, cells)
    assert speeds["conv, batches of 32"].seconds(cells[0].run) == pytest.approx(1 / 50)
    transformer = 4 * 1024 * 128**2 + 2 * 1024**2 * 128 + 2 * 1024 * 128**2
    seconds = speeds["transformer-1, batches of 32"].seconds(cells[1].run)
    assert seconds == pytest.approx(3 * transformer / CONV_OPERATIONS / 50)


def test_heads_and_causal_blocks_have_a_throughput_of_their_own():
    kinds = [RunConfig(block="conv"), RunConfig(block="transformer", heads=4), RunConfig(objective="autoregressive")]
    assert [throughput.kind(run) for run in kinds] == ["conv", "transformer-4", "conv, causal"]


@pytest.fixture
def clock(tmp_path, monkeypatch):
    """A trainer whose steps take 0.2 s at depth 1 and 0.5 s at depth 3, by a clock of its own."""
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "results"))
    trained = []

    def pretrain(run, images, folder, execution, on_step):
        ticks = itertools.count(step=0.2 if run.depth == 1 else 0.5)
        monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(ticks))
        for step in range(len(images.train) // run.batch_size):
            trained.append(run.depth)
            on_step(step, 0, 0.0)

    monkeypatch.setattr(train, "pretrain", pretrain)
    return trained


def test_a_measurement_is_a_line_through_two_depths_and_is_made_once(clock):
    cells = [config.cpu(batch_size=4), config.cpu(batch_size=4, seed=1)]
    speeds = throughput.measured(cells, Execution(device="cpu"))
    [speed] = speeds.values()
    assert speed.seconds(RunConfig(depth=1)) == pytest.approx(0.2 / 4)
    assert speed.seconds(RunConfig(depth=6)) == pytest.approx((0.2 + 5 * 0.15) / 4)
    assert throughput.measured(cells, Execution(device="cpu")) == speeds
    assert clock == 13 * [1] + 7 * [3]  # after three others, ten steps take two seconds, and no fewer than four do


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "null",
        "[" * 100_000,
        '{"conv": {"fixed": 1.0}}',
        '{"conv": {"fixed": 1.0, "per_operation": NaN}}',
        '{"conv": {"fixed": -1.0, "per_operation": 1.0}}',
    ],
)
def test_a_damaged_measurement_is_made_again(content, clock):
    cache = throughput.cache(Execution(device="cpu"))
    cache.parent.mkdir(parents=True)
    cache.write_text(content)
    [speed] = throughput.measured([config.cpu(batch_size=4)], Execution(device="cpu")).values()
    assert speed.seconds(RunConfig(depth=1)) == pytest.approx(0.2 / 4)
    assert len(clock) == 13 + 7 and "per_operation" in cache.read_text()


def test_a_cache_holds_readable_numbers(clock):
    throughput.measured([config.cpu()], Execution(device="cpu"))
    [kept] = json.loads(throughput.cache(Execution(device="cpu")).read_text()).values()
    assert set(kept) == {"fixed", "per_operation"}


def test_batches_of_another_size_are_measured_anew_up_to_the_largest(clock):
    """A step takes 0.2 s at depth 1 whatever its batch, so an image of 32 takes an eighth of one of 4."""
    four, *more = (config.cpu(batch_size=size) for size in (4, 32, 128))
    [small] = throughput.measured([four], Execution(device="cpu")).values()
    [large] = throughput.measured(more, Execution(device="cpu")).values()
    assert small.seconds(four.run) == pytest.approx(0.05)
    assert large.seconds(more[0].run) == pytest.approx(0.00625)
    assert len(clock) == 2 * (13 + 7)
    mixed = throughput.measured([four, *more], Execution(device="cpu"))
    assert [mixed[throughput.timed_as(cell.run)] for cell in (four, *more)] == [small, large, large]
    assert len(clock) == 2 * (13 + 7)


def test_an_interrupted_measurement_ends_the_command_and_is_not_kept(tmp_path, monkeypatch, capsys):
    """The interrupt comes when enough steps for a median are timed, but for less than the seconds asked for."""
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path))
    monkeypatch.setattr(throughput, "SECONDS", 1e9)
    tiny = config.smoke(image_size=8, width=4, batch_size=1)
    monkeypatch.setattr(studies, "cells", lambda study: [tiny])
    steps, real = [], train.pretrain

    def pretrain(run, images, folder, execution, on_step):
        def interrupted(step, *more):
            steps.append(step)
            on_step(step, *more)
            if step == 9:
                os.kill(os.getpid(), signal.SIGINT)

        return real(run, images, folder, execution, interrupted)

    monkeypatch.setattr(train, "pretrain", pretrain)
    assert main(["estimate", "--study", "smoke", "--device", "cpu"]) == 75
    assert steps == [*range(1, 11)]  # the trainer finishes one more step, and the other depth is not begun
    assert capsys.readouterr() == ("", "Interrupted: run the same command again to continue.\n")
    assert not throughput.cache(Execution(device="cpu")).exists()


def test_short_steps_are_timed_until_they_are_many(monkeypatch):
    times = itertools.count(step=0.001)
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(times))

    def pretrain(run, images, folder, execution, on_step):
        assert len(images.train) == run.batch_size * (3 + 64)
        for step in range(3 + 64):
            on_step(step, 0, 0.0)

    monkeypatch.setattr(train, "pretrain", pretrain)
    assert throughput._seconds_per_image(RunConfig(batch_size=2), 1, Execution()) == pytest.approx(0.001 / 2)


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

        monkeypatch.setattr(throughput.futures, "ProcessPoolExecutor", lambda *_: contextlib.nullcontext(pool))
        monkeypatch.setattr(throughput, "_seconds_per_image", seconds)
        depth = 3
        assert throughput._seconds_at_once(run, depth, execution, 2) == 3.0


def test_the_real_trainer_can_be_measured(tmp_path):
    run = RunConfig(image_size=8, width=4, batch_size=1)
    threads = torch.get_num_threads()
    assert throughput.calibrate(run, Execution(device="cpu")).seconds(run) > 0
    assert torch.get_num_threads() == threads
