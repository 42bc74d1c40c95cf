"""The kernel that executes notebooks and chapters: this interpreter, without anybody's configuration.

Jupyter would start whatever `python3` the person or the site has registered, and IPython would first run their profile,
their startup files and PYTHONSTARTUP: numbers and pages would then depend on whose machine it is.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from isonb import surroundings

NAME = "python3"  # what notebooks and chapters ask for
IGNORED = ("PYTHONSTARTUP", "IPYTHON_SUPPRESS_CONFIG_ERRORS", "JUPYTER_DEFAULT_PROVISIONER_NAME", "MPLBACKEND")
FOLDERS = ("JUPYTER_PATH", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")


@contextlib.contextmanager
def ours() -> Iterator[Path]:
    """Let this process and those that it starts know no other kernel; gives a folder for what lives as long.

    Environment variables say so, and are what they were afterwards.
    """
    before = {name: os.environ.get(name) for name in (*IGNORED, *FOLDERS)}
    with tempfile.TemporaryDirectory(
        prefix="isonb-", dir=surroundings.folder_for_sockets(), ignore_cleanup_errors=True
    ) as folder:
        specification = Path(folder) / "kernels" / NAME / "kernel.json"
        specification.parent.mkdir(parents=True)
        command = [sys.executable, "-m", "isonb.kernel", "-f", "{connection_file}"]
        specification.write_text(
            json.dumps({"argv": command, "display_name": "Python 3", "language": "python"}), encoding="utf-8"
        )
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


def _serve() -> None:
    """Be such a kernel, as `ipykernel_launcher` is, without what the site has put into its folders for IPython."""
    if sys.path[0] in ("", str(Path.cwd())):
        del sys.path[0]  # the working folder comes back, behind the modules that the kernel itself needs
    from IPython.core import application

    application.ENV_CONFIG_DIRS.clear()
    application.SYSTEM_CONFIG_DIRS.clear()
    from ipykernel import kernelapp

    kernelapp.launch_new_instance()


if __name__ == "__main__":
    try:
        _serve()
    except KeyboardInterrupt:  # before it had begun
        sys.exit(1)
