"""A run's state on disk: weights, Adam's state and position in the data order, in one safetensors file, no pickle.

The file's header holds JSON: the configuration, the step, the learning curve so far and the open epoch's sums; and a
checksum of the whole file. A file that differs in one bit, or does not hold exactly the tensors of its network, is
damaged, and the run goes on from the one before it. A new checkpoint is complete on disk before the one before the
last is removed, so a crash or a full disk at any moment leaves a good one. A run that is to be probed along its
training also keeps the weights of each closed epoch, in a smaller file that is complete on disk before any checkpoint
knows of the epoch. The weights of every finished run are kept in such a file, too.

Book: chapter "Training".
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from isonb import disk, schema
from isonb.config import ConfigError, RunConfig
from isonb.models import network as networks
from isonb.training import signed

ADAM = ("step", "exp_avg", "exp_avg_sq")  # what Adam keeps of each parameter
FINAL = "final.safetensors"
NETWORK = "network/"  # begins the name of each of the network's tensors


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written, read or continued; its message says which file and what to do."""


class _Damaged(ValueError):
    """A file that is not what was written; the message is the cause in a few words."""


@dataclasses.dataclass
class Progress:
    """Where a run stands, apart from its tensors. The next step to take is number `step`, counted from 0.

    `open_loss` and `open_count` are the summed loss and masked sub-pixels of the epoch that is under way, `seconds`
    and `peak_memory_bytes` what the run has cost so far, `processes` how many took its last step, and `threads` all
    numbers of threads on which steps were taken. The data order is a function of the step, so this is all that a
    resumed run has to know.
    """

    step: int = 0
    curve: list[schema.Epoch] = dataclasses.field(default_factory=list)
    open_loss: float = 0.0
    open_count: int = 0
    open_seconds: float = 0.0
    seconds: float = 0.0
    precision: str = "float32"
    processes: int = 1
    peak_memory_bytes: int | None = None
    threads: list[int] = dataclasses.field(default_factory=list)

    def add_step(self, processes: int) -> None:
        """Count a step that so many processes took."""
        self.step += 1
        self.processes = processes
        if torch.get_num_threads() not in self.threads:
            self.threads.append(torch.get_num_threads())


@dataclasses.dataclass(frozen=True)
class Saved:
    """A checkpoint that has been read: where the run stood, and its tensors by name."""

    progress: Progress
    tensors: dict[str, torch.Tensor]

    def restore(self, network: nn.Module, adam: torch.optim.Optimizer) -> None:
        """Put the weights into the network and Adam's state into the optimiser."""
        network.load_state_dict(_of_network(self.tensors), strict=True)
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
    path = _of_step(folder, progress.step)
    header = {"config": config.model_dump(), "progress": {**dataclasses.asdict(progress), "curve": curve}}
    _write(path, header, tensors)
    for old in (*_all(folder)[:-2], *folder.glob(".*.safetensors.*.tmp")):  # the latter: of a process that was killed
        with contextlib.suppress(OSError):
            old.unlink()
    return path


def keep(folder: Path, config: RunConfig, epoch: int, network: nn.Module) -> Path:
    """Write the weights at the close of an epoch, to be probed when the run has ended. Raises as `save` does."""
    path = _of_epoch(folder, epoch)
    _write(path, {"config": config.model_dump(), "epoch": epoch}, _weights(network))
    return path


def keep_final(folder: Path, config: RunConfig, network: nn.Module) -> schema.Weights:
    """Write the finished network's weights, to be probed or looked at later. Raises as `save` does."""
    return keep_at(folder / FINAL, config, network)


def keep_at(path: Path, config: RunConfig, network: nn.Module, shared: schema.Shared | None = None) -> schema.Weights:
    """Write a network's weights as those of a finished run, wherever they come from. Raises as `save` does."""
    of_the_copy = {"shared": shared.model_dump()} if shared else {}
    return _write(path, {"config": config.model_dump(), "run_id": config.run_id} | of_the_copy, _weights(network))


