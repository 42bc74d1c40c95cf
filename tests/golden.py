"""The numbers that `isonb.numerics.NUMERICS` stands for: tiny networks trained, probed and fine-tuned in float64.

`python -m tests.golden` adds the numbers of what is new, such as another block or another measurement. After NUMERICS
has been raised it writes all of them anew, beside those of the number before, and refuses where they are the same.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isonb import draws, rows
from isonb.config import BLOCKS, ENCODINGS, Cell, Execution, FinetuneConfig, ProbeConfig, RunConfig
from isonb.features import even_colours
from isonb.models import network as networks
from isonb.numerics import NUMERICS
from isonb.training import classifiers, data, evaluate, finetune, probe, sources, train
from isonb.training.sources import folder

PATH = Path(__file__).with_name("golden.json")
TOLERANCE = 1e-9  # relative; rounding in float64 comes to some 1e-13, with and without AVX
COUNTED = ("accuracy", "pixels", "within_8", "error", "from scratch")  # end the names of what rounding may tip over
INITIAL = 1e-4  # of initial weights: torch draws them in float32, of which processors round the last bits differently
OF_COUNTS = 0.03  # of all, the most that ties between values tip over there
BOUND = 0.3  # of the weights that networks start from here
SIZE, CLASSES, COUNTS = 8, ("a", "b", "c"), {"train": 30, "validation": 9, "test": 12}
EXECUTION = Execution(device="cpu", precision="float64")
TINY = {"width": 8, "depth": 2, "image_size": SIZE, "batch_size": 8, "epochs": 2, "warmup_epochs": 0.5}
TINY |= {"evaluation_masks": 2, "augmentation": "none"}
PROBE = {"epochs": 8, "batch_size": 10}
FINETUNE = {"epochs": 1, "learning_rate": 0.01}

DIVISIONS = "which images are for what"
# Beside every block, encoding and objective with each other: the settings that take another path through the program.
OTHERS: dict[str, dict[str, Any]] = {
    "positions learned": {"positions": "learned"},
    "positions sincos": {"block": "mixer", "positions": "sincos"},
    "no positions": {"block": "transformer", "positions": "none"},
    "two heads": {"block": "transformer", "heads": 2, "attention_output": False, "mlp_ratio": 2.0},
    "mixer ratios": {"block": "mixer", "token_ratio": 0.5, "channel_ratio": 2.0},
    "kernel 5, reflected": {"kernel_size": 5, "padding": "reflect"},
    "causal kernel 5": {"kernel_size": 5, "objective": "autoregressive"},
    "attention as Keras starts it": {"block": "transformer", "heads": 2, "initialisation": "keras-mha"},
    "positions sincos, base 100": {"block": "transformer", "positions": "sincos", "positions_base": 100.0},
    "torch's maps": {"initialisation": "torch"},
    "Adam's constants": {"adam_beta1": 0.8, "adam_eps": 1e-3},
    "circular padding": {"padding": "circular"},
    "torch's start": {"block": "transformer", "encoding": "pix2vec", "initialisation": "torch"},
    "channels concatenated": {"encoding": "pix2vec", "channel_merge": "concat"},
    "trained frequencies": {"encoding": "rff", "rff_range": "unit", "rff_trainable": True, "sigma": 0.5},
    "sub-pixel masks, learned fill": {"mask_unit": "subpixel", "mask_fill": "learned", "mask_rate": 0.3},
    "augmented, decayed": {"augmentation": "flip-crop", "weight_decay": 0.1, "adam_beta2": 0.95},
    "no head norm": {"head_norm": False, "layer_norm_eps": 1e-5, "seed": 3},
    "grid of 4": {"probe_pooling": "grid4"},
    "flattened, raw": {"probe_pooling": "flatten", "probe_feature": "raw", "probe_scaling": "none"},
    "probed on votes": {"probe_inputs": "vote5", "probe_scaling": "standardise"},
    "palette in and out": {"block": "transformer", "encoding": "palette", "target": "palette"},
    "palette in and out, causal": {"encoding": "palette", "target": "palette", "objective": "autoregressive"},
    "palette out": {"block": "mixer", "encoding": "pix2vec", "target": "palette"},
    "classes alone": {"finetune_generative_weight": 0.0, "finetune_augmentation": "none"},
}  # fmt: skip


def cells() -> dict[str, Cell]:
    """Every block with every encoding and every objective that it can have, and the other settings, by name.

    The name `DIVISIONS` stands for no cell, but for the draws that divide images.
    """
    grid = {
        f"{block}, {encoding}, {objective.name}": {"block": block, "encoding": encoding, "objective": objective.name}
        for block in BLOCKS
        for encoding in ENCODINGS
        for objective in rows.OBJECTIVES.values()
        if rows.BLOCKS[block].has_causal_form or not objective.is_causal
    }
    return {DIVISIONS: Cell()} | {name: _cell(changes) for name, changes in (grid | OTHERS).items()}


def _cell(changes: dict[str, Any]) -> Cell:
    parts: dict[str, dict[str, Any]] = {"run": dict(TINY), "probe": dict(PROBE), "finetune": dict(FINETUNE)}
    if changes.get("encoding") == "rff":
        parts["run"]["frequencies"] = 4
    for name, value in changes.items():
        part, _, of_part = name.partition("_")
        parts[part if part in parts else "run"][of_part if part in parts else name] = value
    return Cell(
        run=RunConfig(**parts["run"]), probe=ProbeConfig(**parts["probe"]), finetune=FinetuneConfig(**parts["finetune"])
    )


def images() -> data.Images:
    """Smooth noise of known bits, a class for each channel that is brightened; no file and no library draws it."""
    splits = {}
    for number, (name, count) in enumerate(COUNTS.items()):
        noise_BHWC = draws.uniform(number, "golden images", np.arange(count * SIZE * SIZE * 3)).reshape(
            -1, SIZE, SIZE, 3
        )
        smooth_BHWC = noise_BHWC + np.roll(noise_BHWC, 1, axis=1) + np.roll(noise_BHWC, 1, axis=2)
        label_B = np.arange(count) % len(CLASSES)
        smooth_BHWC[np.arange(count), :, :, label_B] += 0.5
        pixels_BNC = np.floor(smooth_BHWC * (255 / 3.5)).astype(np.uint8).reshape(count, -1, 3)
        splits[name] = data.Split(*map(torch.from_numpy, (pixels_BNC, label_B, 7 * np.arange(count))))
    return data.Images(name="golden", classes=CLASSES, size=SIZE, **splits, sha256={}, palette_KC=even_colours())


def numbers(cell: Cell, of: data.Images) -> dict[str, float]:
    """What a cell gives, by name: losses, guesses without a network, pictures, encodings, probes, fine-tuning."""
    with _exact_weights(), tempfile.TemporaryDirectory() as place:
        pretrained = train.pretrain(cell.run, of, Path(place), EXECUTION)
    network, run = pretrained.network, cell.run
    given = _of_initial_weights(cell.run)
    for epoch in pretrained.progress.curve:
        given[f"epoch {epoch.epoch}, validation loss"] = epoch.validation_loss
        if epoch.train_loss is not None:
            given[f"epoch {epoch.epoch}, training loss"] = epoch.train_loss
    loss_B, count_B = evaluate.loss_per_image(network, run, of.test, "float64")
    given["test loss"] = float(loss_B.sum() / count_B.sum())
    given |= {f"guess, {name}": loss for name, loss in evaluate.baselines(run, of)}
    filled_BNC, is_masked_BNC = evaluate.reconstruct(network, run, of.test, "float64", torch.arange(len(of.test)))
    given |= dict(evaluate.reconstruction_scores(filled_BNC, is_masked_BNC, of.test.pixels_BNC))
    table_CVD = network.encoding.table().detach()
    given |= {"encoding, mean": table_CVD.mean().item(), "encoding, mean square": table_CVD.square().mean().item()}
    given["weights, mean square"] = sum(p.detach().square().sum().item() for p in network.parameters())
    given |= _of_probes(cell, of, network)
    steps: list[float] = []
    with _exact_weights():
        tuned = finetune.tune(cell, of, pretrained, EXECUTION, lambda step, steps_in_all, loss: steps.append(loss))
    given |= {f"fine-tuning, loss of step {step}": loss for step, loss in enumerate(steps)}
    return given | {
        "fine-tuned accuracy": tuned.record.accuracy,
        "accuracy from scratch": tuned.record.scratch_accuracy,
    }


def _of_initial_weights(run: RunConfig) -> dict[str, float]:
    """Of each parameter as it is initialised: its mean size, and one number that tells its values apart."""
    given = {}
    for name, parameter in networks.build_network(run, even_colours()).named_parameters():
        x_P = parameter.detach().double().flatten()
        order_P = torch.from_numpy(draws.uniform(0, "golden places", np.arange(len(x_P))))
        given |= {f"{name}, initial size": x_P.abs().mean().item(), f"{name}, initial": (x_P @ order_P).item()}
    return given


@contextlib.contextmanager
def _exact_weights() -> Iterator[None]:
    """Networks that are built meanwhile start from float64 numbers of known bits, where theirs are not constant."""
    build = networks.build_network

    def build_exact(run: RunConfig, palette_KC: np.ndarray | None = None) -> torch.nn.Module:
        network = build(run, palette_KC).double()
        for name, parameter in network.named_parameters():
            if parameter.unique().numel() > 1 and parameter.requires_grad:
                number_P = 2 * draws.uniform(run.seed, f"golden/{name}", np.arange(parameter.numel())) - 1
                parameter.data = BOUND * torch.from_numpy(number_P).view_as(parameter)
        return network

    networks.build_network = build_exact
    try:
        yield
    finally:
        networks.build_network = build


def _of_probes(cell: Cell, of: data.Images, network: torch.nn.Module) -> dict[str, float]:
    """Of each layer's probe: its accuracy, and the mean log-probability of the right class, which tells far more."""
    probed = probe.probe_layers(network, of, cell.probe.model_copy(update={"pixels": True}), "float64")
    features, weights = probe.fit(network, of, cell.probe, "float64")
    p_LBK = torch.stack([classifiers.probabilities(view_LBF, *weights) for view_LBF in features["test"]]).mean(0)
    log_p_L = p_LBK[:, torch.arange(len(of.test)), of.test.labels_B].log().mean(1)
    given = {}
    for layer, log_p in zip(probed.record.layers, log_p_L.tolist(), strict=True):
        given[f"layer {layer.layer}, accuracy"] = layer.test_accuracy
        given[f"layer {layer.layer}, pixels"] = layer.pixel_accuracy
        given[f"layer {layer.layer}, log-likelihood"] = log_p
    return given


