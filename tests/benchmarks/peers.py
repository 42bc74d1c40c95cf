"""The same sizes in libraries that many use: Hugging Face's ImageGPT and lucidrains' mlp-mixer-pytorch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import steps
import torch
from timing import Contestant, alternate, speed_up
from torch import Tensor, nn
from torch.nn import functional as F

from isonb.config import RunConfig
from isonb.features import CHANNELS, VALUES
from isonb.models import blocks, objectives
from isonb.models import network as networks
from isonb.training import data, evaluate

PALETTE = 512


class PaletteNetwork(nn.Module):
    """Our causal transformer blocks between ImageGPT's input and output: a palette colour a position."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self.table = nn.Embedding(PALETTE + 1, config.width)
        self.position_ND = nn.Parameter(torch.zeros(config.image_size**2, config.width))
        self.blocks = nn.Sequential(*(blocks.build_block(config) for _ in range(config.depth)))
        self.norm, self.head = nn.LayerNorm(config.width), nn.Linear(config.width, PALETTE, bias=False)

    def forward(self, colour_BN: Tensor) -> Tensor:
        x_BND = self.table(colour_BN) + self.position_ND
        if torch.is_autocast_enabled(x_BND.device.type):
            x_BND = x_BND.to(torch.get_autocast_dtype(x_BND.device.type))  # as the trainer's residual stream
        return self.head(self.norm(self.blocks(x_BND)))


def image_gpt(config: RunConfig) -> nn.Module:
    """Equal width, depth, heads and hidden units."""
    from transformers import ImageGPTConfig, ImageGPTForCausalImageModeling

    size = {"n_embd": config.width, "n_inner": config.width, "n_layer": config.depth, "n_head": config.heads}
    settings = ImageGPTConfig(vocab_size=PALETTE + 1, n_positions=config.image_size**2, **size)
    settings.resid_pdrop = settings.embd_pdrop = settings.attn_pdrop = 0.0  # we have none either
    return ImageGPTForCausalImageModeling(settings).train()


def mixer(config: RunConfig) -> nn.Module:
    """Equal width, depth and hidden units; without its mean over positions, so that it predicts pixels, too.

    Its `expansion_factor` widens the positions' maps by that times the width, `expansion_factor_token` the channels'.
    """
    from mlp_mixer_pytorch import MLPMixer

    net = MLPMixer(
        image_size=config.image_size, channels=3, patch_size=1, dim=config.width, depth=config.depth, num_classes=768,
        expansion_factor=config.image_size**2 // config.width, expansion_factor_token=1,
    )  # fmt: skip
    return nn.Sequential(*(part for part in net if type(part).__name__ != "Reduce"))


def contestant(name: str, network: nn.Module, batch_size: int, loss: Callable[[nn.Module], Tensor]) -> Contestant:
    """A step in bfloat16 where the trainer's would be, with the same optimiser."""
    adam = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    precision = evaluate.resolve_precision(steps.Execution(), torch.device("cpu"))

    def step(_: int) -> float:
        with evaluate.autocast(torch.device("cpu"), precision):
            nats = loss(network)
        nats.backward()
        adam.step()
        adam.zero_grad()
        return nats.item()

    return Contestant(name, batch_size, step)


