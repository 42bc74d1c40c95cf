"""What it costs to add something to the study, counted from the patches that the book shows.

Book: chapter "Add your own".
"""

from __future__ import annotations

import re

import pandas as pd

from isonb import places

PATCHES = {"a block": "own_block", "an encoding": "own_encoding", "an objective": "own_objective"}


def costs() -> pd.DataFrame:
    """One row per patch: how many files it touches, and how many lines it adds where."""
    return pd.DataFrame([{"to add": what, **_cost(name)} for what, name in PATCHES.items()])


def _cost(name: str) -> dict[str, int]:
    text = (places.PROJECT / "book" / f"{name}.patch").read_text(encoding="utf-8")
    parts = re.split(r"^diff --git a/(\S+) .*$", text, flags=re.MULTILINE)[1:]
    lines = {
        path: len(re.findall(r"^\+(?!\+\+ )", part, re.MULTILINE))
        for path, part in zip(*[iter(parts)] * 2, strict=True)
    }
    return {
        "files": len(lines),
        "lines of the module": sum(count for path, count in lines.items() if path.startswith("isonb/models/")),
        "of its row": lines["isonb/rows.py"],
        "of its test": sum(count for path, count in lines.items() if path.startswith("tests/")),
    }
