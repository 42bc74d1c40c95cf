"""A run's state on disk: weights, Adam moments and position in the data order, in one safetensors file, no pickle.

The file's header holds JSON: the configuration, the step, the learning curve so far and the open epoch's sums. A new
checkpoint is complete on disk before the one before the last is removed, so a crash or a full disk at any
moment leaves a good one.

Book: chapter "Training".
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from isonb import records
from isonb.config import RunConfig

MOMENTS = ("exp_avg", "exp_avg_sq")


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written, read or continued; its message says which file and what to do."""


@dataclasses.dataclass
class Progress:
    """Where a run stands, apart from its tensors. The next step to take is number `step`, counted from 0.

    `open_loss` and `open_count` are the summed nats and masked sub-pixels of the epoch that is under way, `seconds`
    and `peak_memory_bytes` what the run has cost so far. The data order is a function of the step, so this is all
    that a resumed run has to know.
    """

    step: int = 0
    curve: list[records.Epoch] = dataclasses.field(default_factory=list)
    open_loss: float = 0.0
    open_count: int = 0
    open_seconds: float = 0.0
    seconds: float = 0.0
    precision: str = "float32"
    processes: int = 1
    peak_memory_bytes: int | None = None


def save(folder: Path, config: RunConfig, progress: Progress, network: nn.Module, adam: torch.optim.Adam) -> Path:
    """Write the state after `progress.step` steps; keep it and the one before, remove older ones.

    Raises `CheckpointError` when the file cannot be written, for example because the disk is full; the checkpoints
    that were there are still there.
    """
    tensors = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for moment in MOMENTS:
            if parameter in adam.state:
                tensors[f"{moment}/{name}"] = adam.state[parameter][moment]
    header = {"config": config.model_dump(), "progress": dataclasses.asdict(progress)}
    header["progress"]["curve"] = [epoch.model_dump() for epoch in progress.curve]
    content = safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        metadata={"isonb": json.dumps(header)},
    )
    path = folder / f"step-{progress.step:08d}.safetensors"
    try:
        records.write_atomically(path, content)
    except OSError as error:
        kept = latest(folder)
        raise CheckpointError(
            f"The checkpoint {path} could not be written ({error.strerror or error}): make room and run again; "
            f"{f'the run will go on from {kept.name}' if kept else 'the run will start anew'}."
        ) from error
    for old in _all(folder)[:-2]:
        old.unlink()
    return path


def latest(folder: Path) -> Path | None:
    """The newest complete checkpoint of a folder, or None. A damaged file is passed over for the one before it."""
    for path in reversed(_all(folder)):
        try:
            with safetensors.safe_open(path, "pt") as file:
                file.metadata()["isonb"]
            return path
        except (safetensors.SafetensorError, OSError, KeyError, TypeError):
            continue
    return None


def read_progress(path: Path, config: RunConfig) -> Progress:
    """The JSON part of a checkpoint.

    Raises `CheckpointError` when it belongs to another configuration, naming the fields that differ.
    """
    with safetensors.safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["isonb"])
    _refuse_other_configuration(path, header["config"], config.model_dump())
    progress = Progress(**header["progress"])
    progress.curve = [records.Epoch(**epoch) for epoch in header["progress"]["curve"]]
    return progress


def load(path: Path, config: RunConfig, network: nn.Module, adam: torch.optim.Adam | None = None) -> Progress:
    """Restore the network, and Adam's moments where an optimiser is given, from a checkpoint of this configuration.

    Raises `CheckpointError` for another configuration, and for tensors that are missing or too many.
    """
    progress = read_progress(path, config)
    tensors = safetensors.torch.load_file(path)
    weights = {name.removeprefix("network/"): t for name, t in tensors.items() if name.startswith("network/")}
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit this network ({error}): delete it and run again.") from None
    if adam is not None and progress.step > 0:
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                state = adam.state[parameter]
                state["step"] = torch.tensor(float(progress.step), device=parameter.device)
                for moment in MOMENTS:
                    state[moment] = tensors[f"{moment}/{name}"].to(parameter.device)
    return progress


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"))


def _refuse_other_configuration(path: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    names = [name for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name)]
    if names:
        differences = ", ".join(f"{name} is {theirs.get(name)!r} there and {ours.get(name)!r} here" for name in names)
        raise CheckpointError(
            f"{path} belongs to another configuration ({differences}): use another folder or delete it."
        )
