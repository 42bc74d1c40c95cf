"""Peak memory of a training step against the number of positions: every measurement in a process of its own."""

from __future__ import annotations

import ctypes
import itertools
import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import steps
import torch
from torch import Tensor

from isonb.config import RunConfig
from isonb.features import even_colours
from isonb.models.blocks import TransformerBlock
from isonb.training import data
from isonb.training.allocator import MMAP_THRESHOLD, TRIM_THRESHOLD

NAIVE = "attention, every weight kept"
KINDS = {  # what is measured, and the block it is made of
    NAIVE: {"block": "transformer"},
    f"{NAIVE}, 4 heads": {"block": "transformer", "heads": 4},
    "attention, memory-efficient": {"block": "transformer"},
    "attention, memory-efficient, 4 heads": {"block": "transformer", "heads": 4},
    "mixer": {"block": "mixer"},
    "conv": {"block": "conv"},
}
SIZES = (16, 24, 32, 40)  # at 40 rows and columns the largest step takes about 4 GB
BATCHES = (8, 32)
SMALLEST = 2**16  # bytes from which a tensor has pages of its own


def naive_attention(self: TransformerBlock, x: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d_head)) V with all its N x N weights in memory, as the paper computed it."""
    q, k, v = (f(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
    weights_BHNN = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]), dim=-1)
    return self.output((weights_BHNN @ v).transpose(1, 2).flatten(2))


def return_every_tensor() -> None:
    """Let every tensor have pages of its own, returned when it is freed: the peak is then what a step holds at once.

    The trainer keeps what it has freed, in pieces of which the next may find none that fits.
    """
    libc = ctypes.CDLL(None)
    libc.mallopt(MMAP_THRESHOLD, SMALLEST)
    libc.mallopt(TRIM_THRESHOLD, SMALLEST)


def measure(kind: str, size: int, batch_size: int) -> dict[str, Any]:
    """Bytes that a process of depth 1 in float32 needs beyond what it had before its network was made."""
    if kind.startswith(NAIVE):
        TransformerBlock.attention = naive_attention
    peak = peak_bytes(RunConfig(**KINDS[kind], image_size=size, batch_size=batch_size), kind)
    return {"kind": kind, "positions": size * size, "batch": batch_size, "peak_bytes": peak}


def peak_bytes(config: RunConfig, kind: str) -> int:
    """Bytes that this process needs for a step in float32 beyond what it had before its network was made."""
    size, batch_size = config.image_size, config.batch_size
    pixels_BNC = torch.randint(256, (batch_size, size * size, 3), dtype=torch.uint8)
    split = data.Split(pixels_BNC, torch.zeros(batch_size, dtype=torch.int64), torch.arange(batch_size))
    images = data.Images("noise", ("noise",), size, split, split, split, {}, palette_KC=even_colours())
    steps.trainer(RunConfig(block="conv", image_size=8, batch_size=1), _only(images, 8), "first").warm_up(1)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    one = steps.trainer(config, images, kind, precision="float32")
    return_every_tensor()
    for number in range(2):  # the second step has Adam's state as well
        one.step(number)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return peak - before


def _only(images: data.Images, size: int) -> data.Images:
    """One image of that size: for a step that loads whatever torch loads at its first."""
    split = data.Split(images.train.pixels_BNC[:1, : size * size], torch.zeros(1, dtype=torch.int64), torch.arange(1))
    return data.Images(name="one", classes=("noise",), size=size, train=split, validation=split, test=split, sha256={})


def run() -> Iterator[dict[str, Any]]:
    """Every kind, size and batch. Linux only: it reads /proc."""
    for kind, batch_size, size in itertools.product(KINDS, BATCHES, SIZES):
        command = [sys.executable, __file__, kind, str(size), str(batch_size)]
        yield json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
