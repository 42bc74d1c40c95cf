"""A causal network that reads images a few pixels at a time and remembers, so that the next pixel costs one position.

Its outputs are those of the network's own pass over the whole image.

Book: chapter "image-GPT".
"""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from isonb.features import CHANNELS
from isonb.models import blocks
from isonb.models.network import IsotropicNetwork
from isonb.models.past import Past


class Continuation:
    """Images that have been read up to some pixel, none at first; `read` goes on."""

    def __init__(self, network: IsotropicNetwork) -> None:
        self.network = network
        self.pasts = [Past() for _ in network.blocks]
        self.position = 0  # the next one whose output is due

    def read(self, pixels_BTC: UInt8[Tensor, "B T C"]) -> Float[Tensor, "B O D"]:
        """Read the next T pixels: layer L at the O positions that they decide, of which each predicts its own pixel.

        O is T, and T + 1 in the first call: the first pixel is predicted from nothing, the last decides none.
        """
        x_BOD = self.network.embed_next(pixels_BTC, self.position)
        for block, past in zip(self.network.blocks, self.pasts, strict=True):
            x_BOD = blocks.extend(block, x_BOD, past, self.network.config.image_size**2)
        self.position += x_BOD.shape[1]
        return x_BOD

    def outputs(self, x_BOD: Float[Tensor, "B O D"]) -> Float[Tensor, "M C V"]:
        """What the head predicts at these positions, one after another."""
        is_scored_BOC = torch.ones(*x_BOD.shape[:2], CHANNELS, dtype=torch.bool, device=x_BOD.device)
        return self.network.logits(x_BOD, is_scored_BOC)


def whole_passes(network: IsotropicNetwork) -> list[str]:
    """The classes of those of its blocks that cannot go on from where they are, and compute all positions each time."""
    return sorted({type(block).__name__ for block in network.blocks if not hasattr(block, "extend")})
