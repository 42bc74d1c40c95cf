"""The isotropic network: encode, mask, position, L blocks, and a head over the 256 values of each channel.

Paper: sections 3.1 to 3.3. Book: chapter "Network".
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from isonb import rows
from isonb.config import RunConfig
from isonb.features import CHANNELS
from isonb.models import blocks
from isonb.models.encodings import build_encoding, reset_embedding

Pixels = UInt8[Tensor, "B N C"]
Masks = Bool[Tensor, "B N C"]
Tokens = Float[Tensor, "B N D"]


class IsotropicNetwork(nn.Module):
    """Predicts the values of masked sub-pixels; built by `build_network`, which also initialises it."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self.config = config
        n, d = config.image_size**2, config.width
        self.encoding = build_encoding(config)
        self.start_D = nn.Parameter(torch.zeros(d)) if config.is_causal else None
        self.mask_token_D = nn.Parameter(torch.zeros(d)) if config.mask_fill == "learned" else None
        if config.positions == "learned":
            self.position_ND = nn.Parameter(torch.empty(n, d))
        else:
            is_fixed = config.positions == "sincos"
            fixed_ND = sincos_positions(config.image_size, d, config.positions_base) if is_fixed else None
            self.register_buffer("position_ND", fixed_ND, persistent=False)
        self.blocks = nn.ModuleList(blocks.build_block(config) for _ in range(config.depth))
        self.head_norm = nn.LayerNorm(d, config.layer_norm_eps) if config.head_norm else nn.Identity()
        self.head = nn.utils.skip_init(nn.Linear, d, CHANNELS * outputs(config))  # draws nothing: twins start alike

    def embed(self, pixels_BNC: Pixels, is_masked_BNC: Masks | None = None) -> Tokens:
        """Layer 0: the encoded pixels, with masked content filled, then positions added.

        Of a causal network: each position has the content of the pixel before it, the first a learned start token.
        """
        x_BND = self.encoding(pixels_BNC, is_masked_BNC)
        if self.start_D is not None:
            x_BND = torch.cat([self.start_D.to(x_BND).expand(len(x_BND), 1, -1), x_BND[:, :-1]], dim=1)
        if is_masked_BNC is not None and self.mask_token_D is not None:
            share_masked_BN1 = is_masked_BNC.to(x_BND).mean(2, keepdim=True)
            x_BND = x_BND + share_masked_BN1 * self.mask_token_D
        if self.position_ND is not None:
            x_BND = x_BND + self.position_ND
        if torch.is_autocast_enabled(x_BND.device.type):
            x_BND = x_BND.to(torch.get_autocast_dtype(x_BND.device.type))  # the residual stream, in half the memory
        return x_BND

    def forward_layers(self, pixels_BNC: Pixels, is_masked_BNC: Masks | None = None) -> list[Tokens]:
        """Layers 0 (the encoding) to L (the last block's output), L + 1 in all, for probing."""
        layers = [self.embed(pixels_BNC, is_masked_BNC)]
        for block in self.blocks:
            layers.append(block(layers[-1]))
        return layers

    def final_layer(self, pixels_BNC: Pixels, is_masked_BNC: Masks | None = None) -> Tokens:
        """Layer L alone."""
        x_BND = self.embed(pixels_BNC, is_masked_BNC)
        for block in self.blocks:
            x_BND = block(x_BND)
        return x_BND

    def forward(self, pixels_BNC: Pixels, is_scored_BNC: Masks) -> Float[Tensor, "M C V"]:
        """Logits of the M positions that hold a scored sub-pixel, in raster order of (image, position).

        What is scored is masked, and a value under a mask cannot reach any logit; a causal network is shown everything,
        but no pixel before it is predicted. An objective that regresses has one value in the place of 256 logits.
        """
        return self.logits(self.final_layer(pixels_BNC, hidden(self.config, is_scored_BNC)), is_scored_BNC)

    def logits(self, x_BND: Tokens, is_scored_BNC: Masks) -> Float[Tensor, "M C V"]:
        """The head on the M positions that hold a scored sub-pixel.

        Only these reach it: the loss needs no others, and the full logits are the largest tensor by far.
        """
        x_MD = x_BND[is_scored_BNC.any(2)]
        return self.head(self.head_norm(x_MD)).unflatten(1, (CHANNELS, outputs(self.config)))


def hidden(config: RunConfig, is_scored_BNC: Masks) -> Masks | None:
    """What a network must not see of an image whose given sub-pixels it is to predict: them, or nothing if causal."""
    return None if config.is_causal else is_scored_BNC


def outputs(config: RunConfig) -> int:
    """How many numbers the head predicts for a sub-pixel: 256 logits, or one regressed value."""
    return rows.OBJECTIVES[config.objective].outputs


def build_network(config: RunConfig) -> IsotropicNetwork:
    """A network whose initial weights are a function of the configuration alone, whatever the device or rank."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = IsotropicNetwork(config)
        _initialise(network)
    return network


def _initialise(network: IsotropicNetwork) -> None:
    """Table A12: as Keras starts every layer, or as torch does; the head always starts at zero (A17).

    With `keras-mha` the same numbers are drawn as with `keras`, and those of attention are then scaled.
    """
    is_torch = network.config.initialisation == "torch"
    network.encoding.reset_parameters()
    if isinstance(network.position_ND, nn.Parameter):
        reset_embedding(network.position_ND, is_torch)
    if not is_torch:  # torch's layers have started themselves
        for module in network.blocks.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
    if network.config.initialisation == "keras-mha":
        for block in network.blocks:
            block.scale_as_keras()
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)


def sincos_positions(size: int, width: int, base: float = 10_000.0) -> Float[Tensor, "N D"]:
    """Fixed 2-d positions: a quarter of the channels each for sin and cos of the row and of the column.

    Frequencies fall geometrically from 1 towards 1/base, as in Vaswani et al. (2017), one axis in each half.
    """
    frequency = torch.exp(-math.log(base) * torch.arange(width // 4) / (width // 4))
    angle = torch.arange(size)[:, None] * frequency
    axis = torch.cat([angle.sin(), angle.cos()], dim=1)
    rows, columns = axis.repeat_interleave(size, 0), axis.repeat(size, 1)
    return torch.cat([rows, columns], dim=1)


def parameters(module: nn.Module) -> int:
    """How many trained numbers a module has."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def multiply_accumulates(config: RunConfig) -> int:
    """Multiply-accumulates of one image's forward pass: blocks, and the head at its expected share of positions.

    The encoding is a table look-up and counts as none.
    """
    n, d = config.image_size**2, config.width
    is_whole_pixel = config.mask_unit == "pixel"
    share = config.mask_rate if is_whole_pixel else 1 - (1 - config.mask_rate) ** CHANNELS
    if config.is_causal:
        share = 1.0
    head = round(share * n) * d * CHANNELS * outputs(config)
    return config.depth * blocks.multiply_accumulates(config) + head
