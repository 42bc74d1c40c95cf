"""What a network, or no network at all, scores on held-out images under the fixed evaluation masks.

Book: chapters "Objective" and "Results".
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn

from isonb import features, schema
from isonb.config import Execution, RunConfig
from isonb.models import objectives
from isonb.models.palette import Palette
from isonb.training import data

NEIGHBOURS = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]  # rows and columns of a 3x3 window
EARLIER = [place for place in NEIGHBOURS if place < (1, 1)]  # those before its centre in raster order
UNSEEN = 127  # stands for the mean of neighbours where none is visible
WINDOW = 5  # pixels across that the linear filter sees
RANK = 1e-10  # of the largest singular value, below which a direction counts as never seen; rounding comes to 1e-15
CHUNK = 64  # images per forward pass on a CPU; larger ones are no faster and need more memory
ON_GPU = 512  # on a GPU, which otherwise waits for its next kernel
ON_GPU_CAUSAL = 128  # there of a network whose head reads every position: their logits would take gigabytes


def resolve_precision(execution: Execution, device: torch.device) -> str:
    """'auto' is bfloat16 where matrix units multiply it: GPUs of compute capability 8, CPUs with AMX or AVX512-BF16."""
    if execution.precision != "auto":
        return execution.precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    gains = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if gains else "float32"


def compiles(execution: Execution, device: torch.device) -> bool:
    """Whether training steps are compiled: on a GPU unless told otherwise, on a CPU where told."""
    return device.type == "cuda" if execution.compile is None else execution.compile


def at_once(device: torch.device) -> int:
    """How many images pass through a network together where nothing is learned."""
    return ON_GPU if device.type == "cuda" else CHUNK


def scored_at_once(config: RunConfig, device: torch.device) -> int:
    """The same where the head reads what is scored."""
    return min(at_once(device), ON_GPU_CAUSAL) if config.is_causal else at_once(device)


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

    Autoregressively every sub-pixel is scored, once; of a palette whole pixels are. The loss is in the run's unit.
    `image_B` says which images of the split to score; the others are left at zero, so that the parts of all ranks add
    up.
    """
    device = next(network.parameters()).device
    loss_B, count_B = (torch.zeros(len(split), dtype=kind, device=device) for kind in (torch.float64, torch.int64))
    image_B = torch.arange(len(split)) if image_B is None else image_B
    for repeat in range(1 if config.is_causal else config.evaluation_masks):
        for chunk_B in image_B.split(scored_at_once(config, device)) if len(image_B) else ():  # a rank without an image
            pixels_BNC = split.pixels_BNC[chunk_B].to(device)
            is_scored_BNC = objectives.sample_scored(config, split.index_B[chunk_B].to(device), "evaluation", repeat)
            with autocast(device, precision):
                output_MCV = network(pixels_BNC, is_scored_BNC)
            loss = objectives.loss_of(config, network.palette)
            loss_MC = loss.per_subpixel(output_MCV, pixels_BNC, is_scored_BNC)
            loss_BN = torch.zeros(is_scored_BNC.shape[:2], dtype=torch.float64, device=device)
            loss_BN[is_scored_BNC.any(2)] = loss_MC.double().sum(1)
            chunk_B = chunk_B.to(device)
            loss_B[chunk_B] += loss_BN.sum(1)
            count_B[chunk_B] += is_scored_BNC.sum((1, 2))
    return loss_B.cpu(), count_B.cpu()


