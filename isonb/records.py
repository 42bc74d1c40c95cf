"""What a run leaves behind: the schema of a result file, its write and its validated read.

A cell leaves `<results>/<profile>/<run_id>.json` (this schema) and, beside it, a `<run_id>.npz` of a few kilobytes with
what figures and paired tests need: reconstructions, per-image correctness, similarities. No tensors, no pickle.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import io
import json
import os
import textwrap
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pydantic

from isonb import fingerprints
from isonb.config import Cell
from isonb.disk import write_atomically
from isonb.provenance import Counts, Data, Environment
from isonb.validation import Frozen

PROJECT = Path(__file__).resolve().parent.parent
UNITS = {  # of a loss, by objective
    "bert": "nats per masked sub-pixel",
    "mse": "squared error per masked sub-pixel",  # of values in [-1, 1]
    "autoregressive": "nats per sub-pixel",  # of all of them: none is masked
}
CAUSE = 300  # characters of what is wrong with a record: another version may differ in all of its parts
HIDDEN_GREY = 128  # how a masked sub-pixel is drawn


class RecordError(ValueError):
    """A result file that is damaged or of another schema; its message names the file and what to do."""


class Baselines(Frozen):
    """Losses that need no network, in the same unit, on the same validation images and masks."""

    uniform: float
    channel_marginal: float
    neighbour_mean: float


class Epoch(Frozen):
    """One row of the learning curve; epoch 0 is before any step. Losses in the unit of the run's objective."""

    epoch: int
    learning_rate: float
    train_loss: float | None
    validation_loss: float
    seconds: float
    images: int


class Training(Frozen):
    """The pre-training run. `seconds` and `peak_memory_bytes` are of the training alone.

    Losses are means over masked sub-pixels: nats, or with the objective 'mse' squared errors of values in [-1, 1].
    """

    curve: list[Epoch]
    validation_loss: float
    test_loss: float
    steps: int
    seconds: float
    peak_memory_bytes: int | None


class Reconstruction(Frozen):
    """How well masked test pixels are filled in by the predicted value of each sub-pixel, 0 to 255 a channel."""

    mean_absolute_error: float
    share_within_8: float
    colour_error: float


class Similarity(Frozen):
    """What an encoding's 256 rows of one colour channel keep of the distance of their values, by cosine similarity.

    `kept`: rank correlation of similarity and -distance over all pairs; `kept_off_band`: over those more than 8 levels
    apart; `half_width`: levels at which the mean similarity is below 1/2, None where it never is; `rank`: singular
    directions that hold 99 % of the energy.
    """

    kept: float
    kept_off_band: float
    half_width: int | None
    rank: int


class Learned(Frozen):
    """The encoding before and after training, each with a row for red, green and blue."""

    before: list[Similarity]
    after: list[Similarity]


class Layer(Frozen):
    """The linear probe of one layer; layer 0 is the encoding. Accuracies are shares in [0, 1].

    `pixel_accuracy` is the share of scored test sub-pixels that a linear map from the layer hits within 8 levels.
    """

    layer: int
    train_accuracy: float
    validation_accuracy: float
    test_accuracy: float
    pixel_accuracy: float | None = None


class Probes(Frozen):
    """The linear probes of every layer and the layer that the configured split chose."""

    layers: list[Layer]
    best_layer: int
    test_accuracy: float
    seconds: float


class ProbedEpoch(Probes):
    """The same of the network as it was at the close of an epoch, whose loss is in the learning curve."""

    epoch: int


class Probe(Probes):
    """The probes of the finished network; `along`, where it was asked for, has those of every epoch, the last included.

    `seconds` are of the last probes alone.
    """

    chance: float
    protocol: str
    along: list[ProbedEpoch] = pydantic.Field(default=[])


class Finetuned(Frozen):
    """Test accuracy of the whole network trained to name the classes, after the epoch that is best on validation.

    `curve` has the validation accuracy after every epoch, the first included; the same three of the same network
    trained alike from its initial weights are those from scratch. `seconds` are of both.
    """

    accuracy: float
    epoch: int
    curve: list[float]
    scratch_accuracy: float
    scratch_epoch: int
    scratch_curve: list[float]
    seconds: float
    protocol: str


class Record(Frozen):
    """One finished cell. See each part for units; `code` holds a fingerprint of each module that decided a number."""

    schema_version: Literal[1] = 1
    run_id: str
    cell: Cell
    code: dict[str, str]
    data: Data
    environment: Environment
    counts: Counts
    baselines: Baselines
    training: Training
    reconstruction: Reconstruction
    encoding: Learned
    probe: Probe
    finetune: Finetuned | None = None


