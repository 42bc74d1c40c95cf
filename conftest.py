"""What every test shares: a temporary folder for results and working files, one thread a process, and the own kernel.

All are set in the environment, so that the kernels of notebooks and the subprocesses of tests inherit them.
"""

import collections
import contextlib
import os
import signal
import tempfile

import pytest
import threadpoolctl

from isonb import kernel, records

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: the processes of pytest-xdist share the cores

# These files take longest and come first, so that at the end no process waits long for another; `cell` is a notebook.
SLOWEST = ("own", "browser", "book", "launch", "driver", "cell", "ahead", "notebooks", "claims", "execution",
           "mutations", "numerics", "explorer_browser", "resumption", "explorer")  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    folder = tempfile.TemporaryDirectory(prefix="isonb-tests-")
    config.add_cleanup(folder.cleanup)
    os.environ["ISONB_RESULTS"] = os.path.join(folder.name, "results")
    os.environ["ISONB_RUNS"] = os.path.join(folder.name, "runs")
    threadpoolctl.threadpool_limits(1)  # of libraries that plugins have loaded before the variable was set
    _heed_signals()
    stack = contextlib.ExitStack()
    stack.enter_context(kernel.ours())
    config.add_cleanup(stack.close)


def _heed_signals() -> None:
    """Have what the tests start heed a request to stop, even where `nohup` or a shell's `&` lets these ignore it."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(autouse=True)
def without_reference_records(monkeypatch, tmp_path):
    """What has not run reads "not run", although the project comes with records; tests of these set them themselves."""
    monkeypatch.setattr(records, "REFERENCE", tmp_path / "no-reference")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    first = {name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: first.get(item.path.stem.removeprefix("test_"), len(first)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which files took longest."""
    seconds: collections.Counter[str] = collections.Counter()
    for report in (one for reports in terminalreporter.stats.values() for one in reports):
        if isinstance(report, pytest.TestReport):
            seconds[report.nodeid.partition("::")[0]] += report.duration
    if len(seconds) > 1:
        terminalreporter.section("slowest files")
        for name, taken in seconds.most_common(10):
            terminalreporter.write_line(f"{taken:6.0f} s  {name}")
