"""Files that appear whole or not at all, and what a disk refuses, in one sentence.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from isonb.validation import ConfigError


def in_a_sentence(error: OSError) -> str:
    """Which file or folder cannot be used, why, and what to do."""
    place, cause = error.filename or "The disk", error.strerror or error
    return f"{place} cannot be used ({cause}): fix it, or set ISONB_RUNS and ISONB_RESULTS to another folder."


def require_writable(*folders: Path) -> None:
    """Raise `ConfigError` where no file can be written to one of these folders, before hours are spent on it."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise ConfigError(in_a_sentence(error)) from None


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)
