"""Why a cell has to be run: decided by content, never by the times of files.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

from pathlib import Path

from isonb import numerics, records, rows, schema
from isonb.config import Cell, ConfigError, RunConfig
from isonb.training import sources

DAMAGED = "its record is damaged"


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
        return DAMAGED
    if record is None:
        return _of_other_settings(cell) if records.record_path(cell).exists() else "no record"
    reason = "" if only_missing else of_record(record, folder)
    return reason or ("" if records.notebook_of(record) else "no executed notebook")


def _of_other_settings(cell: Cell) -> str:
    """Why a cell has to be run whose network has a record. Raises `ConfigError` where that is of other images."""
    there = records.read_record(records.record_path(cell)).cell
    if {*there.reads} != {*cell.reads}:
        raise ConfigError(
            f"The record of {cell.run.run_id} is of probes or fine-tuning on other images, and would be lost: set "
            "ISONB_RESULTS to another folder."
        )
    return "its probe or fine-tuning settings differ"


def of_record(record: schema.Record, folder: Path | None = None) -> str:
    """Why a record is no result of today's numerics and of the data at hand, empty where it is.

    Raises `ConfigError` as `why` does.
    """
    cell = record.cell
    if changed := numerics.since(record.numerics):
        return f"results have changed: {changed}"
    reasons = (_of_images(cell.run.run_id, run, data, folder) for run, data in record.read())
    return next(filter(None, reasons), "")


def _of_images(run_id: str, run: RunConfig, data: schema.Data, folder: Path | None) -> str:
    """Why a record that has read these images by these settings is not of the images at hand, empty where it is."""
    row = rows.SOURCES[run.data]
    at_hand = sources.checksums(run, folder)
    if not at_hand and row.reads_folder and (folder is not None or row.published is None):
        return "its images cannot be read"  # so that running it says why
    if not at_hand or at_hand == data.sha256:
        return ""
    if (name := sources.name_of(run, folder)) != data.name:
        raise ConfigError(
            f"The record of {run_id} is of the pictures {data.name!r}, and these are {name!r}: give "
            "them a collection of their own, or set ISONB_RESULTS to another folder."
        )
    return "the data have changed"
