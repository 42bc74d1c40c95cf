"""The book's build, and whether the book is up to date with all that it is built from.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import filelock

from isonb import disk, places, revision, surroundings
from isonb.validation import ConfigError

PAGE = places.PROJECT / "_build" / "html" / "index.html"
CONTENTS = places.PROJECT / "_build" / "contents.sha256"  # of what the book was built from
NOISE = "Kernel is running over TCP without encryption"  # warns every kernel; its sockets stay on this machine
READ_BY_THE_BOOK = (
    "_config.yml", "_toc.yml", "CHANGELOG.md", "CITATION.cff", "requirements.lock", "book", "isonb", "notebooks",
    "tests/test_distributed.py",
)  # fmt: skip
# Wherever its script may be; ours goes first, as it says what need not be loaded
BUILDER = [sys.executable, "-c", "import isonb; from jupyter_book.cli.main import main; main()"]
TYPESETTER = [sys.executable, "-c", "from isonb.pages import formulas; formulas.typeset('x', False)"]
# Of a person's configuration the builder is to know nothing: matplotlib's backend, and what docutils reads elsewhere
OWN = {"MPLBACKEND": "agg", "DOCUTILSCONFIG": os.devnull}


def contents() -> str:
    """The SHA-256 of everything that the book is built from, and of the commit that its pages name."""
    digest = hashlib.sha256(str(revision.commit()).encode())
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

    Raises `ConfigError` where the package is installed without its project, and where formulas cannot be typeset.
    """
    surroundings.require_project("the book's pages")
    _require_typesetter()
    with _alone():
        CONTENTS.unlink(missing_ok=True)
        read = contents()
        shutil.rmtree(PAGE.parent, ignore_errors=True)  # it may have pages that are no more
        # Every page is made anew, which takes seconds; chapters are executed only where something has changed.
        status = _run([*BUILDER, "build", ".", "--all", "-W", "-n", "--keep-going", "--quiet"])
        if status == 0:
            disk.write_atomically(CONTENTS, read.encode())
            print(f"The book is built: open {PAGE.as_uri()}")
        return status


def _require_typesetter() -> None:
    """Raise `ConfigError` where a limit of the address space keeps the engine for formulas from starting.

    It would end the builder without a word, after all chapters were executed.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and subprocess.run(TYPESETTER, capture_output=True, check=False).returncode:
        raise ConfigError(
            f"The book's formulas cannot be typeset in {limit // 1024:,} KiB of address space, however little of it is "
            "used: say `ulimit -v unlimited`, or build the book where that is allowed. Results are kept."
        )


def check_links() -> int:
    """Check every link of the chapters with Sphinx's own checker, on other sites too; returns its exit status."""
    with _alone():
        status = _run([*BUILDER, "build", ".", "--builder", "linkcheck", "-W", "--keep-going", "--quiet"])
        for name in ("output.txt", "output.json"):  # lists of the links, left among the pages
            PAGE.with_name(name).unlink(missing_ok=True)
        return status


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other process builds this book."""
    CONTENTS.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(CONTENTS.with_name("book.lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print("Another process is building this book; this build begins when it has ended.", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


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
