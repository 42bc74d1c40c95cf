"""The kernel that executes notebooks and chapters: this interpreter, without anybody's configuration.

Jupyter would start whatever `python3` the person or the site has registered, and IPython would first run their profile,
their startup files and PYTHONSTARTUP: numbers and pages would then depend on whose machine it is.

Where ISONB_NOTES names a file, a kernel notes there what it reads: so the book can tell which chapters have to be
executed again.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from isonb import surroundings

NAME = "python3"  # what notebooks and chapters ask for
IGNORED = (
    "PYTHONSTARTUP", "IPYTHON_SUPPRESS_CONFIG_ERRORS", "JUPYTER_DEFAULT_PROVISIONER_NAME", "MPLBACKEND",
    "TORCHELASTIC_RUN_ID",  # says that torchrun has started this process, which it has not
)  # fmt: skip
FOLDERS = ("JUPYTER_PATH", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
NOTES = "ISONB_NOTES"  # the file for what a kernel reads
READ, SEEN, BEYOND = "read", "seen", "beyond"  # content or listing; whether and what it is; what notes cannot follow
READS = ("open", "os.listdir", "os.scandir", "sqlite3.connect")
GOES_BEYOND = (
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty",
    "socket.connect", "socket.getaddrinfo",
)  # fmt: skip


@contextlib.contextmanager
def ours(provisioner: str | None = None) -> Iterator[Path]:
    """Let this process and those that it starts know no other kernel; gives a folder for what lives as long.

    Environment variables say so, and are what they were afterwards. `provisioner` is what starts kernels, by the name
    under which Jupyter knows it; None for an ordinary process each.
    """
    before = {name: os.environ.get(name) for name in (*IGNORED, *FOLDERS)}
    with tempfile.TemporaryDirectory(
        prefix="isonb-", dir=surroundings.folder_for_sockets(), ignore_cleanup_errors=True
    ) as folder:
        specification = Path(folder) / "kernels" / NAME / "kernel.json"
        specification.parent.mkdir(parents=True)
        command = [sys.executable, "-m", "isonb.kernel", "-f", "{connection_file}"]
        content = {"argv": command, "display_name": "Python 3", "language": "python"}
        if provisioner:
            content["metadata"] = {"kernel_provisioner": {"provisioner_name": provisioner}}
        specification.write_text(json.dumps(content), encoding="utf-8")
        for name in IGNORED:
            os.environ.pop(name, None)
        os.environ |= dict.fromkeys(FOLDERS, folder)
        try:
            yield Path(folder)
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def note_inputs(path: Path) -> None:
    """From now on, note what this process reads and looks for: a line of JSON for each kind and absolute path.

    Modules that are loaded already count as read. What C code opens without asking Python is not seen, unless Python
    has looked whether it is there. Raises `OSError` where `path` cannot be written.
    """
    stream = path.open("w", encoding="utf-8")
    noted: set[tuple[str, str]] = set()

    def note(kind: str, what: str) -> None:
        if (kind, what) not in noted:
            noted.add((kind, what))
            stream.write(json.dumps([kind, what]) + "\n")
            stream.flush()

    def note_path(kind: str, named: object) -> None:
        if isinstance(named, str | bytes | os.PathLike):  # an open file has been noted by its name
            note(kind, _source(os.path.abspath(os.fsdecode(named))))

    def hear(event: str, details: tuple[Any, ...]) -> None:
        if event in READS and not (event == "os.listdir" and _is_import(sys._getframe(1).f_code.co_filename)):
            note_path(READ, "." if details[0] is None else details[0])
        elif event in GOES_BEYOND:
            note(BEYOND, event)

    for module in list(sys.modules.values()):
        note_path(READ, getattr(module, "__file__", None))
    os.stat, os.lstat = _noting(os.stat, note_path), _noting(os.lstat, note_path)
    sys.addaudithook(hear)


def _is_import(code_file: str) -> bool:
    return code_file.startswith("<frozen importlib") or code_file == importlib.metadata.__file__


def _source(path: str) -> str:
    """The source of a compiled module; any other path as it is."""
    if path.endswith(".pyc"):
        with contextlib.suppress(ValueError):
            return importlib.util.source_from_cache(path)
    return path


def _noting(look: Callable[..., os.stat_result], note_path: Callable[[str, object], None]) -> Callable[..., Any]:
    """`os.stat` or `os.lstat`, which no audit event tells of."""

    @functools.wraps(look)
    def noted(path: Any, *args: Any, **options: Any) -> os.stat_result:
        note_path(SEEN, path)
        return look(path, *args, **options)

    return noted


def serve() -> None:
    """Be such a kernel, as `ipykernel_launcher` is, without what the site has put into its folders for IPython."""
    if sys.path[0] in ("", str(Path.cwd())):
        del sys.path[0]  # the working folder comes back, behind the modules that the kernel itself needs
    from IPython.core import application

    application.ENV_CONFIG_DIRS.clear()
    application.SYSTEM_CONFIG_DIRS.clear()
    from ipykernel import kernelapp

    if notes := os.environ.pop(NOTES, None):
        platform.processor()  # asks another program, once
        note_inputs(Path(notes))
    kernelapp.launch_new_instance()


if __name__ == "__main__":
    try:
        serve()
    except KeyboardInterrupt:  # before it had begun
        sys.exit(1)
