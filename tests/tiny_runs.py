"""What the tests of the trainer share: made-up images, runs of milliseconds, and processes that train together."""

import dataclasses
import multiprocessing
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from isonb.config import Execution, RunConfig
from isonb.training import data, train

SIZE = 8
# Forked from a server that has imported the trainer, a process starts in milliseconds and knows nothing of this one.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["isonb.training.launch"])


def made_images(train: int = 13, validation: int = 3) -> data.Images:
    """Random images; 13 of them in batches of 5 leave a last batch of 3. Their numbers are not their positions."""
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> data.Split:
        pixels_BNC = torch.randint(0, 256, (count, SIZE**2, 3), generator=generator, dtype=torch.uint8)
        return data.Split(pixels_BNC, torch.arange(count) % 2, 3 * torch.arange(count))

    return data.Images("made up", ("even", "odd"), SIZE, split(train), split(validation), split(4), sha256={})


def tiny_run(**changes: Any) -> RunConfig:
    """Two epochs of three steps each on `made_images()`, unless changed."""
    settings = {"width": 8, "image_size": SIZE, "batch_size": 5, "epochs": 2, "evaluation_masks": 2}
    if changes.get("encoding") == "rff":
        settings["frequencies"] = 4
    return RunConfig(**{**settings, **changes})


def pretrain(
    run: RunConfig, folder: Path, on_step: train.OnStep | None = None, keeps_epochs: bool = False, **execution: Any
) -> train.Pretrained:
    """`train.pretrain` on the made-up images, on a CPU, in float64 unless told otherwise."""
    execution = Execution(**{"device": "cpu", "precision": "float64", **execution})
    return train.pretrain(run, made_images(), folder, execution, on_step, keeps_epochs)


def weights(pretrained: train.Pretrained) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in pretrained.network.state_dict().items()}


def curve(pretrained: train.Pretrained) -> list[dict[str, Any]]:
    """The learning curve without what differs from one time to the next."""
    return [{**epoch.model_dump(), "seconds": None} for epoch in pretrained.progress.curve]


def assert_same_bits(one: train.Pretrained, other: train.Pretrained) -> None:
    assert curve(one) == curve(other)
    differing = [name for name, tensor in weights(one).items() if not tensor.equal(weights(other)[name])]
    assert differing == []


@dataclasses.dataclass
class Trained:
    """What a process tells of a run: its curve and weights, or the exception that ended it."""

    curve: list[dict[str, Any]]
    weights: dict[str, Any]
    fault: str


def assert_close(one: Trained, other: Trained, tolerance: float) -> None:
    """Losses agree relative to themselves, weights relative to the largest of the network."""
    assert (one.fault, other.fault) == ("", "")
    for row, expected in zip(one.curve, other.curve, strict=True):
        for name in ("train_loss", "validation_loss", "learning_rate"):
            assert row[name] is expected[name] or abs(row[name] - expected[name]) <= tolerance * abs(expected[name])
    assert one.weights.keys() == other.weights.keys()
    largest = max(abs(tensor).max() for tensor in other.weights.values())
    for name, tensor in other.weights.items():
        assert abs(one.weights[name] - tensor).max() <= tolerance * largest, name


def tell(run: RunConfig, folder: Path, on_step: train.OnStep | None = None, **execution: Any) -> Trained:
    """Train, and return what can be sent to another process."""
    try:
        pretrained = pretrain(run, folder, on_step, **execution)
    except BaseException as fault:
        return Trained([], {}, f"{type(fault).__name__}: {fault}")
    return Trained(curve(pretrained), {name: t.numpy() for name, t in weights(pretrained).items()}, "")


def together(count: int, work: Callable[..., Any], *arguments: Any, meetings: int = 1) -> list[list[Any]]:
    """Call `work(rank, meeting, *arguments)` in each of `count` processes, one process group for each meeting.

    Returns, by meeting, what each rank returned.
    """
    pipes, processes, ports = [], [], [free_port() for _ in range(meetings)]
    for rank in range(count):
        ours, theirs = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(target=_rank, args=(rank, count, ports, theirs, work, arguments), daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    try:
        answers = [[_receive(pipe) for pipe in pipes] for _ in range(meetings)]
    finally:
        for process in processes:
            process.join(1)
            process.kill()
    return answers


def _receive(pipe: Any) -> Any:
    assert pipe.poll(600), "a process waits for ever"
    return pipe.recv()


def _rank(rank: int, count: int, ports: Sequence[int], pipe: Any, work: Callable[..., Any], arguments: tuple) -> None:
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "tests",
        "RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
    }
    for meeting, port in enumerate(ports):
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        pipe.send(work(rank, meeting, *arguments))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
