"""Completing the lower halves of images with what the blocks remember, against a whole pass for each pixel."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from timing import Contestant, alternate, speed_up

from isonb import rows
from isonb.config import RunConfig
from isonb.models import network as networks
from isonb.models.continuation import Continuation
from isonb.training import data, sampling

IMAGES, PIXELS = 8, 2  # drawn together; of each image by whole passes, whose pixels all cost the same
BLOCKS = [name for name, row in rows.BLOCKS.items() if row.has_causal_form and row.in_grid]


def run(rounds: int, repeats: int, sizes: tuple[int, ...] = (1, 3), **settings: Any) -> Iterator[dict[str, Any]]:
    """One row for each block and size, in float64 as completions are drawn; `repeats` is not needed for so long steps.

    Their pixels are drawn alike; a difference is that of the outputs at every position, relative to the largest.
    """
    for block, depth in itertools.product(BLOCKS, sizes):
        config = RunConfig(block=block, depth=depth, objective="autoregressive", encoding="pix2vec", **settings)
        network = sampling.in_double(networks.build_network(config))
        torch.nn.init.normal_(network.head.weight, std=0.1, generator=torch.Generator().manual_seed(0))
        pixels_BNC = data.load(config).test.pixels_BNC[:IMAGES]
        split = data.Split(pixels_BNC, torch.zeros(len(pixels_BNC)), torch.arange(len(pixels_BNC)))
        half = config.image_size // 2
        remembers = Contestant("remembers", len(split) * half * config.image_size, _completion(network, split, half))
        anew = Contestant("anew", len(split) * PIXELS, _whole_passes(network, split, half * config.image_size))
        alternate([remembers, anew], rounds, 1)
        yield {
            "block": block,
            "depth": depth,
            "images": len(split),
            "speed_up": speed_up(remembers, anew),
            "difference": _difference(network, pixels_BNC, half),
        }


def _completion(network: networks.IsotropicNetwork, split: data.Split, half: int) -> Any:
    def step(_: int) -> float:
        sampling.complete(network, split, torch.arange(len(split)), half, [sampling.Way(1.0)], together=len(split))
        return 0.0

    return step


def _whole_passes(network: networks.IsotropicNetwork, split: data.Split, first: int) -> Any:
    """The same values are drawn from the outputs at one position, of a pass over all."""
    is_scored_BNT = torch.zeros(*split.pixels_BNC.shape[:2], networks.outputs(network.config)[0], dtype=torch.bool)

    @torch.inference_mode()
    def step(_: int) -> float:
        for position in range(first, first + PIXELS):
            is_here_BNT = is_scored_BNT.clone()
            is_here_BNT[:, position] = True
            network(split.pixels_BNC, is_here_BNT).softmax(2).cumsum(2)
        return 0.0

    return step


@torch.inference_mode()
def _difference(network: networks.IsotropicNetwork, pixels_BNC: torch.Tensor, half: int) -> float:
    reading, first = Continuation(network), half * network.config.image_size
    pieces = [reading.read(part) for part in pixels_BNC.split([first, *[1] * (pixels_BNC.shape[1] - first)], 1)]
    whole_BND = network.final_layer(pixels_BNC)
    return float((torch.cat(pieces, 1) - whole_BND).abs().max() / whole_BND.abs().max())
