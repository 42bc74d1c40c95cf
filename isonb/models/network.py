"""The isotropic network: encode, mask, position, L blocks, and a head over the 256 values of each channel.

Paper: sections 3.1 to 3.3. Book: chapter "Network".
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from isonb import rows
from isonb.config import ConfigError, RunConfig
from isonb.features import CHANNELS, COLOURS
from isonb.models import blocks
from isonb.models.encodings import build_encoding, reset_embedding
from isonb.models.palette import Palette

Pixels = UInt8[Tensor, "B N C"]
Colours = Integer[Tensor, "B S"]
Masks = Bool[Tensor, "B N S"]  # S is 3 or, where whole pixels are hidden or scored, maybe 1
Tokens = Float[Tensor, "B N D"]


class IsotropicNetwork(nn.Module):
    """Predicts the values of masked sub-pixels; built by `build_network`, which also initialises it.

    `palette` holds the colours that it reads or predicts, None where it does neither.
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self.config = config
        n, d = config.image_size**2, config.width
        self.palette = Palette() if config.has_palette else None
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
        self.head_norm = blocks.build_norm(config) if config.head_norm else nn.Identity()
        has_bias = rows.BLOCKS[config.block].has_head_bias
        self.head = undrawn_linear(d, math.prod(outputs(config)), has_bias)  # twins that differ in it alone start alike

    @property
    def reads_palette(self) -> bool:
        """True where the encoding is given the numbers of colours."""
        return rows.ENCODINGS[self.config.encoding].reads_palette

    def encode(self, pixels_BNC: Pixels, is_masked_BNC: Masks | None = None) -> Tokens:
        """The content of each position: what the encoding makes of its pixel, or of the number of its colour."""
        return self.encoding(self.palette(pixels_BNC) if self.reads_palette else pixels_BNC, is_masked_BNC)

    def embed(self, pixels_BNC: Pixels, is_masked_BNC: Masks | None = None) -> Tokens:
        """Layer 0: the encoded pixels, with masked content filled, then positions added.

        Of a causal network: each position has the content of the pixel before it, the first a learned start token.
        """
        x_BND = self.encode(pixels_BNC, is_masked_BNC)
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

    def embed_next(self, pixels_BTC: UInt8[Tensor, "B T C"], first: int) -> Float[Tensor, "B O D"]:
        """Layer 0 of a causal network at the O positions from `first` on whose content these pixels decide.

        The content of a position is the pixel before it, so these are the pixels from `first` - 1 on. Of the first
        position it is the start token, and the last pixel of an image decides none.
        """
        x_BOD = self.encode(pixels_BTC)
        if first == 0:
            x_BOD = torch.cat([self.start_D.to(x_BOD).expand(len(x_BOD), 1, -1), x_BOD], dim=1)
        x_BOD = x_BOD[:, : self.config.image_size**2 - first]
        return x_BOD if self.position_ND is None else x_BOD + self.position_ND[first : first + x_BOD.shape[1]]

    def forward_layers(self, pixels_BNC: Pixels, is_masked_BNC: Masks | None = None) -> list[Tokens]:
        """Layers 0 (the encoding) to L (the last block's output), L + 1 in all."""
        return [*self.each_layer(pixels_BNC, is_masked_BNC)]

    def each_layer(self, pixels_BNC: Pixels, is_masked_BNC: Masks | None = None) -> Iterator[Tokens]:
        """The same one after the other, for probing: a large network's are too many to be held together."""
        x_BND = self.embed(pixels_BNC, is_masked_BNC)
        yield x_BND
        for block in self.blocks:
            x_BND = block(x_BND)
            yield x_BND

    def final_layer(self, pixels_BNC: Pixels, is_masked_BNC: Masks | None = None) -> Tokens:
        """Layer L alone."""
        x_BND = self.embed(pixels_BNC, is_masked_BNC)
        for block in self.blocks:
            x_BND = block(x_BND)
        return x_BND

    def forward(
        self, pixels_BNC: Pixels | Colours, is_scored_BNC: Masks | None = None
    ) -> Float[Tensor, "M T V"] | Float[Tensor, "B S *TV"]:
        """Logits of the M positions that hold a scored sub-pixel, in raster order of (image, position).

        What is scored is masked, and a value under a mask cannot reach any logit; a causal network is shown everything,
        but no pixel before it is predicted. An objective that regresses has one value in the place of 256 logits; a
        network that predicts a palette has one softmax over its colours in the place of three.

        Where nothing is said to be scored, the logits of every position of whole images: B N 3 V, or B N V of a
        palette's colours. These images may also be the numbers of colours (`embed_colours`).
        """
        if is_scored_BNC is None:
            return self._everywhere(pixels_BNC)
        return self.logits(self.final_layer(pixels_BNC, hidden(self.config, is_scored_BNC)), is_scored_BNC)

    def _everywhere(self, pixels_BNC: Pixels | Colours) -> Float[Tensor, "B S *TV"]:
        x_BND = self.embed(pixels_BNC) if pixels_BNC.ndim == 3 else self.embed_colours(pixels_BNC)
        for block in self.blocks:
            x_BND = block(x_BND)
        logits_BNX = self.head(self.head_norm(x_BND[:, : pixels_BNC.shape[1]]))
        return logits_BNX if self.config.predicts_palette else logits_BNX.unflatten(2, outputs(self.config))

    def embed_colours(self, colour_BN: Colours) -> Tokens:
        """Layer 0 of images that are given as the numbers 0 to 511 of their colours, all positions of it.

        A causal network takes them as they are, as other libraries give them: 512 is the start token, its logits at a
        position are of what follows, and fewer pixels than an image has will do.
        Raises `ConfigError` for a network that reads no palette, and for numbers and lengths that it has no row for.
        """
        positions, length, is_causal = self.config.image_size**2, colour_BN.shape[1], self.config.is_causal
        if not rows.ENCODINGS[self.config.encoding].reads_palette:
            raise ConfigError(f"With encoding={self.config.encoding!r} a network reads pixels, no numbers of colours.")
        if length > positions or not (length == positions or is_causal):
            raise ConfigError(f"{length} positions are given and the network has {positions}: give it whole images.")
        table_RD = self.encoding.table()[0]
        if self.start_D is not None:
            table_RD = torch.cat([table_RD, self.start_D[None]])
        if colour_BN.numel() and not 0 <= colour_BN.min() <= colour_BN.max() < len(table_RD):
            raise ConfigError(f"A colour's number is outside 0 to {len(table_RD) - 1}: look at what has made them.")
        x_BND = table_RD[F.pad(colour_BN.long(), (0, positions - length))]
        return x_BND if self.position_ND is None else x_BND + self.position_ND

    def logits(self, x_BND: Tokens, is_scored_BNC: Masks) -> Float[Tensor, "M T V"]:
        """The head on the M positions that hold a scored sub-pixel.

        Only these reach it: the loss needs no others, and the full logits are the largest tensor by far.
        """
        return self.read(x_BND[is_scored_BNC.any(2)])

    def read(self, x_MD: Float[Tensor, "M D"]) -> Float[Tensor, "M T V"]:
        """The head on M positions."""
        return self.head(self.head_norm(x_MD)).unflatten(1, outputs(self.config))


