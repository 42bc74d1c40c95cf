"""What the last estimate of a study predicted for each cell, at hand without torch.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic

from isonb import disk, places
from isonb.config import Cell
from isonb.validation import Frozen

Kept = TypeVar("Kept")
PROCESS_MB = 1024  # of a runner and of a kernel with torch, before it trains
ON_A_GPU = 4  # cells that `estimate` times together on a GPU
UNTIMED = 2  # cells on a GPU where nothing was timed: at small steps one leaves most of it idle
CUDA_MB = 2048  # of a process that computes on a GPU: a context and CUDA's libraries; an allowance, not measured here
CONTEXT_MB = 768  # of a GPU's memory, that each process on it takes; an allowance, not measured here
LARGEST = 2**24  # bytes of a cache: that of a hundred thousand cells
UNKNOWN = 4 * 2**30  # bytes to ask for where nothing has been predicted: most cells need less
Seconds = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]


class Prediction(Frozen):
    """A cell's seconds when it runs alone on all cores, and on one core while the others are busy, too; and its bytes.

    On a GPU, `together` is beside so many others on it that there are `at_once`, which is None on a CPU. `together` is
    None where it was not measured.
    """

    alone: Seconds
    together: Seconds | None
    at_once: int | None = pydantic.Field(None, ge=1, le=1024)
    memory_bytes: int = pydantic.Field(ge=0, lt=2**50)


def path() -> Path:
    """Where predictions are kept."""
    return places.runs_folder("estimate") / "predictions.json"


def read() -> dict[str, Prediction]:
    """Every prediction that has been made on this machine, by run_id."""
    return load(path(), Prediction)


def write(newer: dict[str, Prediction]) -> None:
    """Keep predictions; newer ones replace older ones of the same cell."""
    keep(path(), read() | newer)


def load(cache: Path, kind: type[Kept]) -> dict[str, Kept]:
    """What a cache holds, by name; one that cannot be read, is damaged or is of another version counts as empty."""
    try:
        return pydantic.TypeAdapter(dict[str, kind]).validate_json(disk.read_bytes(cache, LARGEST))
    except ValueError:
        return {}


def keep(cache: Path, content: dict[str, Any]) -> None:
    """Write a cache; if that fails, what it would hold is found out again the next time."""
    with contextlib.suppress(OSError):
        disk.write_atomically(cache, pydantic.TypeAdapter(dict[str, Any]).dump_json(content, indent=1) + b"\n")


def _timed_together(known: dict[str, Prediction], left: Iterable[str], at_once: int | None) -> list[Prediction]:
    predicted = [known[run_id] for run_id in left if run_id in known]
    return [one for one in predicted if one.together is not None and one.at_once == at_once]


def most_on_a_gpu(known: dict[str, Prediction], left: Iterable[str]) -> int:
    """How many cells at once are worth it on a GPU, where their memory allows it."""
    predicted = _timed_together(known, left, ON_A_GPU)
    if not predicted:
        return UNTIMED
    is_faster = sum(one.together for one in predicted) / ON_A_GPU < sum(one.alone for one in predicted)
    return ON_A_GPU if is_faster else 1


def is_faster_together(known: dict[str, Prediction], left: Iterable[str], cores: int) -> bool:
    """Whether as many cells at once as there are cores take less time in all than one after another.

    Where it has not been measured they do: small steps leave cores idle when several share them.
    """
    predicted = _timed_together(known, left, None)
    alone, together = sum(one.alone for one in predicted), sum(one.together for one in predicted) / cores
    return not predicted or together < alone


def words(prediction: Prediction | None, together: bool) -> str:
    """Time and memory of a cell in a few words."""
    if prediction is None:
        return "time and memory not predicted yet"
    seconds = prediction.together if together and prediction.together is not None else prediction.alone
    time = f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min" if seconds >= 60 else "1 min"
    return f"about {time}, {prediction.memory_bytes / 2**30:.1f} GiB"


def megabytes(prediction: Prediction | None, on_gpu: bool = False) -> int:
    """What of the host's memory a scheduler should set aside for a cell: that of Python with torch, and its step's.

    On a GPU the step's is the card's own, and CUDA's libraries take some of the host's.
    """
    if on_gpu:
        return PROCESS_MB + CUDA_MB
    return PROCESS_MB + round((prediction.memory_bytes if prediction else UNKNOWN) / 2**20)


def gpu_megabytes(known: dict[str, Prediction], left: Iterable[str]) -> int:
    """What the largest of the cells needs of a GPU's memory: CUDA's context, and what a cell keeps there."""
    needs = [known[run_id].memory_bytes if run_id in known else UNKNOWN for run_id in left]
    return CONTEXT_MB + round(max(needs, default=0) / 2**20)


def largest_megabytes(known: dict[str, Prediction], left: Iterable[str], on_gpu: bool = False) -> int:
    """What the largest of the cells needs, 0 where nothing has been predicted."""
    return max((megabytes(known[run_id], on_gpu) for run_id in left if run_id in known), default=0)


def in_all(known: dict[str, Prediction], cells: Sequence[Cell]) -> str:
    """What the cells will take together, or how to find out, in one line."""
    missing = [cell for cell in cells if cell.run.run_id not in known]
    if missing:
        command = f"python -m isonb estimate --study {cells[0].study}"
        return f"{len(missing)} of {len(cells)} cells have no prediction yet: run `{command}`."
    alone = sum(known[cell.run.run_id].alone for cell in cells) / 3600
    return f"About {alone:.1f} hours, one after another."
