"""Records of a study that lack what later versions measure, completed one after another.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

from collections.abc import Iterator

import filelock

from isonb import places, records
from isonb.config import Cell, Execution
from isonb.evidence import metrics


class IncompleteError(RuntimeError):
    """Records that could not be completed: a sentence for each that is damaged, and one for all of other images."""


def study(name: str, execution: Execution) -> Iterator[tuple[str, str]]:
    """Complete the records of a study one by one, the grid's first and small networks first; each is written at once.

    Yields a record's run_id and what was added to it, in words. A record whose cell is being run is left alone; one of
    images that are not at hand gets checksums alone. Where there were any of these, or damaged ones, raises
    `IncompleteError` after the others. Raises `CheckpointError` for weights that are not a record's.
    """
    from isonb.training import completion, data  # here, as torch takes seconds to import

    readable, faults, elsewhere = {}, [], 0
    for path in records.record_paths(name):
        try:
            readable[path] = records.read_record(path).cell
        except records.RecordError as fault:
            faults.append(str(fault))
    completing = completion.Completion(execution)
    for path in sorted(readable, key=lambda path: _order(readable[path])):
        run_id = path.stem
        lock = places.runs_folder(name) / "running" / f"{run_id}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            with filelock.FileLock(lock, timeout=0):
                record, arrays = records.read(path)
                notebook = records.notebook_of(record)
                try:
                    record, arrays, added = completing.complete(record, arrays)
                except data.DataError:
                    elsewhere, added = elsewhere + 1, []
                added += ["checksums"] * (record.checksums is None)
                if added:
                    records.write_record(record, arrays, notebook and notebook.read_bytes())
        except filelock.Timeout:
            yield run_id, "left alone, as it is being run"
            continue
        except records.RecordError as fault:
            faults.append(str(fault))
            continue
        if added:
            yield run_id, f"{', '.join(added)} added"
    if elsewhere:
        faults.append(
            f"{elsewhere} record{'s' * (elsewhere > 1)} of {name} read images that are not at hand: set ISONB_DATA to "
            "the folder that they read."
        )
    if faults:
        raise IncompleteError("\n".join(faults))


def _order(cell: Cell) -> tuple[bool, int, int, str]:
    return metrics.arm(cell) != metrics.MAIN, cell.run.depth, cell.run.seed, cell.run.run_id
