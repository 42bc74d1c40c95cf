"""The lock: every version pinned and hashed, all that pyproject.toml needs and nothing else; `make lock` writes it."""

import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from isonb import places

PROJECT = places.PROJECT
LOCK, OF_CUDA = "requirements.lock", "requirements-cuda.lock"
HASH = r" \\\n    --hash=sha256:[0-9a-f]{64}"
PIN = re.compile(rf"(?P<name>[a-z0-9-]+)==(?P<version>[\w.]+)(?: ; (?P<marker>[^\\\n]+?))?(?:{HASH})+\n")


def text_of(name: str) -> str:
    """A lock without its comments."""
    return re.sub(r"^#.*\n", "", (PROJECT / name).read_text(), flags=re.MULTILINE)


def pins(name: str) -> list[re.Match[str]]:
    return list(PIN.finditer(text_of(name)))


def needed() -> dict[str, list[Requirement]]:
    """What this machine needs, by package: all that asks for it, from pyproject.toml on through what is installed."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    left = [Requirement(text) for text in (*project["dependencies"], *project["optional-dependencies"]["dev"])]
    asked: dict[str, list[Requirement]] = {}
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        asked.setdefault(name, [])
        if str(requirement) in map(str, asked[name]):
            continue
        asked[name].append(requirement)
        for other in map(Requirement, metadata.requires(name) or []):
            extras = ("", *requirement.extras)
            if other.marker is None or any(other.marker.evaluate({"extra": extra}) for extra in extras):
                left.append(other)
    return asked


@pytest.mark.parametrize("name", [LOCK, OF_CUDA])
def test_a_lock_is_pinned_versions_with_hashes_and_nothing_else(name):
    assert PIN.sub("", text_of(name)) == ""
    names = [pin["name"] for pin in pins(name)]
    assert names and names == sorted(set(names))


def test_the_lock_has_what_this_machine_needs_and_nothing_else():
    chosen = {pin["name"] for pin in pins(LOCK) if not pin["marker"] or Marker(pin["marker"]).evaluate()}
    assert chosen == needed().keys() - {pin["name"] for pin in pins(OF_CUDA)}, "make lock writes it anew"


def test_every_pinned_version_will_do_for_all_that_ask_for_it():
    versions = {pin["name"]: pin["version"] for name in (OF_CUDA, LOCK) for pin in pins(name)}
    asked = [(name, requirement) for name, requirements in needed().items() for requirement in requirements]
    assert [str(one) for name, one in asked if not one.specifier.contains(versions[name], prereleases=True)] == []


def test_what_only_a_cuda_build_of_torch_needs_is_in_a_lock_of_its_own():
    apart = {name: {pin["name"] for pin in pins(name) if pin["name"].startswith("nvidia-")} for name in (LOCK, OF_CUDA)}
    assert not apart[LOCK] and {"nvidia-cublas", "nvidia-cudnn-cu13", "nvidia-nccl-cu13"} <= apart[OF_CUDA]


def test_torch_has_the_hashes_of_builds_on_pypi_and_of_cpu_builds():
    [torch] = [pin for pin in pins(LOCK) if pin["name"] == "torch"]
    hashes = re.findall("sha256:(.*?)(?: |$)", torch[0], re.MULTILINE)
    assert "e76f9bcecc52b8ff711239a2f7547d5353df95878ab232f0773c1d95928b92f8" in hashes  # of macOS, Python 3.11
    cpu_builds = runpy.run_path(str(PROJECT / ".ci" / "lock.py"))["CPU_BUILDS"]
    assert all(file.startswith(f"torch-{torch['version']}+cpu-") for file in cpu_builds)
    assert set(cpu_builds.values()) < set(hashes)


@pytest.mark.parametrize("build", ["CPU", "CUDA"])
def test_make_installs_the_libraries_of_cuda_beside_a_torch_that_asks_for_them(tmp_path, build):
    """pip itself is asked what torch lacks; whatever it would install is written down instead."""
    for name in ("Makefile", "pyproject.toml", LOCK, OF_CUDA):
        shutil.copy(PROJECT / name, tmp_path)
    site, environment = tmp_path / "site" / "torch-9.dist-info", tmp_path / "environment" / "python"
    site.mkdir(parents=True)
    (site.parent / "torch.py").touch()
    lacks = "Requires-Dist: nvidia-never-heard-of\n" if build == "CUDA" else ""
    (site / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: 9\n{lacks}")
    environment.parent.mkdir()
    (tmp_path / ".venv").mkdir()
    environment.write_text(f'#!/bin/sh\nPYTHONPATH={site.parent} exec {sys.executable} "$@"\n')
    installer, installed = tmp_path / "pip", tmp_path / "installed"
    [torch] = [pin for pin in pins(LOCK) if pin["name"] == "torch"]
    installer.write_text(f'#!/bin/sh\necho "$@" >> {installed}\necho torch=={torch["version"]}+of-some-build\n')
    for script in (environment, installer):
        script.chmod(0o700)
    set_to = [f"BIN={environment.parent}", f"PIP={installer}", f"PYTHON={sys.executable}"]
    done = subprocess.run(["make", *set_to, ".venv/ready"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"--requirement {LOCK}\n" in installed.read_text()
    assert (f"--requirement {OF_CUDA}\n" in installed.read_text()) == (build == "CUDA")


def test_the_readme_says_how_many_packages_are_downloaded():
    told = int(re.search(r"About (\d+) Python packages", (PROJECT / "README.md").read_text())[1])
    assert abs(told - len(pins(LOCK))) <= len(pins(LOCK)) / 10
