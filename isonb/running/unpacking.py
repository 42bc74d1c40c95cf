"""Taking over what a pack has beyond what is here.

Whatever a pack holds is read and judged before anything is written, by those who read the same files where they are
made. Nothing here is lost for it: a finished cell stays, and so does a training that is as far as the pack's.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import filelock

from isonb import config, disk, numerics, places, records, schema
from isonb.config import VERSION, ConfigError, RunConfig
from isonb.running import outdated, packs, sweep
from isonb.running.packing import FORMAT, RESULT, STATE, Found, Result, State, content_of, counted, files_of, state_of
from isonb.running.packs import PackError
from isonb.training import checkpoint, launch, sources

# What decides which images a run reads, whatever of them it uses
READ = {"data", "collection", "image_size", "image_fit", "data_fraction", "validation_fraction", "test_fraction"}


def unpack(path: Path) -> list[str]:
    """Take over what a pack has beyond what is here, and say in sentences what that was.

    Everything in it is read and judged before anything is written. Raises `PackError` for a pack that is damaged, of
    other numerics, other images or a newer version, or that holds what a study does not leave; `SweepError` while a
    sweep is at work.
    """
    with packs.opened(path) as opened:
        study = _study(path, opened.contents)
        with sweep.hold(f"{study}, which is being unpacked"), _staged(study) as stage:
            for entry, content in opened.each():
                disk.write_atomically(stage / entry.name, content)
            found = _judged(path, study, stage, opened.contents)
            _require_same_images(path, study, found)
            for result in found.results.values():
                records.require_replaceable(result.record.cell)
            disk.require_writable(places.results_folder(study), places.runs_folder(study))
            return _taken_over(study, found)


def _study(path: Path, contents: packs.Contents) -> str:
    """The study that a pack is of. Raises `PackError` where it is not one that can be gone on with here."""
    if contents.format > FORMAT or contents.schema_version > VERSION or contents.numerics > numerics.NUMERICS:
        raise PackError(f"{path} was packed by a newer version of isonb, {contents.isonb}: update isonb.")
    if contents.format < 1 or contents.study not in config.STUDIES:
        raise PackError(f"{path} is the pack of no study of this project: choose another file.")
    if changed := numerics.since(contents.numerics):
        raise PackError(f"{path} holds results from before they changed ({changed}): run its cells again, here.")
    for entry in contents.files:
        if not (RESULT.fullmatch(entry.name) or STATE.fullmatch(entry.name)):
            raise PackError(f"{path} holds {entry.name!r}, which no study leaves: choose another file.")
    return contents.study


@contextlib.contextmanager
def _staged(study: str) -> Iterator[Path]:
    """An empty folder for what has yet to be judged."""
    stage = places.runs_folder(study) / "unpacked"
    shutil.rmtree(stage, ignore_errors=True)
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _judged(path: Path, study: str, stage: Path, contents: packs.Contents) -> Found:
    """What a pack holds, each file judged by its own reader. Raises `PackError` at the first that does not hold."""
    found, seen = Found(), set()
    with _as_pack_errors(path):
        for record_file in sorted((stage / "results").glob("*.json")):
            record, _ = records.read(record_file)
            if record.cell.study != study or numerics.since(record.numerics):
                raise PackError(f"{path} holds the record {record.run_id} of another study or of other numerics.")
            files = {f"results/{one.name}": one for one in (record_file, record_file.with_suffix(".npz"))}
            notebook = record_file.with_suffix(".ipynb")
            if notebook.exists():
                content = disk.read_bytes(notebook, records.LARGEST[".ipynb"])
                if record.checksums is None or record.checksums.notebook != hashlib.sha256(content).hexdigest():
                    raise PackError(f"{path} holds a notebook that is not of the record {record.run_id}.")
                files[f"results/{notebook.name}"] = notebook
            weights = None
            if record.weights:
                folder = launch.checkpoints_folder(record.cell, record.data).name
                weights = stage / "checkpoints" / record.run_id / folder / record.weights.file
            if weights and weights.exists():
                checkpoint.read_final(weights, record)
            else:
                weights = None
            found.results[record.run_id] = Result(record, files, weights)
        for folder in sorted((stage / "checkpoints").glob("*/*/")):
            if folder.parent.name in found.results:
                continue
            state = state_of(folder)
            if state is None or state.run.run_id != folder.parent.name:
                raise PackError(f"{path} holds a checkpoint in {folder.parent.name} that is not of that cell.")
            found.states[f"{folder.parent.name}/{folder.name}"] = state
        seen = {*files_of(found)}
    if others := sorted({entry.name for entry in contents.files} - seen):
        raise PackError(f"{path} holds {others[0]!r}, which belongs to none of its cells: choose another file.")
    return found


@contextlib.contextmanager
def _as_pack_errors(path: Path) -> Iterator[None]:
    """What the readers refuse, as what is wrong with the pack; the files that they name are soon gone."""
    try:
        yield
    except PackError:
        raise
    except (records.RecordError, checkpoint.CheckpointError, ConfigError, disk.Unreadable) as error:
        cause = re.sub(r"\S*/unpacked/", "", str(error)).rpartition(":")[0] or str(error)
        raise PackError(f"{path} holds what cannot be used ({cause}): nothing of it was taken over.") from None


def _require_same_images(path: Path, study: str, found: Found) -> None:
    """Raise `PackError` where cells of a pack have read other images than those here, or than each other."""
    known: dict[str, dict[str, str]] = {}
    for record in _readable(study):
        known.setdefault(_images_key(record.cell.run), record.data.sha256)
    for result in found.results.values():
        record = result.record
        try:
            reason = outdated.of_record(record)
        except ConfigError:
            reason = "they have another name"
        if reason or known.setdefault(_images_key(record.cell.run), record.data.sha256) != record.data.sha256:
            raise _other_images(path, record.run_id, reason)
    for name, state in found.states.items():
        run_id, folder = name.split("/")
        sha256 = sources.checksums(state.run) or known.get(_images_key(state.run))
        if sha256 and launch.folder_name(sha256, folder.endswith("-along")) != folder:
            raise _other_images(path, run_id)


def _readable(study: str) -> Iterator[schema.Record]:
    for path in records.record_paths(study):
        with contextlib.suppress(records.RecordError):
            record = records.read_record(path)
            if not numerics.since(record.numerics):
                yield record


def _images_key(run: RunConfig) -> str:
    return json.dumps(run.model_dump(include=READ), sort_keys=True)


def _other_images(path: Path, run_id: str, reason: str = "") -> PackError:
    cause = f" ({reason})" if reason else ""
    return PackError(
        f"{path} holds {run_id}, which has read other images than those at hand{cause}: set ISONB_DATA to the folder "
        "that it read, or ISONB_RESULTS and ISONB_RUNS to other folders."
    )


def _taken_over(study: str, found: Found) -> list[str]:
    """Put what is new into its place, cell by cell, the record last; what was done, in sentences."""
    counts: collections.Counter[str] = collections.Counter()
    notebooks = 0
    for run_id, result in found.results.items():
        with _alone(study, run_id, counts) as is_alone:
            if is_alone:
                is_new = _take_result(result)
                counts["finished" if is_new else "kept"] += 1
                notebooks += is_new and len(result.files) > 2
    for name, state in found.states.items():
        run_id, folder = name.split("/")
        with _alone(study, run_id, counts) as is_alone:
            if is_alone:
                target = places.runs_folder(study) / "checkpoints" / run_id / folder
                counts["under way" if _take_state(study, run_id, target, state) else "kept"] += 1
    finished, under_way = counted(counts["finished"], "finished cell"), counted(counts["under way"], "training")
    words = [f"Taken over: {finished}, {under_way} under way; {counts['kept']} were here already, as far or further."]
    if counts["being run"]:
        words.append(f"Left alone, as they are being run: {counted(counts['being run'], 'cell')}.")
    if notebooks:
        words.append(
            f"{counted(notebooks, 'executed notebook')} came with them: these are code and go onto pages as they are; "
            "read what comes from elsewhere before you build the book."
        )
    return words


@contextlib.contextmanager
def _alone(study: str, run_id: str, counts: collections.Counter[str]) -> Iterator[bool]:
    """Whether nobody runs the cell meanwhile; it is counted where somebody does."""
    lock = places.runs_folder(study) / "running" / f"{run_id}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(lock, timeout=0):
            yield True
    except filelock.Timeout:
        counts["being run"] += 1
        yield False


def _take_result(result: Result) -> bool:
    """Write a finished cell, unless there is one; lost weights of one are restored. Returns whether it was new."""
    record = result.record
    own = _own(records.record_path(record.cell))
    is_new = own is None
    if result.weights and (is_new or own.weights == record.weights):
        target = launch.checkpoints_folder(record.cell, record.data) / result.weights.name
        if is_new or not target.exists():
            disk.write_atomically(target, content_of(result.weights))
    if is_new:
        files = {Path(name).suffix: path for name, path in result.files.items()}
        _, arrays = records.read(files[".json"])
        records.write_record(record, arrays, content_of(files[".ipynb"]) if ".ipynb" in files else None)
    return is_new


def _own(path: Path) -> schema.Record | None:
    """The record here, of today's numerics; None where it is missing or damaged."""
    try:
        record = records.read_record(path)
    except records.NewerRecordError:
        raise
    except records.RecordError:
        return None
    return None if numerics.since(record.numerics) else record


def _take_state(study: str, run_id: str, target: Path, state: State) -> bool:
    """Write a training, the checkpoint last, unless the cell is finished here or as far; returns whether it was new."""
    if _own(places.results_folder(study) / f"{run_id}.json"):
        return False
    newest = checkpoint.latest(target)
    if newest and int(newest.stem.removeprefix("step-")) >= state.step:
        return False
    for path in [*state.epochs, state.newest]:
        disk.write_atomically(target / path.name, content_of(path))
    return True
