"""Linear probes: how well each layer of a frozen network separates the classes, all layers at once.

The network sees every image once; the pooled features of all L + 1 layers are kept, and the L + 1 classifiers are
trained together as one batched product. The layer is chosen on validation and reported on test.

Paper: section 4.2. Book: chapter "Probing".
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from isonb import draws, records
from isonb.config import ProbeConfig
from isonb.models import network as networks
from isonb.models import objectives
from isonb.training import checkpoint, data, decoding, evaluate

VOTES = 5
ROUNDING = 1e-6  # share of the largest variance below which a direction is left out
GRID = 4  # cells along each side of the pooled grid
MEMORY = 8 * 2**30  # bytes of cached features above which the request is refused


class ProbeError(ValueError):
    """A probe that cannot be run here; its message says why and what to choose instead."""


@dataclasses.dataclass(frozen=True)
class Probed:
    """The record's part and, for paired tests, which test images each layer gets right: bool, L + 1 by test images."""

    record: records.Probe
    test_correct_LB: np.ndarray


def probe_layers(
    network: networks.IsotropicNetwork,
    images: data.Images,
    config: ProbeConfig,
    precision: str = "float32",
    kept: Sequence[Path] = (),
) -> Probed:
    """Train and judge one linear classifier per layer, 0 (the encoding) to L. The network is not changed.

    With `config.along` the same is done with the weights at the close of every earlier epoch, in the files `kept`; with
    `config.pixels` the pixels are read off each layer of the finished network, too.
    Raises `ProbeError` when the features would not fit into memory or an epoch's weights are not there, and
    `checkpoint.CheckpointError` when they cannot be read.
    """
    earlier = [checkpoint.read_kept(path, network.config) for path in kept] if config.along else []
    if config.along and len(earlier) != network.config.epochs - 1:
        raise ProbeError(
            f"probe_along=True needs the weights of {network.config.epochs - 1} epochs and {len(earlier)} were kept: "
            "train with probe_along=True, too."
        )
    probes, test_correct_LB = _probe(network, images, config, precision)
    along = []
    for epoch, weights in enumerate(earlier, start=1):
        then = copy.deepcopy(network)
        then.load_state_dict(weights)
        along.append(records.ProbedEpoch(epoch=epoch, **dict(_probe(then, images, config, precision)[0])))
    if config.along:
        along.append(records.ProbedEpoch(epoch=network.config.epochs, **dict(probes)))
    label_B = images.test.labels_B
    chance = torch.bincount(label_B).max().item() / len(label_B)
    record = records.Probe(**dict(probes), chance=chance, protocol=describe(config), along=along)
    if config.pixels:
        accuracies = decoding.pixel_accuracies(network, images, config.feature, precision)
        layers = [
            layer.model_copy(update={"pixel_accuracy": accuracy})
            for layer, accuracy in zip(record.layers, accuracies, strict=True)
        ]
        record = record.model_copy(update={"layers": layers})
    return Probed(record, test_correct_LB)


def _probe(
    network: networks.IsotropicNetwork, images: data.Images, config: ProbeConfig, precision: str
) -> tuple[records.Probes, np.ndarray]:
    """The probes of one network, and which test images each layer gets right."""
    started = time.perf_counter()
    splits = {name: getattr(images, name) for name in ("train", "validation", "test")}
    features, weights = fit(network, images, config, precision)
    correct = {
        name: torch.stack([probabilities(view_LBF, *weights) for view_LBF in views]).sum(0).argmax(2)
        == splits[name].labels_B
        for name, views in features.items()
    }
    accuracy = {name: is_correct_LB.double().mean(1).tolist() for name, is_correct_LB in correct.items()}
    best = int(np.argmax(accuracy[config.select_on]))  # the earliest of equals
    probes = records.Probes(
        layers=[
            records.Layer(layer=layer, train_accuracy=train, validation_accuracy=validation, test_accuracy=test)
            for layer, (train, validation, test) in enumerate(
                zip(accuracy["train"], accuracy["validation"], accuracy["test"], strict=True)
            )
        ],
        best_layer=best,
        test_accuracy=accuracy["test"][best],
        seconds=time.perf_counter() - started,
    )
    return probes, correct["test"].numpy()


