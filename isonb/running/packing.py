"""A study to take along: its results, checkpoints and final weights as one pack, from which another machine goes on.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import isonb
from isonb import disk, numerics, places, records, schema
from isonb.config import VERSION, RunConfig
from isonb.running import packs, sweep
from isonb.running.packs import PackError
from isonb.training import checkpoint, launch

FORMAT = 1
RESULT = re.compile(r"results/([A-Za-z0-9_-]{1,80})(\.json|\.npz|\.ipynb)")
STATE = re.compile(
    r"checkpoints/([A-Za-z0-9_-]{1,80})/([0-9a-f]{12}(?:-along)?)/((step-\d{8}|epoch-\d{5}|final)\.safetensors)"
)


@dataclass
class Result:
    """A finished cell: its record, and the files that belong to it, by their names in a pack."""

    record: schema.Record
    files: dict[str, Path]
    weights: Path | None = None


@dataclass
class State:
    """A training under way: its configuration, its newest checkpoint, and the weights of its closed epochs."""

    run: RunConfig
    newest: Path
    epochs: list[Path]

    @property
    def step(self) -> int:
        """The steps that are taken."""
        return int(self.newest.stem.removeprefix("step-"))


@dataclass
class Found:
    """What of a study lies in a folder of results and a folder of checkpoints, and what was left out, in sentences."""

    results: dict[str, Result] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Packed(NamedTuple):
    """What is in a pack, in a sentence; what was left out, in others: `faults` of what is damaged, `remarks` else."""

    summary: str
    remarks: list[str]
    faults: list[str]


def pack(study: str, path: Path, part_size: int = 0) -> Packed:
    """Write a study's pack.

    What is damaged, outdated or of other images stays behind. Raises `PackError` where there is nothing to pack or the
    pack cannot be written, and `SweepError` while a sweep is at work.
    """
    with sweep.hold(f"{study}, which is being packed"):
        found = _collected(study)
        files = files_of(found)
        if not files:
            raise PackError(f"The study {study} has neither results nor checkpoints yet: run some of its cells first.")
        contents = packs.Contents(
            format=FORMAT,
            isonb=isonb.__version__,
            schema_version=VERSION,
            numerics=numerics.NUMERICS,
            study=study,
            files=[_entry(name, file) for name, file in sorted(files.items())],
        )
        written = packs.write(path, contents, lambda entry: content_of(files[entry.name]), part_size)
    where = str(path) if len(written) == 1 else f"{written[0]} to {written[-1].name}"
    size = packs.length(contents) / 2**20
    finished, under_way = counted(len(found.results), "finished cell"), counted(len(found.states), "training")
    whole = f"{where}: {finished} and {under_way} under way of the study {study}, {size:.1f} MiB"
    return Packed(f"{whole}, SHA-256 {contents.digest()}.", found.remarks, found.faults)


def content_of(file: Path) -> bytes:
    """A file's content. Raises `PackError`."""
    try:
        return disk.read_bytes(file, packs.FILE_LIMIT)
    except disk.Unreadable as error:
        raise PackError(f"{file} cannot be packed ({error}): run the same command again.") from None


def _entry(name: str, file: Path) -> packs.Entry:
    content = content_of(file)
    return packs.Entry(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def files_of(found: Found) -> dict[str, Path]:
    """Where each file of a pack lies, by its name there."""
    files: dict[str, Path] = {}
    for result in found.results.values():
        files |= result.files
        if result.weights:
            files[_name_of_state(result.weights)] = result.weights
    for state in found.states.values():
        files |= {_name_of_state(path): path for path in [*state.epochs, state.newest]}
    return files


def _name_of_state(path: Path) -> str:
    return "/".join(["checkpoints", *path.parts[-3:]])


def _collected(study: str) -> Found:
    """What of a study can be gone on from: finished cells, and the newest good checkpoint of every other."""
    found = Found()
    for path in records.record_paths(study):
        try:
            record, _ = records.read(path)
        except records.RecordError as error:
            found.faults.append(str(error))
            continue
        if reason := numerics.since(record.numerics):
            found.remarks.append(f"{record.run_id} stays behind: results have changed since ({reason}).")
            continue
        files = {f"results/{path.name}": path, f"results/{path.stem}.npz": path.with_suffix(".npz")}
        if notebook := records.notebook_of(record):
            files[f"results/{notebook.name}"] = notebook
        found.results[record.run_id] = Result(record, files, _weights(record, found.faults))
    for folder in sorted(places.runs_folder(study).glob("checkpoints/*")):
        if folder.name not in found.results:
            _add_state(found, folder)
    return found


def _weights(record: schema.Record, faults: list[str]) -> Path | None:
    """The file of a record's final weights, None where it was not kept or is damaged."""
    if record.weights is None:
        return None
    path = launch.checkpoints_folder(record.cell, record.data) / record.weights.file
    try:
        checkpoint.read_final(path, record)
    except checkpoint.CheckpointError as error:
        if path.exists():
            faults.append(str(error))
        return None
    return path


def _add_state(found: Found, folder: Path) -> None:
    """Add the training of one cell: of its folders, which are of other images, the one that was written to last."""
    inside = sorted(folder.glob("*/"), key=lambda one: one.stat().st_mtime, reverse=True)
    for one in inside:
        is_named = STATE.fullmatch(f"checkpoints/{folder.name}/{one.name}/{checkpoint.FINAL}")
        if is_named and (state := state_of(one)) and state.run.run_id == folder.name:
            found.states[f"{folder.name}/{one.name}"] = state
            return
    if inside:
        found.remarks.append(f"{folder} holds no checkpoint that can be gone on from: its cell begins anew elsewhere.")


def state_of(folder: Path) -> State | None:
    """The training that a folder of checkpoints holds, all of whose files are good; None where there is none."""
    newest = checkpoint.latest(folder)
    if newest is None:
        return None
    content = disk.read_bytes(newest, packs.FILE_LIMIT)
    run, _ = checkpoint.read_network(newest)
    progress = checkpoint.read(content, run, folder).progress
    closed = range(1, min(len(progress.curve), run.epochs)) if folder.name.endswith("-along") else ()
    epochs = [folder / f"epoch-{epoch:05d}.safetensors" for epoch in closed]
    try:
        for epoch in epochs:
            checkpoint.read_kept(epoch, run)
    except checkpoint.CheckpointError:
        return None
    return State(run, newest, epochs)


def counted(number: int, what: str) -> str:
    """How many there are of something, in words."""
    return f"{number} {what}{'s' * (number != 1)}"
