"""The whole of a network that was kept, trained on to name classes: `python -m isonb finetune`.

Beside it stands the same network from its initial weights, trained alike: what is between the two is what the weights
are worth. How long both take is said first.

Book: chapter "image-GPT".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from isonb.config import Cell, ConfigError
from isonb.models import network as networks
from isonb.running import estimate, probing
from isonb.training import checkpoint, data, finetune, progress
from isonb.training.train import Pretrained

TWO = 2  # networks: the one that is kept, and its twin from scratch
STEP = round(1 / estimate.FORWARD_SHARE)  # passes that a training step costs


def tune(kept: str, settings: Mapping[str, Any], say: Callable[[str], None], shown: bool = False) -> str:
    """Fine-tune the network that is kept and return how many test images it gets right, beside its twin from scratch.

    `say` is told what that will take; `shown` is whether there is a progress bar. Raises `ConfigError` for a setting
    that is not of fine-tuning, `CheckpointError` where no network is kept, `DataError` for the images, and
    `FinetuneError` for a loss that is not finite.
    """
    config, execution = probing.asked(settings, "finetune", (*probing.HEEDED, "micro_batch"))
    if not config.epochs:
        raise ConfigError("Without epochs nothing is trained: set finetune_epochs, to 10 for example.")
    network, device, precision = probing.ready(kept, execution)
    cell = Cell(run=network.config, finetune=config)
    images = data.load(cell.run.read_by(cell.finetune), execution.data_path)
    pretrained = Pretrained(network.to(device), checkpoint.Progress(precision=precision), device)
    say(needs(cell, pretrained.network, images, precision))
    with progress.tuning_bar(cell) if shown else contextlib.nullcontext() as on_step:
        tuned = finetune.tune(cell, images, pretrained, execution, on_step).record
    return (
        f"Fine-tuned, the network gets {tuned.accuracy:.2%} of the {len(images.test):,} test images of {images.name} "
        f"right (epoch {tuned.epoch}), and its twin from scratch {tuned.scratch_accuracy:.2%} (epoch "
        f"{tuned.scratch_epoch}): {tuned.protocol}."
    )


def needs(cell: Cell, network: networks.IsotropicNetwork, images: data.Images, precision: str) -> str:
    """What is trained on how many images, and how long that takes here, of which a pass of a few images gives an idea.

    Every epoch trains once and looks once at the validation images; each network's best epoch is tested.
    """
    epochs, train, validation, test = (
        cell.finetune.epochs,
        len(images.train),
        len(images.validation),
        len(images.test),
    )
    passes = (TWO * epochs * STEP * train, TWO * epochs * validation, TWO * test)
    hours = estimate.seconds_of_a_pass(network, passes, precision) / 3600
    return (
        f"{epochs} epoch{'s' * (epochs > 1)} of {train:,} training images of {images.name}, with the weights that are "
        f"kept and from scratch, with {validation:,} to validate and {test:,} to test on: {probing.duration(hours)}."
    )