def fit(
    network: networks.IsotropicNetwork, images: data.Images, config: ProbeConfig, precision: str
) -> tuple[dict[str, list[Float[Tensor, "L B F"]]], tuple[Float[Tensor, "L F K"], Float[Tensor, "L K"]]]:
    """The scaled features of every split, and the classifiers of all layers that the training images give."""
    features = {
        name: extract(network, getattr(images, name), config, precision) for name in ("train", "validation", "test")
    }
    if config.scaling != "none":
        (_whiten if config.scaling == "whiten" else _standardise)(features)
    solve = _fit_adam if config.solver == "adam" else _fit_lbfgs
    classes, seed = len(images.classes), network.config.seed
    return features, solve(features["train"][0], images.train.labels_B, classes, config, seed)


def describe(config: ProbeConfig) -> str:
    """The protocol in one line, to stand beside an accuracy."""
    pooling = {"mean": "mean-pooled", "grid4": "4x4-pooled", "flatten": "flattened"}[config.pooling]
    solver = {
        "adam": f"Adam {config.learning_rate:g}, cosine over {config.epochs} epochs, batch {config.batch_size}",
        "lbfgs": "L-BFGS to convergence",
    }[config.solver]
    scaling = {"whiten": "whitened ", "standardise": "standardised ", "none": ""}[config.scaling]
    feature = f"{scaling}{config.feature} features of {config.inputs} images"
    return f"{pooling} {feature}, {solver}, layer chosen on {config.select_on}"


@torch.inference_mode()
def extract(
    network: networks.IsotropicNetwork, split: data.Split, config: ProbeConfig, precision: str = "float32"
) -> list[Float[Tensor, "L B F"]]:
    """Pooled features of every layer: one tensor per view of the images; float64 of a network in float64, else float32.

    There is one view, of whole or of masked images, except for `vote5`, whose probe is trained on the first of five
    masked views and asked about all of them.
    """
    run, device = network.config, next(network.parameters()).device
    is_voting = config.inputs == "vote5"
    views = VOTES if is_voting else 1
    _refuse_too_large(run, config, len(split) * views)
    pooled: list[list[Tensor]] = [[] for _ in range(views)]
    for chunk_B in torch.arange(len(split)).split(evaluate.CHUNK):
        pixels_BNC = split.pixels_BNC[chunk_B].to(device)
        for view, parts in enumerate(pooled):
            is_masked_BNC = None
            if config.inputs != "unmasked":
                is_masked_BNC = objectives.sample_masks(run, split.index_B[chunk_B], "evaluation", view).to(device)
            with evaluate.autocast(device, precision):
                layers = network.forward_layers(pixels_BNC, is_masked_BNC)
            parts.append(
                torch.stack([_pool(evaluate.unrounded(x_BND), run.image_size, config) for x_BND in layers]).cpu()
            )
    return [torch.cat(parts, dim=1) for parts in pooled]


def _pool(x_BND: Float[Tensor, "B N D"], size: int, config: ProbeConfig) -> Float[Tensor, "B F"]:
    if config.feature == "layernorm":
        x_BND = F.layer_norm(x_BND, x_BND.shape[-1:])
    if config.pooling == "mean":
        return x_BND.mean(1)
    if config.pooling == "flatten":
        return x_BND.flatten(1)
    grid_BDHW = x_BND.transpose(1, 2).unflatten(2, (size, size))
    return F.adaptive_avg_pool2d(grid_BDHW, GRID).flatten(1)


@torch.inference_mode()
def _whiten(features: dict[str, list[Float[Tensor, "L B F"]]]) -> None:
    """Centre, turn and scale the features of each layer, in place, to unit covariance over the training images.

    A linear classifier of the one is a linear classifier of the other, so no layer gains what it lacked. Directions
    with next to none of the variance are rounding, and set to zero.
    """
    for layer, train_BF in enumerate(features["train"][0]):
        mean_F, map_FF = whitening(train_BF)
        for views in features.values():
            for x_LBF in views:
                x_LBF[layer] = (x_LBF[layer] - mean_F) @ map_FF


def whitening(x_BF: Float[Tensor, "B F"]) -> tuple[Float[Tensor, "F"], Float[Tensor, "F F"]]:
    """A layer's mean, and the map that makes of centred features uncorrelated ones of variance 1, or 0."""
    mean_F = x_BF.double().mean(0)
    centred_BF = x_BF.double() - mean_F
    variance_F, direction_FF = torch.linalg.eigh(centred_BF.T @ centred_BF / len(x_BF))
    scale_F = torch.where(variance_F > ROUNDING * variance_F[-1], variance_F.rsqrt(), 0.0)
    return mean_F.to(x_BF), (direction_FF * scale_F).to(x_BF)


