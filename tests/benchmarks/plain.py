"""The network as a careful researcher writes it down first: nothing is wrong with it, and nothing is done for speed.

Full precision, images as NCHW, attention weights spelt out, mixing by einsum, logits of every position. It takes its
weights from one of ours, so both learn the same.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isonb.models.network import IsotropicNetwork


class PlainConv(nn.Module):
    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.size, self.norm1, self.conv1, self.norm2, self.conv2 = (
            ours.size, ours.norm1, ours.conv1, ours.norm2, ours.conv2
        )  # fmt: skip

    def forward(self, x_BND: Tensor) -> Tensor:
        x_BDHW = x_BND.transpose(1, 2).unflatten(2, (self.size, self.size)).contiguous()
        for norm, conv in ((self.norm1, self.conv1), (self.norm2, self.conv2)):
            normed_BDHW = norm(x_BDHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()
            x_BDHW = x_BDHW + F.gelu(conv(normed_BDHW))
        return x_BDHW.flatten(2).transpose(1, 2)


class PlainMixer(nn.Module):
    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.norm1, self.token1, self.token2 = ours.norm1, ours.token1, ours.token2
        self.norm2, self.channel1, self.channel2 = ours.norm2, ours.channel1, ours.channel2

    def forward(self, x_BND: Tensor) -> Tensor:
        hidden = torch.einsum("hn,bnd->bhd", self.token1.weight, self.norm1(x_BND)) + self.token1.bias[:, None]
        mixed = torch.einsum("nh,bhd->bnd", self.token2.weight, F.gelu(hidden)) + self.token2.bias[:, None]
        u_BND = x_BND + mixed
        return u_BND + self.channel2(F.gelu(self.channel1(self.norm2(u_BND))))


class PlainTransformer(nn.Module):
    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.heads, self.norm1, self.norm2 = ours.heads, ours.norm1, ours.norm2
        self.query, self.key, self.value, self.output = ours.query, ours.key, ours.value, ours.output
        self.hidden, self.project = ours.hidden, ours.project

    def forward(self, x_BND: Tensor) -> Tensor:
        normed = self.norm1(x_BND)
        q, k, v = (f(normed).unflatten(2, (self.heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        weights_BHNN = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]), dim=-1)
        u_BND = x_BND + self.output((weights_BHNN @ v).transpose(1, 2).flatten(2))
        return u_BND + self.project(F.gelu(self.hidden(self.norm2(u_BND))))


BLOCKS = {"conv": PlainConv, "mixer": PlainMixer, "transformer": PlainTransformer}


class PlainNetwork(nn.Module):
    """Continuous input and whole-pixel masks only: what the comparison needs."""

    def __init__(self, ours: IsotropicNetwork) -> None:
        super().__init__()
        assert ours.config.encoding == "continuous" and ours.config.mask_unit == "pixel"
        self.weight_CFD, self.bias_CD = ours.encoding.weight_CFD, ours.encoding.bias_CD
        self.position_ND = ours.position_ND
        self.blocks = nn.ModuleList(BLOCKS[ours.config.block](block) for block in ours.blocks)
        self.head_norm, self.head = ours.head_norm, ours.head

    def forward(self, pixels_BNC: Tensor, is_masked_BN: Tensor) -> Tensor:
        p_BNC = pixels_BNC.float() / 127.5 - 1
        x_BND = p_BNC @ self.weight_CFD[:, 0] + self.bias_CD.sum(0)
        x_BND = x_BND * ~is_masked_BN[:, :, None]
        if self.position_ND is not None:
            x_BND = x_BND + self.position_ND
        for block in self.blocks:
            x_BND = block(x_BND)
        return self.head(self.head_norm(x_BND)).unflatten(2, (3, 256))


def masked_loss(network: PlainNetwork, pixels_BNC: Tensor, is_masked_BN: Tensor) -> Tensor:
    """Mean nats per masked sub-pixel, out of the nats of all of them."""
    logits_BNCV = network(pixels_BNC, is_masked_BN)
    nats_S = F.cross_entropy(logits_BNCV.flatten(0, 2), pixels_BNC.long().flatten(), reduction="none")
    nats_BNC = nats_S.view_as(pixels_BNC)
    return nats_BNC[is_masked_BN].mean()
