"""Why a cell has to be run: decided by content, never by the times of files.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from isonb import numerics, records, rows
from isonb.config import Cell


def why(cell: Cell, folder: Path | None = None, only_missing: bool = False) -> str:
    """Why a cell has to be run, in a few words: no result, other numerics or other data; empty where it has not.

    `folder` holds the data if ISONB_DATA does not. With `only_missing` any numerics and data will do.
    Raises `RecordError` for a damaged record.
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
    at_hand = rows.SOURCES[cell.run.data].load().checksums(cell.run, folder)
    return "the data have changed" if at_hand and at_hand != record.data.sha256 else ""