def read_final(path: Path, record: schema.Record) -> dict[str, torch.Tensor]:
    """The weights that `keep_final` wrote, by name. Raises `CheckpointError` when they are not the record's."""
    try:
        content = disk.read_bytes(path, record.weights.size if record.weights else 0)
        if record.weights and hashlib.sha256(content).hexdigest() == record.weights.sha256:
            return _of_network(_decode(content)[1])
    except (disk.Unreadable, _Damaged):
        pass
    raise CheckpointError(
        f"{path} does not hold the weights of the record {record.run_id}: delete it, or run the cell again."
    )


def read_network(path: Path) -> tuple[RunConfig, dict[str, torch.Tensor]]:
    """The settings and the weights in a file that `keep_final` or `keep` wrote, on its own word.

    Raises `CheckpointError` for any other file.
    """
    try:
        header, tensors = _decode(_content(path))
        return RunConfig(**header["config"]), _of_network(tensors)
    except ConfigError as error:  # a setting that has yet to be
        cause = f"it is of a newer isonb: {error}"
    except _Damaged as error:
        cause = str(error)
    raise CheckpointError(f"{path} is no network that isonb has kept, or it is damaged ({cause}): name another file.")


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
        header, tensors = _decode(_content(path), path)
    except _Damaged as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}): delete {path.parent} to train the network anew."
        ) from None
    _refuse_other_configuration(path.parent, header["config"], config)
    return _of_network(tensors)


def latest(folder: Path) -> Path | None:
    """The newest good checkpoint of a folder, or None. A damaged file is passed over for the one before it."""
    path, _, _ = _newest(folder)
    return path


def resume(folder: Path) -> bytes:
    """The content of the newest good checkpoint, for `read`; empty where there is none.

    Renames each damaged file that is newer and warns of it. Raises `CheckpointError` where that is not possible.
    """
    good, content, damaged = _newest(folder)
    for path, cause in damaged.items():
        aside = path.with_name(f"{path.name}.damaged")
        try:
            path.replace(aside)
        except OSError as error:
            raise CheckpointError(
                f"{path} is damaged ({cause}) and cannot be renamed ({error.strerror or error}): delete it."
            ) from None
        warnings.warn(
            f"The checkpoint {path} is damaged ({cause}) and was renamed {aside.name}: the run "
            f"{f'goes on from {good.name}' if good else 'starts anew'}.",
            stacklevel=2,
        )
    return content


def read(content: bytes, config: RunConfig, folder: Path) -> Saved:
    """Read a checkpoint's bytes; `folder` is where it came from, for messages.

    Raises `CheckpointError` when it is damaged, when it belongs to another configuration, naming the fields that
    differ, or to another version of this program.
    """
    try:
        header, tensors = _decode(content)
    except _Damaged as error:
        raise CheckpointError(f"{folder} holds a damaged checkpoint ({error}): delete it.") from None
    _refuse_other_configuration(folder, header["config"], config)
    try:
        progress = Progress(**header["progress"])
        progress.curve = [schema.Epoch(**epoch) for epoch in progress.curve]
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder} holds checkpoints of another version ({error}): delete them.") from None
    return Saved(progress, tensors)


def _weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {NETWORK + name: tensor for name, tensor in network.state_dict().items()}


