"""Whether memory that was freed is there at once when it is asked for again."""

import subprocess
import sys

import pytest

STEPS = """
import resource, torch
from isonb.training.allocator import keep_freed_memory
{first}
def step():
    return [torch.zeros(size * 2**20, dtype=torch.uint8) for size in (9, 17, 33, 3)]
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def fresh_pages(first):
    command = [sys.executable, "-c", STEPS.format(first=first)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only glibc gives memory back in this way")
def test_freed_memory_is_kept_for_the_next_step():
    assert fresh_pages("keep_freed_memory()") < fresh_pages("") / 2
