"""Work that is repeated unchanged, recorded once as a CUDA graph: one launch in the place of hundreds.

Everything that changes between two repetitions must lie in tensors that stay where they are.
Book: chapter "Training".
"""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import Callable, Iterator

import torch

from isonb.training import allocator
from isonb.validation import in_brief

WARM_UPS = 3  # on a stream of their own, so that libraries allocate before, not while it is recorded


def is_possible(device: torch.device) -> bool:
    """Whether work on this device can be recorded."""
    return device.type == "cuda"


def repeatable(work: Callable[[], None], device: torch.device, is_recorded: bool = True) -> Callable[[], None]:
    """What does `work` again; on a GPU by replaying a recording, unless that is not wanted.

    To be recorded it is done a few times first, and once to warm up everywhere: what it then leaves in its tensors is
    the caller's to undo. Where it cannot be recorded a warning says so, and it is done step by step.
    """
    if not (is_recorded and is_possible(device)):
        with _without_hints():
            work()
        return work
    here, aside = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    aside.wait_stream(here)
    with _without_hints(), torch.cuda.stream(aside):
        for _ in range(WARM_UPS):
            work()
    here.wait_stream(aside)
    gc.collect()  # a cycle could hold what autograd has made on that stream, which a recording may not wait for
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            work()
    except RuntimeError as error:
        if allocator.is_full(error):
            raise
        torch.cuda.synchronize(device)
        warnings.warn(f"Steps are not recorded on this GPU, and slower: {in_brief(str(error))}", stacklevel=2)
        return work
    return graph.replay


@contextlib.contextmanager
def _without_hints() -> Iterator[None]:
    """Without torch's own advice, which nobody can follow here: on TF32, on optimisers that are not recorded yet."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\.")
        yield
