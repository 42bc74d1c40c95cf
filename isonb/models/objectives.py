"""What is predicted and what it costs: the paper's masked pixels, and the two objectives that it is compared with.

The paper's objective scores the values of masked sub-pixels by their negative log-likelihood. Its twin regresses them.
image-GPT's hides nothing and predicts every pixel from those before it, its channels at once.

Paper: section 3.3, equation 5. Book: chapter "Objective".
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from isonb import draws, rows
from isonb.config import RunConfig
from isonb.features import CHANNELS, VALUES

HALF_RANGE = (VALUES - 1) / 2  # x / HALF_RANGE - 1 maps 0..255 to [-1, 1]
UNSCORED = -1  # no pixel value
Pixels = UInt8[Tensor, "B N C"]
Scored = Bool[Tensor, "B N C"]
Outputs = Float[Tensor, "M C V"]
Losses = Float[Tensor, "M C"]


def sample_masks(config: RunConfig, index_B: Int[Tensor, "B"], purpose: str, repeat: int = 0) -> Bool[Tensor, "B N C"]:
    """True where a sub-pixel is hidden: a pure function of (seed, purpose, repeat, image index), never of the batch.

    `purpose` is "training" with `repeat` the epoch, or "evaluation" with `repeat` the number of the fixed mask; the
    latter ignore the seed, so that every network is judged on the same masks. Each pixel, or each sub-pixel, is
    hidden independently with the configured probability.
    """
    n = config.image_size**2
    units = n if config.mask_unit == "pixel" else n * CHANNELS
    seed = config.seed if purpose == "training" else 0
    number = draws.uniform(seed, f"{purpose} masks", repeat, index_B.cpu().numpy()[:, None], np.arange(units))
    is_masked_BU = torch.from_numpy(number < config.mask_rate)
    if config.mask_unit == "pixel":
        return is_masked_BU[:, :, None].expand(-1, -1, CHANNELS)
    return is_masked_BU.unflatten(1, (n, CHANNELS))


def sample_scored(config: RunConfig, index_B: Int[Tensor, "B"], purpose: str, repeat: int = 0) -> Bool[Tensor, "B N C"]:
    """True where the loss counts a sub-pixel: the masked ones (`sample_masks`), or autoregressively all of them."""
    if config.is_causal:
        return torch.ones(len(index_B), config.image_size**2, CHANNELS, dtype=torch.bool)
    return sample_masks(config, index_B, purpose, repeat)


class Loss(abc.ABC):
    """What a row of `isonb.rows.OBJECTIVES` leads to: a loss, and all that goes with it."""

    @staticmethod
    @abc.abstractmethod
    def per_subpixel(output_MCV: Outputs, pixels_BNC: Pixels, is_scored_BNC: Scored) -> Losses:
        """The loss of each sub-pixel of the M positions in raster order, in the row's unit; 0 where not scored."""

    @staticmethod
    @abc.abstractmethod
    def filled_in(output_MCV: Outputs) -> UInt8[Tensor, "M C"]:
        """The value that a network's output stands for."""

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
        has_scored_BN = is_scored_BNC.any(2)
        target_MC = pixels_BNC[has_scored_BN].long().masked_fill(~is_scored_BNC[has_scored_BN], UNSCORED)
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


class SquaredError(Loss):
    """(prediction - x_i)^2 on the scale [-1, 1]: the regression that the paper's section 3.3 sets aside."""

    @staticmethod
    def per_subpixel(output_MCV: Outputs, pixels_BNC: Pixels, is_scored_BNC: Scored) -> Losses:
        """(prediction - x_i)^2, x_i scaled to [-1, 1]."""
        has_scored_BN = is_scored_BNC.any(2)
        value_MC = output_MCV.squeeze(2)
        if value_MC.dtype == torch.bfloat16:
            value_MC = value_MC.float()
        target_MC = pixels_BNC[has_scored_BN].to(value_MC) / HALF_RANGE - 1.0
        return (value_MC - target_MC).square().masked_fill(~is_scored_BNC[has_scored_BN], 0.0)

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


def loss_of(config: RunConfig) -> type[Loss]:
    """The loss of the configured objective, with all that belongs to it."""
    return rows.OBJECTIVES[config.objective].load()


def summed_loss(
    config: RunConfig, network: Callable[[Tensor, Tensor], Tensor], pixels_BNC: Pixels, is_scored_BNC: Scored
) -> tuple[Float[Tensor, ""], int]:
    """(summed loss, how many sub-pixels are scored), so that parts of a batch add up to the whole.

    In the unit of the configured objective. Paper: eq. (5).
    """
    loss_MC = loss_of(config).per_subpixel(network(pixels_BNC, is_scored_BNC), pixels_BNC, is_scored_BNC)
    return loss_MC.sum(), int(is_scored_BNC.sum())
