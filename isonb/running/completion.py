"""Records of a study that lack what later versions measure, completed one after another.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import filelock

from isonb import records
from isonb.config import Execution
from isonb.evidence import metrics


def study(name: str, execution: Execution) -> Iterator[tuple[str, str]]:
    """Complete the records of a study one by one, the grid's first and small networks first; each is written at once.

    Yields a record's run_id and what was added to it, in words. A record whose cell is being run is left alone, and so
    is one of images that are not at hand; where there were any of these, raises `DataError` after the others. Raises
    `CheckpointError` for weights that are not a record's.
    """
    from isonb.training import completion, data  # here, as torch takes seconds to import

    elsewhere = 0
    completing = completion.Completion(execution)
    for path in sorted(records.results_folder(name).glob("*.json"), key=_order):
        run_id = path.stem
        lock = records.runs_folder(name) / "running" / f"{run_id}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            with filelock.FileLock(lock, timeout=0):
                done = completing.complete(records.read_record(path), records.read_arrays(path))
                if done.added:
                    records.write_record(done.record, done.arrays)
        except filelock.Timeout:
            yield run_id, "left alone, as it is being run"
            continue
        except data.DataError:
            elsewhere += 1
            continue
        if done.added:
            yield run_id, f"{', '.join(done.added)} added"
    if elsewhere:
        raise data.DataError(
            f"{elsewhere} record{'s' * (elsewhere > 1)} of {name} read images that are not at hand: set ISONB_DATA to "
            "the folder that they read."
        )


def _order(path: Path) -> tuple[bool, int, int, str]:
    cell = records.read_record(path).cell
    return metrics.arm(cell) != metrics.MAIN, cell.run.depth, cell.run.seed, path.name
