"""What is predicted and what it costs: the paper's masked pixels, and the two objectives that it is compared with.

The paper's objective scores the values of masked sub-pixels by their negative log-likelihood. Its twin regresses them.
image-GPT's hides nothing and predicts every pixel from those before it, its channels at once. What is predicted of a
pixel is its three values or, as in image-GPT, its colour among those of a palette.

Paper: section 3.3, equation 5. Book: chapter "Objective".
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F

from isonb import rows
from isonb.config import RunConfig
from isonb.features import CHANNELS, COLOURS, VALUES
from isonb.models import splitmix
from isonb.models.palette import Palette

HALF_RANGE = (VALUES - 1) / 2  # x / HALF_RANGE - 1 maps 0..255 to [-1, 1]
UNSCORED = -1  # no pixel value
Pixels = UInt8[Tensor, "*P C"]  # P is B N, or M where positions are chosen already
Scored = Bool[Tensor, "*P S"]  # S is 3 or, where whole pixels are scored, maybe 1
Outputs = Float[Tensor, "M T V"]  # T softmaxes a pixel: 3 or, with a palette, 1
Losses = Float[Tensor, "M T"]


def sample_masks(config: RunConfig, index_B: Int[Tensor, "B"], purpose: str, repeat: int = 0) -> Bool[Tensor, "B N C"]:
    """True where a sub-pixel is hidden: a pure function of (seed, purpose, repeat, image index), never of the batch.

    `purpose` is "training" with `repeat` the epoch, or "evaluation" with `repeat` the number of the fixed mask; the
    latter ignore the seed, so that every network is judged on the same masks. Each pixel, or each sub-pixel, is
    hidden independently with the configured probability.
    """
    key = torch.tensor(mask_key(config, purpose, repeat), device=index_B.device)
    return masked_by(config, key, index_B)


def mask_key(config: RunConfig, purpose: str, repeat: int = 0) -> int:
    """What the masks of a purpose and its repeat begin from, for `masked_by` and `scored_by`."""
    return splitmix.key(config.seed if purpose == "training" else 0, f"{purpose} masks", repeat)


def masked_by(config: RunConfig, key: Int64[Tensor, ""], index_B: Int64[Tensor, "B"]) -> Bool[Tensor, "B N C"]:
    """The masks of a key, on its device: as many numbers for each image as there are pixels or sub-pixels."""
    n = config.image_size**2
    unit_U = torch.arange(n if config.mask_unit == "pixel" else n * CHANNELS, device=key.device)
    is_masked_BU = splitmix.is_below(config.mask_rate, splitmix.bits(splitmix.bits(key, index_B)[:, None], unit_U))
    if config.mask_unit == "pixel":
        return is_masked_BU[:, :, None].expand(-1, -1, CHANNELS)
    return is_masked_BU.unflatten(1, (n, CHANNELS))


def sample_scored(config: RunConfig, index_B: Int[Tensor, "B"], purpose: str, repeat: int = 0) -> Bool[Tensor, "B N S"]:
    """True where the loss counts a sub-pixel: the masked ones (`sample_masks`), or autoregressively all of them.

    Where a palette's colours are predicted it counts whole pixels, and S is 1.
    """
    key = torch.tensor(mask_key(config, purpose, repeat), device=index_B.device)
    return scored_by(config, key, index_B)


def scored_by(config: RunConfig, key: Int64[Tensor, ""], index_B: Int64[Tensor, "B"]) -> Bool[Tensor, "B N S"]:
    """What `sample_scored` gives for a key."""
    channels = 1 if config.predicts_palette else CHANNELS
    if config.is_causal:
        shape = len(index_B), config.image_size**2, channels
        return torch.ones(shape, dtype=torch.bool, device=index_B.device)
    return masked_by(config, key, index_B)[:, :, :channels]


def at_scored(x_BNC: Shaped[Tensor, "*P C"], is_scored_BNC: Scored) -> Shaped[Tensor, "M C"]:
    """x at the M positions that hold a scored sub-pixel, in raster order; where M were chosen already, as it is."""
    return x_BNC if x_BNC.ndim == 2 else x_BNC[is_scored_BNC.any(2)]


class Loss(abc.ABC):
    """What a row of `isonb.rows.OBJECTIVES` leads to: a loss, and all that goes with it.

    With a palette, its one colour a pixel stands in the place of three sub-pixels.
    """

    @staticmethod
    @abc.abstractmethod
    def per_subpixel(output_MCV: Outputs, pixels_BNC: Pixels, is_scored_BNC: Scored) -> Losses:
        """The loss of each sub-pixel of the M positions in raster order, in the row's unit; 0 where not scored.

        Of images, or of M positions that were chosen already: `at_scored` gives the pixels there in either case.
        """

    @staticmethod
    @abc.abstractmethod
    def filled_in(output_MCV: Outputs) -> UInt8[Tensor, "M C"]:
        """The values that a network's output stands for."""

    @staticmethod
    @abc.abstractmethod
    def of_guesses(value_S: np.ndarray, centre_S: np.ndarray, count_V: np.ndarray, count_R: np.ndarray) -> list[float]:
        """The summed loss of three guesses at S values: uniform, by how often each value occurs, and around a centre.

        `count_V` counts the channel's training values, `count_R` their offsets -255 to 255 from such centres.
        """


