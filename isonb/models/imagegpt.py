"""image-GPT's transformer: a block of its own kind, and a whole network's answer to the numbers of colours.

Its norm divides by the root of the mean square and subtracts no mean; its non-linearity is a GELU by way of a sigmoid.
All else is the transformer's: keys, values, heads, the causal form, and how an image is drawn pixel by pixel.

Source: Chen et al., *Generative Pretraining from Pixels* (2020), and its published code. Book: chapter "image-GPT".
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from isonb import config, presets
from isonb.models import blocks
from isonb.models import network as networks
from isonb.models.blocks import TransformerBlock

GATE = 1.702  # x sigmoid(1.702 x) is within 0.021 of x Phi(x)


class RootMeanSquareNorm(nn.RMSNorm):
    """`g x / sqrt(mean(x^2) + eps)` over the channels; under autocast in the type of x, as torch's own warns there."""

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


def quick_gelu(x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
    """`x sigmoid(1.702 x)`, which the published code calls gelu2."""
    return x * torch.sigmoid(GATE * x)


class ImageGPTBlock(TransformerBlock):
    """The transformer's equation, another norm and non-linearity.

    Its MLP is four times as wide as the tokens unless told otherwise.
    """

    norm, activation = RootMeanSquareNorm, staticmethod(quick_gelu)


def sizes() -> list[dict[str, str]]:
    """A row of the book's table for each preset, its autoregressive network counted without allocating it."""
    rows = []
    for name in presets.PRESETS:
        run = config.paper(preset=name, objective="autoregressive").run
        with torch.device("meta"):
            parameters = networks.parameters(networks.IsotropicNetwork(run))
        operations = run.depth * blocks.multiply_accumulates(run)
        rows.append({
            "preset": name,
            "blocks": str(run.depth),
            "width": str(run.width),
            "heads": str(run.heads),
            "parameters": f"{parameters / 1e6:,.1f} million",
            "multiply-accumulates an image": f"{operations / 1e9:,.1f} billion",
        })  # fmt: skip
    return rows