def against_image_gpt(heads: int, depth: int, images: data.Images, rounds: int, repeats: int) -> dict[str, Any]:
    """The trainer's autoregressive step, our blocks with a palette, and the trainer's BERT step, against ImageGPT.

    Of the first three ImageGPT's task is that of the first two. Its colours are random: no step looks at them.
    """
    run = RunConfig(block="transformer", heads=heads, depth=depth, batch_size=32)
    causal = run.model_copy(update={"objective": "autoregressive"})
    colour_BN = torch.randint(PALETTE, (run.batch_size, run.image_size**2))
    own, theirs = PaletteNetwork(causal), image_gpt(run)

    def next_colour(network: nn.Module) -> Tensor:
        return F.cross_entropy(network(colour_BN).flatten(0, 1).float(), colour_BN.flatten())

    ours = [
        steps.trainer(causal, images, "autoregressive"),
        contestant("palette", own, run.batch_size, next_colour),
        steps.trainer(run, images, "trainer"),
    ]
    peer = contestant("peer", theirs, run.batch_size, lambda net: net(colour_BN, labels=colour_BN).loss)
    alternate([*ours, peer], rounds, repeats)
    networks_of_both = networks.build_network(causal), theirs
    block_of_both = own.blocks[0], theirs.transformer.h[0]
    outputs = [CHANNELS, VALUES], [1, theirs.lm_head.out_features]
    return row("transformers", run, ours, peer, block_of_both, networks_of_both, outputs)


def against_mixer(_: int, depth: int, images: data.Images, rounds: int, repeats: int) -> dict[str, Any]:
    """The trainer's step against the mixer, whose logits of all positions are masked afterwards; it has no heads."""
    config = RunConfig(block="mixer", depth=depth, batch_size=32)
    theirs = mixer(config)
    pixels_BNC = images.train.pixels_BNC[: config.batch_size]
    image_BCHW = (pixels_BNC.float() / 127.5 - 1).transpose(1, 2).unflatten(2, (config.image_size, config.image_size))
    is_masked_BN = objectives.sample_masks(config, images.train.index_B[: config.batch_size], "training")[:, :, 0]
    image_BCHW = image_BCHW * ~is_masked_BN.unflatten(1, image_BCHW.shape[2:])[:, None]

    def masked(network: nn.Module) -> Tensor:
        nats_S = F.cross_entropy(
            network(image_BCHW).view(-1, 256).float(), pixels_BNC.long().flatten(), reduction="none"
        )
        return nats_S.view_as(pixels_BNC)[is_masked_BN].mean()

    ours = steps.trainer(config, images, "trainer")
    peer = contestant("peer", theirs, config.batch_size, masked)
    alternate([ours, peer], rounds, repeats)
    own = networks.build_network(config)
    outputs = [CHANNELS, VALUES], [CHANNELS, VALUES]
    return row("mlp-mixer-pytorch", config, [ours], peer, (own.blocks[0], theirs[2]), (own, theirs), outputs)


def row(
    library: str,
    config: RunConfig,
    ours: list[Contestant],
    peer: Contestant,
    a_block: tuple[nn.Module, nn.Module],
    whole: tuple[nn.Module, nn.Module],
    outputs: tuple[list[int], list[int]],
) -> dict[str, Any]:
    """How many times as fast; parameters of a block and of all, and what a position is predicted as, ours first."""
    both = ("ours", "peer")
    return {
        "library": f"{library} {importlib.metadata.version(library)}",
        "block": config.block,
        "heads": config.heads,
        "depth": config.depth,
        "batch": config.batch_size,
        "parameters_per_block": dict(zip(both, map(networks.parameters, a_block), strict=True)),
        "parameters": dict(zip(both, map(networks.parameters, whole), strict=True)),
        "outputs": dict(zip(both, outputs, strict=True)),
        "images_per_second": {one.name: one.images_per_second() for one in (*ours, peer)},
        "speed_up": {one.name: speed_up(one, peer) for one in ours},
    }


def run(rounds: int, repeats: int) -> Iterator[dict[str, Any]]:
    """Both libraries at depth 1 and 3, ImageGPT with 1 and 4 heads; one that is not installed leaves its reason."""
    images = data.load(RunConfig())
    comparisons = {"transformers": (against_image_gpt, (4, 1)), "mlp_mixer_pytorch": (against_mixer, (1,))}
    for module, (compare, heads) in comparisons.items():
        if importlib.util.find_spec(module):
            for sizes in itertools.product(heads, (1, 3)):
                yield compare(*sizes, images, rounds, repeats)
        else:
            yield {"skipped": f"{module} is not installed: pip install --editable '.[bench]'."}