class CrossEntropy(Loss):
    """-log p of the value among 256. Paper: equation 5."""

    @staticmethod
    def per_subpixel(output_MCV: Outputs, pixels_BNC: Pixels, is_scored_BNC: Scored) -> Losses:
        """-log p(x_i | what is shown) in nats: the unmasked pixels, or autoregressively those before it."""
        pixels_MC, is_scored_MC = (at_scored(x, is_scored_BNC) for x in (pixels_BNC, is_scored_BNC))
        target_MC = pixels_MC.long().masked_fill(~is_scored_MC, UNSCORED)
        logits_SV = output_MCV.flatten(0, 1)
        if logits_SV.dtype == torch.bfloat16:
            logits_SV = logits_SV.float()
        nats_S = F.cross_entropy(logits_SV, target_MC.flatten(), reduction="none", ignore_index=UNSCORED)
        return nats_S.view_as(target_MC)

    @staticmethod
    def filled_in(output_MCV: Outputs) -> UInt8[Tensor, "M C"]:
        """The most probable of 256 values."""
        return output_MCV.argmax(2).to(torch.uint8)

    @staticmethod
    def of_guesses(value_S: np.ndarray, centre_S: np.ndarray, count_V: np.ndarray, count_R: np.ndarray) -> list[float]:
        """In nats; the third distribution is renormalised to the values that are possible."""
        first_S = VALUES - 1 - centre_S
        return [
            len(value_S) * math.log(VALUES),
            -np.log(count_V[value_S] / count_V.sum()).sum(),
            -np.log(count_R[first_S + value_S] / _possible(count_R, centre_S)).sum(),
        ]


class OfPalette(Loss):
    """-log p of the colour among those of a palette, as image-GPT: `CrossEntropy` with one softmax a pixel."""

    def __init__(self, palette: Palette) -> None:
        self.palette = palette

    def per_subpixel(self, output_MCV: Outputs, pixels_BNC: Pixels, is_scored_BNC: Scored) -> Losses:
        """-log p(nearest colour | what is shown) in nats, one for each of the M pixels."""
        logits_MV = output_MCV.squeeze(1)
        if logits_MV.dtype == torch.bfloat16:
            logits_MV = logits_MV.float()
        token_M = self.palette.tokens(at_scored(pixels_BNC, is_scored_BNC))
        return F.cross_entropy(logits_MV, token_M, reduction="none")[:, None]

    def filled_in(self, output_MCV: Outputs) -> UInt8[Tensor, "M C"]:
        """The most probable colour."""
        return self.palette.pixels(output_MCV.squeeze(1).argmax(1))

    @staticmethod
    def of_guesses(value_S: np.ndarray, centre_S: np.ndarray, count_V: np.ndarray, count_R: np.ndarray) -> list[float]:
        """In nats, of S colours by number.

        The third guess knows how near colours lie to a centre: `centre_S` are the true colours' ranks from the nearest,
        0 to 511, and `count_R` counts those of training pixels.
        """
        return [
            len(value_S) * math.log(COLOURS),
            -np.log(count_V[value_S] / count_V.sum()).sum(),
            -np.log(count_R[centre_S] / count_R.sum()).sum(),
        ]


