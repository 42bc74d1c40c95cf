"""A run's state on disk: weights, Adam's state and position in the data order, in one safetensors file, no pickle.

The file's header holds JSON: the configuration, the step, the learning curve so far and the open epoch's sums. A new
checkpoint is complete on disk before the one before the last is removed, so a crash or a full disk at any
moment leaves a good one.

Book: chapter "Training".
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from isonb import records
from isonb.config import RunConfig

ADAM = ("step", "exp_avg", "exp_avg_sq")  # what Adam keeps of each parameter


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written, read or continued; its message says which file and what to do."""


@dataclasses.dataclass
class Progress:
    """Where a run stands, apart from its tensors. The next step to take is number `step`, counted from 0.

    `open_loss` and `open_count` are the summed loss and masked sub-pixels of the epoch that is under way, `seconds`
    and `peak_memory_bytes` what the run has cost so far, `processes` how many took its last step. The data order is
    a function of the step, so this is all that a resumed run has to know.
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


@dataclasses.dataclass(frozen=True)
class Saved:
    """A checkpoint that has been read: where the run stood, and its tensors by name."""

    progress: Progress
    tensors: dict[str, torch.Tensor]

    def restore(self, network: nn.Module, adam: torch.optim.Optimizer) -> None:
        """Put the weights into the network and Adam's state into the optimiser.

        Raises `CheckpointError` for tensors that are missing, too many, or of another shape.
        """
        weights = {n.removeprefix("network/"): t for n, t in self.tensors.items() if n.startswith("network/")}
        try:
            network.load_state_dict(weights, strict=True)
        except RuntimeError as error:
            raise CheckpointError(f"The checkpoint does not fit this network ({error}): delete it.") from None
        for name, parameter in network.named_parameters():
            if f"step/{name}" in self.tensors:
                adam.state[parameter] = {key: self.tensors[f"{key}/{name}"].to(parameter.device) for key in ADAM}


def save(folder: Path, config: RunConfig, progress: Progress, network: nn.Module, adam: torch.optim.Optimizer) -> Path:
    """Write the state after `progress.step` steps; keep it and the one before, remove older ones.

    Raises `CheckpointError` when the file cannot be written, for example because the disk is full; the checkpoints
    that were there are still there.
    """
    tensors = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        tensors |= {f"{key}/{name}": tensor for key, tensor in adam.state.get(parameter, {}).items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    curve = [epoch.model_dump() for epoch in progress.curve]
    header = {"config": config.model_dump(), "progress": {**dataclasses.asdict(progress), "curve": curve}}
    text = json.dumps(header)
    content = safetensors.torch.save(tensors, {"isonb": text, "sha256": _digest(text, tensors)})
    path = folder / f"step-{progress.step:08d}.safetensors"
    try:
        records.write_atomically(path, content)
    except OSError as error:
        kept = latest(folder)
        raise CheckpointError(
            f"The checkpoint {path} could not be written ({error.strerror or error}): make room and run again; "
            f"{f'the run will go on from {kept.name}' if kept else 'the run will start anew'}."
        ) from error
    for old in (*_all(folder)[:-2], *folder.glob(".step-*.tmp")):  # the latter were left by a process that was killed
        old.unlink(missing_ok=True)
    return path


def latest(folder: Path) -> Path | None:
    """The newest complete checkpoint of a folder, or None. A damaged file is passed over for the one before it."""
    for path in reversed(_all(folder)):
        try:
            _decode(path.read_bytes())
            return path
        except (safetensors.SafetensorError, OSError, ValueError, KeyError):
            continue
    return None


def read(content: bytes, config: RunConfig, folder: Path) -> Saved:
    """Read a checkpoint's bytes; `folder` is where it came from, for messages.

    Raises `CheckpointError` when it belongs to another configuration, naming the fields that differ, or to another
    version of this program.
    """
    header, tensors = _decode(content)
    _refuse_other_configuration(folder, header["config"], config.model_dump())
    try:
        progress = Progress(**header["progress"])
        progress.curve = [records.Epoch(**epoch) for epoch in progress.curve]
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder} holds checkpoints of another version ({error}): delete them.") from None
    return Saved(progress, tensors)


def _decode(content: bytes) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The JSON part and the tensors. Raises one of the errors that `latest` knows for damaged content."""
    tensors = safetensors.torch.load(content)
    header_bytes = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + header_bytes])["__metadata__"]
    if metadata["sha256"] != _digest(metadata["isonb"], tensors):
        raise ValueError("the checksum is wrong")
    return json.loads(metadata["isonb"]), tensors


def _digest(text: str, tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of everything that a checkpoint holds: a flipped bit must not become part of a result."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"))


def _refuse_other_configuration(folder: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    names = [name for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name)]
    if names:
        differences = ", ".join(f"{name} is {theirs.get(name)!r} there and {ours.get(name)!r} here" for name in names)
        raise CheckpointError(
            f"{folder} holds checkpoints of another configuration ({differences}): use another folder or delete them."
        )
