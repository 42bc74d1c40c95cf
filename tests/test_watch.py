"""What a sweep shows: a line for each cell at work, one for each that has ended, on a terminal and in a file."""

import io
import os
import time

import pytest

from isonb.running import sweep, watch

BAR = "one:  45%|####      | 540/1200 [00:20<00:25, 26.1step/s, epoch=2/3, loss=4.12]"


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def fileno(self):
        return 1


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path))
    reasons = dict.fromkeys(("one", "two", "three"), "no record")
    place = tmp_path / "smoke/sweep/1"
    sweep.Plan(study="mine.toml", base="smoke", started=time.monotonic(), reasons=reasons, reused=0).write(place)
    (tmp_path / "smoke/logs").mkdir()
    return place


def begin(folder, name, words):
    (folder / f"{name}.log").touch()
    if words:
        (folder.parent.parent / "logs" / f"{name}.log").write_text(words)


def test_cells_at_work_and_ended_have_a_line_each(folder):
    begin(folder, "one", f"one\nread the data\r{BAR.replace('45', '44')}\r{BAR}")
    begin(folder, "two", "")
    shown = watch.Watch(folder, io.StringIO())
    shown.look()
    assert shown.stream.getvalue() == f"  {BAR}\n  two: begins\n"

    (folder / "one.log").write_text("one run, 40 s\n")
    (folder / "one.done").touch()
    (folder / "two.log").write_text("Traceback\ntwo failed: no memory.\n")
    (folder / "two.failed").touch()
    begin(folder, "three", "three.json: mean-pooled features\n")
    shown.stream.truncate(shown.stream.seek(0))
    shown.look()
    lines = ["[1/3] one run, 40 s", "[2/3] two failed: no memory.", "  three: three.json: mean-pooled features"]
    assert shown.stream.getvalue().splitlines() == lines
    shown.look()
    assert shown.stream.getvalue().splitlines() == lines  # the same is not printed again within a minute


def test_what_an_earlier_sweep_left_is_no_progress(folder):
    begin(folder, "one", BAR)
    os.utime(folder.parent.parent / "logs/one.log", (1, 1))
    shown = watch.Watch(folder, io.StringIO())
    shown.look()
    assert shown.stream.getvalue() == "  one: begins\n"


def test_on_a_terminal_the_lines_of_cells_at_work_are_drawn_over(folder, monkeypatch):
    monkeypatch.setattr(watch.os, "get_terminal_size", lambda _: os.terminal_size((40, 20)))
    begin(folder, "one", BAR)
    begin(folder, "two", "")
    shown = watch.Watch(folder, Terminal())
    shown.look()
    drawn = shown.stream.getvalue()
    assert drawn == f"  {BAR}"[:39] + "\n  two: begins\n"
    (folder / "two.log").write_text("two run, 3 s")
    (folder / "two.done").touch()
    shown.look()
    shown.look()
    after = shown.stream.getvalue().removeprefix(drawn)
    bar = f"  {BAR}"[:39] + "\n"
    assert after == f"\x1b[2A\r\x1b[J[1/3] two run, 3 s\n{bar}\x1b[1A\r\x1b[J{bar}"


def test_a_watch_ends_when_it_is_told_to(folder):
    begin(folder, "one", BAR)
    shown = watch.start(folder, io.StringIO())
    shown.end()
    assert not shown.is_alive() and BAR in shown.stream.getvalue()