def divisions() -> dict[str, float]:
    """Which images are for what: of each fixed draw one number that another order or choice would change."""

    def told(index_S: np.ndarray) -> float:
        return float(index_S @ np.arange(1, len(index_S) + 1))

    permuted_B = draws.permutation(sources.POOL_SEED, "cifar10/validation", 100)
    order_B, place_B = folder.order(np.arange(90) % 4)
    return {
        "a share of the training images": told(sources.share(np.arange(100), 0.3)),
        "the length of a part": float(sources.part(100, 0.1)),
        "a fixed permutation": told(permuted_B),
        "the order of a folder": told(order_B),
        "places in the order of a folder": float(place_B @ np.arange(90)),
        "epoch order": told(data.epoch_order(100, seed=3, epoch=2).numpy()),
    }


def measured(names: Iterable[str]) -> dict[str, dict[str, float]]:
    """The numbers of some cells as the program gives them now."""
    of, named = images(), cells()
    return {name: divisions() if name == DIVISIONS else numbers(named[name], of) for name in names}


def differences(theirs: dict[str, dict[str, float]], ours: dict[str, dict[str, float]]) -> list[str]:
    """Where two sets of numbers differ by more than rounding, over the cells that both have, in words."""
    return [
        f"{cell}: {name} is {ours[cell].get(name)!r}, was {theirs[cell].get(name)!r}"
        for cell in theirs.keys() & ours.keys()
        for name in sorted({*theirs[cell], *ours[cell]})
        if not _same(name, theirs[cell].get(name), ours[cell].get(name))
    ]


