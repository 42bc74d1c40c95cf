"""A pre-training step: the trainer's own against the plain form, with the same weights, images and masks."""

from __future__ import annotations

import copy
import itertools
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plain import PlainNetwork, masked_loss
from timing import Contestant, alternate, multiply_rate, speed_up

from isonb.config import BLOCKS, Execution, RunConfig
from isonb.models import network as networks
from isonb.models import objectives
from isonb.training import data, evaluate, schedule, train

ALONE = train.World(0, 1, torch.device("cpu"))


def trainer(config: RunConfig, images: data.Images, name: str, **execution: Any) -> Contestant:
    """The trainer's step: masks drawn, forward, backward, gradients looked at, Adam."""
    settings = Execution(checkpoint_seconds=1e9, **execution)
    run = train._Run(
        config, images, Path(tempfile.gettempdir()) / "isonb-benchmark-without-checkpoints", settings, ALONE
    )
    if run.ahead:
        return Contestant(name, config.batch_size, lambda step: _ahead(run, step), True)
    stop = threading.Event()
    return Contestant(name, config.batch_size, lambda step: run._step(0, batch(config, images, step), stop)[0], True)


def _ahead(run: train._Run, step: int) -> float:
    """The same step compiled, and waited for."""
    epoch, number = divmod(step, run.steps_per_epoch)
    if number == 0:
        run.ahead.begin(epoch, 0)
    run.ahead.launch()
    [taken] = run.ahead.read()
    return taken.loss / max(taken.count, 1)


def batch(config: RunConfig, images: data.Images, step: int) -> torch.Tensor:
    """The images of a step, the same for every contestant."""
    order_B = data.epoch_order(len(images.train), seed=config.seed, epoch=0)
    first = step * config.batch_size % (len(order_B) - config.batch_size + 1)
    return order_B[first : first + config.batch_size]


def plain(config: RunConfig, images: data.Images) -> Contestant:
    """The plain form's step. The masks are drawn as we draw them, so that both learn the same."""
    network = PlainNetwork(copy.deepcopy(networks.build_network(config)))
    adam = torch.optim.Adam(network.parameters(), betas=(config.adam_beta1, config.adam_beta2), eps=config.adam_eps)
    per_epoch = data.steps_per_epoch(len(images.train), config.batch_size)

    def step(number: int) -> float:
        image_B = batch(config, images, number)
        is_masked_BN = objectives.sample_masks(config, images.train.index_B[image_B], "training", 0)[:, :, 0]
        for group in adam.param_groups:
            group["lr"] = schedule.learning_rate(config, number, per_epoch)
        loss = masked_loss(network, images.train.pixels_BNC[image_B], is_masked_BN)
        adam.zero_grad()
        loss.backward()
        adam.step()
        return loss.item()

    return Contestant("plain", config.batch_size, step)


def compare(block: str, depth: int, batch_size: int, images: data.Images, rounds: int, steps: int) -> dict[str, Any]:
    """One row: how many times as fast the trainer is, in each of its forms, and how far the losses are apart."""
    config = RunConfig(block=block, depth=depth, batch_size=batch_size)
    ours = [
        trainer(config, images, "auto"),
        trainer(config, images, "float32", precision="float32"),
    ]
    reference = plain(config, images)
    alternate([*ours, reference], rounds, steps)
    operations = 3 * networks.multiply_accumulates(config)  # the backward pass makes two products of each
    return {
        "block": block,
        "depth": depth,
        "batch": batch_size,
        "steps": rounds * steps,
        "operations_per_image": operations,
        "images_per_second": {one.name: one.images_per_second() for one in (*ours, reference)},
        "speed_up": {one.name: speed_up(one, reference) for one in ours},
        "final_loss": {one.name: one.losses[-1] for one in (*ours, reference)},
        "loss_difference": {one.name: float(np.abs(np.subtract(one.losses, reference.losses)).max()) for one in ours},
        "losses": {one.name: one.losses for one in (*ours, reference)},
    }


def run(rounds: int, repeats: int, batch_size: int = 32) -> Iterator[dict[str, Any]]:
    """Every block at depth 1 and 3."""
    images = data.load(RunConfig())
    for depth, block in itertools.product((1, 3), BLOCKS):
        yield compare(block, depth, batch_size, images, rounds, repeats)