@torch.inference_mode()
def _standardise(features: dict[str, list[Float[Tensor, "L B F"]]]) -> None:
    """Centre and scale each feature, in place, by its mean and deviation over the training images."""
    deviation_L1F, mean_L1F = torch.std_mean(features["train"][0], dim=1, keepdim=True)
    deviation_L1F[deviation_L1F < 1e-6] = 1.0  # a feature that is constant there says nothing, elsewhere neither
    for views in features.values():
        for x_LBF in views:
            x_LBF.sub_(mean_L1F).div_(deviation_L1F)


def _refuse_too_large(run, config: ProbeConfig, images: int) -> None:
    cells = {"mean": 1, "grid4": GRID**2, "flatten": run.image_size**2}[config.pooling]
    needed = 4 * (run.depth + 1) * images * cells * run.width
    if needed > MEMORY:
        raise ProbeError(
            f"probe_pooling={config.pooling!r} would keep {needed / 2**30:.0f} GiB of features, more than "
            f"{MEMORY / 2**30:.0f} GiB: choose 'grid4' or 'mean', or a smaller data_fraction."
        )


def _logits(x_LBF: Tensor, weight_LFK: Tensor, bias_LK: Tensor) -> Float[Tensor, "L B K"]:
    return torch.baddbmm(bias_LK[:, None], x_LBF, weight_LFK)


def probabilities(x_LBF: Tensor, weight_LFK: Tensor, bias_LK: Tensor) -> Float[Tensor, "L B K"]:
    """What each layer's classifier gives every class."""
    return _logits(x_LBF, weight_LFK, bias_LK).softmax(2)


def _fit_adam(
    x_LBF: Float[Tensor, "L B F"], label_B: Tensor, classes: int, config: ProbeConfig, seed: int
) -> tuple[Tensor, Tensor]:
    """The paper's procedure for every layer at once: Adam from zero weights, cosine to 0, the same batches for all.

    The layers' losses are summed, so each classifier gets the gradient of its own mean loss.
    """
    layers, images, width = x_LBF.shape
    weight_LFK = nn.Parameter(torch.zeros(layers, width, classes, dtype=x_LBF.dtype))
    bias_LK = nn.Parameter(torch.zeros(layers, classes, dtype=x_LBF.dtype))
    adam = torch.optim.Adam([weight_LFK, bias_LK], fused=True)
    steps_per_epoch = data.steps_per_epoch(images, config.batch_size)
    steps = config.epochs * steps_per_epoch
    for epoch in range(config.epochs):
        order_B = torch.from_numpy(draws.permutation(seed, "probe order", images, epoch))
        for number, batch_B in enumerate(order_B.split(config.batch_size)):
            logits_LBK = _logits(x_LBF[:, batch_B], weight_LFK, bias_LK)
            target_LB = label_B[batch_B].expand(layers, -1)
            loss = F.cross_entropy(logits_LBK.flatten(0, 1), target_LB.flatten()) * layers
            adam.zero_grad()
            loss.backward()
            progress = (epoch * steps_per_epoch + number) / steps
            for group in adam.param_groups:
                group["lr"] = config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))
            adam.step()
    return weight_LFK.detach(), bias_LK.detach()


def _fit_lbfgs(
    x_LBF: Float[Tensor, "L B F"], label_B: Tensor, classes: int, config: ProbeConfig, seed: int
) -> tuple[Tensor, Tensor]:
    """The cross-check: scikit-learn's multinomial logistic regression, practically unpenalised, layer by layer."""
    from sklearn.linear_model import LogisticRegression  # imported here: only this solver waits for it

    weights, biases = [], []
    for x_BF in x_LBF:
        scale_F = x_BF.std(0).clamp_min(1e-6)  # better conditioned; undone below
        model = LogisticRegression(C=100.0, max_iter=2000).fit((x_BF / scale_F).numpy(), label_B.numpy())
        coefficient_KF, intercept_K = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # scikit-learn keeps the second class's row alone
            coefficient_KF, intercept_K = np.vstack([0 * coefficient_KF, coefficient_KF]), np.append(0, intercept_K)
        weight_FK, bias_K = x_BF.new_zeros(x_BF.shape[1], classes), x_BF.new_full((classes,), -torch.inf)
        weight_FK[:, model.classes_] = torch.from_numpy(coefficient_KF.T).to(x_BF) / scale_F[:, None]
        bias_K[model.classes_] = torch.from_numpy(intercept_K).to(x_BF)
        weights.append(weight_FK)
        biases.append(bias_K)
    return torch.stack(weights), torch.stack(biases)
