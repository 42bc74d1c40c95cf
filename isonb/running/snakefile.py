"""The Snakefile, run from the command line: settings as everywhere else, and what Snakemake refuses in one sentence.

Before it reads a Snakefile, Snakemake says what it refuses in a traceback or below a hundred lines of usage.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from isonb import places, surroundings
from isonb.validation import ConfigError, in_brief

PROFILE = "SNAKEMAKE_PROFILE"  # of a person or a site; a study runs by this project's own
CONFIG = ("--config", "-C")


def run(words: Sequence[str]) -> int:
    """Run a study by Snakemake; returns its exit status.

    `words` are settings, name=value, and after them options of Snakemake. Raises `ConfigError` for what is neither, for
    options that Snakemake does not take, and where the package is installed without its project.
    """
    surroundings.require_project("the Snakefile")
    settings, options = _split(words)
    from snakemake import cli  # here, as it takes a second to import
    from snakemake.logging import logger

    os.environ.pop(PROFILE, None)
    given = [*(["--config", *settings] if settings else []), *options]
    if Path.cwd() != places.PROJECT:
        given = ["--snakefile", str(places.PROJECT / "Snakefile"), *given]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parser, arguments = cli.parse_args(given)
    except SystemExit as end:
        if not end.code:  # it was asked for its help or its version
            return 0
        raise _refused(re.split("error: ", said.getvalue(), flags=re.IGNORECASE)[-1]) from None
    except Exception as error:  # a profile may be anything
        raise _refused(str(error)) from None
    logger.addFilter(Shortened())
    return 0 if cli.args_to_api(arguments, parser) else 1


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The settings and, from the first word with a hyphen on, the options. Raises `ConfigError` for any other word."""
    first = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    settings, options = list(words[:first]), list(words[first:])
    for word in settings:
        name, equals, value = word.partition("=")
        if not (equals and name.isidentifier() and value.strip()):
            raise ConfigError(f"{word!r} is not a setting: write name=value, as in study=cpu.")
    own = options[: options.index("--")] if "--" in options else options
    if any(word.partition("=")[0] in CONFIG for word in own):
        raise ConfigError("--config is not needed here: write settings, as study=cpu, before all options.")
    return settings, options


def _refused(words: str) -> ConfigError:
    return ConfigError(f"{in_a_sentence(words)[:-1]}; `.venv/bin/snakemake --help` lists the options.")


def in_a_sentence(message: str) -> str:
    """What Snakemake refuses, in one line; of a traceback, what its last line says."""
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()] or ["it does not say why"]
    what = lines[-1] if lines[0].startswith("Traceback") else " ".join(lines)
    return f"Snakemake refuses to start: {in_brief(what).rstrip('.')}."


class Shortened(logging.Filter):
    """Makes one line of the first error that Snakemake reports, and leaves out what it says of it beyond that.

    The driver shows no later ones anyway.
    """

    def __init__(self) -> None:
        super().__init__()
        self.has_refused = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show a record, which is changed where it is an error."""
        if record.levelno < logging.ERROR:
            return True
        record.msg, record.args = in_a_sentence(record.getMessage()), ()
        is_first, self.has_refused = not self.has_refused, True
        return is_first
