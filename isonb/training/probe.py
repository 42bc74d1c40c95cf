"""Linear probes: how well each layer of a frozen network separates the classes, all layers at once.

The network sees every image once; the pooled features of all L + 1 layers are kept, and the L + 1 classifiers are
trained together as one batched product. The layer is chosen on validation and reported on test.

Paper: section 4.2. Book: chapter "Probing".
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from isonb import schema
from isonb.config import ProbeConfig, RunConfig
from isonb.models import network as networks
from isonb.models import objectives
from isonb.training import checkpoint, classifiers, data, decoding, evaluate, room

VOTES = 5
GRID = 4  # cells along each side of the pooled grid


class ProbeError(ValueError):
    """A probe that cannot be run here; its message says why and what to choose instead."""


@dataclasses.dataclass(frozen=True)
class Probed:
    """The record's part and, for paired tests, which test images each layer gets right: bool, L + 1 by test images."""

    record: schema.Probe
    test_correct_LB: np.ndarray


@dataclasses.dataclass(frozen=True)
class Judged:
    """The probes of one network by one protocol, and which test images each layer gets right: bool, L + 1 by images."""

    probes: schema.Probes
    test_correct_LB: np.ndarray


def probe_layers(
    network: networks.IsotropicNetwork,
    images: data.Images,
    config: ProbeConfig,
    precision: str = "float32",
    kept: Sequence[Path] = (),
    judged: Judged | None = None,
) -> Probed:
    """Train and judge one linear classifier per layer, 0 (the encoding) to L. The network is not changed.

    With `config.along` the same is done with the weights at the close of every earlier epoch, in the files `kept`; with
    `config.pixels` the pixels are read off each layer of the finished network, too. `judged` are the finished network's
    own probes where they are known already.
    Raises `ProbeError` when the features would not fit into memory or an epoch's weights are not there, and
    `checkpoint.CheckpointError` when they cannot be read.
    """
    earlier = [checkpoint.read_kept(path, network.config) for path in kept] if config.along else []
    if config.along and len(earlier) != network.config.epochs - 1:
        raise ProbeError(
            f"probe_along=True needs the weights of {network.config.epochs - 1} epochs and {len(earlier)} were kept: "
            "train with probe_along=True, too."
        )
    judged = judged or judge(network, images, [config], precision)[0]
    along = []
    for epoch, weights in enumerate(earlier, start=1):
        then = copy.deepcopy(network)
        then.load_state_dict(weights)
        along.append(schema.ProbedEpoch(epoch=epoch, **dict(judge(then, images, [config], precision)[0].probes)))
    if config.along:
        along.append(schema.ProbedEpoch(epoch=network.config.epochs, **dict(judged.probes)))
    label_B = images.test.labels_B
    chance = torch.bincount(label_B).max().item() / len(label_B)
    is_own = network.config.read_by(config) == network.config
    read = None if is_own else data.describe(images)
    record = schema.Probe(**dict(judged.probes), chance=chance, protocol=describe(config), along=along, data=read)
    if config.pixels:
        accuracies = decoding.pixel_accuracies(network, images, config.feature, precision)
        layers = [
            layer.model_copy(update={"pixel_accuracy": accuracy})
            for layer, accuracy in zip(record.layers, accuracies, strict=True)
        ]
        record = record.model_copy(update={"layers": layers})
    return Probed(record, judged.test_correct_LB)


