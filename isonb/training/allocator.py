"""How this process asks its system for memory.

Book: chapter "Training".
"""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
NEVER = 2**30  # bytes


def keep_freed_memory() -> None:
    """Keep what a step frees for the next one: glibc would return large tensors and take fresh pages, zero by zero."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(MMAP_THRESHOLD, NEVER)
        libc.mallopt(TRIM_THRESHOLD, NEVER)