@torch.inference_mode()
def reconstruct(
    network: nn.Module, config: RunConfig, split: data.Split, precision: str, image_B: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The images with every masked sub-pixel set to the value predicted for it, and the masks; both of shape B, N, C.

    Autoregressively that is the value predicted after the true pixels before it.
    """
    device = next(network.parameters()).device
    filled, masks = [], []
    for chunk_B in image_B.split(at_once(device)):
        pixels_BNC = split.pixels_BNC[chunk_B].to(device)
        is_masked_BNC = objectives.sample_masks(config, split.index_B[chunk_B].to(device), "evaluation")
        with autocast(device, precision):
            value_MC = objectives.loss_of(config, network.palette).filled_in(network(pixels_BNC, is_masked_BNC))
        guess_BNC = pixels_BNC.clone()
        guess_BNC[is_masked_BNC.any(2)] = value_MC
        filled.append(torch.where(is_masked_BNC, guess_BNC, pixels_BNC).cpu())
        masks.append(is_masked_BNC.cpu())
    return torch.cat(filled), torch.cat(masks)


def reconstruction_scores(
    filled_BNC: torch.Tensor, is_masked_BNC: torch.Tensor, original_BNC: torch.Tensor
) -> schema.Reconstruction:
    """Errors on masked sub-pixels, in grey levels (0 to 255).

    `colour_error` is the mean over masked pixels of the Euclidean distance in RGB.
    """
    error_BNC = filled_BNC.double() - original_BNC.double()
    error_S = error_BNC[is_masked_BNC].abs()
    return schema.Reconstruction(
        mean_absolute_error=error_S.mean().item(),
        share_within_8=(error_S <= 8).double().mean().item(),
        colour_error=error_BNC[is_masked_BNC.any(2)].norm(dim=1).mean().item(),
    )


def baselines(config: RunConfig, images: data.Images, palette_KC: np.ndarray | None = None) -> schema.Baselines:
    """Loss per scored validation sub-pixel of four predictors without a network, fitted on the training images.

    With a palette, that of the images or the one that is given, the loss is of its colours (`_palette_baselines`).

    Uniform over 256 values; each channel's histogram; and a histogram of the difference to a rounded centre,
    renormalised to the values that are possible: the mean of the visible ones among the eight neighbours of the same
    channel, or that plus a linear map for each channel (`_linear_filter`) of the surroundings. Counts start at one, so
    that no value is impossible. A regressing objective scores the mean of each prediction; autoregressively only the
    pixels before in raster order are visible.
    """
    if config.predicts_palette:
        return _palette_baselines(config, images, Palette(images.palette_KC if palette_KC is None else palette_KC))
    channel_CV = np.ones((features.CHANNELS, features.VALUES))
    mean_CR, filter_CR = np.ones((2, features.CHANNELS, 2 * features.VALUES - 1))
    filter_CF = _linear_filter(config, images.train)
    for scored in _scored_values(config, images.train, "training"):
        for channel, value, mean, filtered in scored.by_channel(filter_CF):
            channel_CV[channel] += np.bincount(value, minlength=features.VALUES)
            for centre, count_CR in ((mean, mean_CR), (filtered, filter_CR)):
                count_CR[channel] += np.bincount(value - centre + features.VALUES - 1, minlength=count_CR.shape[1])
    score = objectives.loss_of(config).of_guesses
    loss, count = np.zeros(4), 0
    for scored in _scored_values(config, images.validation, "evaluation"):
        for channel, value, mean, filtered in scored.by_channel(filter_CF):
            loss[:3] += score(value, mean, channel_CV[channel], mean_CR[channel])
            loss[3] += score(value, filtered, channel_CV[channel], filter_CR[channel])[-1]
            count += len(value)
    return _in_order(loss / count)


def _palette_baselines(config: RunConfig, images: data.Images, palette: Palette) -> schema.Baselines:
    """The same four per scored pixel, of its colour among those of the palette.

    Uniform over 512 colours; their histogram, which is that of no channel; and histograms of how the true colour ranks
    among the colours nearest to a centre: the visible neighbours' mean colour, or what the linear filter makes of the
    surroundings.
    """
    colour_K, mean_K, filter_K = np.ones((3, features.COLOURS))
    filter_CF = _linear_filter(config, images.train)
    for scored in _scored_values(config, images.train, "training"):
        for count_K, number in zip((colour_K, mean_K, filter_K), scored.in_palette(palette, filter_CF), strict=True):
            count_K += np.bincount(number, minlength=features.COLOURS)
    score = objectives.OfPalette.of_guesses
    loss, count = np.zeros(4), 0
    for scored in _scored_values(config, images.validation, "evaluation"):
        token, by_mean, by_filter = scored.in_palette(palette, filter_CF)
        loss[:3] += score(token, by_mean, colour_K, mean_K)
        loss[3] += score(token, by_filter, colour_K, filter_K)[-1]
        count += len(token)
    return _in_order(loss / count)


def _in_order(loss: np.ndarray) -> schema.Baselines:
    uniform, channel_marginal, neighbour_mean, linear_filter = loss.tolist()
    return schema.Baselines(
        uniform=uniform,
        channel_marginal=channel_marginal,
        neighbour_mean=neighbour_mean,
        linear_filter=linear_filter,
    )


@dataclasses.dataclass(frozen=True)
class _Scored:
    """S scored positions of a chunk of images, with those K channels of theirs that are scored.

    `mean_SK` is the rounded mean of the visible neighbours. `window_SF` has the 5x5x3 window around each position, as
    differences to its channels' own such means: 0 for what is hidden or outside the image. A constant 1 comes last.
    """

    channels: list[int]
    value_SK: np.ndarray
    mean_SK: np.ndarray
    window_SF: np.ndarray

    def by_channel(self, filter_CF: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
        """Channel, values, neighbours' means and rounded predictions of a linear filter, S of each."""
        filtered_SK = self._filtered(filter_CF)
        for place, channel in enumerate(self.channels):
            yield channel, self.value_SK[:, place], self.mean_SK[:, place], filtered_SK[:, place]

    def in_palette(self, palette: Palette, filter_CF: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each pixel the number of its colour, and that colour's rank from the neighbours' mean and the filter's."""
        token_S = palette.tokens(torch.from_numpy(self.value_SK.astype(np.uint8)))
        centres = (self.mean_SK, self._filtered(filter_CF))
        return token_S.numpy(), *(palette.ranks(torch.from_numpy(centre_SK), token_S).numpy() for centre_SK in centres)

    def _filtered(self, filter_CF: np.ndarray) -> np.ndarray:
        filtered_SK = self.mean_SK + np.rint(self.window_SF @ filter_CF[self.channels].T).astype(np.int64)
        return filtered_SK.clip(0, features.VALUES - 1)


def _linear_filter(config: RunConfig, split: data.Split) -> np.ndarray:
    """The linear map of windows, C x F, whose predictions of what lies off the neighbours' mean err least in square.

    Windows and differences are whole numbers, so their products add up without rounding. Of maps that err alike it is
    the smallest, which ignores what is never seen.
    """
    gram_CFF, product_CF = (np.zeros((features.CHANNELS, *[_window_size(config) + 1] * axes)) for axes in (2, 1))
    for scored in _scored_values(config, split, "training"):
        gram_CFF[scored.channels] += scored.window_SF.T @ scored.window_SF
        product_CF[scored.channels] += (scored.value_SK - scored.mean_SK).T @ scored.window_SF
    pairs = zip(gram_CFF, product_CF, strict=True)
    return np.stack([np.linalg.lstsq(gram_FF, product_F, rcond=RANK)[0] for gram_FF, product_F in pairs])


def _window_size(config: RunConfig) -> int:
    """Sub-pixels of the window around a pixel: autoregressively those of the pixels before it in raster order."""
    return (WINDOW**2 // 2 if config.is_causal else WINDOW**2) * features.CHANNELS


def _scored_values(config: RunConfig, split: data.Split, purpose: str) -> Iterator[_Scored]:
    """The scored positions of each chunk of images, channel by channel where these are masked apart."""
    size, neighbours = config.image_size, EARLIER if config.is_causal else NEIGHBOURS
    together = [[0], [1], [2]] if config.mask_unit == "subpixel" else [[0, 1, 2]]  # channels whose masks are the same
    for repeat in range(config.evaluation_masks if purpose == "evaluation" and not config.is_causal else 1):
        for chunk_B in torch.arange(len(split)).split(CHUNK):
            is_scored = objectives.sample_scored(config, split.index_B[chunk_B], purpose, repeat)
            is_scored = is_scored.expand(-1, -1, features.CHANNELS)  # where whole pixels are scored
            scored_BHWC = is_scored.numpy().reshape(-1, size, size, features.CHANNELS)
            value_BHWC = split.pixels_BNC[chunk_B].numpy().reshape(scored_BHWC.shape).astype(np.int16)
            visible_BHWC = (scored_BHWC if config.is_causal else ~scored_BHWC).astype(np.int16)
            total_BHWC, seen_BHWC = (_sum_over(neighbours, x) for x in (value_BHWC * visible_BHWC, visible_BHWC))
            shown_BHWC = (value_BHWC + 1) * visible_BHWC
            for channels in together:
                place = np.nonzero(scored_BHWC[..., channels[0]])
                total_SC, seen_SC = total_BHWC[place], seen_BHWC[place]
                mean_SC = np.rint(total_SC / np.maximum(seen_SC, 1)).astype(np.int16)
                mean_SC[seen_SC == 0] = UNSEEN
                window_SF = _windows(shown_BHWC, place, mean_SC, _window_size(config))
                yield _Scored(channels, value_BHWC[place][:, channels], mean_SC[:, channels], window_SF)


def _windows(shown_BHWC: np.ndarray, place: tuple[np.ndarray, ...], mean_SC: np.ndarray, count: int) -> np.ndarray:
    """The first `count` sub-pixels of the window around each place less its channels' means, and a constant 1: S x F.

    What is shown is the value plus 1, and 0 where it is hidden; that, and what lies outside, differs by 0.
    """
    reach, across = WINDOW // 2, WINDOW * features.CHANNELS
    padded = np.pad(shown_BHWC, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    row_BHX = padded.reshape(*padded.shape[:2], -1)  # so that one row of a window is one slice
    window_BHWRX = sliding_window_view(row_BHX, (-(-count // across), across), axis=(1, 2))[:, :, :: features.CHANNELS]
    shown_SF = window_BHWRX[place].reshape(len(mean_SC), -1)[:, :count]
    window_SF = np.empty((len(mean_SC), count + 1))
    window_SF[:, :count] = (shown_SF - np.tile(mean_SC + 1, count // features.CHANNELS)) * (shown_SF > 0)
    window_SF[:, count] = 1.0
    return window_SF


def _sum_over(neighbours: list[tuple[int, int]], x_BHWC: np.ndarray) -> np.ndarray:
    """The sum over the given places of the 3x3 window around each position, zero outside the image."""
    height, width = x_BHWC.shape[1:3]
    padded = np.pad(x_BHWC, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(padded[:, i : i + height, j : j + width] for i, j in neighbours)
