"""Write requirements.lock and requirements-cuda.lock anew from pyproject.toml, with the hashes of every file.

`make lock` runs this. A version stays as it is while pyproject.toml allows it; options are handed to `uv pip compile`,
such as --upgrade. Raises SystemExit where CPU_BUILDS is not of the version of torch that was chosen.
"""

import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
OPTIONS = ["--extra=dev", "--universal", "--python-version=3.11", "--fork-strategy=fewest", "--generate-hashes"]
OPTIONS += ["--no-annotate", "--no-header", "--quiet"]
OF_CUDA = ("nvidia-", "cuda-", "triton")
HEADINGS = {
    "requirements.lock": """\
# Every version of the study's environment on Python 3.11 to 3.13, with the SHA-256 of every file of each release.
# `make lock` writes it and `make` installs it, by `pip install --require-hashes --no-deps`. Of torch there are PyPI's
# builds and PyTorch's own CPU builds for Linux; what a CUDA build needs besides is in requirements-cuda.lock.
""",
    "requirements-cuda.lock": """\
# What the CUDA build of torch in requirements.lock needs besides. `make lock` writes it; `make` installs it after that
# build, in the same way.
""",
}

# PyTorch's CPU builds for Linux are not on PyPI: their hashes are on the page that its install page names for "CPU".
CPU_BUILDS = {
    "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_aarch64.whl": (
        "84453b69508ec79902f899c5ed9495acb9e2bbe9fda5f1d5d6f19e3c3842e1a7"
    ),
    "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl": (
        "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"
    ),
    "torch-2.13.0+cpu-cp312-cp312-manylinux_2_28_aarch64.whl": (
        "6f307c2c32d764ffc6ff6893b801fad6d4752f3e67966cb8abf1843427c02604"
    ),
    "torch-2.13.0+cpu-cp312-cp312-manylinux_2_28_x86_64.whl": (
        "4ca4a9394b0c771238a4f73590fdbbc4debad85ed0fa63d026ae1b085da7d6e2"
    ),
    "torch-2.13.0+cpu-cp313-cp313-manylinux_2_28_aarch64.whl": (
        "0b8f7d0423027ae8b90c7977c627f3379f325363a08224dffad9b4b2d684a83d"
    ),
    "torch-2.13.0+cpu-cp313-cp313-manylinux_2_28_x86_64.whl": (
        "3fbf9c9d1f3c10c2d59d04aca426dee9ccc6ceb32d255c61e93acc3b4f75fae6"
    ),
}


def resolve(options: list[str]) -> str:
    """All requirements of pyproject.toml and of CUDA, at the present versions where these will do."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        tools, output = Path(folder, "bin"), Path(folder, "resolved.txt")
        subprocess.run([tools / "python", "-m", "pip", "install", "--quiet", "uv"], check=True)
        output.write_text("".join((PROJECT / name).read_text() for name in HEADINGS))
        command = [tools / "uv", "pip", "compile", "pyproject.toml", "--output-file", output, *OPTIONS, *options]
        subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
        return output.read_text()


def with_cpu_builds(entry: str) -> str:
    """The entry of torch with the hashes of its CPU builds among the others."""
    version = re.match(r"torch==(\S+)", entry)[1]
    if not all(name.startswith(f"torch-{version}+cpu-") for name in CPU_BUILDS):
        raise SystemExit(f"CPU_BUILDS in .ci/lock.py is not of torch {version}: write the files of that version there.")
    pin, *hashes = entry.split(" \\\n    ")
    hashes = sorted({one.strip() for one in hashes} | {f"--hash=sha256:{digest}" for digest in CPU_BUILDS.values()})
    return " \\\n    ".join([pin, *hashes]) + "\n"


def main(options: list[str]) -> None:
    entries = re.split(r"^(?=\w)", resolve(options), flags=re.MULTILINE)[1:]
    entries = [with_cpu_builds(entry) if entry.startswith("torch==") else entry for entry in entries]
    for name, heading in HEADINGS.items():
        chosen = [entry for entry in entries if entry.startswith(OF_CUDA) == ("cuda" in name)]
        (PROJECT / name).write_text(heading + "".join(chosen))


if __name__ == "__main__":
    main(sys.argv[1:])
