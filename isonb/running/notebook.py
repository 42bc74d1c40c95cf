"""One papermill execution of one notebook, and whether it succeeded.

papermill calls a notebook complete even if its kernel died or a cell called `sys.exit(0)`, so success is judged by what
must be there afterwards: every code cell has run without an error.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import papermill
import traitlets.config

from isonb import kernel, machine, surroundings
from isonb.running import heartbeat
from isonb.validation import in_brief

SHORT_OF_MEMORY = "the system killed a process for want of memory: run fewer cells at once, or set micro_batch"
START = 300  # seconds that a kernel may take to start on a busy machine


def execute(
    template: Path, output: Path, values: Mapping[str, Any], log: Path, timeout: float | None, progress: bool
) -> str:
    """Execute a template into `output`; returns what went wrong in a few words, or nothing.

    What the notebook prints goes to `log`; `timeout` is in seconds for each cell; `progress` draws a bar. A kernel that
    hangs is stopped. Raises `ConfigError` where ISONB_PATIENCE is no time.
    """
    killed = machine.memory_kills()
    with heartbeat.watched(log) as is_hung:
        fault = _execute(template, output, values, log, timeout, progress)
    if is_hung.is_set():
        return heartbeat.words()
    if fault and machine.memory_kills() > killed:
        fault += f" ({SHORT_OF_MEMORY})"
    return in_brief(fault)


def _execute(
    template: Path, output: Path, values: Mapping[str, Any], log: Path, timeout: float | None, progress: bool
) -> str:
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns of parameters that it does not recognise as such
    with kernel.ours() as folder, log.open("w", encoding="utf-8", errors="backslashreplace") as stream:
        # Sockets in a short-lived folder: kernels that start at the same moment can collide on network ports.
        # Where no short folder can be written, the name of a socket would be too long.
        transport = {
            "transport": "ipc" if surroundings.has_room(folder.parent) else "tcp",
            "connection_file": f"{folder}/kernel.json",
        }
        try:
            papermill.execute_notebook(
                template,
                output,
                dict(values),
                kernel_name=kernel.NAME,
                progress_bar=progress,
                stdout_file=stream,
                stderr_file=stream,
                start_timeout=START,
                execution_timeout=timeout,
                shutdown_kernel="immediate",  # it has nothing left to do, and takes a second to find that out
                coalesce_streams=True,  # of a progress bar the last state stays
                config=traitlets.config.Config(KernelManager=transport),
            )
        except papermill.PapermillExecutionError as error:
            return f"{error.ename}: {error.evalue}" if error.evalue else error.ename
        except Exception as error:  # a dead kernel, a timeout, a template that cannot be read: each has its own class
            return f"{type(error).__name__}: {str(error) or 'no message'}"
    return _unfinished(nbformat.read(output, as_version=4))


def _unfinished(notebook: nbformat.NotebookNode) -> str:
    """What shows that an execution did not reach its end, in a few words, or nothing."""
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        errors = [output for output in cell.outputs if output.output_type == "error"]
        if errors:
            return f"cell {number} raised {errors[0].ename}: {errors[0].evalue}"
        if cell.execution_count is None:
            return f"cell {number} was not executed"
    return ""


def cleaned(executed: Path) -> bytes:
    """An executed notebook's content without what differs from one execution to the next: times, paths, ids."""
    notebook = nbformat.read(executed, as_version=4)
    for name in ("papermill", "widgets"):
        notebook.metadata.pop(name, None)
    for cell in notebook.cells:
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"
    return nbformat.writes(notebook).encode()
