"""The files of `make bench`: the names, types and ranges of the rows of each part, and the one read that sees to them.

Such a file may come from another machine, so it is looked at as closely as a record. What nobody reads may be anything.

Book: chapters "Training" and "Probing".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic
from pydantic import Field

from isonb import config, disk, places, records
from isonb.evidence.markup import plain

LIMIT = 16 * disk.MEBIBYTE  # bytes of a file, which has kilobytes
MOST_IMAGES = 16  # beside a palette
Row = dict[str, Any]  # what was measured of one network

Count = Annotated[int, Field(ge=0, le=2**53)]
Positive = Annotated[int, Field(ge=1, le=2**53)]
AboveZero = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Shares = Annotated[list[Share], Field(min_length=1)]


class Measured(pydantic.BaseModel):
    """Values of exactly these types; further names are let through."""

    model_config = pydantic.ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class Machine(Measured):
    """The machine that measured."""

    processor: str
    cores: Positive
    threads: Positive
    amx: bool
    avx512_bf16: bool
    torch: str
    load: float


class Ratio(Measured):
    """The ratios of several rounds."""

    median: float
    least: float
    greatest: float


class RatioOfTimes(Ratio):
    """The same, and the ratio of the processor's times."""

    processor_time: float


class Network(Measured):
    """Which network was measured."""

    block: config.Block
    depth: Positive


class Step(Network):
    """A training step beside the plain one."""

    class SpeedUp(Measured):
        auto: RatioOfTimes
        float32: Ratio | None = None

    class LossDifference(Measured):
        auto: float

    batch: Positive
    speed_up: SpeedUp
    loss_difference: LossDifference


class Compiled(Network):
    """A compiled training step beside one that is not."""

    batch: Positive
    speed_up: Ratio
    first_step_seconds: float


class Curve(Measured):
    """The losses of the same steps, of the trainer and of the plain form."""

    class Losses(Measured):
        auto: Annotated[list[float], Field(min_length=2)]
        plain: list[float]

        @pydantic.model_validator(mode="after")
        def _refuse_other_lengths(self) -> Curve.Losses:
            return _of_one_length(self, self.auto, self.plain)

    block: config.Block
    losses: Losses


class Forecast(Network):
    """What `estimate` predicted of a training, and what it took."""

    images: Count
    predicted_seconds: float
    measured_seconds: AboveZero


class Peer(Network):
    """Another library's network beside ours."""

    class OfBoth(Measured):
        ours: Count
        peer: Count

    class Outputs(Measured):
        ours: Annotated[list[Count], Field(min_length=2, max_length=2)]
        peer: Annotated[list[Count], Field(min_length=2, max_length=2)]

    library: str
    heads: Positive = 1
    parameters_per_block: OfBoth
    parameters: OfBoth
    outputs: Outputs | None = None
    speed_up: dict[str, Ratio]


class Profile(Network):
    """Where a step's time goes."""

    share_of_rate: float
    shares: dict[str, float]


class Processes(Network):
    """Two processes beside one."""

    batch: Positive
    processes: Positive
    efficiency: Ratio
    efficiency_processor_time: float
    efficiency_apart: float
    loss_difference: float


class Precision(Network):
    """A network trained in either precision, and the spread of its seeds."""

    class OfBoth(Measured):
        float32: float
        bfloat16: float

    class Seeds(Measured):
        count: Count
        validation_loss: float | None
        accuracy: float | None

    encoding: str
    validation_loss: OfBoth
    accuracy: OfBoth
    seeds: Seeds


class Probing(Network):
    """All layers probed at once, and plainly."""

    class Passes(Measured):
        ours: Positive
        paper: Count

    class Seconds(Measured):
        ours: AboveZero
        paper: float

    class Accuracies(Measured):
        ours: Shares
        paper: Shares

        @pydantic.model_validator(mode="after")
        def _refuse_other_lengths(self) -> Probing.Accuracies:
            return _of_one_length(self, self.ours, self.paper)

    images: Count
    test_images: Count
    passes: Passes
    seconds: Seconds
    accuracies: Accuracies


class Solvers(Network):
    """The classifiers of every layer, found in different ways."""

    class Accuracies(Measured):
        adam: Shares
        lbfgs: Shares
        not_whitened: Shares | None = None

        @pydantic.model_validator(mode="after")
        def _refuse_other_lengths(self) -> Solvers.Accuracies:
            return _of_one_length(self, *filter(None, (self.adam, self.lbfgs, self.not_whitened)))

    data: str
    train_images: Count
    test_images: Count
    accuracies: Accuracies


class Memory(Measured):
    """The memory of one training step."""

    kind: str
    positions: Positive
    batch: Positive
    peak_bytes: Positive


class Equivariance(Measured):
    """By how much a block fails to commute with a change of the order of positions."""

    block: config.Block
    change: str
    error: Annotated[float, Field(ge=0)]


class Palette(Measured):
    """A palette of colours on test images."""

    data: str
    colours: Positive
    test_images: Positive
    tokens: Positive
    sub_pixels: Positive


class Repeat(Measured):
    """A finished cell that was run again."""

    run_id: str
    numbers: Count
    arrays: Count
    different: list[str]


class Worlds(Measured):
    """How often each verdict came out in made-up worlds, by claim."""

    state: str
    world: str
    worlds: Positive
    verdicts: dict[str, dict[str, Count]]

    @pydantic.model_validator(mode="after")
    def _refuse_more_verdicts_than_worlds(self) -> Worlds:
        if any(sum(counts.values()) > self.worlds for counts in self.verdicts.values()):
            raise ValueError("there are more verdicts than worlds")
        return self


class Faults(Measured):
    """Damages of one kind of file, each by itself, and how many were noticed; the others changed no number."""

    kind: str
    tried: Positive
    noticed: Count

    @pydantic.model_validator(mode="after")
    def _refuse_more_than_were_tried(self) -> Faults:
        if self.noticed > self.tried:
            raise ValueError("more damages were noticed than tried")
        return self


def _of_one_length(measured: Any, *lists: list[float]) -> Any:
    if len({*map(len, lists)}) > 1:
        raise ValueError("its lists are not of one length")
    return measured


ROWS: dict[str, type[Measured]] = {
    "steps": Step,
    "large": Step,
    "compiled": Compiled,
    "curves": Curve,
    "forecast": Forecast,
    "peers": Peer,
    "profile": Profile,
    "processes": Processes,
    "precision": Precision,
    "probing": Probing,
    "solvers": Solvers,
    "memory": Memory,
    "equivariance": Equivariance,
    "palette": Palette,
    "repeat": Repeat,
    "worlds": Worlds,
    "faults": Faults,
}


KEYS = {"memory": ("kind", "positions", "batch"), "equivariance": ("block", "change")}  # what is measured once


class _Part(Measured):
    machine: Machine
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
        measured = [row for row in parsed.rows if "skipped" not in row]
        checked = [ROWS.get(part, Measured).model_validate(row).model_dump() for row in measured]
    except pydantic.ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise ValueError(f"{where}: {fault['msg']}" if where else fault["msg"]) from None
    keys = [tuple(row[name] for name in KEYS[part]) for row in checked] if part in KEYS else []
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