def hidden(config: RunConfig, is_scored_BNC: Masks) -> Masks | None:
    """What a network must not see of an image whose given sub-pixels it is to predict: them, or nothing if causal."""
    return None if config.is_causal else is_scored_BNC


def outputs(config: RunConfig) -> tuple[int, int]:
    """What the head predicts of a pixel: 256 logits for each of 3 sub-pixels, or one regressed value; or one colour."""
    return (1, COLOURS) if config.predicts_palette else (CHANNELS, rows.OBJECTIVES[config.objective].outputs)


def build_network(config: RunConfig, palette_KC: np.ndarray | None = None) -> IsotropicNetwork:
    """A network whose initial weights are a function of the configuration alone, whatever the device or rank.

    One that reads or predicts a palette is given its colours, uint8, those of `training.data.Images`.
    Raises `ConfigError` where they are missing.
    """
    if config.has_palette and palette_KC is None:
        raise ConfigError("A network with a palette needs its colours: give it those of its images or of its record.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = IsotropicNetwork(config)
        _initialise(network)
    if network.palette is not None:
        network.palette = Palette(palette_KC)
    return network


def undrawn_linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A linear map of (..., inputs) to (..., outputs) for whose weights nothing is taken from torch's generator."""
    with torch.random.fork_rng(devices=[]):  # `nn.utils.skip_init` would load sympy, for a second
        return nn.Linear(inputs, outputs, bias)


def untrained(network: IsotropicNetwork) -> IsotropicNetwork:
    """The same network with its initial weights and its palette, on a CPU and in single precision."""
    if network.palette is None:
        return build_network(network.config)
    twin = build_network(network.config, network.palette.palette_KC)
    twin.palette.levels_KC.copy_(network.palette.levels_KC)  # which need not be whole numbers
    return twin


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
    if network.head.bias is not None:
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
    head = round(share_of_positions(config) * n) * d * math.prod(outputs(config))
    return config.depth * blocks.multiply_accumulates(config) + head


def share_of_positions(config: RunConfig) -> float:
    """The expected share of positions that hold a scored sub-pixel, and so reach the head."""
    if config.is_causal:
        return 1.0
    return config.mask_rate if config.mask_unit == "pixel" else 1 - (1 - config.mask_rate) ** CHANNELS