def _same(name: str, one: float | None, other: float | None) -> bool:
    tolerance = OF_COUNTS if name.endswith(COUNTED) else INITIAL if "initial" in name.rpartition(", ")[2] else TOLERANCE
    return None not in (one, other) and abs(one - other) <= tolerance * max(abs(one), abs(other), 1.0)


def read() -> dict[str, Any]:
    """The file: `numerics`, `cells`, and `before`, the same two of the number before, or None."""
    return json.loads(PATH.read_text())


def write() -> str:
    """Write the file; returns what was done, in a sentence.

    Raises SystemExit where NUMERICS was raised for nothing, or results have changed under the same NUMERICS.
    """
    kept, now = read(), measured(cells())
    known = {name: {key: now[name].get(key) for key in kept["cells"].get(name, now[name])} for name in now}
    changed = differences(kept["cells"], known)
    if kept["numerics"] == NUMERICS:
        if changed:
            raise SystemExit(
                f"{len(changed)} numbers have changed under the same NUMERICS, such as {changed[0]}: fix the code or, "
                "if it is meant, raise NUMERICS in isonb/numerics.py, which outdates every result."
            )
        cells_of = kept["cells"]
        new = sorted(name for name in now if now[name].keys() - cells_of.get(name, {}).keys())
        gone = sorted({*cells_of} - {*now})
        content = kept | {"cells": {name: now[name] | cells_of.get(name, {}) for name in now}}
        done = f"New in {PATH.name}: {', '.join(new) or 'nothing'}; gone: {', '.join(gone) or 'nothing'}."
    else:
        if not changed:
            raise SystemExit(f"No number has changed: set NUMERICS back to {kept['numerics']}, so results stay valid.")
        before = {"numerics": kept["numerics"], "cells": kept["cells"]}
        content = {"numerics": NUMERICS, "before": before, "cells": now}
        done = f"{len(now)} cells of NUMERICS {NUMERICS} are in {PATH.name}."
    PATH.write_text(json.dumps(content, indent=0) + "\n")
    return done


if __name__ == "__main__":
    torch.set_num_threads(1)  # tiny products wait for each other longer than they take
    print(write())
