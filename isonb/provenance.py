"""Where a result comes from: the images that a run read, the machine and software it ran on, and what the network is.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

from isonb.validation import Frozen


class Data(Frozen):
    """The images a run really read."""

    name: str
    classes: list[str]
    train: int
    validation: int
    test: int
    sha256: dict[str, str]


class Environment(Frozen):
    """Where and how the run computed."""

    isonb: str
    python: str
    torch: str
    numpy: str
    platform: str
    device: str
    processes: int
    threads: int
    precision: str
    compiled: bool
    git_revision: str | None
    git_dirty: bool | None


class Counts(Frozen):
    """Operations and parameters, counted from the network itself."""

    parameters: int
    parameters_per_block: int
    multiply_accumulates: int
    multiply_accumulates_per_block: int
