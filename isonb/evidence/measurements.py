"""The files of `make bench`, and the one read that sees to them.

Book: chapters "Training" and "Probing".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydantic

from isonb import disk, places, records
from isonb.evidence import measured
from isonb.evidence.markup import plain

LIMIT = 16 * disk.MEBIBYTE  # bytes of a file, which has kilobytes
MOST_IMAGES = 16  # beside a palette
Row = dict[str, Any]  # what was measured of one network


class _Part(measured.Measured):
    machine: measured.Machine
    rows: list[dict[str, Any]]


def rows(part: str) -> list[Row]:
    """What was measured of a part, row by row, none where nothing was.

    A name that a row may lack is None there, and rows that were skipped are left out. Raises `RecordError`, which names
    the file, for one that cannot be read.
    """
    return _read(part)[1]


def machine_of(part: str) -> dict[str, Any] | None:
    """The machine that measured a part; None where nothing was measured. Raises `RecordError` as `rows` does."""
    return _read(part)[0]


def palette_arrays() -> dict[str, np.ndarray]:
    """What is kept beside the palette's row: its quality on test images, and some of these in its colours.

    Empty where no palette was fitted. Raises `RecordError` as `rows` does, also for arrays that are not the row's.
    """
    if not (measured := rows("palette")):
        return {}
    path = _path("palette").with_suffix(".npz")
    try:
        arrays = disk.read_arrays(path, LIMIT)
        _require_palette(arrays, measured[0]["test_images"])
    except ValueError as error:
        raise _damaged(path, error) from None
    return arrays


def _path(part: str) -> Path:
    return places.results_folder("benchmarks") / f"{part}.json"


def _read(part: str) -> tuple[dict[str, Any] | None, list[Row]]:
    path = _path(part)
    if not path.exists():
        return None, []
    try:
        return _parse(part, disk.read_json(path, LIMIT))
    except ValueError as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> records.RecordError:
    cause = plain(error, records.CAUSE).rstrip(".")
    return records.RecordError(f"{path} cannot be read ({cause}): run make bench BENCH={path.stem} again.")


def _parse(part: str, content: Any) -> tuple[dict[str, Any], list[Row]]:
    try:
        parsed = _Part.model_validate(content)
        model = measured.ROWS.get(part, measured.Measured)
        checked = [model.model_validate(row).model_dump() for row in parsed.rows if "skipped" not in row]
    except pydantic.ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise ValueError(f"{where}: {fault['msg']}" if where else fault["msg"]) from None
    keys = [tuple(row[name] for name in measured.KEYS[part]) for row in checked] if part in measured.KEYS else []
    if len({*keys}) < len(keys):
        raise ValueError("the same is measured twice")
    return parsed.machine.model_dump(), checked


def _require_palette(arrays: Mapping[str, np.ndarray], images: int) -> None:
    for name in ("psnr_B", "colour_error_B"):
        if not _is(arrays.get(name), "f", 1) or arrays[name].shape != (images,) or np.isnan(arrays[name]).any():
            raise ValueError(f"{name} is not a number for each test image")
    before, after = (arrays.get(name) for name in ("original_BHWC", "quantised_BHWC"))
    is_shown = _is(before, "u", 4) and _is(after, "u", 4) and before.shape == after.shape
    if not is_shown or before.dtype.itemsize > 1 or before.shape[-1] != 3 or not 0 < len(before) <= MOST_IMAGES:
        raise ValueError("it does not hold the same test images before and after")


def _is(array: np.ndarray | None, kind: str, axes: int) -> bool:
    return array is not None and array.dtype.kind == kind and array.ndim == axes and array.size > 0
