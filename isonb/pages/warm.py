"""Kernels that need not load the libraries: forks of one process that has, for the many chapters of a book.

torch, scipy, pandas, matplotlib and IPython take a kernel several seconds of computing. Of the project itself nothing
is loaded before the fork, so that what a chapter reads of it is noted in its own kernel.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import importlib.metadata
import multiprocessing.connection
import multiprocessing.process
import os
import sys
import threading
import types
import warnings
from collections.abc import Mapping
from typing import Any

from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from isonb import kernel

NAME = "isonb-warm"
LIBRARIES = [
    "isonb",  # which says what need not be loaded, and nothing else
    "ipykernel.ipkernel", "ipykernel.kernelapp", "ipykernel.zmqshell", "IPython.display", "ipywidgets",
    "matplotlib.axes", "matplotlib.figure", "pandas", "PIL.Image", "pydantic", "scipy.stats", "torch",
]  # fmt: skip
THREADS = "OMP_NUM_THREADS"  # which libraries read when they are loaded


def register() -> str | None:
    """Tell Jupyter of such kernels; returns the name under which a kernel's specification asks for them.

    None where forks of a process with libraries loaded are not safe: everywhere but on Linux.
    """
    if sys.platform != "linux":
        return None
    factory = KernelProvisionerFactory.instance()
    value = f"{__name__}:{Provisioner.__name__}"
    factory.provisioners[NAME] = importlib.metadata.EntryPoint(NAME, value, KernelProvisionerFactory.GROUP_NAME)
    return NAME


class Provisioner(LocalProvisioner):
    """Starts a kernel as a fork; as any other where that fails."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Be asked by Jupyter, with the command of an ordinary kernel, its environment and its folder."""
        environment, folder = kwargs["env"], kwargs.get("cwd") or os.getcwd()
        arguments = cmd[cmd.index(kernel.__name__) :]
        process = multiprocessing.get_context("forkserver").Process(
            target=_serve, args=(arguments, dict(environment), folder)
        )
        try:
            _start(process, environment)
        except (OSError, EOFError):
            return await super().launch_kernel(cmd, **kwargs)
        self.process = _Fork(process)
        self.pid = self.pgid = process.pid  # it leads a group of its own as soon as it runs
        self.cwd = folder
        return self.connection_info


class _Fork:
    """A process as Jupyter expects one: with the methods of `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, process: multiprocessing.process.BaseProcess) -> None:
        self._process = process
        self.pid = process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def terminate(self) -> None:
        self._process.terminate()


def _start(process: multiprocessing.process.BaseProcess, environment: Mapping[str, str]) -> None:
    """Start a fork. The first one starts the process that loads the libraries."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(LIBRARIES)
    main, threads = sys.modules["__main__"], os.environ.pop(THREADS, None)
    sys.modules["__main__"] = types.ModuleType("__main__")  # else a fork would run the whole program's script again
    try:
        os.environ |= {THREADS: environment[THREADS]} if THREADS in environment else {}
        with warnings.catch_warnings():  # of helpers that have been killed: they are started anew
            warnings.filterwarnings("ignore", "resource_tracker: process died unexpectedly")
            process.start()
    finally:
        sys.modules["__main__"] = main
        os.environ.pop(THREADS, None)
        os.environ |= {} if threads is None else {THREADS: threads}


def _serve(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """In the fork: be the kernel that the command would have started, and end with the process that asked for it."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"]  # its variable was read before the fork
    multiprocessing.set_start_method(None, force=True)  # a chapter's own processes start as usual
    threading.Thread(target=_end_with_parent, daemon=True).start()
    kernel.serve()


def _end_with_parent() -> None:
    multiprocessing.connection.wait([multiprocessing.process.parent_process().sentinel])
    os._exit(1)
