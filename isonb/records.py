"""What a run leaves behind, three files that belong together: their write, and the one read that believes them.

A cell leaves `<results>/<study>/<run_id>.json` (the record, `isonb.schema`), beside it a `.npz` of a few kilobytes with
what figures and paired tests need (reconstructions, per-image correctness, similarities), and the executed notebook,
`.ipynb`. No tensors, no pickle. The record is written last, with checksums of itself and of the other two, so that what
was cut, changed or is another run's counts as not there.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydantic

from isonb import disk, features
from isonb.config import VERSION, Cell
from isonb.numerics import NUMERICS
from isonb.places import REFERENCE, results_folder
from isonb.schema import SEALED, Record

CAUSE = 300  # characters of what is wrong with a record: another version may differ in all of its parts
HIDDEN_GREY = 128  # how a masked sub-pixel is drawn
LARGEST = {".json": 16 * disk.MEBIBYTE, ".npz": 256 * disk.MEBIBYTE, ".ipynb": 64 * disk.MEBIBYTE}
STAGE = "ISONB_STAGE"  # the folder of what a kernel has made and its runner has yet to put among the results


class RecordError(ValueError):
    """A result file that cannot be read; its message names the file and what to do."""


class NewerRecordError(RecordError):
    """A record that a newer version of this program wrote, which must neither be misread nor replaced."""


def record_path(cell: Cell) -> Path:
    """Where the record of a cell lies, whether or not it has been run."""
    return results_folder(cell.study) / f"{cell.run.run_id}.json"


def notebook_path(cell: Cell) -> Path:
    """Where the executed notebook of a cell that a runner has run lies: beside its record."""
    return record_path(cell).with_suffix(".ipynb")


def record_paths(study: str) -> list[Path]:
    """The files among a study's results that should be records, by name; hidden ones are other programs'.

    Raises `RecordError` where something else lies in the folder's place.
    """
    folder = results_folder(study)
    for place in (folder.parent, folder):
        if os.path.lexists(place) and not place.is_dir():
            raise RecordError(f"{place} is not a folder: move it away, or set ISONB_RESULTS to another folder.")
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))


def reference_paths(study: str) -> list[Path]:
    """The records of a study that come with the project, by name."""
    return sorted((REFERENCE / study).glob("*.json"))


def write_record(record: Record, arrays: Mapping[str, np.ndarray], notebook: bytes | None = None) -> Path:
    """Write a cell's record, its arrays and its executed notebook; the record last, with the checksums of all three.

    While its notebook is still being executed by a runner, which names a folder in ISONB_STAGE, a record goes there.
    One that no runner has made has no notebook: what lies beside it counts as another run's.
    What is damaged in its place is kept as `.damaged`. Raises `NewerRecordError` where a newer version's is there.
    """
    path = record_path(record.cell)
    require_replaceable(record.cell)
    if notebook is None and STAGE in os.environ:
        path = Path(os.environ[STAGE]) / path.name
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    content = record.model_dump(exclude={"checksums"}) | {"schema_version": VERSION}
    content["checksums"] = {
        "record": _digest(content),
        "arrays": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "notebook": None if notebook is None else hashlib.sha256(notebook).hexdigest(),
    }
    _put_aside(path)
    disk.write_atomically(path.with_suffix(".npz"), buffer.getvalue())
    if notebook is not None:
        disk.write_atomically(path.with_suffix(".ipynb"), notebook)
    disk.write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
    return path


def _digest(content: dict[str, Any]) -> str:
    """The SHA-256 of a record's content, whatever its checksums and its layout on the page."""
    rest = {name: value for name, value in content.items() if name != "checksums"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _put_aside(path: Path) -> None:
    """Keep as `.damaged` what lies where a record will be written, unless it belongs to a record that can be read."""
    own: set[str] = set()
    with contextlib.suppress(RecordError):
        own = {".json", ".npz", ".ipynb" if notebook_of(read_record(path)) else ""}
    for suffix in LARGEST.keys() - own:
        part = path.with_suffix(suffix)
        aside = part.with_name(f"{part.name}.damaged")
        for number in itertools.count(2):
            if not os.path.lexists(aside):
                break
            aside = part.with_name(f"{part.name}.damaged-{number}")
        with contextlib.suppress(FileNotFoundError):
            part.rename(aside)


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
    """Read one record, of this or an earlier version, and see that its arrays are its own.

    Raises `RecordError` naming the file when it is damaged or foreign, `NewerRecordError` when it is of a later one.
    """
    return _read(path)[0]


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the record at `path`. Raises `RecordError` naming the file when they are not the record's."""
    return read(path)[1]


def read(path: Path) -> tuple[Record, dict[str, np.ndarray]]:
    """A record and its arrays, which must agree. Raises `RecordError` as `read_record` and `read_arrays` do."""
    record, content = _read(path)
    try:
        arrays = disk.parse_arrays(content, LARGEST[".npz"])
        _require_agreement(record, arrays)
    except ValueError as error:
        raise _damaged(path.with_suffix(".npz"), error) from None
    return record, arrays


def _read(path: Path) -> tuple[Record, bytes]:
    """A validated record and the content of the file of its arrays."""
    try:
        content = disk.read_json(path, LARGEST[".json"])
        _refuse_newer(content, path)
        record = Record(**_upgraded(content))
        if path.stem != record.run_id:
            raise ValueError(f"it is the record of {record.run_id}")
        if record.checksums is None and record.schema_version >= SEALED:
            raise ValueError("its checksums are missing")
        if record.checksums and record.checksums.record != _digest(content):
            raise ValueError("its numbers are not those that were written")
    except NewerRecordError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError, pydantic.ValidationError) as error:
        raise _damaged(path, error) from None
    try:
        arrays = disk.read_bytes(path.with_suffix(".npz"), LARGEST[".npz"])
        if record.checksums and record.checksums.arrays != hashlib.sha256(arrays).hexdigest():
            raise ValueError("its arrays are not those that were written with the record")
    except ValueError as error:
        raise _damaged(path.with_suffix(".npz"), error) from None
    return record, arrays