class SquaredError(Loss):
    """(prediction - x_i)^2 on the scale [-1, 1]: the regression that the paper's section 3.3 sets aside."""

    @staticmethod
    def per_subpixel(output_MCV: Outputs, pixels_BNC: Pixels, is_scored_BNC: Scored) -> Losses:
        """(prediction - x_i)^2, x_i scaled to [-1, 1]."""
        pixels_MC, is_scored_MC = (at_scored(x, is_scored_BNC) for x in (pixels_BNC, is_scored_BNC))
        value_MC = output_MCV.squeeze(2)
        if value_MC.dtype == torch.bfloat16:
            value_MC = value_MC.float()
        target_MC = pixels_MC.to(value_MC) / HALF_RANGE - 1.0
        return (value_MC - target_MC).square().masked_fill(~is_scored_MC, 0.0)

    @staticmethod
    def filled_in(output_MCV: Outputs) -> UInt8[Tensor, "M C"]:
        """The regressed value, rounded."""
        value_MC = (output_MCV.squeeze(2).float() + 1.0) * HALF_RANGE
        return value_MC.round().clamp(0, VALUES - 1).to(torch.uint8)

    @staticmethod
    def of_guesses(value_S: np.ndarray, centre_S: np.ndarray, count_V: np.ndarray, count_R: np.ndarray) -> list[float]:
        """Of the means of the same three distributions, on the scale [-1, 1]."""
        offset_R = np.arange(1 - VALUES, VALUES)
        guesses = (
            HALF_RANGE,
            np.average(np.arange(VALUES), weights=count_V),
            centre_S + _possible(count_R * offset_R, centre_S) / _possible(count_R, centre_S),
        )
        return [np.square((value_S - guess) / HALF_RANGE).sum() for guess in guesses]


def _possible(weight_R: np.ndarray, centre_S: np.ndarray) -> np.ndarray:
    """The sum of the weights over the offsets -centre..255-centre that lead from a centre to a possible value."""
    cumulative_R = np.concatenate([[0.0], np.cumsum(weight_R)])
    first_S = VALUES - 1 - centre_S
    return cumulative_R[first_S + VALUES] - cumulative_R[first_S]


def loss_of(config: RunConfig, palette: Palette | None = None) -> Loss | type[Loss]:
    """The loss of the configured objective, with all that belongs to it; of the network's palette if it predicts one.

    Raises `ValueError` where the palette is not given.
    """
    if not config.predicts_palette:
        return rows.OBJECTIVES[config.objective].load()
    if palette is None:
        raise ValueError("With target='palette' a loss needs the palette: give it that of the network.")
    return OfPalette(palette)


def summed_loss(
    config: RunConfig,
    network: Callable[[Tensor, Tensor], Tensor],
    pixels_BNC: Pixels,
    is_scored_BNC: Scored,
    palette: Palette | None = None,
) -> tuple[Float[Tensor, ""], int]:
    """(summed loss, how many sub-pixels or, of a palette, pixels are scored), so that parts of a batch add up to all.

    In the unit of the run. Paper: eq. (5).
    """
    loss_MC = loss_of(config, palette).per_subpixel(network(pixels_BNC, is_scored_BNC), pixels_BNC, is_scored_BNC)
    return loss_MC.sum(), int(is_scored_BNC.sum())
