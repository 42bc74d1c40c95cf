"""What a network, or no network at all, scores on held-out images under the fixed evaluation masks.

Book: chapters "Objective" and "Results".
"""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from torch import nn

from isonb import features, records
from isonb.config import Execution, RunConfig
from isonb.models import objectives
from isonb.training import data

NEIGHBOURS = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]  # rows and columns of a 3x3 window
EARLIER = [place for place in NEIGHBOURS if place < (1, 1)]  # those before its centre in raster order
CHUNK = 64  # images per forward pass; larger ones are no faster on any device and need more memory


def resolve_precision(execution: Execution, device: torch.device) -> str:
    """'auto' is bfloat16 where matrix units multiply it: GPUs of compute capability 8, CPUs with AMX or AVX512-BF16."""
    if execution.precision != "auto":
        return execution.precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    gains = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if gains else "float32"


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """bfloat16 products inside, where the run's precision asks for them."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def unrounded(x: torch.Tensor) -> torch.Tensor:
    """x in float32, where it is in half precision; else as it is."""
    return x.float() if x.dtype == torch.bfloat16 else x


@torch.inference_mode()
def loss_per_image(
    network: nn.Module, config: RunConfig, split: data.Split, precision: str, image_B: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed loss (float64) and scored sub-pixels (int64) of each image over its evaluation masks; both of shape B.

    Autoregressively every sub-pixel is scored, once. The loss is in the objective's unit. `image_B` says which images
    of the split to score; the others are left at zero, so that the parts of all ranks add up.
    """
    device = next(network.parameters()).device
    loss_B, count_B = torch.zeros(len(split), dtype=torch.float64), torch.zeros(len(split), dtype=torch.int64)
    image_B = torch.arange(len(split)) if image_B is None else image_B
    for repeat in range(1 if config.is_causal else config.evaluation_masks):
        for chunk_B in image_B.split(CHUNK) if len(image_B) else ():  # a rank without an image
            pixels_BNC = split.pixels_BNC[chunk_B].to(device)
            is_scored_BNC = objectives.sample_scored(config, split.index_B[chunk_B], "evaluation", repeat).to(device)
            with autocast(device, precision):
                output_MCV = network(pixels_BNC, is_scored_BNC)
            loss_MC = objectives.loss_of(config).per_subpixel(output_MCV, pixels_BNC, is_scored_BNC)
            positions_B = is_scored_BNC.any(2).sum(1).tolist()
            loss_B[chunk_B] += torch.stack([part.sum() for part in loss_MC.double().cpu().split(positions_B)])
            count_B[chunk_B] += is_scored_BNC.sum((1, 2)).cpu()
    return loss_B, count_B


@torch.inference_mode()
def reconstruct(
    network: nn.Module, config: RunConfig, split: data.Split, precision: str, image_B: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The images with every masked sub-pixel set to the value predicted for it, and the masks; both of shape B, N, C.

    Autoregressively that is the value predicted after the true pixels before it.
    """
    device = next(network.parameters()).device
    filled, masks = [], []
    for chunk_B in image_B.split(CHUNK):
        pixels_BNC = split.pixels_BNC[chunk_B].to(device)
        is_masked_BNC = objectives.sample_masks(config, split.index_B[chunk_B], "evaluation").to(device)
        with autocast(device, precision):
            value_MC = objectives.loss_of(config).filled_in(network(pixels_BNC, is_masked_BNC))
        guess_BNC = pixels_BNC.clone()
        guess_BNC[is_masked_BNC.any(2)] = value_MC
        filled.append(torch.where(is_masked_BNC, guess_BNC, pixels_BNC).cpu())
        masks.append(is_masked_BNC.cpu())
    return torch.cat(filled), torch.cat(masks)


def reconstruction_scores(
    filled_BNC: torch.Tensor, is_masked_BNC: torch.Tensor, original_BNC: torch.Tensor
) -> records.Reconstruction:
    """Errors on masked sub-pixels, in grey levels (0 to 255).

    `colour_error` is the mean over masked pixels of the Euclidean distance in RGB.
    """
    error_BNC = filled_BNC.double() - original_BNC.double()
    error_S = error_BNC[is_masked_BNC].abs()
    return records.Reconstruction(
        mean_absolute_error=error_S.mean().item(),
        share_within_8=(error_S <= 8).double().mean().item(),
        colour_error=error_BNC[is_masked_BNC.any(2)].norm(dim=1).mean().item(),
    )


def baselines(config: RunConfig, images: data.Images) -> records.Baselines:
    """Loss per scored validation sub-pixel of three predictors without a network, fitted on the training images.

    Uniform over 256 values; each channel's histogram; and a histogram of the difference to the rounded mean of the
    visible ones among the eight neighbours of the same channel, renormalised to the values that are possible. Counts
    start at one, so that no value is impossible. A regressing objective scores the mean of each prediction;
    autoregressively the visible neighbours are the four before the pixel in raster order.
    """
    channel_CV = np.ones((features.CHANNELS, features.VALUES))
    offset_CR = np.ones((features.CHANNELS, 2 * features.VALUES - 1))
    for channel, value, mean in _scored_values(config, images.train, "training"):
        channel_CV[channel] += np.bincount(value, minlength=features.VALUES)
        offset_CR[channel] += np.bincount(value - mean + features.VALUES - 1, minlength=2 * features.VALUES - 1)
    score = objectives.loss_of(config).of_guesses
    loss, count = np.zeros(3), 0
    for channel, value, mean in _scored_values(config, images.validation, "evaluation"):
        loss += score(value, mean, channel_CV[channel], offset_CR[channel])
        count += len(value)
    uniform, channel_marginal, neighbour_mean = (loss / count).tolist()
    return records.Baselines(uniform=uniform, channel_marginal=channel_marginal, neighbour_mean=neighbour_mean)


def _scored_values(config: RunConfig, split: data.Split, purpose: str):
    """For each chunk of images and channel: scored values and the rounded mean of their visible neighbours."""
    size, neighbours = config.image_size, EARLIER if config.is_causal else NEIGHBOURS
    for repeat in range(config.evaluation_masks if purpose == "evaluation" and not config.is_causal else 1):
        for chunk_B in torch.arange(len(split)).split(CHUNK):
            is_scored = objectives.sample_scored(config, split.index_B[chunk_B], purpose, repeat)
            scored_BHWC = is_scored.numpy().reshape(-1, size, size, features.CHANNELS)
            value_BHWC = split.pixels_BNC[chunk_B].numpy().reshape(scored_BHWC.shape).astype(np.int64)
            visible_BHWC = (scored_BHWC if config.is_causal else ~scored_BHWC).astype(np.int64)
            total, seen = (_sum_over(neighbours, x) for x in (value_BHWC * visible_BHWC, visible_BHWC))
            mean_BHWC = np.where(seen > 0, np.rint(total / np.maximum(seen, 1)), 127).astype(np.int64)
            for channel in range(features.CHANNELS):
                scored = scored_BHWC[..., channel]
                yield channel, value_BHWC[..., channel][scored], mean_BHWC[..., channel][scored]


def _sum_over(neighbours: list[tuple[int, int]], x_BHWC: np.ndarray) -> np.ndarray:
    """The sum over the given places of the 3x3 window around each position, zero outside the image."""
    height, width = x_BHWC.shape[1:3]
    padded = np.pad(x_BHWC, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(padded[:, i : i + height, j : j + width] for i, j in neighbours)
