"""This process among its peers: who they are, what they compute on, and how they add up what each of them has.

Book: chapter "Training".
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import sys
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.distributed as dist

from isonb import machine
from isonb.config import ConfigError, Execution
from isonb.training.rendezvous import agree_on_name

STARTED = "TORCHELASTIC_RUN_ID"  # set by torchrun alone; the others by every kind of cluster
TORCHRUN = (STARTED, "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LARGEST_PORT = 2**16 - 1
PATIENCE = datetime.timedelta(minutes=5)  # for peers that torchrun starts at the same moment


class WorldError(RuntimeError):
    """Processes that do not meet; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class World:
    """This process among its peers: rank, their number, and the device it computes on."""

    rank: int
    size: int
    device: torch.device

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        """The element-wise sum over all ranks; on one rank, x itself."""
        if self.size > 1:
            moved = x.to(self.device)
            dist.all_reduce(moved)
            return moved.to(x.device)
        return x

    def share(self, content: bytes) -> bytes:
        """Rank 0's bytes, on every rank. Hosts need no common disk."""
        if self.size == 1:
            return content
        content = content if self.rank == 0 else b""
        byte_S = torch.zeros(int(self.sum(torch.tensor(len(content)))), dtype=torch.uint8)
        if content:
            byte_S[:] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        return self.sum(byte_S).numpy().tobytes()


def is_under_torchrun() -> bool:
    """Whether torchrun has started this process; a cluster may leave WORLD_SIZE and the like where it has not."""
    return all(name in os.environ for name in TORCHRUN)


def is_leading() -> bool:
    """Whether this process is the one that writes files: the first of those that torchrun started, or alone.

    Raises `ConfigError` where what torchrun has set cannot be.
    """
    return _place().rank == 0


class Place(NamedTuple):
    """What torchrun says of a process: its rank, how many there are, and both for its own host alone."""

    rank: int
    size: int
    local_rank: int
    local_size: int


def _place() -> Place:
    """This process's place; the only one where torchrun has not started it. Raises `ConfigError` for what cannot be."""
    if not is_under_torchrun():
        return Place(0, 1, 0, 1)
    size = _number("WORLD_SIZE", 1, sys.maxsize)
    local_size = _number("LOCAL_WORLD_SIZE", 1, size, 1)
    _number("MASTER_PORT", 1, LARGEST_PORT)
    return Place(_number("RANK", 0, size - 1), size, _number("LOCAL_RANK", 0, size - 1, 0), local_size)


def _number(name: str, least: int, most: int, default: int | None = None) -> int:
    word = os.environ.get(name, str(default))
    if not (word.isascii() and word.isdecimal() and least <= int(word[:20]) <= most):
        raise ConfigError(
            f"{name}={word!r} is not what torchrun sets: start the processes by torchrun, or unset {STARTED} to train "
            "on one process."
        )
    return int(word)


@contextlib.contextmanager
def join_world(execution: Execution) -> Iterator[World]:
    """Take part in the process group that torchrun describes in the environment, or be alone.

    Raises `WorldError` where the others do not come in five minutes, and `ConfigError` as `is_leading` does.
    """
    place = _place()
    size = place.size
    on_gpu = execution.device == "cuda" or (execution.device == "auto" and torch.cuda.is_available())
    device = torch.device("cuda", place.local_rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    elif execution.threads or size > 1:
        torch.set_num_threads(execution.threads or max(1, machine.cores() // place.local_size))
    if size == 1:
        yield World(0, 1, device)
        return
    try:
        store, rank, _ = next(dist.rendezvous("env://", timeout=PATIENCE))
        store = dist.PrefixStore(agree_on_name(store, rank, size), store)
        dist.init_process_group("nccl" if on_gpu else "gloo", store=store, rank=rank, world_size=size)
    except dist.DistError as error:
        raise WorldError(
            f"The {size} processes of torchrun do not meet ({str(error).splitlines()[0]}): start all of them again, or "
            f"unset {STARTED} to train on one process."
        ) from None
    try:
        yield World(rank, size, device)
    finally:
        dist.destroy_process_group()
