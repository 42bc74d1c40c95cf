"""Room for the pooled features of all layers: memory where they fit, else a file that the system reads as it is asked.

Book: chapter "Probing".
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile

import torch
from jaxtyping import Float
from torch import Tensor

from isonb import disk, places

MEMORY = 8 * 2**30  # bytes of one set of features that are held in memory


class NoRoomError(ValueError):
    """Features that neither fit into memory nor on the disk; its message is one sentence."""


def of(layers: int, images: int, width: int, dtype: torch.dtype) -> Float[Tensor, "L B F"]:
    """Room for so many numbers, not yet filled; a file has no name any more, so nothing of it is left behind.

    Raises `NoRoomError` where the disk has less than that.
    """
    numbers = layers * images * width
    needed = numbers * dtype.itemsize
    if needed <= MEMORY:
        return torch.empty(layers, images, width, dtype=dtype)
    folder = places.runs_folder("features")
    disk.require_writable(folder)
    if (free := shutil.disk_usage(folder).free) < needed:
        raise NoRoomError(
            f"The features of {layers} layers take {needed / 2**30:.1f} GiB, more than memory is to hold, and {folder} "
            f"has room for {free / 2**30:.1f} GiB: make room there, set ISONB_RUNS to another folder, or choose "
            "probe_pooling='mean' or a smaller data_fraction."
        )
    descriptor, name = tempfile.mkstemp(dir=folder)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, needed)  # else a disk that fills up would end the process
        else:
            os.truncate(descriptor, needed)
        mapped = torch.from_file(name, shared=True, size=numbers, dtype=dtype)
    finally:
        os.close(descriptor)
        os.unlink(name)
    return mapped.view(layers, images, width)


def groups(layers: int, bytes_of_a_layer: int) -> list[slice]:
    """The layers, in order, in as few groups as are held in memory; all at once where they fit."""
    at_once = max(1, min(layers, MEMORY // max(bytes_of_a_layer, 1)))
    even = math.ceil(layers / math.ceil(layers / at_once))
    return [slice(first, min(first + even, layers)) for first in range(0, layers, even)]
