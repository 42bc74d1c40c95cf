"""What every test shares: results and working files go to a temporary folder, and a process computes on one thread.

Both are set in the environment, so that the kernels of notebooks and the subprocesses of tests inherit them.
"""

import os
import tempfile

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: the processes of pytest-xdist share the cores


def pytest_configure(config: pytest.Config) -> None:
    folder = tempfile.TemporaryDirectory(prefix="isonb-tests-")
    config.add_cleanup(folder.cleanup)
    os.environ["ISONB_RESULTS"] = os.path.join(folder.name, "results")
    os.environ["ISONB_RUNS"] = os.path.join(folder.name, "runs")
