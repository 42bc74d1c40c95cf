"""Why a cell has to be run: decided by content, never by the times of files.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from isonb import numerics, records, rows
from isonb.config import Cell, ConfigError


def why(cell: Cell, folder: Path | None = None, only_missing: bool = False) -> str:
    """Why a cell has to be run, in a few words: no result, other numerics or other data; empty where it has not.

    `folder` holds the data if ISONB_DATA does not. With `only_missing` any numerics and data will do.
    Raises `RecordError` for a damaged record, and `ConfigError` where the record of other images would be replaced.
    """
    record = records.finished(cell)
    if record is None:
        return "its probe or fine-tuning settings differ" if records.record_path(cell).exists() else "no record"
    try:
        zipfile.ZipFile(records.record_path(cell).with_suffix(".npz")).close()  # reads the directory at its end alone
    except (OSError, zipfile.BadZipFile):
        return "its arrays are missing or damaged"
    if only_missing:
        return ""
    if changed := numerics.since(record.numerics):
        return f"results have changed: {changed}"
    row = rows.SOURCES[cell.run.data]
    source = row.load()
    at_hand = source.checksums(cell.run, folder)
    if not at_hand and row.reads_folder and (folder is not None or row.published is None):
        return "its images cannot be read"  # so that running it says why
    if not at_hand or at_hand == record.data.sha256:
        return ""
    if (name := source.name_of(cell.run, folder)) != record.data.name:
        raise ConfigError(
            f"The record of {cell.run.run_id} is of the pictures {record.data.name!r}, and these are {name!r}: give "
            "them a collection of their own, or set ISONB_RESULTS to another folder."
        )
    return "the data have changed"