def _of_network(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The network's tensors by name; in float32, where they were rounded to bfloat16 to be shared."""
    return {
        name.removeprefix(NETWORK): tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        for name, tensor in tensors.items()
        if name.startswith(NETWORK)
    }


def _of_step(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.safetensors"


def _of_epoch(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:05d}.safetensors"


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-" + "[0-9]" * 8 + ".safetensors"))


def _newest(folder: Path) -> tuple[Path | None, bytes, dict[Path, str]]:
    """The newest good checkpoint, its content, and what is wrong with each that is newer."""
    damaged: dict[Path, str] = {}
    for path in reversed(_all(folder)):
        try:
            content = _content(path)
            _decode(content, path)
            return path, content, damaged
        except _Damaged as error:
            damaged[path] = str(error)
    return None, b"", damaged


def _write(path: Path, header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> schema.Weights:
    """Write a signed file and return what a record says of it."""
    try:
        return signed.write(path, json.dumps(header | {"folder": path.parent.name}), tensors)
    except OSError as error:
        last = latest(path.parent)
        raise CheckpointError(
            f"The checkpoint {path} could not be written ({error.strerror or error}): make room and run again; "
            f"{f'the run will go on from {last.name}' if last else 'the run will start anew'}."
        ) from error


def _content(path: Path) -> bytes:
    """A file's bytes. What is not as long as its own header says is not read, however long it is."""
    try:
        if not path.is_file():
            raise _Damaged("it is not a regular file")
        with safetensors.safe_open(path, "pt"):
            return disk.read_bytes(path, path.stat().st_size)
    except (safetensors.SafetensorError, OSError, disk.Unreadable) as error:
        raise _Damaged(getattr(error, "strerror", None) or str(error)) from None


def _decode(content: bytes, path: Path | None = None) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The JSON part and the tensors. Raises `_Damaged`, also for a good file in the place of the one called `path`."""
    try:
        tensors = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = disk.parse_json(content[8 : 8 + length]).get("__metadata__", {})
        if "isonb" not in metadata:
            raise _Damaged("another program has written it")
        text = metadata["isonb"]
        if "checksum" in metadata:
            stated, computed = metadata["checksum"], signed.checksum(content, metadata["checksum"])
        else:  # as it was written before the checksum covered names, types and shapes
            stated, computed = metadata["sha256"], _older_checksum(text, tensors)
        if stated != computed:
            raise _Damaged("its checksum is wrong")
        header = disk.parse_json(text.encode())
        _require_own_place(header, path)
        _require_every_tensor(header, tensors)
    except _Damaged:
        raise
    except Exception as error:  # safetensors and what is built from the header have many ways to fail on damaged input
        raise _Damaged(str(error) or type(error).__name__) from None
    return header, tensors


def _older_checksum(text: str, tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()


def _require_own_place(header: dict[str, Any], path: Path | None) -> None:
    """Raise `_Damaged` for a file that was written for another folder, step or epoch."""
    if path is None:
        return
    folder, progress = path.parent, header.get("progress")
    own = _of_step(folder, progress["step"]) if progress else _of_epoch(folder, header["epoch"])
    if path != own or header.get("folder", folder.name) != folder.name:
        raise _Damaged("it was written as another file")


def _require_every_tensor(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Raise `_Damaged` unless these are exactly the tensors of the header's network and, after a step, of Adam."""
    if {*header["config"]} - {*RunConfig.model_fields}:
        return  # of a newer version, which `_refuse_other_configuration` tells
    layout = _layout(RunConfig(**header["config"]))
    expected = {NETWORK + name: shape for name, (shape, _) in layout.items()}
    if any(not name.startswith(NETWORK) for name in tensors):
        for name, (shape, is_trained) in layout.items():
            if is_trained:
                expected |= {f"{key}/{name}": () if key == "step" else shape for key in ADAM}
    types = {tensor.dtype for name, tensor in tensors.items() if not name.startswith("step/")}
    of_steps = {tensor.dtype for name, tensor in tensors.items() if name.startswith("step/")}
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != expected:
        raise _Damaged("it does not hold the tensors of its network")
    allowed = {torch.bfloat16} if "shared" in header else {torch.float32, torch.float64}
    if len(types) > 1 or not types <= allowed or not of_steps <= {torch.float32}:
        raise _Damaged("its numbers are of another type")


@functools.lru_cache(maxsize=4)
def _layout(config: RunConfig) -> dict[str, tuple[tuple[int, ...], bool]]:
    """The shape of each of a network's tensors, and whether it is trained.

    Nothing is allocated, unless a block or an encoding of one's own is made by computing, which needs a device.
    """
    try:
        with torch.device("meta"):
            network = networks.IsotropicNetwork(config)
    except (RuntimeError, NotImplementedError):
        with torch.random.fork_rng(devices=[]):
            network = networks.IsotropicNetwork(config)
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    return {name: (tuple(tensor.shape), name in trained) for name, tensor in network.state_dict().items()}


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
