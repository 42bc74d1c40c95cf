"""The loss of a batch in shapes that do not depend on its masks, so that it can be compiled and replayed as one graph.

Images and their numbers lie on the device, and masks are drawn there. The positions that hold a scored sub-pixel are
moved to the front of a list of fixed length, which the network's head reads; how many there will be is known
beforehand, since masks are functions of the image's number. An image that fills up the last batch has nothing scored.

Book: chapter "Training".
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn

from isonb.config import RunConfig
from isonb.models import network as networks
from isonb.models import objectives

DEVIATIONS = 7  # by which a batch may have more positions than the mean: one of 10^12 has more yet
MULTIPLE = 64  # of which the capacity is one, as matrix units like it
GRAPHS = 64  # that one process may compile, each for a network and a batch; torch stops at 8
AT_ONCE = 4096  # images whose scored positions are counted together


def capacity(config: RunConfig, images: int) -> int:
    """How many positions of so many images the loss has room for: all of them where every one is scored."""
    positions, share = images * config.image_size**2, networks.share_of_positions(config)
    needed = positions * share + DEVIATIONS * math.sqrt(positions * share * (1 - share))
    return min(positions, -(-math.ceil(needed) // MULTIPLE) * MULTIPLE)


def scored(config: RunConfig, index_B: Int64[Tensor, "B"], epoch: int) -> tuple[Int64[Tensor, "B"], Int64[Tensor, "B"]]:
    """How many positions of each image hold a scored sub-pixel in an epoch, and how many sub-pixels are scored."""
    counts = []
    for part_B in index_B.split(AT_ONCE):
        is_scored_BNC = objectives.sample_scored(config, part_B, "training", epoch)
        counts.append(torch.stack([is_scored_BNC.any(2).sum(1), is_scored_BNC.sum((1, 2))]))
    positions_B, subpixels_B = torch.cat(counts, dim=1)
    return positions_B, subpixels_B


class FixedLoss(nn.Module):
    """The summed loss of a network at the scored positions of B images, at most `capacity` of them.

    Compiled by the first call, whole and for one shape. `is_compiled=False` runs the same uncompiled with room for
    every position, for a batch that does not fit.
    """

    def __init__(self, network: networks.IsotropicNetwork, images: int) -> None:
        super().__init__()
        self.network, self.capacity = network, capacity(network.config, images)
        loss = objectives.loss_of(network.config, network.palette)
        self.per_subpixel = loss.per_subpixel
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, GRAPHS)
        self.compiled = torch.compile(self._sum, fullgraph=True, dynamic=False)

    def forward(
        self,
        pixels_BNC: UInt8[Tensor, "B N C"],
        index_B: Int64[Tensor, "B"],
        is_counted_B: Bool[Tensor, "B"],
        key: Int64[Tensor, ""],
        precision: str,
        is_compiled: bool = True,
    ) -> Float[Tensor, ""]:
        """The loss under the masks of an epoch, whose `key` is that of `objectives.mask_key`.

        Images that are not counted have nothing masked or scored.
        """
        if is_compiled:
            return self.compiled(pixels_BNC, index_B, is_counted_B, key, precision, self.capacity)
        return self._sum(pixels_BNC, index_B, is_counted_B, key, precision, pixels_BNC[..., 0].numel())

    def _sum(
        self, pixels_BNC: Tensor, index_B: Tensor, is_counted_B: Tensor, key: Tensor, precision: str, room: int
    ) -> Tensor:
        config = self.network.config
        is_scored_BNS = objectives.scored_by(config, key, index_B) & is_counted_B[:, None, None]
        with torch.autocast(pixels_BNC.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            x_BND = self.network.final_layer(pixels_BNC, networks.hidden(config, is_scored_BNS))
            x_PD, pixels_PC, is_scored_PS = x_BND.flatten(0, 1), pixels_BNC.flatten(0, 1), is_scored_BNS.flatten(0, 1)
            place_M, slot_P = _scored_first(is_scored_PS.any(1), room)
            output_MTV = self.network.read(_Chosen.apply(x_PD, place_M, slot_P))
        is_scored_MS = is_scored_PS[place_M]
        loss_MT = self.per_subpixel(output_MTV, pixels_PC[place_M], is_scored_MS)
        return torch.where(is_scored_MS, loss_MT, 0.0).sum()


def _scored_first(is_scored_P: Bool[Tensor, "P"], room: int) -> tuple[Int64[Tensor, "M"], Int64[Tensor, "P"]]:
    """Positions with the scored ones first, each kind in raster order, M = room of them; and where each one comes."""
    order_P = torch.arange(len(is_scored_P), device=is_scored_P.device)
    before_P = is_scored_P.cumsum(0)
    slot_P = torch.where(is_scored_P, before_P - 1, before_P[-1] + order_P - before_P)
    return torch.empty_like(slot_P).scatter_(0, slot_P, order_P)[:room], slot_P


class _Chosen(torch.autograd.Function):
    """x at M different positions. Its gradient is gathered, too, where that of an index adds one by one."""

    @staticmethod
    def forward(
        ctx, x_PD: Float[Tensor, "P D"], place_M: Int64[Tensor, "M"], slot_P: Int64[Tensor, "P"]
    ) -> Float[Tensor, "M D"]:
        ctx.save_for_backward(slot_P)
        return x_PD[place_M]

    @staticmethod
    def backward(ctx, gradient_MD: Float[Tensor, "M D"]) -> tuple[Float[Tensor, "P D"], None, None]:
        (slot_P,) = ctx.saved_tensors
        room = len(gradient_MD)
        return torch.where((slot_P < room)[:, None], gradient_MD[slot_P.clamp_max(room - 1)], 0.0), None, None
