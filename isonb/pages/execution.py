"""The execution of chapters: before Sphinx reads them, several at a time, and only where something has changed.

The kernel notes which files and folders a chapter reads or looks for. The executed chapter is kept below
`_build/executed` with the SHA-256 of each of them, its code, the versions of Python and of all packages, the machine
and the environment variables that decide on numbers. If one of these is not what it was, the chapter is executed again.
What failed, started other programs or used the network is not kept, nor is a chapter whose files changed meanwhile.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
import sysconfig
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import myst_nb.sphinx_
import nbclient
import nbformat
import traitlets.config
from myst_nb.core.execute.base import NotebookClientBase
from myst_nb.core.read import create_nb_reader
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.console import strip_escape_sequences

from isonb import disk, kernel, machine, surroundings
from isonb.pages import judged, warm

MOST = 4  # kernels at a time; each takes about half a gigabyte of memory
LARGEST = 2**28  # bytes of an executed chapter
VARIABLES = (  # what the names of those begin with that decide on numbers
    "ISONB_", "PYTHON", "OMP_", "MKL_", "KMP_", "OPENBLAS_", "BLIS_", "VECLIB_", "NUMEXPR_", "DNNL_", "ONEDNN_",
    "ATEN_", "TORCH", "PYTORCH_", "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "LANG", "LC_", "TZ", "MPL", "SOURCE_DATE_EPOCH",
)  # fmt: skip
# What the versions of Python and of the packages stand for, and what the system makes up
LIBRARIES = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
THE_ENVIRONMENTS = tuple(f"{folder}/" for folder in (*LIBRARIES, "/proc", "/sys", "/dev"))
START = 300  # seconds that a kernel may take to start on a busy machine
OF_THE_KERNEL = ("language_info", "widgets")  # metadata that executing a notebook adds

logger = logging.getLogger(__name__)
_executed: dict[str, Chapter] = {}  # by file


@dataclasses.dataclass
class Chapter:
    """A chapter with code: its page's name, its file, its notebook, and where that is kept once it is executed."""

    page: str
    path: Path
    notebook: nbformat.NotebookNode
    kept: Path

    @property
    def name(self) -> str:
        """What it is called while the book is built."""
        return self.page.removeprefix("book/")

    @property
    def judged(self) -> Path:
        """The folder, one for all chapters, that keeps the verdicts on studies while the book is built."""
        executed = next(folder for folder in self.kept.parents if folder.name == "executed")
        return executed.with_name("judged")


def chapters(app: Sphinx, pages: Iterable[str]) -> list[Chapter]:
    """The chapters with code among some pages; executed cells are shown as papermill left them."""
    some = []
    for page in pages:
        path = Path(app.env.doc2path(page))
        if path.suffix != ".md":
            continue
        text = path.read_text(encoding="utf-8")
        if reader := create_nb_reader(str(path), app.env.myst_config, app.env.mystnb_config, text):
            kept = Path(app.outdir).parent / "executed" / f"{page}.json"
            some.append(Chapter(page, path, reader.read(text), kept))
    return [chapter for chapter in some if _code_cells(chapter.notebook)]


def _code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _code(notebook: nbformat.NotebookNode) -> list[list[Any]]:
    return [[cell.source, cell.metadata.get("tags", [])] for cell in _code_cells(notebook)]


@functools.cache
def circumstances() -> dict[str, Any]:
    """What decides on every chapter's outputs beside its own code and the files that it reads."""
    variables = {name for name in os.environ if name.startswith(VARIABLES)} - {*kernel.IGNORED}
    packages = {f"{one.metadata['Name']}=={one.version}" for one in importlib.metadata.distributions()}
    return {
        "python": sys.version,
        "platform": platform.platform(),
        "cores": machine.cores(),
        "packages": sorted(packages),
        "variables": {name: os.environ[name] for name in sorted(variables)},
        "execution": state(kernel.READ, __file__),
    }


def state(kind: str, path: str) -> str:
    """What a note's path is now: a file's SHA-256, what a folder holds where it was read, or that nothing is there."""
    try:
        if os.path.isdir(path):
            return f"folder {sorted({*os.listdir(path)} - {'__pycache__'})}" if kind == kernel.READ else "folder"
        if not os.path.isfile(path):
            return "other" if os.path.lexists(path) else "missing"
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable ({error.strerror})"


def kept(chapter: Chapter, state: Callable[[str, str], str] = state) -> nbformat.NotebookNode | None:
    """A chapter's executed notebook, if all that it came from is as it was."""
    try:
        content = disk.read_json(chapter.kept, LARGEST)
        is_unchanged = (
            content["chapter"] == str(chapter.path)  # and no other checkout's
            and content["code"] == _code(chapter.notebook)
            and content["circumstances"] == circumstances()
            and all(state(kind, path) == before for kind, path, before in content["inputs"])
        )
        return nbformat.from_dict(content["notebook"]) if is_unchanged else None
    except (disk.Unreadable, KeyError, TypeError, ValueError):
        return None


def _keep(chapter: Chapter, notes: Path, began: int) -> None:
    """Keep an executed chapter, unless what it came from cannot be told or has changed since it began."""
    noted = [json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines()]
    temporary = (notes.parent, chapter.judged)  # what is judged is named by the content of all that it came from
    left_out = (
        *THE_ENVIRONMENTS,
        *(f"{place}/" for folder in temporary for place in (folder, os.path.realpath(folder))),
    )
    inputs = [(kind, path) for kind, path in noted if not f"{path}/".startswith(left_out)]
    if any(kind == kernel.BEYOND or _changed(kind, path) >= began for kind, path in inputs):
        chapter.kept.unlink(missing_ok=True)
        return
    content = {
        "chapter": str(chapter.path),
        "code": _code(chapter.notebook),
        "circumstances": circumstances(),
        "inputs": [(kind, path, state(kind, path)) for kind, path in inputs],
        "notebook": chapter.notebook,
    }
    disk.write_atomically(chapter.kept, json.dumps(content).encode())


