"""What networks make of the lower part of an image: drawn pixel by pixel, or filled in at once.

An autoregressive network is asked for one pixel after another, each given those before it, drawn ones included. All is
computed in float64: rounding depends on how many images are drawn together and on the device, and would, once in a
while, decide between two values, after which pictures go different ways.

Book: chapter "image-GPT".
"""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from isonb import draws
from isonb.models import network as networks
from isonb.models import objectives
from isonb.models.continuation import Continuation, whole_passes
from isonb.training import data

MOST = 64  # images drawn together
ROOM = 2**29  # bytes for what the blocks keep of those images
SHOWN = 3  # test images that a record has completions of, those of its reconstructions
COMPARED = 512  # training images whose distances are computed together
Images = UInt8[Tensor, "B N C"]
OnPixel = Callable[[int, int], None]  # how many pixels have been drawn, and how many will be


@dataclasses.dataclass(frozen=True)
class Way:
    """How a completion is drawn: at which temperature, and which it is of those at one seed.

    At temperature 0 every pixel takes its most probable value; as a greedy choice may later prove unlucky, that is not
    always the most probable completion.
    """

    temperature: float
    number: int = 0


USUAL = (Way(0.0), *(Way(1.0, number) for number in range(4)))  # as figures show them


@torch.inference_mode()
def complete(
    network: networks.IsotropicNetwork,
    split: data.Split,
    image_B: Tensor,
    rows: int,
    ways: Sequence[Way] = USUAL,
    seed: int = 0,
    on_pixel: OnPixel = lambda *_: None,
    together: int | None = None,
) -> UInt8[Tensor, "B S N C"]:
    """S completions of each of these images, of which the first `rows` are given, by an autoregressive network.

    The same seed gives the same pixels, however many images are drawn `together`. Warns once where a block has to
    compute every position for each pixel.
    """
    if slow := whole_passes(network):
        warnings.warn(
            f"{', '.join(slow)} has no method `extend`: each pixel takes a whole pass, which is slow.", stacklevel=2
        )
    network, (count, ways_S) = in_double(network), (len(image_B), list(ways) * len(image_B))
    image_M = image_B.repeat_interleave(len(ways))
    drawn, total = [], len(image_M) * (split.pixels_BNC.shape[1] - rows * network.config.image_size)
    for part_P in torch.arange(len(image_M)).split(together or _together(network)):
        done = sum(map(len, drawn)) * (total // len(image_M))
        chosen = [ways_S[place] for place in part_P]
        drawn.append(
            _draw(network, split, image_M[part_P], rows, chosen, seed, lambda more, d=done: on_pixel(d + more, total))
        )
    return torch.cat(drawn).unflatten(0, (count, len(ways)))


def _together(network: networks.IsotropicNetwork) -> int:
    """How many images are drawn together: as many as have room for two rows of numbers a block and position."""
    run = network.config
    return max(1, min(MOST, ROOM // (8 * 2 * run.depth * run.width * run.image_size**2)))


def in_double(network: networks.IsotropicNetwork) -> networks.IsotropicNetwork:
    """The same network in float64, for evaluation; the one that is given stays as it is."""
    return copy.deepcopy(network).double().eval()


def _draw(
    network: networks.IsotropicNetwork,
    split: data.Split,
    image_M: Tensor,
    rows: int,
    ways_M: Sequence[Way],
    seed: int,
    on_pixels: Callable[[int], None],
) -> Images:
    """One completion of each image, in its way, all together."""
    device, run = next(network.parameters()).device, network.config
    pixels_MNC = split.pixels_BNC[image_M].to(device)
    first, positions = rows * run.image_size, pixels_MNC.shape[1]
    softmaxes, _ = networks.outputs(run)
    which_M11 = (
        np.array(values)[:, None, None] for values in ([way.number for way in ways_M], split.index_B[image_M].numpy())
    )
    place_NT = np.arange(first, positions)[:, None], np.arange(softmaxes)
    uniform_MNT = torch.from_numpy(draws.uniform(seed, "completions", *which_M11, *place_NT))
    uniform_MNT, temperature_M = uniform_MNT.to(device), torch.tensor([way.temperature for way in ways_M]).to(device)
    loss = objectives.loss_of(run, network.palette)
    reading, unread = Continuation(network), pixels_MNC[:, :first]
    for position in range(first, positions):
        output_MTV = reading.outputs(reading.read(unread)[:, -1:])
        value_MT = _drawn(output_MTV, temperature_M, uniform_MNT[:, position - first])
        as_output_MTV = F.one_hot(value_MT, output_MTV.shape[2]).to(output_MTV)  # of which the loss knows the pixel
        pixels_MNC[:, position] = loss.filled_in(as_output_MTV)
        unread = pixels_MNC[:, position : position + 1]
        on_pixels((position + 1 - first) * len(image_M))
    return pixels_MNC.cpu()


def _drawn(
    logits_MTV: Float[Tensor, "M T V"], temperature_M: Float[Tensor, "M"], uniform_MT: Float[Tensor, "M T"]
) -> Tensor:
    """Values drawn by inverting the distribution function of softmax(logits / temperature); the likeliest at 0."""
    likeliest_MT = logits_MTV.argmax(2)
    below_MTV = logits_MTV - logits_MTV.amax(2, keepdim=True)
    warm_M11 = temperature_M.to(logits_MTV)[:, None, None]
    function_MTV = (below_MTV / warm_M11.where(warm_M11 > 0, 1.0)).softmax(2).cumsum(2)
    drawn_MT = (function_MTV <= uniform_MT[..., None] * function_MTV[..., -1:]).sum(2)
    return torch.where(warm_M11[..., 0] > 0, drawn_MT, likeliest_MT)


@torch.inference_mode()
def fill_in(network: networks.IsotropicNetwork, pixels_BNC: Images, rows: int) -> Images:
    """The images with all below the first `rows` predicted at once by a network that was trained on masked pixels.

    Each pixel is predicted from the given ones alone, and none from what is predicted for another.
    """
    network, run = in_double(network), network.config
    device = next(network.parameters()).device
    filled_BNC, first = pixels_BNC.clone(), rows * run.image_size
    for part_P in torch.arange(len(pixels_BNC)).split(MOST):
        given_PNC = pixels_BNC[part_P].to(device)
        is_scored_PNT = torch.zeros(*given_PNC.shape[:2], networks.outputs(run)[0], dtype=torch.bool, device=device)
        is_scored_PNT[:, first:] = True
        value_MC = objectives.loss_of(run, network.palette).filled_in(network(given_PNC, is_scored_PNT))
        filled_BNC[part_P, first:] = value_MC.unflatten(0, (len(part_P), -1)).cpu()
    return filled_BNC


def nearest(split: data.Split, pixels_BNC: Images, first: int = 0) -> tuple[Tensor, Tensor]:
    """Which image of the split is nearest to each of these by Euclid's distance over the positions from `first` on.

    Returns its place in the split, and the distance as the root of the mean square over sub-pixels in 8-bit levels.
    """
    wanted_BP = pixels_BNC[:, first:].flatten(1).double()
    square_B = wanted_BP.square().sum(1)
    place_B = torch.zeros(len(wanted_BP), dtype=torch.int64)
    least_B = torch.full((len(wanted_BP),), torch.inf, dtype=torch.float64)
    for part_K in torch.arange(len(split)).split(COMPARED):
        known_KP = split.pixels_BNC[part_K, first:].flatten(1).double()
        distance_BK = square_B[:, None] + known_KP.square().sum(1) - 2 * wanted_BP @ known_KP.T  # exact: whole numbers
        lower_B, index_B = distance_BK.min(1)
        place_B = torch.where(lower_B < least_B, part_K[index_B], place_B)
        least_B = torch.minimum(lower_B, least_B)
    return place_B, (least_B / wanted_BP.shape[1]).sqrt()


def kept(
    network: networks.IsotropicNetwork,
    images: data.Images,
    count: int = SHOWN,
    rows: int | None = None,
    ways: Sequence[Way] = USUAL,
    seed: int = 0,
    on_pixel: OnPixel = lambda *_: None,
) -> dict[str, np.ndarray]:
    """What a figure needs of the first test images completed below so many rows, half of them where not told.

    Of an autoregressive network `completed_BSHWC`: the completed rows, S of each image; `neighbour_BKHWC`: the training
    images nearest to the first completion that was drawn by chance, by the completed rows and as a whole; `nearest_BK`:
    how far off the nearest training image is from the completed rows of each of the S and, last, of the image itself,
    in levels (root mean square). Of another network `filled_below_BHWC`: those rows, filled in at once.
    """
    size = network.config.image_size
    rows = size // 2 if rows is None else rows
    first, original_BNC = rows * size, images.test.pixels_BNC[:count]
    if not network.config.is_causal:
        filled_BNC = fill_in(network, original_BNC, rows)
        return {"filled_below_BHWC": filled_BNC[:, first:].unflatten(1, (-1, size)).numpy()}
    completed_BSNC = complete(network, images.test, torch.arange(len(original_BNC)), rows, ways, seed, on_pixel)
    drawn_BNC = completed_BSNC[:, next((place for place, way in enumerate(ways) if way.temperature), 0)]
    places_BK = torch.stack([nearest(images.train, drawn_BNC, start)[0] for start in (first, 0)], dim=1)
    every_BSNC = torch.cat([completed_BSNC, original_BNC[:, None]], dim=1)
    _, distance_M = nearest(images.train, every_BSNC.flatten(0, 1), first)
    return {
        "completed_BSHWC": completed_BSNC[:, :, first:].unflatten(2, (-1, size)).numpy(),
        "neighbour_BKHWC": images.train.pixels_BNC[places_BK].unflatten(2, (size, size)).numpy(),
        "nearest_BK": distance_M.view(len(original_BNC), -1).float().numpy(),
    }
