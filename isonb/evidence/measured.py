"""What `make bench` writes of each of its parts: the names, types and ranges of a row.

Such a file may come from another machine, so it is looked at as closely as a record. What nobody reads may be anything.

Book: chapters "Training" and "Probing".
"""

from __future__ import annotations

from typing import Annotated, Any

import pydantic
from pydantic import Field

from isonb import config

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


class PaletteStep(Network):
    """A training step of a network that reads and predicts a palette beside one of pix2vec and 256 values."""

    class Bytes(Measured):
        palette: Positive
        pix2vec: Positive

    is_causal: bool
    batch: Positive
    speed_up: Ratio
    peak_bytes: Bytes


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


class Samples(Network):
    """Pixels drawn with what the blocks remember beside a whole pass for each."""

    images: Positive
    speed_up: Ratio
    difference: Annotated[float, Field(ge=0)]


class Gpu(Measured):
    """What `make gpu` leaves: the GPU, the checks that it has passed or failed, and its networks' speeds, in turn."""

    name: str | None = None
    rate: AboveZero | None = None
    check: str | None = None
    found: float | None = None
    bound: float | None = None
    holds: bool | None = None
    network: str | None = None
    depth: Positive | None = None
    batch: Positive | None = None
    images_per_second: dict[str, AboveZero] | None = None
    operations_per_second: AboveZero | None = None
    first_step_seconds: float | None = None
    peak_bytes: Positive | None = None

    @pydantic.model_validator(mode="after")
    def _refuse_a_part_of_a_row(self) -> Gpu:
        speed = (self.network, self.depth, self.batch, self.images_per_second, self.operations_per_second)
        for part in ((self.name, self.rate), (self.check, self.found, self.bound, self.holds), speed):
            if None not in part and (part is not speed or "ours" in self.images_per_second):
                return self
        raise ValueError("it is no GPU, check or speed")


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
    "palette-steps": PaletteStep,
    "repeat": Repeat,
    "worlds": Worlds,
    "faults": Faults,
    "gpu": Gpu,
    "samples": Samples,
}


KEYS = {"memory": ("kind", "positions", "batch"), "equivariance": ("block", "change")}  # what is measured once
