"""What a cell is: the network to pre-train and the ways to judge it, and the studies that give them useful defaults.

The settings themselves are fields of the models in `isonb.settings`, which are known here, too.

Paper: section 4.2. Book: chapters "Departures from the paper" and "From pixels to probes".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pydantic

from isonb import presets, rows, subsets
from isonb.settings import BLOCKS as BLOCKS
from isonb.settings import ENCODINGS as ENCODINGS
from isonb.settings import GRID_BLOCKS as GRID_BLOCKS
from isonb.settings import GRID_ENCODINGS as GRID_ENCODINGS
from isonb.settings import IMAGES as IMAGES
from isonb.settings import VERSION as VERSION
from isonb.settings import Block as Block
from isonb.settings import Data as Data
from isonb.settings import Encoding as Encoding
from isonb.settings import Execution as Execution
from isonb.settings import FinetuneConfig as FinetuneConfig
from isonb.settings import Objective as Objective
from isonb.settings import ProbeConfig as ProbeConfig
from isonb.settings import RunConfig as RunConfig
from isonb.validation import ConfigError, Frozen, choice, given, unknown_name


class Cell(Frozen):
    """One experiment cell: a network to pre-train and the ways to judge it, under the study that lists it."""

    study: Literal["smoke", "cpu", "paper"] = choice("smoke", "-", "names the results folder and the defaults")
    run: RunConfig = choice(RunConfig(), "-", "the pre-training run")
    probe: ProbeConfig = choice(ProbeConfig(), "-", "the probes of its layers")
    finetune: FinetuneConfig = choice(FinetuneConfig(), "-", "the fine-tuning of the whole network")

    @pydantic.model_validator(mode="after")
    def _require_images_of_their_own(self) -> Cell:
        for part in ("probe", "finetune"):
            own = getattr(self, part)
            try:
                read = self.run.read_by(own)
            except ConfigError as error:
                raise ValueError(f"Of {IN_WORDS[part]} images, {error}") from None
            if own.names_images and all(getattr(read, name) == getattr(self.run, name) for name in IMAGES):
                named = next(name for name in subsets.OWN if getattr(own, name))
                raise ValueError(
                    f"{PREFIXES[part]}{named}={getattr(own, named)!r} names the images of pre-training: leave it out."
                )
        return self

    @property
    def reads(self) -> tuple[RunConfig, ...]:
        """The settings by which the images of pre-training, of the probes and of fine-tuning are read, each once."""
        parts = [self.probe, *([self.finetune] if self.finetune.epochs else [])]
        return tuple(dict.fromkeys([self.run, *(self.run.read_by(part) for part in parts)]))

    @property
    def is_beside_grid(self) -> bool:
        """True where the tables of its study's grid and arms have no place for it: other images, rows or targets."""
        in_grid = rows.BLOCKS[self.run.block].in_grid and rows.ENCODINGS[self.run.encoding].in_grid
        return self.selects_images or self.run.predicts_palette or not in_grid

    @property
    def selects_images(self) -> bool:
        """True where it reads a part of a source, or more than one, so that it stands beside its study's grid."""
        return bool(self.run.classes or self.run.fold or self.run.unlabelled or len(self.reads) > 1)

    def with_extras(self, other: Cell) -> Cell:
        """This cell, judged in every further way that the other is, too: that adds to a record and changes nothing.

        Fine-tuning on images of its own is no such way: its accuracy would stand among those on the run's.
        """
        finetune = self.finetune if self.finetune.epochs or other.finetune.names_images else other.finetune
        return self.model_copy(update={"probe": self.probe.with_extras(other.probe), "finetune": finetune})


PREFIXES = {"run": "", "probe": "probe_", "finetune": "finetune_"}  # of the settings' names, by part of a cell
PROBE_PREFIX = PREFIXES["probe"]
TEXTS = ("collection", "data_folder", "classes", "probe_classes", "finetune_classes")  # that may hold any words
MODELS: dict[str, type[Frozen]] = {name: Cell.model_fields[name].annotation for name in PREFIXES}
IN_WORDS = {"probe": "the probe's", "finetune": "the fine-tuning's"}