def large(rounds: int, repeats: int) -> Iterator[dict[str, Any]]:
    """The same in the paper's batches of 128, with as many times fewer steps. The plain form needs some 10 GB."""
    yield from run(rounds, max(1, repeats // 4), batch_size=128)


def compiled(rounds: int, repeats: int) -> Iterator[dict[str, Any]]:
    """Every block at depth 1 with torch.compile against the same without, and the seconds until its first step."""
    images = data.load(RunConfig())
    for block in BLOCKS:
        config = RunConfig(block=block, batch_size=32)
        eager, fused = trainer(config, images, "auto"), trainer(config, images, "compiled", compile=True)
        with tempfile.TemporaryDirectory() as nothing_compiled_yet:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = nothing_compiled_yet
            alternate([fused, eager], rounds, repeats)
        torch._dynamo.reset()
        yield {
            "block": block,
            "depth": config.depth,
            "batch": config.batch_size,
            "speed_up": speed_up(fused, eager),
            "first_step_seconds": fused.first_step,
            "images_per_second": {one.name: one.images_per_second() for one in (fused, eager)},
        }


def curves(steps: int = 20) -> Iterator[dict[str, Any]]:
    """The losses of both forms over the same steps of each block, at a rate that is high from the first on."""
    images = data.load(RunConfig())
    for block in BLOCKS:
        config = RunConfig(block=block, batch_size=8, warmup_epochs=0, learning_rate=0.003)
        contestants = [trainer(config, images, "auto"), plain(config, images)]
        for contestant in contestants:
            contestant.take(steps - 1)
        yield {
            "block": block,
            "depth": config.depth,
            "batch": config.batch_size,
            "learning_rate": config.learning_rate,
            "losses": {one.name: one.losses for one in contestants},
        }


KINDS = {  # the first that fits names an operator's kind
    "convolution": ("convolution",),
    "attention": ("scaled_dot_product",),
    "matrix products": ("mm", "bmm"),
    "layer norm": ("layer_norm",),
    "GELU": ("gelu",),
    "softmax and loss": ("softmax", "nll_loss"),
    "encoding": ("embedding_bag", "index_add"),
    "copies and fills": ("copy_", "fill_", "zero_", "index", "cat"),
    "sums and additions": ("add", "sum"),
}


def profile(steps: int = 3) -> Iterator[dict[str, Any]]:
    """The share of each kind of operator in a step's time, and of the measured product rate that a step reaches."""
    images = data.load(RunConfig())
    for depth, block in itertools.product((1, 3), BLOCKS):
        yield _profile(RunConfig(block=block, depth=depth, batch_size=32), images, steps)


def _profile(config: RunConfig, images: data.Images, steps: int) -> dict[str, Any]:
    one = trainer(config, images, "auto")
    one.warm_up()
    reached = []
    for _ in range(steps):
        one.take(1)
        rate = multiply_rate(torch.bfloat16) if _in_bfloat16() else multiply_rate(torch.float32)
        reached.append(3 * networks.multiply_accumulates(config) * config.batch_size / one.wall[-1] / rate)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        one.take(steps)
    shares: dict[str, float] = {}
    events = profiler.events()
    total = sum(event.self_cpu_time_total for event in events)
    for event in events:
        kind = _kind(event)
        shares[kind] = shares.get(kind, 0.0) + event.self_cpu_time_total / total
    return {
        "block": config.block,
        "depth": config.depth,
        "batch": config.batch_size,
        "share_of_rate": max(reached),
        "shares": dict(sorted(shares.items(), key=lambda item: -item[1])),
    }


def _kind(event: torch.autograd.profiler_util.FunctionEvent) -> str:
    """Which of KINDS an operator is of; the products by which attention's gradients are taken are attention's."""
    caller = event
    while caller is not None:
        if "Attention" in caller.name:
            return "attention"
        caller = caller.cpu_parent
    words = event.name.removeprefix("aten::")
    return next((name for name, parts in KINDS.items() if any(part in words for part in parts)), "everything else")


def _in_bfloat16() -> bool:
    """Whether the trainer's products are in bfloat16 here."""
    return evaluate.resolve_precision(Execution(), ALONE.device) == "bfloat16"
