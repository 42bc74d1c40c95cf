"""What a cell still needs: how far its checkpoint is, what its pieces took here before, and what was predicted of it.

From this a time box chooses what to begin. Training is saved at every step, what comes after it is not; so how long
that took is remembered for each kind of cell, also of one that was stopped in it, as the least that it takes.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isonb import disk, places
from isonb.config import Cell
from isonb.running import predictions
from isonb.running.predictions import Prediction
from isonb.validation import Frozen

START = 20.0  # seconds in which a kernel starts and training begins, where that has not been measured
WORTH = 10.0  # seconds of training that are worth a start
HEADER = 2**24  # bytes in which a checkpoint says what it holds; ours have a hundredth of it


class Pieces(Frozen):
    """Seconds of a cell's execution before and after its training steps; `is_least`: it was stopped in the latter."""

    before: predictions.Seconds
    after: predictions.Seconds
    is_least: bool = False


@dataclass(frozen=True)
class Standing:
    """How far a training is: steps taken, of how many, where that is known, in how many seconds, and the share done."""

    step: int
    steps: int | None
    seconds: float
    share: float

    @property
    def is_trained(self) -> bool:
        """Whether all steps are taken."""
        return self.share >= 1


@dataclass(frozen=True)
class Need:
    """Seconds that a cell needs for something worth keeping, and to its end; None where that is not known."""

    useful: float
    finish: float | None
    share: float


def cache() -> Path:
    """Where the pieces are remembered."""
    return places.runs_folder("estimate") / "pieces.json"


def known() -> dict[str, Pieces]:
    """The pieces of every kind of cell that has run in these folders."""
    return predictions.load(cache(), Pieces)


def kind(cell: Cell) -> str:
    """What has pieces of its own: a cell, whatever its seed."""
    seedless = cell.model_copy(update={"run": cell.run.model_copy(update={"seed": 0})})
    return hashlib.sha256(seedless.model_dump_json().encode()).hexdigest()[:16]


def standing(cell: Cell) -> Standing | None:
    """How far the newest checkpoint of a cell is; None where there is none, or none that can be read."""
    folder = _folder(cell)
    for path in sorted(folder.glob("step-*.safetensors"), reverse=True) if folder else ():
        try:
            return _standing(cell, _progress(path))
        except (OSError, KeyError, TypeError, ValueError):
            continue
    return None


def _folder(cell: Cell) -> Path | None:
    """The folder of a cell's checkpoints in which something was written last; others are of other images."""
    folders = places.runs_folder(cell.study).glob(f"checkpoints/{cell.run.run_id}/*/")
    own = [folder for folder in folders if folder.name.endswith("-along") == cell.probe.along]
    return max(own, key=lambda folder: folder.stat().st_mtime, default=None)


def _progress(path: Path) -> dict[str, Any]:
    """What a checkpoint's header says of the training; the tensors are not looked at. Raises `ValueError`."""
    if not path.is_file():
        raise disk.Unreadable("it is not a regular file")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > HEADER:
            raise disk.Unreadable("its header is too long")
        metadata = disk.parse_json(file.read(length))["__metadata__"]
    return disk.parse_json(metadata["isonb"].encode())["progress"]


def _standing(cell: Cell, progress: dict[str, Any]) -> Standing:
    step, curve, run = int(progress["step"]), progress["curve"], cell.run
    images = max((row["images"] for row in curve), default=0)
    steps = run.epochs * math.ceil(images / run.batch_size) if images else None
    share = step / steps if steps else max(0, len(curve) - 1) / run.epochs
    return Standing(step, steps, float(progress["seconds"]), min(1.0, share))


def need(cell: Cell, pieces: Mapping[str, Pieces], predicted: Prediction | None = None) -> Need:
    """What a cell needs, by its checkpoint, by the pieces that are known and by what was predicted of it."""
    own, now = pieces.get(kind(cell)), standing(cell)
    starts = sorted(one.before for one in pieces.values())
    before = own.before if own else starts[len(starts) // 2] if starts else START
    after = own.after if own else None
    if now and now.is_trained:
        end = before + (after or 0.0)  # where nothing is known, trying is how to know
        return Need(end, end if own else None, 1.0)
    training, step = None, 0.0
    if now and now.step:
        step = now.seconds / now.step
        training = step * (now.steps - now.step) if now.steps else None
    if training is None and predicted:
        training = predicted.alone * (1 - (now.share if now else 0.0))
    finish = None if training is None or after is None else before + training + after
    useful = before + max(step, min(WORTH, WORTH if training is None else training))
    return Need(useful if finish is None else min(useful, finish), finish, now.share if now else 0.0)


def slowest_step(cells: Sequence[Cell]) -> float:
    """Seconds of a training step, the most of any cell that has a checkpoint; 0 where none has."""
    now = [standing(cell) for cell in cells]
    return max((one.seconds / one.step for one in now if one and one.step), default=0.0)


def in_order(cells: Sequence[Cell], seconds: float) -> list[Cell]:
    """Which cell to begin first in a box of so many seconds: what it can finish, what it may finish, and the rest.

    Within each, what is begun comes before what is not, the nearest to its end first, and else the study's order holds.
    """
    pieces, predicted = known(), predictions.read()
    needs = {cell.run.run_id: need(cell, pieces, predicted.get(cell.run.run_id)) for cell in cells}

    def place(cell: Cell) -> tuple[int, float]:
        own = needs[cell.run.run_id]
        return (1 if own.finish is None else 0 if own.finish <= seconds else 2), -own.share

    return sorted(cells, key=place)


def why_not(cell: Cell, left: float) -> str:
    """Why so many seconds are too few to begin a cell, in words; empty where they are not."""
    pieces = known()
    own = need(cell, pieces, predictions.read().get(cell.run.run_id))
    if own.useful <= left:
        return ""
    is_least = own.share >= 1 and (kept := pieces.get(kind(cell))) and kept.is_least
    what = "to its end, its training being done" if own.share >= 1 else "for anything worth keeping"
    return (
        f"it needs {'more than' if is_least else 'about'} {own.useful:.0f} s {what}, and {max(0, left):.0f} s are left"
    )


class Clock:
    """Takes the times of a cell's execution that begins now, for the boxes to come."""

    def __init__(self, cell: Cell) -> None:
        self.cell, self.begun, self.before = cell, time.time(), standing(cell)

    def note(self, is_finished: bool) -> None:
        """Remember the pieces of an execution that has finished its cell, or was stopped after the training."""
        now, ended = standing(self.cell), time.time()
        final = (_folder(self.cell) or Path()) / "final.safetensors"  # written when the training has ended
        if not (now and now.is_trained and final.exists() and (trained := final.stat().st_mtime) >= self.begun):
            return
        steps = now.seconds - (self.before.seconds if self.before else 0.0)
        before, after = max(0.0, trained - self.begun - steps), max(0.0, ended - trained)
        if not is_finished:
            after *= 1.1  # a little more, or the next box of that length would stop in it again
        pieces, key = known(), kind(self.cell)
        kept = pieces.get(key)
        if not is_finished and kept and kept.after > after:
            return
        predictions.keep(cache(), pieces | {key: Pieces(before=before, after=after, is_least=not is_finished)})
