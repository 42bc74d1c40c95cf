"""How this process asks its system for memory, and how a GPU says that it has none left.

Book: chapter "Training".
"""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
NEVER = 2**30  # bytes
FULL = (  # how torch, its libraries and the driver say so; cuDNN then finds no algorithm that it has memory for
    "out of memory",
    "ALLOC_FAILED",
    "unable to find an engine",
)


def keep_freed_memory() -> None:
    """Keep what a step frees for the next one: glibc would return large tensors and take fresh pages, zero by zero."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(MMAP_THRESHOLD, NEVER)
        libc.mallopt(TRIM_THRESHOLD, NEVER)


def is_full(error: BaseException | None) -> bool:
    """Whether a GPU's full memory is the cause of an error, or of one that it came from: not all are torch's own."""
    while error is not None:
        if isinstance(error, RuntimeError) and any(words in str(error) for words in FULL):
            return True
        error = error.__cause__ or error.__context__
    return False
