"""Where things lie: the project's folder, the results, the working files and the images.

ISONB_RESULTS, ISONB_RUNS and ISONB_DATA may be relative to the folder in which a program is started. They are resolved
once, when it imports this package, and reach every process that it starts as absolute paths: kernels, workers and the
book's builder run in other folders.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import os
from pathlib import Path

RESULTS, RUNS, DATA = "ISONB_RESULTS", "ISONB_RUNS", "ISONB_DATA"


def _resolve(variable: str) -> None:
    """Make the folder that an environment variable names absolute, where it names one."""
    if named := os.environ.get(variable):
        os.environ[variable] = os.path.realpath(os.path.expanduser(named))


for _variable in (RESULTS, RUNS, DATA):
    _resolve(_variable)

PROJECT = Path(__file__).resolve().parent.parent  # where `isonb` is installed without the project, what holds it
IS_CHECKOUT = (PROJECT / "_toc.yml").is_file()
ROOT = PROJECT if IS_CHECKOUT else Path.cwd()  # below which results and working files go where nothing else is set
REFERENCE = PROJECT / "book" / "reference"  # records that come with the project, to compare one's own with
NETWORKS = PROJECT / "book" / "networks"  # trained ones that come with the project, for `isonb.load`
TEMPLATE = PROJECT / "notebooks" / "cell.ipynb" if IS_CHECKOUT else PROJECT / "isonb" / "cell.ipynb"


def all_results() -> Path:
    """Where the results of every study live: `book/results`, or ISONB_RESULTS where that is set."""
    return _folder(RESULTS, ROOT / "book" / "results")


def results_folder(study: str) -> Path:
    """Where a study's results live: a folder below those of all studies."""
    return all_results() / study


def runs_folder(study: str) -> Path:
    """Where a study's checkpoints, logs and failed notebooks live: `_runs/<study>`, or below ISONB_RUNS."""
    return _folder(RUNS, ROOT / "_runs") / study


def _folder(variable: str, default: Path) -> Path:
    """The folder that an environment variable names, which a notebook or a test may have set only now."""
    named = os.environ.get(variable)
    return Path(os.path.realpath(os.path.expanduser(named))) if named else default
