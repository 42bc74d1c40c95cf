"""Thousands of damages to every kind of file that is read: those that the tests try a few hundred of.

A test that fails has found one that changed a number or that ended without a sentence; then there is no row.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isonb import places

TRIED = "3000"  # damages of each kind of file; fewer of those that take long to look at
FILES = ("mutations", "checkpoint", "cache", "squares", "predictions", "damage")


def run() -> Iterator[dict[str, Any]]:
    """One row for each kind of file: how many damages were tried, and how many were noticed."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "tally"
        for name in FILES:
            told.write_text("", encoding="utf-8")
            command = [sys.executable, "-m", "pytest", "-q", "-k", "damage or kill", f"tests/test_{name}.py"]
            more = {"ISONB_MUTATIONS": TRIED, "ISONB_TALLY": str(told)}
            subprocess.run(command, cwd=places.PROJECT, env=os.environ | more, check=True)
            yield from map(json.loads, told.read_text(encoding="utf-8").splitlines())
