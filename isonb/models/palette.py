"""The colours of a palette within a network: every pixel as the number of the nearest one, and back.

They are kept among the weights, so that a network can be read where its images are not.

Book: chapter "image-GPT".
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Integer, Real, UInt8
from torch import Tensor, nn

from isonb.features import CHANNELS, COLOURS

NAME = "palette.levels_KC"  # of the colours among a network's tensors
AT_ONCE = {"cpu": 2**12, "cuda": 2**20}  # pixels whose distances to every colour are held together


class Palette(nn.Module):
    """K colours, as levels of red, green and blue from 0 to 255; they are saved with the network and never trained."""

    levels_KC: Tensor

    def __init__(self, palette_KC: np.ndarray | None = None) -> None:
        """Take over K colours, uint8; where none are given there is room for them, to be loaded as weights are."""
        super().__init__()
        levels = torch.zeros(COLOURS, CHANNELS) if palette_KC is None else torch.from_numpy(palette_KC).float()
        self.register_buffer("levels_KC", levels)

    @property
    def palette_KC(self) -> np.ndarray:
        """The colours, uint8."""
        return self.levels_KC.round().cpu().numpy().astype(np.uint8)

    @torch.no_grad()
    def tokens(self, pixels_BC: UInt8[Tensor, "*B C"]) -> Integer[Tensor, "*B"]:
        """The number of the colour nearest to each pixel, the first of equally near ones.

        By Euclid's distance; levels and their scale from -1 to 1 agree in which is least.
        """
        token_P = [_nearness(self.levels_KC, part_PC).argmax(1) for part_PC in _parts(pixels_BC)]
        return torch.cat(token_P).view(pixels_BC.shape[:-1])

    @torch.no_grad()
    def ranks(self, centre_PC: Real[Tensor, "P C"], token_P: Integer[Tensor, "P"]) -> Integer[Tensor, "P"]:
        """How many colours are nearer to each centre than that of the number is; of equally near ones the first is."""
        number_K, rank_P = torch.arange(len(self.levels_KC), device=token_P.device), []
        for part_PC, part_P in zip(_parts(centre_PC), token_P.split(_at_once(token_P)), strict=True):
            near_PK = _nearness(self.levels_KC, part_PC)
            own_P1 = near_PK.gather(1, part_P[:, None])
            rank_P.append(((near_PK > own_P1) | ((near_PK == own_P1) & (number_K < part_P[:, None]))).sum(1))
        return torch.cat(rank_P)

    def pixels(self, token_B: Integer[Tensor, "*B"]) -> UInt8[Tensor, "*B C"]:
        """The colours of these numbers."""
        return self.levels_KC.round().to(torch.uint8)[token_B]

    def forward(self, pixels_BNC: UInt8[Tensor, "B N C"]) -> Integer[Tensor, "B N 1"]:
        """The numbers of the nearest colours, as one channel."""
        return self.tokens(pixels_BNC)[..., None]


def _at_once(x: Tensor) -> int:
    return AT_ONCE.get(x.device.type, AT_ONCE["cpu"])


def _parts(pixels_BC: Tensor) -> tuple[Tensor, ...]:
    """The pixels in parts; a part's distances stay within a processor's cache."""
    return pixels_BC.flatten(0, -2).split(_at_once(pixels_BC))


def _nearness(levels_KC: Tensor, pixels_PC: Tensor) -> Tensor:
    """p c - |c|^2 / 2 of each pixel and colour: largest where |p - c|^2 is least, and exact in float32 for levels."""
    levels_KC = levels_KC.float()
    with torch.autocast(pixels_PC.device.type, enabled=False):
        return torch.addmm(levels_KC.square().sum(1) / -2, pixels_PC.float(), levels_KC.T)
