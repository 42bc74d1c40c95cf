"""The trained networks that come with the project: which runs they are of, and what rounding them has cost.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import safetensors

from isonb import config, places, records, schema
from isonb.evidence import NOT_RUN, markup, titles
from isonb.evidence.selection import frame, link

MEBIBYTE = 2**20


@markup.or_the_fault(markup.as_table)
def table() -> pd.DataFrame:
    """A row for each network: its title, its name for `isonb.load`, its size and its losses.

    `loss` is the run's on its validation images, `rounded` that of the copy, each with its unit. Where the run is among
    the results, its title leads there; where it is not, its loss is not known.
    """
    return pd.DataFrame([_row(path) for path in sorted(places.NETWORKS.glob("*.safetensors"))] or [{"name": NOT_RUN}])


def _row(path: Path) -> dict[str, str | markup.Link]:
    run, shared = _header(path)
    cell = config.Cell(study=shared.study, run=run)
    result = records.record_path(cell)
    record = records.read_record(result) if result.exists() else None
    title, rounded = titles.title(cell), f"{shared.validation_loss:.3f} {run.unit}"
    about = {"name": path.stem, "MiB": f"{path.stat().st_size / MEBIBYTE:.1f}"}
    if record is None or record.weights is None or record.weights.sha256 != shared.of:
        return {"network": title, **about, "loss": "not at hand", "rounded": rounded}
    loss, behind = f"{record.training.validation_loss:.3f} {run.unit}", frame([record])
    return {"network": link(title, behind), **about, "loss": link(loss, behind), "rounded": link(rounded, behind)}


def _header(path: Path) -> tuple[config.RunConfig, schema.Shared]:
    """The run's settings, and what the copy says of itself. Raises `RecordError` for a file that is no copy."""
    try:
        with safetensors.safe_open(path, "numpy") as file:
            header = json.loads(file.metadata()["isonb"])
        return config.RunConfig(**header["config"]), schema.Shared(**header["shared"])
    except (OSError, safetensors.SafetensorError, ValueError, TypeError, KeyError):
        raise records.RecordError(
            f"{path} is no network that was shared, or it is damaged: share the run again."
        ) from None
