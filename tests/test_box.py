"""A time box: when its cells are asked to save, what is begun in it, and what what is left would still need."""

import contextlib
import os
import time

import pytest
import tiny_runs

from isonb import config, places
from isonb.config import ConfigError
from isonb.running import box, predictions, remaining, runner
from isonb.running.predictions import Prediction
from isonb.running.remaining import Pieces
from isonb.training import data

CELL = config.smoke(width=8, image_size=8, epochs=2, batch_size=5)


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv(box.UNTIL, raising=False)


@pytest.fixture
def clock(monkeypatch):
    """The machine's clocks stand still at 1000 and are set by the test; this process has just begun."""
    now = {"now": 1000.0}
    monkeypatch.setattr(time, "monotonic", lambda: now["now"])
    monkeypatch.setattr(box, "_age", lambda: 0.0)
    return now


# When a box ends


@pytest.mark.parametrize(
    ("minutes", "slowest", "stops", "saved"),
    [
        (12, 0.0, 720 - 40, 720 - 20),  # twenty seconds to save, and as many for the table
        (12, 0.1, 720 - 40, 720 - 20),
        (60, 40.0, 3600 - 120, 3600 - 20),  # two and a half steps of forty seconds
        (1, 0.0, 60 - 15, 60 - 7.5),  # a quarter of a short one, shared out alike
        (4, 40.0, 240 - 60, 240 - 10),
    ],
)
def test_cells_are_asked_to_save_in_time_for_their_slowest_step_and_the_table(minutes, slowest, stops, saved, clock):
    one = box.begin(minutes, slowest)
    assert (one.stops - 1000, one.saved - 1000, one.ends - 1000) == pytest.approx((stops, saved, 60 * minutes))


def test_what_this_process_has_read_before_counts_unless_the_clock_was_set(monkeypatch):
    began = box.psutil.Process().create_time()
    monkeypatch.setattr(box.time, "monotonic", lambda: 0.0)
    for age, ends in ((5.0, 55.0), (-900.0, 60.0), (1e6, 60.0)):
        monkeypatch.setattr(box.time, "time", lambda age=age: began + age)
        assert box.begin(1).ends == pytest.approx(ends)


def test_runners_know_how_much_of_the_box_is_left(clock, monkeypatch):
    assert box.left() is None and box.grace() == 0.0
    monkeypatch.setenv(box.UNTIL, "")
    box.begin(12).announce()
    clock["now"] += 600
    assert (box.left(), box.grace()) == pytest.approx((80, 100))
    clock["now"] += 600
    assert box.left() == pytest.approx(-520) and box.grace() == 0.0


@pytest.mark.parametrize("word", ["soon", "1", "1 2 3", "nan 1", "1 inf"])
def test_a_box_that_is_none_is_refused(word, monkeypatch):
    monkeypatch.setenv(box.UNTIL, word)
    with pytest.raises(ConfigError, match="holds no two times: unset it; only a sweep sets it"):
        box.left()


# How far a cell is


def train(steps, cell=CELL, name="0" * 12, **changes):
    """Take so many of the six steps of a run on thirteen images; a checkpoint after each."""
    folder = places.runs_folder(cell.study) / "checkpoints" / cell.run.run_id / name

    class Enough(Exception):
        pass

    def on_step(step, *_):
        if step == steps:
            raise Enough

    with contextlib.suppress(Enough):
        tiny_runs.pretrain(cell.run, folder, on_step, checkpoint_seconds=0, **changes)
    return folder


def test_a_checkpoint_says_how_far_it_is_once_an_epoch_is_closed():
    assert data.steps_per_epoch(13, 5) == 3
    assert remaining.standing(CELL) is None
    train(3)  # a step is saved after it was told
    now = remaining.standing(CELL)
    assert (now.step, now.steps, now.share, now.is_trained) == (2, None, 0.0, False)
    train(6)
    now = remaining.standing(CELL)
    assert (now.step, now.steps, now.is_trained) == (5, 6, False) and now.share == pytest.approx(5 / 6)
    train(None)
    assert remaining.standing(CELL).is_trained


def test_a_run_that_is_probed_along_has_checkpoints_of_its_own():
    along = CELL.model_copy(update={"probe": CELL.probe.model_copy(update={"along": True})})
    train(None)
    assert remaining.standing(along) is None
    train(3, along, "0" * 12 + "-along")
    assert remaining.standing(along).step == 2 and remaining.standing(CELL).step == 6


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff" * 99, (2**62).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"{}",
     (10**5).to_bytes(8, "little") + b"[" * 10**5],
)  # fmt: skip
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(content):
    folder = train(None)
    newest = max(folder.glob("step-*"))
    newest.write_bytes(content)
    assert remaining.standing(CELL).step == 5
    newest.unlink()
    os.mkfifo(newest)
    assert remaining.standing(CELL).step == 5


# What it still needs


def standing(monkeypatch, **steps):
    """Cells stand where the test says, by run_id."""
    at = {run_id: remaining.Standing(step, of, seconds, step / of) for run_id, (step, of, seconds) in steps.items()}
    monkeypatch.setattr(remaining, "standing", lambda cell: at.get(cell.run.run_id))


