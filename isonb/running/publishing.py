"""The book's build, and whether the book is up to date with all that it is built from.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from isonb import disk, places
from isonb.validation import ConfigError

PAGE = places.PROJECT / "_build" / "html" / "index.html"
CONTENTS = places.PROJECT / "_build" / "contents.sha256"  # of what the book was built from
NOISE = "Kernel is running over TCP without encryption"  # warns every kernel; its sockets stay on this machine
READ_BY_THE_BOOK = ("_config.yml", "_toc.yml", "CHANGELOG.md", "CITATION.cff", "book", "isonb", "notebooks")
BUILDER = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]  # wherever its script may be
# Of a person's configuration the builder is to know nothing: matplotlib's backend, and what docutils reads elsewhere
OWN = {"MPLBACKEND": "agg", "DOCUTILSCONFIG": os.devnull}


def contents() -> str:
    """The SHA-256 of everything that the book is built from."""
    digest = hashlib.sha256()
    results = places.all_results()
    for root in [*(places.PROJECT / name for name in READ_BY_THE_BOOK), results]:
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and ".ipynb_checkpoints" not in path.parts:
                with path.open("rb") as file:
                    digest.update(f"{path}\0".encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def is_built() -> bool:
    """Whether the book is built, and from what is there now."""
    return CONTENTS.exists() and CONTENTS.read_text(encoding="utf-8", errors="replace") == contents() and PAGE.exists()


def build_book() -> int:
    """Build the book, warnings being errors, and say where it is; returns the builder's exit status.

    Raises `ConfigError` where the package is installed without its project.
    """
    if not places.IS_CHECKOUT:
        raise ConfigError(
            f"The package in {places.PROJECT} was installed without the book's pages: run the same command in the "
            "project's folder."
        )
    CONTENTS.unlink(missing_ok=True)
    read = contents()
    for folder in ("results", "elsewhere"):  # of executed cells, which may be others now
        shutil.rmtree(PAGE.parent / "book" / folder, ignore_errors=True)
    status = _run([*BUILDER, "build", ".", "--all", "-W", "-n", "--keep-going", "--quiet"])
    if status == 0:
        disk.write_atomically(CONTENTS, read.encode())
        print(f"The book is built: open {PAGE.as_uri()}")
    return status


def _run(command: Sequence[str | Path]) -> int:
    """A command's exit status; its standard error is passed on line by line, without noise."""
    with subprocess.Popen(
        command,
        cwd=places.PROJECT,
        env=os.environ | OWN,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        for line in process.stderr:
            if NOISE not in line:
                print(line, end="", file=sys.stderr, flush=True)
    return process.returncode
