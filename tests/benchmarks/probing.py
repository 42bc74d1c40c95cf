"""All layers probed at once against the paper's procedure: a forward pass for every batch, epoch and layer.

The paper's procedure is timed for one epoch of each layer and multiplied by the number of epochs, which is exact but
for noise, as every epoch does the same; its number of forward passes is counted, not measured. That both give the
same accuracies is checked where the whole of it takes seconds: on a network of width 16 and images of 16 x 16.
Adam is checked against L-BFGS on a network that has been trained for a moment.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from isonb import draws
from isonb.config import Execution, ProbeConfig, RunConfig
from isonb.models import network as networks
from isonb.training import classifiers, data, probe, schedule, train


def run(images: int = 192) -> Iterator[dict[str, Any]]:
    """One row: conv at depth 6, its cost at the study's width, its accuracies at a small one.

    Seconds are of the processor, so that others' work on the machine is not counted.
    """
    config = ProbeConfig()
    wide = RunConfig(block="conv", depth=6)
    network, pool = networks.build_network(wide).eval(), first(data.load(wide), images)
    started = time.process_time()
    probe.probe_layers(network, pool, config)
    ours = time.process_time() - started
    features_LBF = probe.extract(network, pool.train, config)[0]
    theirs = 0.0
    for layer in range(wide.depth + 1):
        epoch, evaluation, _ = as_the_paper(network, pool, features_LBF, layer, config, epochs=1)
        theirs += config.epochs * epoch + evaluation
    small = RunConfig(block="conv", depth=2, width=16, image_size=16)
    network, evaluated = networks.build_network(small).eval(), first(data.load(small), images)
    together = [layer.test_accuracy for layer in probe.probe_layers(network, evaluated, config).record.layers]
    features_LBF = probe.extract(network, evaluated.train, config)[0]
    layers = range(small.depth + 1)
    apart = [as_the_paper(network, evaluated, features_LBF, layer, config, config.epochs)[2] for layer in layers]
    held_out = len(pool.validation) + len(pool.test)
    yield {
        "block": wide.block,
        "depth": wide.depth,
        "images": len(pool.train) + held_out,
        "seconds": {"ours": ours, "paper": theirs},
        "passes": {
            "ours": len(pool.train) + held_out,
            "paper": (wide.depth + 1) * (config.epochs * len(pool.train) + held_out),
        },
        "accuracies": {"ours": together, "paper": apart},
        "test_images": len(evaluated.test),
    }


def solvers(pretrained: int = 1200, probed: int = 8000) -> Iterator[dict[str, Any]]:
    """One row: test accuracy of every layer's probe by Adam, with and without whitening, and by L-BFGS, on CIFAR-10.

    The network is a conv of depth 2 after one epoch on some of the images that are at hand; more of them are probed.
    """
    if not os.environ.get("ISONB_DATA"):
        yield {"skipped": "solvers: ISONB_DATA names no folder with CIFAR-10"}
        return
    run = RunConfig(block="conv", depth=2, data="cifar10", epochs=1, batch_size=32)
    pool = first(data.load(run), probed)
    with tempfile.TemporaryDirectory() as folder:
        network = train.pretrain(run, first(pool, pretrained), Path(folder), Execution(device="cpu")).network
    row: dict[str, Any] = {"block": run.block, "depth": run.depth, "accuracies": {}}
    ways = {"adam": {}, "lbfgs": {"solver": "lbfgs"}, "not_whitened": {"scaling": "none"}}
    for way, settings in ways.items():
        record = probe.probe_layers(network, pool, ProbeConfig(**settings)).record
        row["accuracies"][way] = [layer.test_accuracy for layer in record.layers]
    yield row | {"data": data.describe(pool).name, "train_images": len(pool.train), "test_images": len(pool.test)}


def first(images: data.Images, count: int) -> data.Images:
    """The first images of the training split, and half and quarter as many of test and validation."""

    def part(split: data.Split, count: int) -> data.Split:
        return data.Split(split.pixels_BNC[:count], split.labels_B[:count], split.index_B[:count])

    train, validation, test = images.train, images.validation, images.test
    return dataclasses.replace(
        images, train=part(train, count), validation=part(validation, count // 4), test=part(test, count // 2)
    )


def as_the_paper(
    network: networks.IsotropicNetwork,
    images: data.Images,
    features_LBF: torch.Tensor,
    layer: int,
    config: ProbeConfig,
    epochs: int,
) -> tuple[float, float, float]:
    """Train one layer's classifier with the frozen network in the loop.

    Returns the seconds of an epoch, those of the evaluation, and the accuracy on the test images. The features are
    whitened as ours are, by the moments of `features_LBF`.
    """
    mean_F, map_FF = classifiers.whitening(features_LBF[layer])
    linear = nn.Linear(network.config.width, len(images.classes))
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    adam = torch.optim.Adam(linear.parameters())
    steps = data.steps_per_epoch(len(images.train), config.batch_size)
    cosine = RunConfig(learning_rate=config.learning_rate, warmup_epochs=0, epochs=config.epochs)
    started = time.process_time()
    for epoch in range(epochs):
        order_B = torch.from_numpy(draws.permutation(network.config.seed, "probe order", len(images.train), epoch))
        for number, batch_B in enumerate(order_B.split(config.batch_size)):
            for group in adam.param_groups:
                group["lr"] = schedule.learning_rate(cosine, epoch * steps + number, steps)
            x_BF = feature(network, images.train.pixels_BNC[batch_B], layer)
            adam.zero_grad()
            F.cross_entropy(linear((x_BF - mean_F) @ map_FF), images.train.labels_B[batch_B]).backward()
            adam.step()
    trained = time.process_time()
    accuracy = {}
    for name in ("validation", "test"):
        split = getattr(images, name)
        chunks = split.pixels_BNC.split(config.batch_size)
        x_BF = torch.cat([feature(network, pixels_BNC, layer) for pixels_BNC in chunks])
        accuracy[name] = float((linear((x_BF - mean_F) @ map_FF).argmax(1) == split.labels_B).double().mean())
    return (trained - started) / epochs, time.process_time() - trained, accuracy["test"]


@torch.no_grad()
def feature(network: networks.IsotropicNetwork, pixels_BNC: torch.Tensor, layer: int) -> torch.Tensor:
    """The mean-pooled, normalised output of one layer, computed up to there."""
    x_BND = network.embed(pixels_BNC)
    for block in network.blocks[:layer]:
        x_BND = block(x_BND)
    return F.layer_norm(x_BND, x_BND.shape[-1:]).mean(1)
