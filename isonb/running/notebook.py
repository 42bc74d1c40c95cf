"""One papermill execution of one notebook, and whether it succeeded.

papermill calls a notebook complete even if its kernel died or a cell called `sys.exit(0)`, so success is judged by what
must be there afterwards: every code cell has run without an error.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import papermill
import traitlets.config

from isonb import disk

START = 300  # seconds that a kernel may take to start on a busy machine


def execute(
    template: Path, output: Path, values: Mapping[str, Any], log: Path, timeout: float | None, progress: bool
) -> str:
    """Execute a template into `output`; returns what went wrong in a few words, or nothing.

    What the notebook prints goes to `log`; `timeout` is in seconds for each cell; `progress` draws a bar.
    """
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns of parameters that it does not recognise as such
    with tempfile.TemporaryDirectory(prefix="isonb-") as sockets, log.open("w") as stream:
        # Sockets in a short-lived folder: kernels that start at the same moment can collide on network ports.
        transport = {"transport": "ipc", "connection_file": f"{sockets}/kernel.json"}
        try:
            papermill.execute_notebook(
                template,
                output,
                dict(values),
                kernel_name="python3",
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
            return f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"
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


def keep(executed: Path, output: Path) -> None:
    """Move an executed notebook to `output`, without what differs from one execution to the next: times, paths, ids."""
    notebook = nbformat.read(executed, as_version=4)
    for name in ("papermill", "widgets"):
        notebook.metadata.pop(name, None)
    for cell in notebook.cells:
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"
    disk.write_atomically(output, nbformat.writes(notebook).encode())
    executed.unlink()
