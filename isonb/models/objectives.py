"""The BERT objective: which sub-pixels are masked, and the negative log-likelihood of their values.

A twin, for comparison, regresses the values instead: the squared error of one number on the scale [-1, 1]. Another
hides nothing and predicts every pixel from those before it, its channels at once: image-GPT's autoregressive objective.

Paper: section 3.3, equation 5. Book: chapter "Objective".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from isonb import draws
from isonb.config import Objective, RunConfig
from isonb.features import CHANNELS, VALUES

HALF_RANGE = (VALUES - 1) / 2  # x / HALF_RANGE - 1 maps 0..255 to [-1, 1]
UNSCORED = -1  # no pixel value


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


def masked_nats(
    logits_MCV: Float[Tensor, "M C V"], pixels_BNC: UInt8[Tensor, "B N C"], is_masked_BNC: Bool[Tensor, "B N C"]
) -> Float[Tensor, "M C"]:
    """-log p(x_i | unmasked) in nats, for the M positions in raster order; 0 for a sub-pixel that is not masked.

    Autoregressively every sub-pixel is scored, and the pixels before it take the place of the unmasked ones.
    """
    has_masked_BN = is_masked_BNC.any(2)
    target_MC = pixels_BNC[has_masked_BN].long().masked_fill(~is_masked_BNC[has_masked_BN], UNSCORED)
    logits_SV = logits_MCV.flatten(0, 1)
    if logits_SV.dtype == torch.bfloat16:
        logits_SV = logits_SV.float()
    nats_S = F.cross_entropy(logits_SV, target_MC.flatten(), reduction="none", ignore_index=UNSCORED)
    return nats_S.view_as(target_MC)


def masked_squares(
    value_MC1: Float[Tensor, "M C 1"], pixels_BNC: UInt8[Tensor, "B N C"], is_masked_BNC: Bool[Tensor, "B N C"]
) -> Float[Tensor, "M C"]:
    """(prediction - x_i)^2, x_i scaled to [-1, 1], for the M positions in raster order; 0 where not masked."""
    has_masked_BN = is_masked_BNC.any(2)
    value_MC = value_MC1.squeeze(2)
    if value_MC.dtype == torch.bfloat16:
        value_MC = value_MC.float()
    target_MC = pixels_BNC[has_masked_BN].to(value_MC) / HALF_RANGE - 1.0
    return (value_MC - target_MC).square().masked_fill(~is_masked_BNC[has_masked_BN], 0.0)


LOSS = {"bert": masked_nats, "mse": masked_squares, "autoregressive": masked_nats}


def summed_loss(
    network: Callable[[Tensor, Tensor], Tensor],
    pixels_BNC: UInt8[Tensor, "B N C"],
    is_scored_BNC: Bool[Tensor, "B N C"],
    objective: Objective = "bert",
) -> tuple[Float[Tensor, ""], int]:
    """(summed loss, how many sub-pixels are scored), so that parts of a batch add up to the whole.

    In nats, or for the twin 'mse' in squared errors. Paper: eq. (5).
    """
    loss_MC = LOSS[objective](network(pixels_BNC, is_scored_BNC), pixels_BNC, is_scored_BNC)
    return loss_MC.sum(), int(is_scored_BNC.sum())


def filled_in(output_MCV: Float[Tensor, "M C V"], objective: Objective) -> UInt8[Tensor, "M C"]:
    """The value that a network's output stands for: the most probable of 256, or the regressed one, rounded."""
    if objective != "mse":
        return output_MCV.argmax(2).to(torch.uint8)
    value_MC = (output_MCV.squeeze(2).float() + 1.0) * HALF_RANGE
    return value_MC.round().clamp(0, VALUES - 1).to(torch.uint8)