def test_a_need_is_added_up_from_what_is_known(monkeypatch):
    """A step took 2 s and 60 of 100 are left; a start took 15 s, and what comes after the training 30."""
    run_id = CELL.run.run_id
    pieces = {remaining.kind(CELL): Pieces(before=15, after=30)}
    standing(monkeypatch, **{run_id: (40, 100, 80.0)})
    assert remaining.need(CELL, pieces) == remaining.Need(useful=15 + 10, finish=15 + 120 + 30, share=0.4)
    standing(monkeypatch, **{run_id: (99, 100, 198.0)})
    assert remaining.need(CELL, pieces) == remaining.Need(useful=15 + 2, finish=15 + 2 + 30, share=0.99)
    standing(monkeypatch, **{run_id: (10, 100, 300.0)})
    assert remaining.need(CELL, pieces).useful == 15 + 30  # a step takes longer than what is worth a start
    standing(monkeypatch, **{run_id: (100, 100, 200.0)})
    assert remaining.need(CELL, pieces) == remaining.Need(useful=45, finish=45, share=1.0)


def test_what_is_not_known_is_predicted_or_tried(monkeypatch):
    standing(monkeypatch)
    predicted = Prediction(alone=100, together=None, memory_bytes=1)
    assert remaining.need(CELL, {}) == remaining.Need(useful=20 + 10, finish=None, share=0)
    assert remaining.need(CELL, {}, predicted) == remaining.Need(useful=30, finish=None, share=0)
    other = {"another kind": Pieces(before=5, after=1), "a third": Pieces(before=7, after=1)}
    assert remaining.need(CELL, other).useful == 7 + 10
    own = other | {remaining.kind(CELL): Pieces(before=6, after=4)}
    assert remaining.need(CELL, own, predicted).finish == 6 + 100 + 4
    standing(monkeypatch, **{CELL.run.run_id: (100, 100, 200.0)})
    assert remaining.need(CELL, {}) == remaining.Need(useful=20, finish=None, share=1.0)


def test_seeds_share_what_is_known_of_their_kind():
    seeds = [config.smoke(seed=seed) for seed in range(3)]
    assert len({remaining.kind(cell) for cell in seeds}) == 1
    assert remaining.kind(seeds[0]) != remaining.kind(config.smoke(probe_epochs=3))


def test_what_can_be_finished_comes_first_then_what_may_be_then_the_rest(monkeypatch):
    """Of five seeds, by the seconds that each needs in a box of 100: 300 and begun, unknown, 300, 60, 90 and begun."""
    cells = [config.smoke(seed=seed) for seed in range(5)]
    needs = dict(zip([cell.run.run_id for cell in cells],
                     [(300, 0.5), (None, 0.0), (300, 0.0), (60, 0.0), (90, 0.2)], strict=True))  # fmt: skip
    monkeypatch.setattr(remaining, "need", lambda cell, *_: remaining.Need(1.0, *needs[cell.run.run_id]))
    assert [cell.run.seed for cell in remaining.in_order(cells, 100.0)] == [4, 3, 1, 0, 2]
    assert [cell.run.seed for cell in remaining.in_order(cells, 1000.0)] == [0, 4, 2, 3, 1]


def test_a_cell_is_begun_only_where_something_worth_keeping_comes_of_it(monkeypatch):
    standing(monkeypatch)
    assert remaining.why_not(CELL, 31) == ""
    assert remaining.why_not(CELL, 29) == "it needs about 30 s for anything worth keeping, and 29 s are left"
    standing(monkeypatch, **{CELL.run.run_id: (100, 100, 200.0)})
    predictions.keep(remaining.cache(), {remaining.kind(CELL): Pieces(before=10, after=50, is_least=True)})
    words = "it needs more than 60 s to its end, its training being done, and 0 s are left"
    assert remaining.why_not(CELL, -3) == words and remaining.why_not(CELL, 61) == ""


def test_a_runner_begins_no_kernel_for_less(monkeypatch):
    monkeypatch.setattr(runner, "_run_alone", lambda *_: pytest.fail("a kernel is started"))
    monkeypatch.setenv(box.UNTIL, f"{time.monotonic() + 9} {time.monotonic() + 29}")
    with pytest.raises(runner.Stopped, match=r"was not begun: it needs about 30 s .* and \d s are left of the time b"):
        runner.run_cell({"study": "smoke", "block": "conv"})


# What is remembered


def note(monkeypatch, began, trained, ended, is_finished, steps=20.0):
    """An execution whose training ended and which itself ended at these times, and trained for so many seconds."""
    now = {"time": began}
    monkeypatch.setattr(remaining.time, "time", lambda: now["time"])
    standing(monkeypatch, **{CELL.run.run_id: (50, 100, 7.0)})
    one = remaining.Clock(CELL)
    standing(monkeypatch, **{CELL.run.run_id: (100, 100, 7.0 + steps)})
    folder = places.runs_folder(CELL.study) / "checkpoints" / CELL.run.run_id / ("0" * 12)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "final.safetensors").touch()
    os.utime(folder / "final.safetensors", (trained, trained))
    now["time"] = ended
    one.note(is_finished)
    return remaining.known().get(remaining.kind(CELL))


def test_the_pieces_of_an_execution_are_remembered_and_what_was_stopped_as_the_least(monkeypatch):
    assert note(monkeypatch, 1000, 990, 1100, True) is None  # the training did not end in this execution
    least = note(monkeypatch, 1000, 1030, 1080, False)
    assert (least.before, least.is_least) == (10.0, True) and least.after == pytest.approx(55)
    assert note(monkeypatch, 1000, 1030, 1040, False) == least  # shorter: nothing new
    assert note(monkeypatch, 1000, 1036, 1136, True) == Pieces(before=16, after=100)
    assert note(monkeypatch, 1000, 1036, 1066, False) == Pieces(before=16, after=100)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 1}', b'{"a": {"before": -1, "after": 0}}', b"[" * 10**5])
def test_a_damaged_memory_counts_as_empty(content):
    remaining.cache().parent.mkdir(parents=True)
    remaining.cache().write_bytes(content)
    assert remaining.known() == {}