def judge(
    network: networks.IsotropicNetwork,
    images: data.Images,
    configs: Sequence[ProbeConfig],
    precision: str,
    penalties: Sequence[float] = (),
) -> list[Judged]:
    """The probes of one network by each protocol; the network sees the images once.

    The protocols may differ in how they pool and scale. With `penalties` those protocols follow again, with the L2
    penalty of each layer, 0 or one of these, that is best on validation.
    """
    splits = {name: getattr(images, name) for name in ("train", "validation", "test")}
    started = time.perf_counter()
    pooled = {name: extract_each(network, split, configs, precision) for name, split in splits.items()}
    extracting = (time.perf_counter() - started) / len(configs)
    plain, penalised = [], []
    for place, config in enumerate(configs):
        started = time.perf_counter()
        features = {name: of_split[place] for name, of_split in pooled.items()}
        classifiers = _solve(network, images, features, config, (0.0, *penalties))
        correct = [_correct(features, splits, weights) for weights in classifiers]
        seconds = extracting + time.perf_counter() - started
        plain.append(_judged(correct[0], config, seconds))
        if penalties:
            chosen_L = _most_accurate(correct)
            best = {name: torch.stack([correct[p][name][layer] for layer, p in enumerate(chosen_L)]) for name in splits}
            penalised.append(_judged(best, config, seconds, [(0.0, *penalties)[p] for p in chosen_L]))
    return plain + penalised


def _solve(
    network: networks.IsotropicNetwork,
    images: data.Images,
    features: dict[str, list[Tensor]],
    config: ProbeConfig,
    penalties: Sequence[float],
) -> list[tuple[Tensor, Tensor]]:
    """The classifiers of all layers for each L2 penalty, of features that are scaled in place."""
    device = next(network.parameters()).device
    if config.scaling == "whiten":
        classifiers.whiten(features, device)
    elif config.scaling == "standardise":
        classifiers.standardise(features)
    solve = classifiers.by_adam if config.solver == "adam" else classifiers.by_lbfgs
    train_LBF, label_B = features["train"][0], images.train.labels_B.to(device)
    parts = [  # a layer's classifier depends on no other layer
        solve(train_LBF[group].to(device), label_B, len(images.classes), config, network.config.seed, penalties)
        for group in room.groups(len(train_LBF), train_LBF[0].nbytes)
    ]
    return [tuple(map(torch.cat, zip(*of_penalty, strict=True))) for of_penalty in zip(*parts, strict=True)]


def _correct(
    features: Mapping[str, list[Tensor]], splits: Mapping[str, data.Split], weights: tuple[Tensor, Tensor]
) -> dict[str, Bool[Tensor, "L B"]]:
    """Which images of every split each layer's classifier gets right; views of an image are asked together."""
    return {
        name: torch.stack([classifiers.probabilities(view_LBF, *weights) for view_LBF in views]).sum(0).argmax(2)
        == splits[name].labels_B
        for name, views in features.items()
    }


def _most_accurate(correct: Sequence[Mapping[str, Tensor]]) -> list[int]:
    """For each layer the place of the classifier that is best on validation; the strongest penalty of equals."""
    right_PL = torch.stack([of_penalty["validation"].sum(1) for of_penalty in correct])
    return (len(correct) - 1 - right_PL.flip(0).argmax(0)).tolist()


def _judged(
    correct: Mapping[str, Tensor], config: ProbeConfig, seconds: float, penalties: list[float] | None = None
) -> Judged:
    accuracy = {name: is_correct_LB.double().mean(1).tolist() for name, is_correct_LB in correct.items()}
    best = int(np.argmax(accuracy[config.select_on]))  # the earliest of equals
    layers = [
        schema.Layer(
            layer=layer,
            train_accuracy=accuracy["train"][layer],
            validation_accuracy=accuracy["validation"][layer],
            test_accuracy=accuracy["test"][layer],
        )
        for layer in range(len(accuracy["test"]))
    ]
    probes = schema.Probes(
        layers=layers, best_layer=best, test_accuracy=accuracy["test"][best], seconds=seconds, penalties=penalties
    )
    return Judged(probes, correct["test"].numpy())


def fit(
    network: networks.IsotropicNetwork, images: data.Images, config: ProbeConfig, precision: str
) -> tuple[dict[str, list[Float[Tensor, "L B F"]]], tuple[Float[Tensor, "L F K"], Float[Tensor, "L K"]]]:
    """The scaled features of every split, and the classifiers of all layers that the training images give."""
    features = {
        name: extract(network, getattr(images, name), config, precision) for name in ("train", "validation", "test")
    }
    return features, _solve(network, images, features, config, (0.0,))[0]


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


