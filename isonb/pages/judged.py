"""The verdicts on a study's tables, judged once while the book is built, although six chapters ask for them.

The builder names a folder to the chapters' kernels. There the judged claims are kept by the SHA-256 of all that they
are a function of: the tables and arrays, the code that judges, and the versions of the packages that compute. So
nothing kept is ever out of date, and who does not build the book judges anew.

Book: every chapter with verdicts.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isonb import disk
from isonb.evidence import claims
from isonb.evidence.ledger.finding import Verdict
from isonb.evidence.metrics import Tables

FOLDER = "ISONB_JUDGED"  # what names the folder
LARGEST = 2**24  # bytes of a study's verdicts
MOST = 24  # files that are kept: a study has one for each set of images
COMPUTES = ("numpy", "pandas", "scipy")
VERDICTS = ("verdict", "gain_verdict")
FRAMES = ("runs", "layers", "curves", "learned")


def rows(t: Tables) -> dict[str, dict[str, Any]]:
    """The row of each claim's verdict, by the claim, as `claims.as_rows` gives it."""
    folder = os.environ.get(FOLDER)
    if not folder:
        return _by_claim(claims.as_rows(claims.judge(t)))
    path = Path(folder) / f"{digest(t)}.json"
    with contextlib.suppress(disk.Unreadable):
        return _by_claim(disk.read_json(path, LARGEST))
    found = claims.as_rows(claims.judge(t))
    disk.write_atomically(path, json.dumps(found).encode())
    return _by_claim(found)


def _by_claim(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    verdicts = [{name: row[name] and Verdict(row[name]) for name in VERDICTS} for row in found]
    return {row["id"]: row | of_row for row, of_row in zip(found, verdicts, strict=True)}


def digest(t: Tables) -> str:
    """The SHA-256 of these tables, and of the code and the packages that judge them."""
    whole = hashlib.sha256(repr((_judge(), t.images, t.remarks)).encode())
    for name in (*FRAMES, *sorted(t.more)):
        whole.update(f"\0{name}\0{t.frame(name).to_csv()}".encode())
    for run_id in sorted(t.arrays):
        for name, array in sorted(t.arrays[run_id].items()):
            whole.update(f"\0{run_id}\0{name}\0{array.dtype}\0{array.shape}\0".encode() + array.tobytes())
    return whole.hexdigest()


@functools.cache
def _judge() -> tuple[str, ...]:
    """The code of the rules and of all that they may import, the packages that compute, and the kind of processor."""
    versions = (importlib.metadata.version(name) for name in COMPUTES)
    code = (hashlib.sha256(path.read_bytes()).hexdigest() for path in _code())
    return (platform.python_version(), platform.machine(), *versions, *code)


def _code() -> Iterator[Path]:
    package = Path(claims.__file__).parents[1]
    for path in sorted([*package.glob("*.py"), *package.joinpath("evidence").rglob("*")]):
        if path.suffix in (".py", ".toml") and path.name != "__main__.py":
            yield path


def forget(folder: Path) -> None:
    """Remove all but the latest of what a folder keeps."""
    kept = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in kept[MOST:]:
        path.unlink(missing_ok=True)
