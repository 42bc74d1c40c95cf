"""Why a cell has to be run: decided by content, never by the times of files.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

from pathlib import Path

from isonb import numerics, records, rows, schema
from isonb.config import Cell, ConfigError


def why(cell: Cell, folder: Path | None = None, only_missing: bool = False) -> str:
    """Why a cell has to be run, in a few words: no result, other numerics or other data; empty where it has not.

    `folder` holds the data if ISONB_DATA does not. With `only_missing` any numerics and data will do.
    Raises `NewerRecordError` for the record of a newer version, and `ConfigError` where the record of other images
    would be replaced.
    """
    try:
        record = records.finished(cell)
    except records.NewerRecordError:
        raise
    except records.RecordError:
        return "its record is damaged"
    if record is None:
        return "its probe or fine-tuning settings differ" if records.record_path(cell).exists() else "no record"
    reason = "" if only_missing else of_record(record, folder)
    return reason or ("" if records.notebook_of(record) else "no executed notebook")


def of_record(record: schema.Record, folder: Path | None = None) -> str:
    """Why a record is no result of today's numerics and of the data at hand, empty where it is.

    Raises `ConfigError` as `why` does.
    """
    cell = record.cell
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
