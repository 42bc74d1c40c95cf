"""The BERT objective: which sub-pixels are masked, and the negative log-likelihood of their values.

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
from isonb.config import RunConfig
from isonb.features import CHANNELS

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


def masked_nats(
    logits_MCV: Float[Tensor, "M C V"], pixels_BNC: UInt8[Tensor, "B N C"], is_masked_BNC: Bool[Tensor, "B N C"]
) -> Float[Tensor, "M C"]:
    """-log p(x_i | unmasked) in nats, for the M positions in raster order; 0 for a sub-pixel that is not masked."""
    has_masked_BN = is_masked_BNC.any(2)
    target_MC = pixels_BNC[has_masked_BN].long().masked_fill(~is_masked_BNC[has_masked_BN], UNSCORED)
    logits_SV = logits_MCV.flatten(0, 1)
    if logits_SV.dtype == torch.bfloat16:
        logits_SV = logits_SV.float()
    nats_S = F.cross_entropy(logits_SV, target_MC.flatten(), reduction="none", ignore_index=UNSCORED)
    return nats_S.view_as(target_MC)


def bert_loss(
    network: Callable[[Tensor, Tensor], Tensor],
    pixels_BNC: UInt8[Tensor, "B N C"],
    is_masked_BNC: Bool[Tensor, "B N C"],
) -> tuple[Float[Tensor, ""], int]:
    """(summed nats, how many masked sub-pixels), so that parts of a batch add up to the whole. Paper: eq. (5)."""
    nats_MC = masked_nats(network(pixels_BNC, is_masked_BNC), pixels_BNC, is_masked_BNC)
    return nats_MC.sum(), int(is_masked_BNC.sum())