def _cell(study: str, defaults: Mapping[str, Any], changes: Mapping[str, Any]) -> Cell:
    values = {**defaults, **presets.written_out(given(changes))}
    if unknown := set(values) - set(_part_names()):
        if elsewhere := unknown & {*Execution.model_fields}:
            raise ConfigError(f"{min(elsewhere)!r} says how a cell is computed, not what it is: leave it out here.")
        raise ConfigError(unknown_name(min(unknown), setting_names()))
    parts = {}
    for part, prefix in PREFIXES.items():
        mine = {name: values[prefix + name] for name in MODELS[part].model_fields if prefix + name in values}
        try:
            parts[part] = MODELS[part](**mine)
        except ConfigError as error:
            raise ConfigError(f"Of {IN_WORDS[part]} settings, {error}" if prefix else str(error)) from None
    return Cell(study=study, **parts)


def _part_names() -> list[str]:
    return [prefix + name for part, prefix in PREFIXES.items() for name in MODELS[part].model_fields]


def setting_names() -> list[str]:
    """Every name that a cell's parameters may set: run, `probe_`, `finetune_` and execution settings, and a preset."""
    return [*_part_names(), *Execution.model_fields, presets.NAME]


def smoke(**changes: Any) -> Cell:
    """Minutes on two cores and no download: the embedded photographs, small steps in small batches, fewer masks."""
    optimiser = {"epochs": 3, "batch_size": 4, "warmup_epochs": 0.2, "adam_beta2": 0.95}
    return _cell("smoke", {"data": "photos", "evaluation_masks": 2} | optimiser, changes)


def cpu(**changes: Any) -> Cell:
    """Hours on two cores: CIFAR-10, or the part of it that is at hand, in batches of 32."""
    return _cell("cpu", {"data": "cifar10", "epochs": 6, "batch_size": 32}, changes)


def paper(**changes: Any) -> Cell:
    """The paper's own numbers, for GPUs: the whole of CIFAR-10, 51 epochs, batches of 128."""
    return _cell("paper", {"data": "cifar10"}, changes)


STUDIES = {"smoke": smoke, "cpu": cpu, "paper": paper}


def cell(study: str, /, **changes: Any) -> Cell:
    """A study's cell with some settings changed; `None` keeps the study's value.

    Raises `ConfigError` for an unknown study, an unknown setting or a value that is not allowed.
    """
    if not isinstance(study, str) or study not in STUDIES:
        raise ConfigError(f"study={study!r} is not allowed: choose {', '.join(STUDIES)}.")
    return STUDIES[study](**changes)


def from_parameters(namespace: Mapping[str, Any]) -> tuple[Cell, Execution]:
    """Read a notebook's parameters out of its namespace, so that an unknown name is refused.

    Names that begin with an underscore are no parameters, nor are unknown names of anything but a truth value, a number
    or a word: what the notebook has imported, and what it made when it ran before.
    Raises `ConfigError` for an unknown name or a value that is not allowed.
    """
    known = {"study", "profile", *setting_names()}
    values = {
        name: value
        for name, value in given(namespace).items()
        if not name.startswith("_")
        if name in known or isinstance(value, bool | int | float | str)
    }
    execution = Execution(**{key: values.pop(key) for key in list(values) if key in Execution.model_fields})
    study, profile = values.pop("study", None), values.pop("profile", None)
    is_unchanged = study == "smoke" and profile is not None  # the notebook's own line, beside the older name
    one = cell(one_study(None if is_unchanged else study, profile), **values)
    _require_read_folders(one, execution)
    return one, execution


def _require_read_folders(one: Cell, execution: Execution) -> None:
    """Raise `ConfigError` for a data folder that nothing is read from."""
    read = {run.data for run in one.reads if rows.SOURCES[run.data].reads_folder}
    if execution.data_folder and not read:
        reading = ", ".join(name for name, row in rows.SOURCES.items() if row.reads_folder)
        raise ConfigError(f"data_folder has no effect with data={one.run.data!r}: set data to one of {reading}.")
    if idle := (subsets.folders(execution.data_folder) or {}).keys() - read:
        raise ConfigError(f"data_folder names a folder of {min(idle)}, which this cell does not read: leave it out.")


def one_study(*names: Any) -> Any:
    """The study that is named in one or more places, each of which may be None; smoke where it is named in none.

    Raises `ConfigError` where two places name different ones.
    """
    named = [name for name in names if name is not None] or ["smoke"]
    for other in named:
        if other != named[0]:
            raise ConfigError(f"{named[0]!r} and {other!r} name two studies: remove one of them.")
    return named[0]