def results_folder(profile: str) -> Path:
    """Where a profile's results live: `book/results/<profile>`, or below ISONB_RESULTS where that is set."""
    root = os.environ.get("ISONB_RESULTS")
    return (Path(root).resolve() if root else PROJECT / "book" / "results") / profile


def runs_folder(profile: str) -> Path:
    """Where a profile's checkpoints, logs and failed notebooks live: `_runs/<profile>`, or below ISONB_RUNS."""
    root = os.environ.get("ISONB_RUNS")
    return (Path(root).resolve() if root else PROJECT / "_runs") / profile


def record_path(cell: Cell) -> Path:
    """Where the record of a cell lies, whether or not it has been run."""
    return results_folder(cell.profile) / f"{cell.run.run_id}.json"


def write_record(record: Record, arrays: Mapping[str, np.ndarray]) -> Path:
    """Write a cell's record and its arrays; the record last, so that a record's arrays are always there."""
    path = record_path(record.cell)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomically(path.with_suffix(".npz"), buffer.getvalue())
    write_atomically(path, (json.dumps(record.model_dump(), indent=1) + "\n").encode())
    return path


def read_record(path: Path) -> Record:
    """Read and validate one record. Raises `RecordError` naming the file when it is damaged or foreign."""
    try:
        return Record(**json.loads(path.read_text()))
    except (OSError, TypeError, ValueError, pydantic.ValidationError) as error:
        why = textwrap.shorten(str(error), CAUSE, placeholder=" ...").rstrip(".")
        raise RecordError(
            f"{path} is not a result file of this version ({why}): delete it and run its cell again."
        ) from None


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays beside a record. Raises `RecordError` naming the file when they cannot be read."""
    try:
        with open(path.with_suffix(".npz"), "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise RecordError(
            f"{path.with_suffix('.npz')} cannot be read ({error}): delete it and run its cell again."
        ) from None


def pictures(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The kept test images masked, filled in and as they are: uint8, B x H x W x 3 each. Masked is drawn mid-grey."""
    original_BHWC, is_masked_BHWC = arrays["original_BHWC"], arrays["is_masked_BHWC"]
    masked_BHWC = np.where(is_masked_BHWC, np.uint8(HIDDEN_GREY), original_BHWC)
    filled_BHWC = original_BHWC.copy()
    filled_BHWC[is_masked_BHWC] = arrays["filled_S"]
    return masked_BHWC, filled_BHWC, original_BHWC


def finished(cell: Cell) -> Record | None:
    """The valid record of exactly this cell, run and judged alike, or None when it has yet to run.

    A record of more than is asked, as with probes along the training, has all that is asked.
    """
    path = record_path(cell)
    if not path.exists():
        return None
    record = read_record(path)
    return record if record.cell == cell.with_extras(record.cell) else None


def readable(cell: Cell) -> Record | None:
    """What `finished` returns, and None of a damaged record, which sweeps and `claims` name, too."""
    try:
        return finished(cell)
    except RecordError:
        return None


def why_outdated(cell: Cell, folder: Path | None = None, only_missing: bool = False) -> str:
    """Why a cell has to be run, in a few words: no result, or another code or other data; empty where it has not.

    `folder` holds the data if ISONB_DATA does not. With `only_missing` any code and data will do.
    Raises `RecordError` for a damaged record.
    """
    record = finished(cell)
    if record is None:
        return "it is judged in another way" if record_path(cell).exists() else "no record"
    try:
        zipfile.ZipFile(record_path(cell).with_suffix(".npz")).close()  # reads the directory at its end, no array
    except (OSError, zipfile.BadZipFile):
        return "its arrays are missing or damaged"
    if only_missing:
        return ""
    idle = fingerprints.idle(record.cell)
    if changed := [name for name in fingerprints.changed(record.code, fingerprints.code()) if name not in idle]:
        return f"isonb.{' and isonb.'.join(changed)} {'has' if len(changed) == 1 else 'have'} changed"
    at_hand = fingerprints.data(cell.run, folder)
    return "the data have changed" if at_hand and at_hand != record.data.sha256 else ""


def read_profile(profile: str) -> Iterator[Record]:
    """Every record of a profile, by run_id. Raises `RecordError` at the first damaged one."""
    for path in sorted(results_folder(profile).glob("*.json")):
        yield read_record(path)
