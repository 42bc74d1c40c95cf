"""What a run leaves behind: the schema of a result file, its write and its validated read.

A cell leaves `<results>/<study>/<run_id>.json` (this schema) and, beside it, a `<run_id>.npz` of a few kilobytes with
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
from typing import Any

import numpy as np
import pydantic

from isonb.config import VERSION, Cell
from isonb.disk import write_atomically
from isonb.numerics import NUMERICS
from isonb.validation import Frozen

PROJECT = Path(__file__).resolve().parent.parent
CAUSE = 300  # characters of what is wrong with a record: another version may differ in all of its parts
HIDDEN_GREY = 128  # how a masked sub-pixel is drawn


class RecordError(ValueError):
    """A result file that cannot be read; its message names the file and what to do."""


class NewerRecordError(RecordError):
    """A record that a newer version of this program wrote, which must neither be misread nor replaced."""


class Data(Frozen):
    """The images a run really read.

    `name` is the source's own: that of the data set or of the folder. `official` says whether the files are the
    published ones, by their checksums; None where nothing is published. `remarks` name what makes a number doubtful, as
    images that are both in training and in test.
    """

    name: str
    classes: list[str]
    train: int
    validation: int
    test: int
    sha256: dict[str, str]
    official: bool | None = None
    remarks: list[str] = pydantic.Field(default=[])


class Environment(Frozen):
    """Where and how the run computed."""

    isonb: str
    python: str
    torch: str
    numpy: str
    platform: str
    device: str
    processes: int
    threads: int
    precision: str
    compiled: bool
    git_revision: str | None
    git_dirty: bool | None


class Counts(Frozen):
    """Operations and parameters, counted from the network itself."""

    parameters: int
    parameters_per_block: int
    multiply_accumulates: int
    multiply_accumulates_per_block: int


class Baselines(Frozen):
    """Losses that need no network, in the same unit, on the same validation images and masks.

    `linear_filter` is that of a linear map from the 5x5 window around a masked pixel, where it has been fitted.
    """

    uniform: float
    channel_marginal: float
    neighbour_mean: float
    linear_filter: float | None = None


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
    """The linear probes of every layer and the layer that the configured split chose.

    `penalties` has the L2 penalty of each layer that is best on validation, where it was chosen.
    """

    layers: list[Layer]
    best_layer: int
    test_accuracy: float
    seconds: float
    penalties: list[float] | None = None


class ProbedEpoch(Probes):
    """The same of the network as it was at the close of an epoch, whose loss is in the learning curve."""

    epoch: int


class Probe(Probes):
    """The probes of the finished network, and of its untrained twin: the same network with its initial weights.

    `along`, where it was asked for, has those of every epoch, the last included. `seconds` are of the last probes
    alone. Records of versions 1 and 2 have no twin until `isonb complete` has added it.
    """

    chance: float
    protocol: str
    along: list[ProbedEpoch] = pydantic.Field(default=[])
    untrained: Probes | None = None


class OtherProbe(Frozen):
    """The probes of a further protocol, of the finished network and of its untrained twin; None where they are missing.

    `name`: "grid4", features pooled over a 4x4 grid ("mean" where the cell's own are); "l2" and "grid4 l2", the
    protocols with the L2 penalty of each layer chosen on validation.
    """

    name: str
    protocol: str
    trained: Probes | None = None
    untrained: Probes | None = None


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


class Weights(Frozen):
    """The final weights, which are kept beside the checkpoints: the file's name, size in bytes and SHA-256."""

    file: str
    size: int
    sha256: str


class Record(Frozen):
    """One finished cell. See each part for units; `numerics` is the number of `isonb.numerics` that it was made under.

    Records of every earlier version can be read. `completed` says where those parts were computed that a later version
    has added, where it has.
    """

    schema_version: int = pydantic.Field(default=VERSION, ge=1)
    run_id: str
    cell: Cell
    numerics: int = NUMERICS
    data: Data
    environment: Environment
    counts: Counts
    baselines: Baselines
    training: Training
    reconstruction: Reconstruction
    encoding: Learned
    probe: Probe
    other_probes: list[OtherProbe] = pydantic.Field(default=[])
    finetune: Finetuned | None = None
    weights: Weights | None = None
    completed: Environment | None = None


def results_folder(study: str) -> Path:
    """Where a study's results live: `book/results/<study>`, or below ISONB_RESULTS where that is set."""
    root = os.environ.get("ISONB_RESULTS")
    return (Path(root).resolve() if root else PROJECT / "book" / "results") / study


def runs_folder(study: str) -> Path:
    """Where a study's checkpoints, logs and failed notebooks live: `_runs/<study>`, or below ISONB_RUNS."""
    root = os.environ.get("ISONB_RUNS")
    return (Path(root).resolve() if root else PROJECT / "_runs") / study


def record_path(cell: Cell) -> Path:
    """Where the record of a cell lies, whether or not it has been run."""
    return results_folder(cell.study) / f"{cell.run.run_id}.json"


def write_record(record: Record, arrays: Mapping[str, np.ndarray]) -> Path:
    """Write a cell's record and its arrays; the record last, so that a record's arrays are always there.

    A damaged record in its place is replaced. Raises `NewerRecordError` where a newer version's is there.
    """
    path = record_path(record.cell)
    require_replaceable(record.cell)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomically(path.with_suffix(".npz"), buffer.getvalue())
    write_atomically(path, (json.dumps(record.model_dump(), indent=1) + "\n").encode())
    return path


def require_replaceable(cell: Cell) -> None:
    """Raise `NewerRecordError` where a newer version's record of the cell is, which must not be lost."""
    path = record_path(cell)
    if path.exists():
        try:
            read_record(path)
        except NewerRecordError:
            raise
        except RecordError:
            pass


def read_record(path: Path) -> Record:
    """Read and validate one record, of this or an earlier version.

    Raises `RecordError` naming the file when it is damaged or foreign, `NewerRecordError` when it is of a later one.
    """
    try:
        content = json.loads(path.read_text())
        _refuse_newer(content, path)
        return Record(**_upgraded(content))
    except NewerRecordError:
        raise
    except (OSError, RecursionError, KeyError, TypeError, ValueError, pydantic.ValidationError) as error:
        why = textwrap.shorten(str(error), CAUSE, placeholder=" ...").rstrip(".")
        raise RecordError(
            f"{path} is not a result file of this version ({why}): delete it and run its cell again."
        ) from None


def _refuse_newer(content: dict[str, Any], path: Path) -> None:
    """Raise `NewerRecordError` for a record of a later version, or made under later numerics; `ValueError` for none."""
    if not isinstance(content, dict):
        raise ValueError("it holds no record")
    for name, ours in (("schema_version", VERSION), ("numerics", NUMERICS)):
        theirs = content.get(name, 1)
        if type(theirs) is not int or theirs < 0:
            raise ValueError(f"{name} is {theirs!r}, no version")
        if theirs > ours:
            raise NewerRecordError(
                f"{path} was written by a newer version of isonb ({name.replace('_', ' ')} {theirs}; this one knows up "
                f"to {ours}): update isonb."
            )


def _upgraded(content: dict[str, Any]) -> dict[str, Any]:
    """A record's content in the words of this version. Settings that came later are at their defaults by themselves."""
    if content["schema_version"] == 1:
        content = {name: value for name, value in content.items() if name != "code"}  # the text that made it
        cell = dict(content["cell"])
        content |= {"cell": {"study": cell.pop("profile"), **cell}, "numerics": 1}
    return content


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


def read_study(study: str) -> Iterator[Record]:
    """Every record of a study, by run_id. Raises `RecordError` at the first damaged one."""
    for path in sorted(results_folder(study).glob("*.json")):
        yield read_record(path)