def _damaged(path: Path, error: Exception) -> RecordError:
    why = textwrap.shorten(str(error), CAUSE, placeholder=" ...").rstrip(".")
    return RecordError(f"{path} cannot be read as a result ({why}): run its cell again, which keeps a copy of it.")


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


def _require_agreement(record: Record, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise `ValueError` where a record's arrays are not of its shapes, or not of its numbers."""
    layers, images, size = record.cell.run.depth + 1, record.data.test, record.cell.run.image_size
    probed, tuned = record.probed_on.test, record.tuned_on.test
    answers = {"test_correct_LB": record.probe, "untrained_correct_LB": record.probe.untrained}
    for other in record.other_probes:
        if " " not in other.name and other.name != "l2":  # with a penalty, no answers are kept
            answers |= {
                f"{other.name}_correct_LB": other.trained,
                f"{other.name}_untrained_correct_LB": other.untrained,
            }
    for name, probes in answers.items():
        if probes is not None:
            correct_LB = _array(arrays, name, bool, (layers, probed))
            if not np.allclose(correct_LB.mean(axis=1), [layer.test_accuracy for layer in probes.layers], atol=1e-6):
                raise ValueError(f"{name} has not the accuracies of the record")
    loss_B = _array(arrays, "test_loss_B", np.float32, (images,))
    known_B = loss_B[~np.isnan(loss_B)]  # NaN where no pixel of an image was masked
    tolerance = 1e-3 * record.training.test_loss
    if not (
        len(known_B)
        and np.isfinite(known_B).all()
        and known_B.min() - tolerance <= record.training.test_loss <= known_B.max() + tolerance
    ):
        raise ValueError("test_loss_B has not the loss of the record")
    shown = (max(1, *np.atleast_1d(arrays.get("original_BHWC", ())).shape[:1]), size, size, 3)
    _array(arrays, "original_BHWC", np.uint8, shown)
    is_masked_BHWC = _array(arrays, "is_masked_BHWC", bool, shown)
    _array(arrays, "filled_S", np.uint8, (is_masked_BHWC.sum(),))
    if "similarity_P" in arrays:
        _array(arrays, "similarity_P", np.uint8, (features.VALUES * (features.VALUES + 1) // 2,))
    if "positions_QN" in arrays:
        _array(arrays, "positions_QN", np.uint8, (features.MAPPED**2, size**2))
    if record.cell.run.has_palette:
        _array(arrays, "palette_KC", np.uint8, (features.COLOURS, features.CHANNELS))
    _require_completions(arrays, shown[:2])
    if record.finetune:
        for name, accuracy in (("finetune", record.finetune.accuracy), ("scratch", record.finetune.scratch_accuracy)):
            if not np.isclose(_array(arrays, f"{name}_correct_B", bool, (tuned,)).mean(), accuracy, atol=1e-6):
                raise ValueError(f"{name}_correct_B has not the accuracy of the record")


def _require_completions(arrays: Mapping[str, np.ndarray], shown: tuple[int, int]) -> None:
    """Raise `ValueError` for lower halves of the images shown that are not halves, if a record has any."""
    images, size = shown
    lower = size - size // 2
    if "filled_below_BHWC" in arrays:
        _array(arrays, "filled_below_BHWC", np.uint8, (images, lower, size, 3))
    if "completed_BSHWC" in arrays:
        ways = max((1, *arrays["completed_BSHWC"].shape[1:2]))
        _array(arrays, "completed_BSHWC", np.uint8, (images, ways, lower, size, 3))
        _array(arrays, "neighbour_BKHWC", np.uint8, (images, 2, size, size, 3))
        if not (_array(arrays, "nearest_BK", np.float32, (images, ways + 1)) >= 0).all():
            raise ValueError("nearest_BK has distances that cannot be")


def _array(arrays: Mapping[str, np.ndarray], name: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    if name not in arrays:
        raise ValueError(f"{name} is missing")
    array = arrays[name]
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{name} is {array.dtype} of the shape {array.shape} instead of {np.dtype(dtype)} of {shape}")
    return array


def notebook_of(record: Record) -> Path | None:
    """The executed notebook of a record, None where it is missing or another run's."""
    path = notebook_path(record.cell)
    try:
        content = disk.read_bytes(path, LARGEST[".ipynb"])
    except disk.Unreadable:
        return None
    is_its_own = record.checksums is None or record.checksums.notebook == hashlib.sha256(content).hexdigest()
    return path if is_its_own else None


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
    return _of_cell(cell, record_path(cell))


def reference(cell: Cell) -> Record | None:
    """The record of exactly this cell that comes with the project, or None where there is none of today's numerics.

    It has its arrays, which `shown` finds, and no executed notebook.
    """
    record = _of_cell(cell, reference_path(cell))
    return record if record and record.numerics == NUMERICS else None


def shown(cell: Cell) -> tuple[Record, Path] | None:
    """The readable record of a cell and its file: one's own or, where the cell has yet to run, the project's."""
    path = record_path(cell)
    if path.exists():
        return (own, path) if (own := readable(cell)) else None
    return (ours, reference_path(cell)) if (ours := reference(cell)) else None


def reference_path(cell: Cell) -> Path:
    """Where the record of a cell that comes with the project lies, whether or not there is one."""
    return REFERENCE / cell.study / f"{cell.run.run_id}.json"


def _of_cell(cell: Cell, path: Path) -> Record | None:
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
    yield from map(read_record, record_paths(study))
