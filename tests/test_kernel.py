"""The kernel that executes notebooks: this interpreter, whatever a person or a site has configured."""

import json
import os
import sys

import nbformat
import pytest

from isonb import kernel
from isonb.running import notebook

SAYS = """
import os, sys
print(sys.executable, *sorted(name for name in globals() if name.startswith("left_by_")))
print(os.environ.get("PYTHONSTARTUP"), os.environ.get("http_proxy"), os.environ.get("CUDA_VISIBLE_DEVICES"))
import matplotlib
print("inline" in matplotlib.get_backend(), get_ipython().ast_node_interactivity)
"""


def profile(folder, startup="left_by_startup = 1", settings="c.InteractiveShell.ast_node_interactivity = 'all'"):
    """A person's or a site's folder for IPython."""
    for place in (folder / "profile_default", folder):
        (place / "startup").mkdir(parents=True)
        (place / "startup" / "00-mine.py").write_text(startup)
        (place / "ipython_config.py").write_text(settings)
        (place / "ipython_kernel_config.py").write_text(settings)
    return str(folder)


def other_kernel(folder, argv=("/bin/false",), **rest):
    """A folder in which Jupyter finds a kernel of the usual name."""
    place = folder / "kernels" / kernel.NAME
    place.mkdir(parents=True)
    (place / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "mine", "language": "python", **rest}))
    return str(folder)


def hostile(case, folder):
    """Environment variables, and files below a folder, of a person who has configured what notebooks run on."""
    (folder / "startup.py").write_text("left_by_pythonstartup = 1")
    return {
        "kernel": lambda: {"JUPYTER_PATH": other_kernel(folder)},
        "data folder": lambda: {"JUPYTER_DATA_DIR": other_kernel(folder), "JUPYTER_PREFER_ENV_PATH": "0"},
        "kernel of the home": lambda: {"HOME": str(folder), "made": other_kernel(folder / ".local/share/jupyter")},
        "kernel's variables": lambda: {
            "JUPYTER_PATH": other_kernel(folder, ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                                         env={"PYTHONSTARTUP": str(folder / "startup.py")})
        },
        "provisioner": lambda: {"JUPYTER_DEFAULT_PROVISIONER_NAME": "cluster"},
        "profile": lambda: {"IPYTHONDIR": profile(folder)},
        "broken profile": lambda: {"IPYTHONDIR": profile(folder, "1 / 0", "nonsense("),
                                   "IPYTHON_SUPPRESS_CONFIG_ERRORS": "maybe"},
        "profile of the home": lambda: {"HOME": str(folder), "made": profile(folder / ".ipython")},
        "working folder": lambda: {"made": profile(folder / "here")},
        "startup": lambda: {"PYTHONSTARTUP": str(folder / "startup.py")},
        "backend": lambda: {"MPLBACKEND": "nonsense"},
    }[case]()  # fmt: skip


@pytest.mark.parametrize(
    "case",
    ["kernel", "data folder", "kernel of the home", "kernel's variables", "provisioner", "profile", "broken profile",
     "profile of the home", "working folder", "startup", "backend"],
)  # fmt: skip
def test_a_notebook_runs_on_this_interpreter_without_anybodys_configuration(tmp_path, monkeypatch, case):
    for name in (*kernel.FOLDERS, *kernel.IGNORED, "JUPYTER_DATA_DIR"):  # those of the tests themselves
        monkeypatch.delenv(name, raising=False)
    for name, value in hostile(case, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("http_proxy", "http://proxy:1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    (tmp_path / "here").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "here")
    before = dict(os.environ)
    template = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SAYS)])
    nbformat.write(template, tmp_path / "template.ipynb")
    assert notebook.execute(tmp_path / "template.ipynb", tmp_path / "out.ipynb", {}, tmp_path / "log", 60, False) == ""
    assert (tmp_path / "log").read_text().splitlines() == [
        sys.executable, "None http://proxy:1 3", "True last_expr",
    ]  # fmt: skip
    assert dict(os.environ) == before


def test_what_a_site_has_put_into_its_folders_for_ipython_is_not_run(tmp_path, monkeypatch):
    """The site's folders are those of an environment, which takes the place of /etc/ipython here."""
    environment = tmp_path / "environment"
    python = environment / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(os.path.realpath(sys.executable))
    (environment / "pyvenv.cfg").write_text(f"home = {os.path.dirname(os.path.realpath(sys.executable))}\n")
    profile(environment / "etc" / "ipython")
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    template = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SAYS)])
    nbformat.write(template, tmp_path / "template.ipynb")
    assert notebook.execute(tmp_path / "template.ipynb", tmp_path / "out.ipynb", {}, tmp_path / "log", 60, False) == ""
    first, *_, last = (tmp_path / "log").read_text().splitlines()
    assert (first, last) == (str(python), "True last_expr")
