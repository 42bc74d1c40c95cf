"""Which runs a number comes from, as the address of the page that shows these and no others.

The page of all runs keeps its filters in its address. A number that is one run's, or a mean over some, is a `Link` to
that page, filtered by the settings that tell these runs from the others; where no settings do, by their names.

Book: chapter "All runs".
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

import pandas as pd

from isonb import rows, schema
from isonb.evidence import markup, metrics

PAGE = "cells"  # the chapter, in `book/`
FILTERS = ("study", "block", "heads", "encoding", "size", "changed", "seed", "data", "device")
UNSEEN = ("images", "run")  # filters without a field of their own: the digest of the images read, and a run's name
ALWAYS = ("study", "images")
CHOSEN_BY = ("changed", "block", "heads", "encoding", "size", "seed")  # in this order, as far as it takes


def address(**settings: Any) -> str:
    """The page of all runs with only those shown that have these settings, as seen from a chapter.

    `run` names one by its run_id and `images` those read by their data_id; the others are `FILTERS` as settings spell
    them; a list means any of its values. Raises `ValueError` for a setting by which runs cannot be chosen.
    """
    for name in settings:
        if name not in (*FILTERS, *UNSEEN):
            raise ValueError(f"Runs cannot be chosen by {name!r}: use {', '.join(FILTERS)}, {' or '.join(UNSEEN)}.")
    return f"{PAGE}.html?{urlencode(settings, doseq=True)}"


def of(runs: pd.DataFrame, among: pd.DataFrame | None = None) -> str:
    """The address of these rows of the table of runs and of no others.

    `among` are all rows of the study on these images: settings by which they do not differ are left out. Without it
    every setting is named. Raises `ValueError` where there is no run to lead to.
    """
    if runs.empty:
        raise ValueError("No run is selected: there is nothing to lead to.")
    wanted = _by_filter(runs)
    settings: dict[str, Any] = {name: sorted(set(wanted[name])) for name in (*ALWAYS, *CHOSEN_BY)}
    if among is None:
        is_exact = math.prod(map(len, settings.values())) == len(wanted)
    else:
        left = _by_filter(among)
        for name in (*ALWAYS, *CHOSEN_BY):
            is_other = ~left[name].isin(settings[name])
            left = left[~is_other]
            if name not in ALWAYS and not is_other.any():
                del settings[name]
        is_exact = set(left["run"]) == set(wanted["run"])
    if settings.get("heads") == [""]:
        del settings["heads"]
    return address(**settings) if is_exact else address(study=settings["study"], run=sorted(wanted["run"]))


def frame(runs: Iterable[schema.Record]) -> pd.DataFrame:
    """What `of` looks at of some records."""
    return pd.DataFrame(
        [
            {"run_id": run.run_id, "study": run.cell.study, "data_id": metrics.images_id(run)}
            | {"arm": metrics.arm(run.cell)}
            | {name: getattr(run.cell.run, name) for name in ("block", "heads", "encoding", "depth", "seed")}
            for run in runs
        ]
    )


def with_array(t: metrics.Tables, name: str) -> pd.DataFrame:
    """The rows of the table of runs whose arrays have one of this name."""
    return t.runs[t.runs["run_id"].isin([run_id for run_id, arrays in t.arrays.items() if name in arrays])]


def link(text: str, runs: pd.DataFrame, among: pd.DataFrame | None = None) -> markup.Link:
    """A number's text as a link to the runs that it comes from."""
    return markup.Link(text, of(runs, among))


def _by_filter(runs: pd.DataFrame) -> pd.DataFrame:
    """What each run is in the filters' spelling; a block that has no heads has none to be chosen by."""
    has_heads = runs["block"].map(lambda name: rows.BLOCKS[name].has_heads)
    named = {"run": "run_id", "images": "data_id", "size": "depth", "changed": "arm"}
    shown = {name: runs[named.get(name, name)].astype(str) for name in ("run", *ALWAYS, *CHOSEN_BY)}
    return pd.DataFrame(shown | {"heads": shown["heads"].where(has_heads.astype(bool), "")})
