"""A simulated study: tables with effects of a known size, to see which verdict each rule gives."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from isonb.evidence import claims, metrics
from isonb.pages import verdicts

ENCODINGS = ("continuous", "rff", "pix2vec")
NETWORKS = ("conv", "mixer", "transformer-1", "transformer-4")
IMAGES = 200
TWIN_LAYER = ("untrained_validation_accuracy", "untrained_test_accuracy")
Effect = Callable[..., float]


def noise(*labels: object) -> float:
    """A fixed number in [-1, 1] that looks random in its labels."""
    return float(np.random.default_rng(zlib.crc32(repr(labels).encode())).uniform(-1, 1))


def sign_of(seed: int) -> int:
    """Signs that cancel over seeds 0, 1 and 2, but for a half."""
    return (-1, 1, 0)[seed]


def study(
    *,
    accuracy: Effect = lambda **_: 0.4,
    loss: Effect = lambda **_: 4.0,
    layer_accuracy: Effect | None = None,
    untrained: Effect | None = None,
    kept: Effect | None = None,
    palette: Effect | None = None,
    networks: Iterable[str] = NETWORKS[:3],
    encodings: Iterable[str] = ENCODINGS,
    depths: Iterable[int] = (1, 3, 6),
    seeds: Iterable[int] = (0, 1, 2),
    arms: Iterable[str] = ("main",),
    probed: Effect | None = None,
    **columns: Effect,
) -> metrics.Tables:
    """Tables in which every effect is a function of network, encoding, depth, seed, arm (and layer or epoch).

    Image i is classified correctly when its place in a common order is below the accuracy, so accuracies are exact.
    Without `layer_accuracy` the best layer is the middle one and the others fall off by 2 points a layer; so it is in
    the untrained twin, whose best layer has the accuracy `untrained`. `palette` is by how many levels every masked
    pixel of the kept images is filled in too bright.
    """
    runs, layers, curves, learned, arrays = [], [], [], [], {}
    for network in networks:
        for encoding in encodings:
            for depth in depths:
                for seed in seeds:
                    for arm in arms:
                        cell = dict(network=network, encoding=encoding, depth=depth, seed=seed, arm=arm)
                        run_id = "-".join(map(str, cell.values()))
                        correct_LB = _correct_LB(
                            _layer(layer_accuracy, accuracy, cell, layer) for layer in range(depth + 1)
                        )
                        best = int(correct_LB.mean(axis=1).argmax())
                        nats = loss(**cell)
                        key = cell | {"run_id": run_id, "data_id": "same"}
                        block, _, heads = network.partition("-")
                        runs.append(
                            key
                            | {"study": "cpu", "block": block, "heads": int(heads or 1)}
                            | {
                                "validation_loss": nats,
                                "test_loss": nats,
                                "mean_absolute_error": 10 * nats,
                                "share_within_8": 1 - nats / 10,
                                "colour_error": nats,
                                "best_layer": best,
                                "test_accuracy": correct_LB[best].mean(),
                            }
                            | {name: effect(**cell) for name, effect in columns.items()}
                        )
                        layers += [
                            key | {"layer": at, "test_accuracy": row.mean(), "validation_accuracy": row.mean()}
                            for at, row in enumerate(correct_LB)
                        ]
                        arrays[run_id] = {
                            "test_correct_LB": correct_LB,
                            "test_loss_B": np.full(IMAGES, nats, np.float32),
                        }
                        if untrained is not None:
                            twin_LB = _correct_LB(_layer(None, untrained, cell, at) for at in range(depth + 1))
                            arrays[run_id]["untrained_correct_LB"] = twin_LB
                            runs[-1] |= _twin(twin_LB, runs[-1]["test_accuracy"])
                            for row, right_B in zip(layers[-depth - 1 :], twin_LB, strict=True):
                                row |= dict.fromkeys(TWIN_LAYER, right_B.mean())
                        arrays[run_id] |= {
                            f"{name}_correct_B": (np.arange(IMAGES) + 0.5) / IMAGES
                            < columns[f"{name}_accuracy"](**cell)
                            for name in ("finetune", "scratch")
                            if f"{name}_accuracy" in columns
                        }
                        if palette is not None:
                            arrays[run_id] |= _pictures(palette(**cell))
                        if kept is not None:
                            learned += [
                                key | {"stage": stage, "channel": channel, "kept": value, "kept_off_band": value}
                                for stage, value in (("before", 0.0), ("after", kept(**cell)))
                                for channel in range(3)
                            ]
                        if probed is not None:
                            curves += [
                                key | {"epoch": epoch, "validation_loss": 5 - epoch / 2, "probe_accuracy": value}
                                for epoch in range(8)
                                for value in [probed(epoch=epoch, **cell)]
                            ]
    names = dict.fromkeys([*metrics.RUN_COLUMNS, *columns])
    return metrics.Tables(
        pd.DataFrame(runs, columns=list(names)),
        pd.DataFrame(layers, columns=list(metrics.LAYER_COLUMNS)),
        pd.DataFrame(curves, columns=list(metrics.CURVE_COLUMNS)),
        arrays,
        learned=pd.DataFrame(learned, columns=list(metrics.LEARNED_COLUMNS)),
    )


def _correct_LB(accuracy_L: Iterable[float]) -> np.ndarray:
    """Which images every layer's probe gets right."""
    return (np.arange(IMAGES) + 0.5) / IMAGES < np.array(list(accuracy_L))[:, None]


def _pictures(levels: float) -> dict[str, np.ndarray]:
    """Three grey images of 2x2 pixels, all masked, that are filled in too bright by so many levels."""
    original_BHWC = np.full((3, 2, 2, 3), 100, np.uint8)
    filled_S = np.full(original_BHWC.size, 100 + round(levels), np.uint8)
    return {"original_BHWC": original_BHWC, "is_masked_BHWC": np.ones((3, 2, 2, 3), bool), "filled_S": filled_S}


def _twin(correct_LB: np.ndarray, accuracy: float) -> dict[str, float]:
    """The columns of the untrained twin's probes, beside a network of the given accuracy."""
    best = int(correct_LB.mean(axis=1).argmax())
    share = float(correct_LB[best].mean())
    return {"untrained_best_layer": best, "untrained_accuracy": share, "gain": accuracy - share}


def _layer(layer_accuracy: Effect | None, accuracy: Effect, cell: dict[str, object], layer: int) -> float:
    if layer_accuracy is not None:
        return layer_accuracy(layer=layer, **cell)
    middle = max(1, int(cell["depth"]) // 2)
    return accuracy(**cell) - 0.02 * abs(layer - middle)


def judged(t, **by_claim):
    """A study `cpu` of these tables in which the named claims have the given verdict, and all others have not run."""
    rows = {row["id"]: row for row in claims.as_rows(claims.judge(metrics.tables({})))}
    for name, row in rows.items():
        rows[name] = row | {"verdict": by_claim.get(name, "not run"), "seeds": 1 if name in by_claim else None}
    return verdicts.Study("cpu", t, rows)
