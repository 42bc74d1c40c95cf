"""A run's state on disk: weights, Adam's state and position in the data order, in one safetensors file, no pickle.

The file's header holds JSON: the configuration, the step, the learning curve so far and the open epoch's sums. A new
checkpoint is complete on disk before the one before the last is removed, so a crash or a full disk at any
moment leaves a good one. A run that is to be probed along its training also keeps the weights of each closed epoch,
in a smaller file that is complete on disk before any checkpoint knows of the epoch. The weights of every finished run
are kept in such a file, too.

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

from isonb import disk, records
from isonb.config import RunConfig

ADAM = ("step", "exp_avg", "exp_avg_sq")  # what Adam keeps of each parameter
FINAL = "final.safetensors"
NETWORK = "network/"  # begins the name of each of the network's tensors
DAMAGE = (safetensors.SafetensorError, OSError, ValueError, KeyError)  # what `_decode` raises


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
        weights = {name.removeprefix(NETWORK): t for name, t in self.tensors.items() if name.startswith(NETWORK)}
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
    tensors = _weights(network)
    for name, parameter in network.named_parameters():
        tensors |= {f"{key}/{name}": tensor for key, tensor in adam.state.get(parameter, {}).items()}
    curve = [epoch.model_dump() for epoch in progress.curve]
    header = {"config": config.model_dump(), "progress": {**dataclasses.asdict(progress), "curve": curve}}
    path = folder / f"step-{progress.step:08d}.safetensors"
    _write(path, header, tensors)
    for old in (*_all(folder)[:-2], *folder.glob(".*.safetensors.*.tmp")):  # the latter: of a process that was killed
        old.unlink(missing_ok=True)
    return path


def keep(folder: Path, config: RunConfig, epoch: int, network: nn.Module) -> Path:
    """Write the weights at the close of an epoch, to be probed when the run has ended. Raises as `save` does."""
    path = _of_epoch(folder, epoch)
    _write(path, {"config": config.model_dump(), "epoch": epoch}, _weights(network))
    return path


def keep_final(folder: Path, config: RunConfig, network: nn.Module) -> records.Weights:
    """Write the finished network's weights, to be probed or looked at later. Raises as `save` does."""
    path = folder / FINAL
    _write(path, {"config": config.model_dump(), "run_id": config.run_id}, _weights(network))
    content = path.read_bytes()
    return records.Weights(file=path.name, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def read_final(path: Path, record: records.Record) -> dict[str, torch.Tensor]:
    """The weights that `keep_final` wrote, by name. Raises `CheckpointError` when they are not the record's."""
    content = path.read_bytes()
    if record.weights is None or hashlib.sha256(content).hexdigest() != record.weights.sha256:
        raise CheckpointError(
            f"{path} does not hold the weights of the record {record.run_id}: delete it, or run the cell again."
        )
    _, tensors = _decode(content)
    return {name.removeprefix(NETWORK): tensor for name, tensor in tensors.items()}


def kept(folder: Path, epochs: int) -> tuple[Path, ...]:
    """The files of the weights at the close of every epoch but the last, whose weights are the finished network's.

    Raises `CheckpointError` when one is missing.
    """
    paths = tuple(_of_epoch(folder, epoch) for epoch in range(1, epochs))
    if missing := [path.name for path in paths if not path.exists()]:
        raise CheckpointError(
            f"{folder} lacks weights to be probed ({', '.join(missing)}): delete it to train the network anew."
        )
    return paths


def read_kept(path: Path, config: RunConfig) -> dict[str, torch.Tensor]:
    """The weights that `keep` wrote, by name.

    Raises `CheckpointError` when the file is damaged or belongs to another configuration.
    """
    try:
        header, tensors = _decode(path.read_bytes())
    except DAMAGE as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}): delete {path.parent} to train the network anew."
        ) from None
    _refuse_other_configuration(path.parent, header["config"], config)
    return {name.removeprefix(NETWORK): tensor for name, tensor in tensors.items()}


def latest(folder: Path) -> Path | None:
    """The newest complete checkpoint of a folder, or None. A damaged file is passed over for the one before it."""
    for path in reversed(_all(folder)):
        try:
            _decode(path.read_bytes())
            return path
        except DAMAGE:
            continue
    return None


def read(content: bytes, config: RunConfig, folder: Path) -> Saved:
    """Read a checkpoint's bytes; `folder` is where it came from, for messages.

    Raises `CheckpointError` when it belongs to another configuration, naming the fields that differ, or to another
    version of this program.
    """
    header, tensors = _decode(content)
    _refuse_other_configuration(folder, header["config"], config)
    try:
        progress = Progress(**header["progress"])
        progress.curve = [records.Epoch(**epoch) for epoch in progress.curve]
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder} holds checkpoints of another version ({error}): delete them.") from None
    return Saved(progress, tensors)


def _weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {NETWORK + name: tensor for name, tensor in network.state_dict().items()}


def _of_epoch(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:05d}.safetensors"


def _write(path: Path, header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(header)
    content = safetensors.torch.save(tensors, {"isonb": text, "sha256": _digest(text, tensors)})
    try:
        disk.write_atomically(path, content)
    except OSError as error:
        last = latest(path.parent)
        raise CheckpointError(
            f"The checkpoint {path} could not be written ({error.strerror or error}): make room and run again; "
            f"{f'the run will go on from {last.name}' if last else 'the run will start anew'}."
        ) from error


def _decode(content: bytes) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The JSON part and the tensors. Raises one of `DAMAGE` for damaged content."""
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


def _refuse_other_configuration(folder: Path, theirs: dict[str, Any], config: RunConfig) -> None:
    """A setting that came after the checkpoint was written is at its default there."""
    ours = config.model_dump()
    theirs = {name: field.default for name, field in type(config).model_fields.items()} | theirs
    names = [name for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name)]
    if names:
        differences = ", ".join(f"{name} is {theirs.get(name)!r} there and {ours.get(name)!r} here" for name in names)
        raise CheckpointError(
            f"{folder} holds checkpoints of another configuration ({differences}): use another folder or delete them."
        )
