"""Training on several processes is training on one: the same curve, the same weights, one decision for all ranks."""

import errno
import os
import signal
from pathlib import Path

import pytest
from tiny_runs import assert_close, tell, tiny_run, together

from isonb.training import checkpoint

pytestmark = pytest.mark.slow

# Shares of a batch of 5 are 2 and 3, or 1, 1, 1 and 2; of the last 3 images and of the 3 validation images, one of
# four ranks gets none.
CASES = {
    "conv, continuous": ({"block": "conv"}, {}),
    "mixer, rff, subpixels": ({"block": "mixer", "encoding": "rff", "mask_unit": "subpixel"}, {}),
    "transformer, pix2vec": ({"block": "transformer", "encoding": "pix2vec", "heads": 2}, {}),
    "learned mask token, augmented": ({"depth": 2, "mask_fill": "learned", "augmentation": "flip-crop"}, {}),
    "one image at a time": ({"block": "conv"}, {"micro_batch": 1}),
    "autoregressive": ({"block": "transformer", "objective": "autoregressive"}, {}),
    "hardly any mask": ({"mask_rate": 0.002, "batch_size": 2}, {}),  # some steps have nothing to learn from
    "float32": ({"block": "transformer", "encoding": "rff"}, {"precision": "float32"}),
    "bfloat16": ({"block": "mixer"}, {"precision": "bfloat16"}),
}
# Relative. Adam divides by the gradient's own size, so where that is tiny a rounding error moves a weight by a share of
# the learning rate: hence more than the rounding itself, 1e-16, 1e-7 and 4e-3.
TOLERANCE = {"float64": 1e-9, "float32": 1e-3, "bfloat16": 0.05}


def train_case(rank: int, number: int, folder: Path) -> object:
    changes, execution = list(CASES.values())[number]
    return tell(tiny_run(**changes), folder / str(number), **execution)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """By world size, case and rank. On one process, one big batch: without micro-batches."""
    folder = tmp_path_factory.mktemp("runs")
    alone = [
        [tell(tiny_run(**changes), folder / f"1/{number}", **{**execution, "micro_batch": 0})]
        for number, (changes, execution) in enumerate(CASES.values())
    ]
    return {1: alone} | {n: together(n, train_case, folder / str(n), meetings=len(CASES)) for n in (2, 4)}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_change_nothing_but_the_order_of_sums(trained, processes, case):
    number = list(CASES).index(case)
    tolerance = TOLERANCE[CASES[case][1].get("precision", "float64")]
    (alone,), ranks = trained[1][number], trained[processes][number]
    assert len({row["train_loss"] for row in alone.curve}) == 3  # it has learned something
    for rank in ranks:
        assert_close(rank, alone, tolerance)
        assert_close(rank, ranks[0], 0.0)


def stop_one_rank(rank: int, meeting: int, folder: Path) -> object:
    """Rank 1 alone is asked to stop, and its folder is its own, as on another host."""

    def on_step(step, steps, loss):
        if rank == 1 and step == 1 + 2 * meeting:
            os.kill(os.getpid(), signal.SIGTERM)

    return tell(tiny_run(depth=2), folder / str(rank), on_step)


def go_on(rank: int, meeting: int, folder: Path) -> object:
    return tell(tiny_run(depth=2), folder / str(rank))


def test_ranks_stop_at_one_step_and_any_number_of_them_goes_on(tmp_path):
    first, second = together(2, stop_one_rank, tmp_path, meetings=2)
    same_command = "run the same command again."
    assert [rank.fault for rank in first] == 2 * [f"Preempted: Stopped after step 2 of 6: {same_command}"]
    assert [rank.fault for rank in second] == 2 * [f"Preempted: Stopped after step 4 of 6: {same_command}"]
    assert checkpoint.latest(tmp_path / "0").name == "step-00000004.safetensors"
    assert not (tmp_path / "1").exists()

    (ranks,) = together(4, go_on, tmp_path)
    alone = tell(tiny_run(depth=2), tmp_path / "alone")
    for rank in ranks:
        assert_close(rank, alone, 1e-9)


def train_whole(rank: int, meeting: int, folder: Path) -> object:
    return tell(tiny_run(depth=2), folder / f"whole {meeting}")


@pytest.mark.parametrize("processes", [2, 4])  # of two, a sum has one order only
def test_as_many_processes_give_the_same_bits_interrupted_or_not(processes, tmp_path):
    together(processes, stop_one_rank, tmp_path)
    (resumed,), twice = together(processes, go_on, tmp_path), together(processes, train_whole, tmp_path, meetings=2)
    for rank, one, other in zip(resumed, *twice, strict=True):
        assert_close(other, one, 0.0)
        assert_close(rank, one, 0.0)


def fill_disk(rank: int, meeting: int, folder: Path) -> object:
    """The first rank's disk is full; the others learn of it when it leaves."""

    def written(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    checkpoint.signed.disk.written = written
    return tell(tiny_run(), folder, checkpoint_seconds=0)


def test_no_rank_waits_for_one_that_failed(tmp_path):
    ((first, second),) = together(2, fill_disk, tmp_path)
    assert first.fault.startswith("CheckpointError: ") and "No space left on device" in first.fault
    assert second.fault.split(":")[0] in {"RuntimeError", "DistBackendError"}
