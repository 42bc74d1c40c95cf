"""What a record owes to the code and to the data, in a few letters each, so that a change of either shows.

A module's fingerprint is of its syntax tree without comments and docstrings: what cannot change a number does not
change it. Nothing is imported to take one, so that a thousand records are compared without torch.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from isonb.config import Cell, RunConfig

PACKAGE = Path(__file__).resolve().parent
LETTERS = 12  # of a SHA-256: enough to tell versions of one file apart

# The modules that decide a number of a record: those of pre-training, then those that only look at its result.
PRETRAINING = (
    "draws",
    "features",
    "models.blocks",
    "models.encodings",
    "models.network",
    "models.objectives",
    "training.augmentation",
    "training.data",
    "training.evaluate",
    "training.schedule",
    "training.train",
    "training.world",
)
PROBING = ("training.outcome", "training.probe")
EXTRAS = ("training.decoding", "training.finetune")  # decide something only where a cell asks for it
# Modules that a computation of a cell imports as well, and why they decide nothing.
WITHOUT_EFFECT = {
    "__init__": "it says how threads wait",
    "config": "it computes nothing, and the settings themselves are compared",
    "protocols": "it computes nothing, and the settings themselves are compared",
    "provenance": "it holds what it is given",
    "disk": "it writes what it is given",
    "validation": "it refuses settings, and changes none",
    "records": "it writes what it is given; its schema has a number of its own",
    "fingerprints": "it looks on",
    "training.__init__": "it is empty",
    "training.allocator": "it decides where memory comes from, not what is in it",
    "training.checkpoint": "it hands a run's state on as it was, so that a resumed run gives the same bits",
    "training.download": "the checksum of what it brings is verified",
    "training.launch": "it starts processes; what they compute does not depend on their number",
    "training.palette": "no cell uses it",
    "training.progress": "it draws a line",
    "training.rendezvous": "it lets processes find each other",
    "training.signals": "it stops a run, which goes on from where it was",
    "models.__init__": "it is empty",
}
# The files of CIFAR-10's binary version, and the folder that its archive makes.
CIFAR10_FOLDER = "cifar-10-batches-bin"
CIFAR10_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
CIFAR10_TEST = "test_batch.bin"
CIFAR10_NAMES = "batches.meta.txt"
CIFAR10_FILES = (*CIFAR10_TRAIN, CIFAR10_TEST, CIFAR10_NAMES)
CIFAR10_IMAGES = (50_000, 10_000)  # published training and test images
# Versions of a module that give the same bits: it was rewritten, or has learned something that other cells do not use.
# Entered once cells of every block and every encoding were run by both and found equal: `make bench BENCH=repeat`.
SAME_BITS = {
    "models.blocks": {"d266582ab08e", "248930cad66e"},
    "models.encodings": {"fd726481be51", "695a125809a9"},
    "models.network": {"703c7dc7e415", "4e6aa518f91e", "5e45427b4f9a"},
    "models.objectives": {"c0bb0f017cb7", "e3e25ea07fe4"},
    "training.data": {"0848e4c3e669", "54cbd8916b99"},
    "training.evaluate": {"bfe370cb4678", "abb0cf2e0596"},
    "training.outcome": {"8cc075fef232", "b629896d398a"},
    "training.probe": {"f92bd737ccf1", "a6f948c0ff7c"},
    "training.train": {"92e8fe90cecc", "3c678e64ed84", "e40dfd1c7d9d"},
}


def code(modules: Iterable[str] = (*PRETRAINING, *PROBING, *EXTRAS)) -> dict[str, str]:
    """The fingerprint of each of these modules of the package as it is on disk, by name."""
    return {module: of_module(PACKAGE.joinpath(*module.split(".")).with_suffix(".py")) for module in modules}


def changed(theirs: Mapping[str, str], ours: Mapping[str, str]) -> list[str]:
    """The modules that differ between two `code()`s and may give other numbers, by name; a missing one differs."""
    return [
        name
        for name in sorted({*theirs, *ours})
        if theirs.get(name) != ours.get(name) and not {theirs.get(name), ours.get(name)} <= SAME_BITS.get(name, set())
    ]


def idle(cell: Cell) -> set[str]:
    """The modules of extras that decide no number of this cell's record, as it does not ask for them."""
    is_asked = {"training.decoding": cell.probe.pixels, "training.finetune": cell.finetune.epochs > 0}
    return {module for module, asked in is_asked.items() if not asked}


@functools.cache
def of_module(path: Path) -> str:
    """The first letters of the SHA-256 of a module's syntax tree without comments and docstrings."""
    return hashlib.sha256(_canonical(ast.parse(path.read_bytes())).encode()).hexdigest()[:LETTERS]


def _canonical(node: object) -> str:
    """A syntax tree in words that are the same for every version of Python: what is empty is left out."""
    if isinstance(node, list):
        return f"[{','.join(map(_canonical, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
        fields["body"] = node.body[1:]
    parts = [f"{name}={_canonical(value)}" for name, value in fields.items() if value is not None and value != []]
    return f"{type(node).__name__}({','.join(parts)})"


def of_training(sha256: Mapping[str, str]) -> str:
    """One fingerprint of all that decides a pre-trained network beside its settings: code, and images by checksum."""
    content = repr((sorted(code(PRETRAINING).items()), sorted(sha256.items())))
    return hashlib.sha256(content.encode()).hexdigest()[:LETTERS]


def data(run: RunConfig, folder: Path | None = None) -> dict[str, str]:
    """The SHA-256 of each file that the run would read from `folder`, else from ISONB_DATA, by name.

    Empty where there is nothing to compare: the photographs come with packages and their crops are decided by code,
    and CIFAR-10 that is not at hand will be the published one.
    """
    named = folder or os.environ.get("ISONB_DATA")
    if run.data != "cifar10" or not named:
        return {}
    root = Path(named).expanduser()
    found = (
        [place / name for name in CIFAR10_FILES if (place / name).exists()] for place in (root, root / CIFAR10_FOLDER)
    )
    files = next((paths for paths in found if {path.name for path in paths} & {*CIFAR10_TRAIN}), [])
    return {path.name: _of_file(path, path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@functools.lru_cache(maxsize=32)
def _of_file(path: Path, size: int, time: int) -> str:
    """The SHA-256 of a file; its size and time of change tell a long-lived process to look again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