def extract(
    network: networks.IsotropicNetwork, split: data.Split, config: ProbeConfig, precision: str = "float32"
) -> list[Float[Tensor, "L B F"]]:
    """Pooled features of every layer: one tensor per view of the images; float64 of a network in float64, else float32.

    There is one view, of whole or of masked images, except for `vote5`, whose probe is trained on the first of five
    masked views and asked about all of them.
    """
    return extract_each(network, split, [config], precision)[0]


@torch.inference_mode()
def extract_each(
    network: networks.IsotropicNetwork, split: data.Split, configs: Sequence[ProbeConfig], precision: str
) -> list[list[Float[Tensor, "L B F"]]]:
    """What `extract` gives for each of several protocols that differ in their pooling, in one pass over the images."""
    run, device, inputs = network.config, next(network.parameters()).device, configs[0].inputs
    views = VOTES if inputs == "vote5" else 1
    for config in configs:
        _refuse_too_large(run, config, len(split))
    pooled: list[list[Tensor]] = [[] for _ in configs]
    for chunk_B in torch.arange(len(split)).split(evaluate.at_once(device)):
        pixels_BNC = split.pixels_BNC[chunk_B].to(device)
        for view in range(views):
            is_masked_BNC = None
            if inputs != "unmasked":
                is_masked_BNC = objectives.sample_masks(run, split.index_B[chunk_B].to(device), "evaluation", view)
            layers = _each_layer(network, pixels_BNC, is_masked_BNC, precision)
            of_layer = [[_pool(x_BND, run.image_size, config) for config in configs] for x_BND in layers]
            for of_view, parts in zip(pooled, zip(*of_layer, strict=True), strict=True):
                part_LBF = torch.stack(parts)
                if len(of_view) == view:  # the first chunk
                    of_view.append(room.of(len(part_LBF), len(split), part_LBF.shape[2], part_LBF.dtype))
                of_view[view][:, int(chunk_B[0]) : int(chunk_B[-1]) + 1] = part_LBF
    return pooled


def _each_layer(
    network: networks.IsotropicNetwork, pixels_BNC: Tensor, is_masked_BNC: Tensor | None, precision: str
) -> Iterator[Float[Tensor, "B N D"]]:
    """Every layer in turn, in float32 or float64: what is made of it is not rounded as the network's products are."""
    layers = network.each_layer(pixels_BNC, is_masked_BNC)
    while True:
        with evaluate.autocast(pixels_BNC.device, precision):
            x_BND = next(layers, None)
        if x_BND is None:
            return
        yield evaluate.unrounded(x_BND)


def _pool(x_BND: Float[Tensor, "B N D"], size: int, config: ProbeConfig) -> Float[Tensor, "B F"]:
    if config.feature == "layernorm":
        x_BND = F.layer_norm(x_BND, x_BND.shape[-1:])
    if config.pooling == "mean":
        return x_BND.mean(1)
    if config.pooling == "flatten":
        return x_BND.flatten(1)
    grid_BDHW = x_BND.transpose(1, 2).unflatten(2, (size, size))
    return F.adaptive_avg_pool2d(grid_BDHW, GRID).flatten(1)


def pooled_width(run: RunConfig, config: ProbeConfig) -> int:
    """How many features of a layer an image has."""
    return run.width * {"mean": 1, "grid4": GRID**2, "flatten": run.image_size**2}[config.pooling]


def feature_bytes(run: RunConfig, config: ProbeConfig, images: int) -> int:
    """How much room the cached float32 features of all layers of some images take."""
    return 4 * (run.depth + 1) * images * pooled_width(run, config)


def _refuse_too_large(run: RunConfig, config: ProbeConfig, images: int) -> None:
    """One layer is held in memory as a whole; all of them need not be (`room`)."""
    if (needed := feature_bytes(run, config, images) / (run.depth + 1)) > room.MEMORY:
        raise ProbeError(
            f"probe_pooling={config.pooling!r} would keep {needed / 2**30:.0f} GiB of features of a layer, more than "
            f"{room.MEMORY / 2**30:.0f} GiB: choose 'grid4' or 'mean', or a smaller data_fraction."
        )
