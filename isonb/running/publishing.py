"""The book's build, and whether the book is up to date with all that it is built from.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from isonb import disk, records

PAGE = records.PROJECT / "_build" / "html" / "index.html"
CONTENTS = records.PROJECT / "_build" / "contents.sha256"  # of what the book was built from
NOISE = "Kernel is running over TCP without encryption"  # warns every kernel; its sockets stay on this machine
READ_BY_THE_BOOK = ("_config.yml", "_toc.yml", "CHANGELOG.md", "CITATION.cff", "book", "isonb", "notebooks")


def contents() -> str:
    """The SHA-256 of everything that the book is built from."""
    results = os.environ.get("ISONB_RESULTS")
    digest = hashlib.sha256()
    for root in [*(records.PROJECT / name for name in READ_BY_THE_BOOK), *([Path(results)] if results else [])]:
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and ".ipynb_checkpoints" not in path.parts:
                digest.update(f"{path}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def is_built() -> bool:
    """Whether the book is built, and from what is there now."""
    return CONTENTS.exists() and CONTENTS.read_text() == contents() and PAGE.exists()


def build_book() -> int:
    """Build the book, warnings being errors, and say where it is; returns the builder's exit status."""
    CONTENTS.unlink(missing_ok=True)
    read = contents()
    builder = Path(sys.executable).with_name("jupyter-book")
    command = [builder, "build", ".", "--all", "-W", "-n", "--keep-going", "--quiet"]
    status = _run(command)
    if status == 0:
        disk.write_atomically(CONTENTS, read.encode())
        print(f"The book is built: open {PAGE.as_uri()}")
    return status


def _run(command: Sequence[str | Path]) -> int:
    """A command's exit status; its standard error is passed on line by line, without noise."""
    with subprocess.Popen(command, cwd=records.PROJECT, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if NOISE not in line:
                print(line, end="", file=sys.stderr, flush=True)
    return process.returncode