def _changed(kind: str, path: str) -> int:
    """When what was read of a path last changed, in nanoseconds of the disk's clock; 0 where nothing is."""
    try:
        if os.path.isdir(path):
            return os.stat(path).st_mtime_ns if kind == kernel.READ else 0
        return os.stat(path).st_ctime_ns
    except OSError:
        return 0


async def _execute(chapter: Chapter, turn: asyncio.Semaphore, folder: Path, timeout: int) -> str:
    """Execute a chapter in place; returns why that failed, or nothing. `folder` is one for what lives as long."""
    async with turn:
        start, notes = time.monotonic(), folder / f"{chapter.page.replace('/', '-')}.notes"
        notes.touch()
        began = notes.stat().st_ctime_ns
        # Sockets in a short-lived folder: kernels that start at the same moment can collide on network ports.
        transport = {
            "transport": "ipc" if surroundings.has_room(folder.parent) else "tcp",
            "connection_file": str(notes.with_suffix(".json")),
        }
        client = nbclient.NotebookClient(
            chapter.notebook,
            resources={"metadata": {"path": str(chapter.path.parent)}},
            timeout=timeout,
            startup_timeout=START,
            record_timing=False,
            shutdown_kernel="immediate",
            config=traitlets.config.Config(KernelManager=transport),
        )
        told = {
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),  # others run beside it
            "TMPDIR": str(folder),  # which goes with all that its kernel, stopped at once, leaves there
            kernel.NOTES: str(notes),
            judged.FOLDER: str(chapter.judged),
        }
        fault = ""
        try:
            await client.async_execute(env=os.environ | told)
            _keep(chapter, notes, began)
        except Exception as error:  # a cell that raises, a dead kernel, a timeout: each has its own class
            fault = strip_escape_sequences(str(error)) or type(error).__name__
            chapter.kept.unlink(missing_ok=True)
        print(f"{chapter.name}: {'failed' if fault else 'executed'}, {time.monotonic() - start:.1f} s", flush=True)
        return fault


async def _execute_all(some: Sequence[Chapter], folder: Path, timeout: int) -> list[str]:
    turn = asyncio.Semaphore(min(machine.cores(), MOST))
    return await asyncio.gather(*(_execute(chapter, turn, folder, timeout) for chapter in some))


def _in_a_thread(work: Coroutine[Any, Any, list[str]]) -> list[str]:
    """What the work returns; Ctrl-C cancels it, which nbclient would keep for itself in the main thread."""
    with asyncio.Runner() as runner, ThreadPoolExecutor(1) as thread:
        loop = runner.get_loop()
        task = loop.create_task(work)
        result = thread.submit(loop.run_until_complete, task)
        try:
            return result.result()
        except KeyboardInterrupt:
            loop.call_soon_threadsafe(task.cancel)
            raise


def execute(app: Sphinx, env: BuildEnvironment, pages: list[str]) -> None:
    """Execute those of the chapters about to be read that have changed, and say so of each."""
    look = functools.cache(state)
    to_do = []
    for chapter in chapters(app, pages):
        notebook = kept(chapter, look)
        if notebook:
            chapter.notebook = notebook
            print(f"{chapter.name}: unchanged", flush=True)
        else:
            to_do.append(chapter)
        _executed[str(chapter.path)] = chapter
    if to_do:
        judged.forget(to_do[0].judged)
    with kernel.ours(warm.register()) as folder:
        faults = _in_a_thread(_execute_all(to_do, folder, app.config.nb_execution_timeout))
    for chapter, fault in zip(to_do, faults, strict=True):
        if fault:
            logger.warning("%s", _sentence(chapter, fault), location=chapter.page)
    print(f"{len(pages)} pages are being read and written", flush=True)


def outdated(app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """The chapters whose text is as it was, and which have to be read again all the same."""
    look = functools.cache(state)
    return [chapter.page for chapter in chapters(app, env.found_docs - added - changed) if not kept(chapter, look)]


def _sentence(chapter: Chapter, fault: str) -> str:
    """Which cell of a chapter failed, and how."""
    for number, cell in enumerate(_code_cells(chapter.notebook), start=1):
        if cell.execution_count is None or any(output.output_type == "error" for output in cell.outputs):
            return f"{chapter.name} failed at its code cell {number}:\n{fault}"
    return f"{chapter.name} failed:\n{fault}"


class _Shown(NotebookClientBase):
    """Fills a notebook that MyST-NB has read with the outputs of the executed one."""

    def start_client(self) -> None:
        if self.path is None or self.path.suffix == ".ipynb":
            return
        chapter = _executed.get(str(self.path))
        if chapter is None or _code(chapter.notebook) != _code(self.notebook):
            self.logger.warning("The chapter was changed while the book was being built: build it again.")
            return
        for cell, executed in zip(_code_cells(self.notebook), _code_cells(chapter.notebook), strict=True):
            cell.outputs, cell.execution_count = executed.outputs, executed.execution_count
        kernels = {name: value for name, value in chapter.notebook.metadata.items() if name in OF_THE_KERNEL}
        self.notebook.metadata.update(kernels)


def _client(notebook: Any, source: str, nb_config: Any, log: Any, read_fmt: Any = None) -> NotebookClientBase:
    return _Shown(notebook, Path(source), nb_config, log)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register all of this with Sphinx."""
    myst_nb.sphinx_.create_client = _client  # MyST-NB has no setting for it
    app.connect("env-get-outdated", outdated)
    app.connect("env-before-read-docs", execute)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
