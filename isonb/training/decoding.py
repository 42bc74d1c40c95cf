"""How well the pixels can be read off each layer: a linear map from a position's features to the values scored there.

The maps are ridge regressions in closed form. Their sums are gathered while the training images pass through the frozen
network once, so no features are kept.

Book: chapter "From pixels to probes".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from isonb.config import RunConfig
from isonb.features import CHANNELS, VALUES
from isonb.models import network as networks
from isonb.models import objectives
from isonb.training import data, evaluate

RIDGE = 1e-8  # of the features' mean square: decides only what the images leave open
NEAR = 8  # levels
Scored = tuple[list[Float[Tensor, "M D"]], Float[Tensor, "M C"], Bool[Tensor, "M C"]]


@torch.inference_mode()
def pixel_accuracies(
    network: networks.IsotropicNetwork, images: data.Images, feature: str, precision: str = "float32"
) -> list[float]:
    """The share of scored test sub-pixels that the map of each layer, 0 to L, hits within 8 levels.

    Scored is what the network's own loss counts: what the first evaluation mask hides or, for an autoregressive
    network, the pixel that each position predicts. `feature` says whether a position's features are normalised,
    'layernorm', or 'raw'.
    """
    run, device = network.config, next(network.parameters()).device
    maps_LCF = _fit(_scored(network, images.train, precision), run, feature, device)
    near_L, count = [0] * len(maps_LCF), 0
    for layers, value_MC, is_scored_MC in _scored(network, images.test, precision):
        count += int(is_scored_MC.sum())
        for layer, x_MD in enumerate(layers):
            guess_MC = (_features(x_MD, feature) @ maps_LCF[layer].T).round().clamp(0, VALUES - 1)
            near_L[layer] += int((is_scored_MC & ((guess_MC - value_MC).abs() <= NEAR)).sum())
    return [near / max(count, 1) for near in near_L]


def _scored(network: networks.IsotropicNetwork, split: data.Split, precision: str) -> Iterator[Scored]:
    """Every layer at the M positions that hold a scored sub-pixel, the values there, and which are scored; by chunk."""
    run, device = network.config, next(network.parameters()).device
    for chunk_B in torch.arange(len(split)).split(evaluate.at_once(device)):
        pixels_BNC = split.pixels_BNC[chunk_B].to(device)
        is_scored_BNC = objectives.sample_scored(run, split.index_B[chunk_B], "evaluation").to(device)
        with evaluate.autocast(device, precision):
            layers = network.forward_layers(pixels_BNC, networks.hidden(run, is_scored_BNC))
        is_here_BN = is_scored_BNC.any(2)
        is_scored_MC = is_scored_BNC[is_here_BN].expand(-1, CHANNELS)  # of a palette, whole pixels are scored
        yield [x_BND[is_here_BN] for x_BND in layers], pixels_BNC[is_here_BN].double(), is_scored_MC


def _features(x_MD: Float[Tensor, "M D"], feature: str) -> Float[Tensor, "M F"]:
    """In double precision, with a 1 behind them."""
    x_MD = x_MD.double()
    if feature == "layernorm":
        x_MD = F.layer_norm(x_MD, x_MD.shape[-1:])
    return F.pad(x_MD, (0, 1), value=1.0)


def _fit(scored: Iterable[Scored], run: RunConfig, feature: str, device: torch.device) -> Float[Tensor, "L C F"]:
    """The maps with the least squared error over the scored sub-pixels of each channel."""
    layers, width = run.depth + 1, run.width + 1
    products_LCFF = torch.zeros(layers, CHANNELS, width, width, dtype=torch.float64, device=device)
    answers_LCF = torch.zeros(layers, CHANNELS, width, dtype=torch.float64, device=device)
    # Whole pixels are scored at once, else each channel has positions of its own.
    groups = [slice(None)] if run.mask_unit == "pixel" else [slice(c, c + 1) for c in range(CHANNELS)]
    for of_layer, value_MC, is_scored_MC in scored:
        for layer, x_MD in enumerate(of_layer):
            x_MF = _features(x_MD, feature)
            for group in groups:
                is_in_M = is_scored_MC[:, group].all(1)
                x_SF = x_MF[is_in_M]
                products_LCFF[layer, group] += x_SF.T @ x_SF
                answers_LCF[layer, group] += value_MC[is_in_M][:, group].T @ x_SF
    ridge_LC = (RIDGE * products_LCFF.diagonal(dim1=2, dim2=3).mean(2)).clamp_min(RIDGE)
    return torch.linalg.solve(
        products_LCFF + ridge_LC[..., None, None] * torch.eye(width).to(products_LCFF), answers_LCF
    )
