"""All layers probed at once against the paper's procedure: a forward pass for every batch, epoch and layer.

The paper's procedure is timed for one epoch of each layer and multiplied by the number of epochs, which is exact but
for noise, as every epoch does the same; its number of forward passes is counted, not measured. That both give the
same accuracies is checked where the whole of it takes seconds: on a network of width 16 and images of 16 x 16.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from isonb import draws
from isonb.config import ProbeConfig, RunConfig
from isonb.models import network as networks
from isonb.training import data, probe, schedule


def run(images: int = 128) -> Iterator[dict[str, Any]]:
    """One row: conv at depth 6, its cost at the study's width, its accuracies at a small one."""
    config = ProbeConfig()
    wide = RunConfig(block="conv", depth=6)
    network, pool = networks.build_network(wide).eval(), first(data.load(wide), images)
    started = time.perf_counter()
    probe.probe_layers(network, pool, config)
    ours = time.perf_counter() - started
    features_LBF = probe.extract(network, pool.train, config)[0]
    started = time.perf_counter()
    for layer in range(wide.depth + 1):
        as_the_paper(network, pool, features_LBF, layer, config, epochs=1)
    theirs = (time.perf_counter() - started) * config.epochs
    small = RunConfig(block="conv", depth=2, width=16, image_size=16)
    network, pool = networks.build_network(small).eval(), first(data.load(small), images)
    together = [layer.test_accuracy for layer in probe.probe_layers(network, pool, config).record.layers]
    features_LBF = probe.extract(network, pool.train, config)[0]
    layers = range(small.depth + 1)
    apart = [as_the_paper(network, pool, features_LBF, layer, config, config.epochs) for layer in layers]
    splits = len(pool.train) + len(pool.validation) + len(pool.test)
    evaluated = len(pool.validation) + len(pool.test)
    yield {
        "block": wide.block,
        "depth": wide.depth,
        "images": splits,
        "seconds": {"ours": ours, "paper": theirs},
        "passes": {
            "ours": splits,
            "paper": (wide.depth + 1) * (config.epochs * len(pool.train) + evaluated),
        },
        "accuracies": {"ours": together, "paper": apart},
        "test_images": len(pool.test),
    }


def first(images: data.Images, count: int) -> data.Images:
    """The first images of the training split, with the whole of the other two."""
    train = images.train
    train = data.Split(train.pixels_BNC[:count], train.labels_B[:count], train.index_B[:count])
    return dataclasses.replace(images, train=train)


def as_the_paper(
    network: networks.IsotropicNetwork,
    images: data.Images,
    features_LBF: torch.Tensor,
    layer: int,
    config: ProbeConfig,
    epochs: int,
) -> float:
    """Train one layer's classifier with the frozen network in the loop; its accuracy on the test images.

    The features are whitened as ours are, by the moments of `features_LBF`.
    """
    mean_F, map_FF = probe.whitening(features_LBF[layer])
    linear = nn.Linear(network.config.width, len(images.classes))
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    adam = torch.optim.Adam(linear.parameters())
    steps = data.steps_per_epoch(len(images.train), config.batch_size)
    cosine = RunConfig(learning_rate=config.learning_rate, warmup_epochs=0, epochs=config.epochs)
    for epoch in range(epochs):
        order_B = torch.from_numpy(draws.permutation(network.config.seed, "probe order", len(images.train), epoch))
        for number, batch_B in enumerate(order_B.split(config.batch_size)):
            for group in adam.param_groups:
                group["lr"] = schedule.learning_rate(cosine, epoch * steps + number, steps)
            x_BF = feature(network, images.train.pixels_BNC[batch_B], layer)
            logits_BK = linear((x_BF - mean_F) @ map_FF)
            adam.zero_grad()
            F.cross_entropy(logits_BK, images.train.labels_B[batch_B]).backward()
            adam.step()
    with torch.no_grad():
        chunks = images.test.pixels_BNC.split(config.batch_size)
        x_BF = torch.cat([feature(network, pixels_BNC, layer) for pixels_BNC in chunks])
        guess_B = linear((x_BF - mean_F) @ map_FF).argmax(1)
    return float((guess_B == images.test.labels_B).double().mean())


@torch.no_grad()
def feature(network: networks.IsotropicNetwork, pixels_BNC: torch.Tensor, layer: int) -> torch.Tensor:
    """The mean-pooled, normalised output of one layer, computed up to there."""
    x_BND = network.embed(pixels_BNC)
    for block in network.blocks[:layer]:
        x_BND = block(x_BND)
    return F.layer_norm(x_BND, x_BND.shape[-1:]).mean(1)
