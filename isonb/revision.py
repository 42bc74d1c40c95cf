"""The commit of the project's own repository, whatever a person's environment and configuration say.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import os
import subprocess

from isonb import places


def commit() -> str | None:
    """The commit that is checked out, or None where the project has no repository of its own or git fails."""
    return _git("rev-parse", "HEAD")


def is_changed() -> bool | None:
    """Whether the code differs from its commit, or None where git cannot tell."""
    changes = _git("status", "--porcelain", "--untracked-files=all", "--", "isonb", "notebooks")
    return None if changes is None else bool(changes)


def _git(*arguments: str) -> str | None:
    """One git command's output in the project's own repository, or None where it has none or git fails.

    Whatever the environment and the person's configuration say, no other repository is read, and nothing is written.
    """
    repository = places.PROJECT / ".git"
    if not repository.exists():  # git would look for one in the folders above
        return None
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    own |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    command = ["git", f"--git-dir={repository}", f"--work-tree={places.PROJECT}", "-c", "core.fsmonitor=false"]
    try:
        done = subprocess.run(
            [*command, *arguments],
            cwd=places.PROJECT,
            env=own,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
