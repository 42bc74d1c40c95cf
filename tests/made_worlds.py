"""Made-up worlds of the real study's size: what do the rules say where the paper is right, wrong, or nothing is so?

A world has the settings, seeds and test images that the study `cpu` has, and noise of the size that is measured in its
records: between seeds, between test images, and in what networks get right on the same images. Only what is true of
its networks is made up.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtri

from isonb.evidence import claims, metrics
from isonb.evidence.ledger import select
from isonb.evidence.ledger.colours import colour_errors
from isonb.evidence.ledger.finding import Claim, Verdict
from isonb.evidence.ledger.select import ENCODINGS, NETWORKS

IMAGES, VALIDATION = 1000, 400
NOW = {1: 3, 3: 3, 6: 1}  # seeds by size, of a study that is under way
WHOLE = {1: 3, 3: 3, 6: 3}
PARAMETERS_PER_BLOCK = {"conv": 295_680, "mixer": 2_132_736, "transformer-1": 99_584, "transformer-4": 99_584}
GREY, LEVELS = 60, 195  # of the made-up pictures, and how far from it a colour can be
Key = tuple[str, str, int]  # network, encoding, size


class Noise(NamedTuple):
    """Spreads that were measured between equal runs of the study, and correlations between what networks get right.

    loss, by setting, and palette (levels) and kept, by network: standard deviations between seeds. accuracy: that which
    remains once the sampling of test images is taken out. any, network and setting: the correlations, between two
    networks, of one kind, and of one setting with other seeds, of a normal latent variable behind each answer.
    image_loss: the spread of the losses of test images, of all networks alike and of one setting in particular.
    """

    loss: Mapping[Key, float]
    accuracy: float
    palette: Mapping[str, float]
    kept: Mapping[str, float]
    any: float
    network: float
    setting: float
    image_loss: tuple[float, float]


def measured(study: str = "cpu") -> Noise:
    """The noise of the study's main runs, at the sizes that have three seeds; size 6 has that of size 3."""
    t = select.replicated(metrics.read(study), 3)
    runs = select.grid(t).reset_index(drop=True)
    spread = runs.groupby(select.SETTING)["validation_loss"].std()
    loss = {
        (network, encoding, size): float(spread[network, encoding, min(size, 3)]) for network, encoding, size in KEYS
    }
    correct_KB = np.stack([select.chosen_correct_B(t, run) for _, run in runs.iterrows()])
    alike = {name: _mean_correlation(correct_KB, runs, name) for name in ("any", "network", "setting")}
    share = correct_KB.mean(axis=1)
    sampling = (share * (1 - share)).mean() * (1 - alike["setting"]) / correct_KB.shape[1]
    variance = (runs.groupby(select.SETTING)["test_accuracy"].std() ** 2).mean()
    palettes = runs.assign(palette=[colour_errors(t.arrays[run_id]).palette for run_id in runs["run_id"]])
    tables = t.learned[(t.learned["stage"] == "after") & t.learned["run_id"].isin(runs["run_id"])]
    kept = tables[tables["encoding"] == "pix2vec"].groupby([*select.SETTING, "seed"])["kept_off_band"].mean()
    loss_KB = np.stack([select.loss_B(t, run) for _, run in runs.iterrows()])
    loss_KB -= loss_KB.mean(axis=1, keepdims=True)
    return Noise(
        loss=loss,
        accuracy=float(np.sqrt(max(0.0, variance - sampling))),
        palette=_by_network(palettes.set_index([*select.SETTING, "seed"])["palette"]),
        kept=_by_network(kept),
        image_loss=(float(loss_KB.mean(axis=0).std()), float((loss_KB - loss_KB.mean(axis=0)).std())),
        **{name: float(np.sin(np.pi / 2 * value)) for name, value in alike.items()},  # of signs to that of normals
    )


def _mean_correlation(correct_KB: np.ndarray, runs: pd.DataFrame, of: str) -> float:
    """The mean correlation of two runs' answers: of two networks, of one kind, or of one setting."""
    setting = runs[select.SETTING].astype(str).agg(" ".join, axis=1).to_numpy()
    network = runs["network"].to_numpy()
    is_setting, is_network = setting[:, None] == setting, network[:, None] == network
    pairs = {
        "any": ~is_network,
        "network": is_network & ~is_setting,
        "setting": is_setting & ~np.eye(len(runs), dtype=bool),
    }
    return float(np.corrcoef(correct_KB)[pairs[of]].mean())


def _by_network(values: pd.Series) -> dict[str, float]:
    """The standard deviation between seeds, of each network over its settings."""
    variance = values.groupby(level=select.SETTING).var()
    return {name: float(np.sqrt(value)) for name, value in variance.groupby(level="network").mean().items()}


def keys() -> list[Key]:
    """Every setting of the study: networks of 4 heads have no size 6."""
    settings = itertools.product(NETWORKS, ENCODINGS, WHOLE)
    return [key for key in settings if not (key[0] == "transformer-4" and key[2] == 6)]


KEYS = keys()


class Truth(NamedTuple):
    """What is true of one setting, on average over seeds and images; accuracies by layer."""

    loss: float
    accuracy_L: np.ndarray
    untrained_L: np.ndarray
    kept: float
    palette: float


RANK = {"conv": 0, "mixer": 1, "transformer-1": 2, "transformer-4": 2}
BLOCK_LOSS = {"conv": 0.0, "mixer": 1.1, "transformer-1": 2.35, "transformer-4": 2.3}
PAIRING = {  # nats that an encoding costs with a block
    "conv": {"continuous": 0.8, "rff": 0.4, "pix2vec": 0.0},
    "mixer": {"continuous": 0.6, "rff": 0.0, "pix2vec": 0.75},
    "transformer-1": {"continuous": 0.8, "rff": 0.4, "pix2vec": 0.0},
    "transformer-4": {"continuous": 0.8, "rff": 0.4, "pix2vec": 0.0},
}
AT_EQUAL_LOSS = {"continuous": 0.06, "rff": 0.03, "pix2vec": 0.0}
GAIN = {"continuous": 0.0, "rff": 0.04, "pix2vec": 0.08}
DEEPER = {1: 0.0, 3: -0.25, 6: -0.5}
KEPT = {"conv": 0.8, "mixer": 0.5, "transformer-1": 0.0, "transformer-4": 0.0}
PALETTE = {"conv": 10, "mixer": 40, "transformer-1": 90, "transformer-4": 90}


def _right(network: str, encoding: str, size: int) -> Truth:
    """Everything is as the paper and the ledger's own claims say."""
    above = BLOCK_LOSS[network] + PAIRING[network][encoding] + DEEPER[size]
    accuracy = 0.83 - 0.2 * above + AT_EQUAL_LOSS[encoding]
    off_middle_L = np.abs(np.arange(size + 1) - (size + 1) / 2) if size > 1 else np.array([1.0, 0.0])
    accuracy_L = accuracy - 0.08 * (off_middle_L - off_middle_L.min())
    if encoding == "pix2vec" and network == "mixer":
        accuracy_L = np.full(size + 1, accuracy)
    if encoding == "pix2vec" and network == "transformer-1" and size == 6:
        accuracy_L[-1] -= 0.3
    gain = 0.08 + 0.04 * RANK[network] + GAIN[encoding]
    kept = KEPT[network] - 0.2 * DEEPER[size]
    return Truth(3.2 + above, accuracy_L, accuracy_L - gain, kept, PALETTE[network])


def _mirrored(of: Truth) -> Truth:
    """Accuracies and gains the other way round, and the best features at the end of the network."""
    gain_L = of.accuracy_L - of.untrained_L
    accuracy = 1.08 - of.accuracy_L.max()
    accuracy_L = accuracy * 0.6 ** np.arange(len(of.accuracy_L))[::-1]
    return of._replace(accuracy_L=accuracy_L, untrained_L=accuracy_L + gain_L)


def _opposed(*key: object) -> Truth:
    """Losses are as the paper says, and accuracies the other way round: lower loss goes with worse features."""
    return _mirrored(_right(*key))


def _wrong(*key: object) -> Truth:
    """All orders are the other way round, of losses as of accuracies."""
    of = _right(*key)
    return _mirrored(of)._replace(loss=8.9 - of.loss, kept=0.8 - of.kept, palette=100 - of.palette)


MIXED_LOSS = {
    "conv": {"continuous": 3.4, "rff": 3.3, "pix2vec": 3.3},
    "mixer": {"continuous": 4.3, "rff": 3.7, "pix2vec": 3.9},
    "transformer-1": {"continuous": 3.9, "rff": 4.9, "pix2vec": 3.6},
    "transformer-4": {"continuous": 3.8, "rff": 4.9, "pix2vec": 3.6},
}


def _mixed(network: str, encoding: str, size: int) -> Truth:
    """conv comes first; which of mixer and transformers is next depends on the encoding; only they gain by training."""
    loss = MIXED_LOSS[network][encoding]
    accuracy_L = np.full(size + 1, 0.45 - 0.1 * (loss - 3.3)) - 0.04 * (np.arange(size + 1) == 0)
    gain = 0.06 * (network != "conv")
    return Truth(loss, accuracy_L, accuracy_L - gain, 0.5, 20 * (loss - 3))


def nothing(network: str, encoding: str, size: int) -> Truth:
    """All settings and layers are equal, trained or not."""
    flat_L = np.full(size + 1, 0.35)
    return Truth(4.0, flat_L, flat_L, 0.3, 40)


WORLDS: dict[str, Callable[..., Truth]] = {
    "right": _right,
    "wrong": _wrong,
    "opposed": _opposed,
    "mixed": _mixed,
    "noise": nothing,
}


class _Design(NamedTuple):
    """The runs of a study, K, with the rows of its layers, R, in the order of the runs, and the setting of each."""

    runs: pd.DataFrame
    layers: pd.DataFrame
    learned: pd.DataFrame
    setting_K: np.ndarray
    run_R: np.ndarray
    setting_R: np.ndarray  # of a setting's layer


def design(seeds_of: Mapping[int, int]) -> _Design:
    """The empty tables of a study with so many seeds by size."""
    runs = pd.DataFrame(
        [
            dict(zip(select.SETTING, key, strict=True)) | {"seed": seed, "arm": metrics.MAIN, "data_id": "same"}
            for key in KEYS
            for seed in range(seeds_of[key[2]])
        ]
    )
    runs["parameters_per_block"] = runs["network"].map(PARAMETERS_PER_BLOCK)
    runs["run_id"] = [f"{run.network}-{run.encoding}-L{run.depth}-s{run.seed}" for run in runs.itertuples()]
    setting_K = np.array([KEYS.index(key) for key in runs[select.SETTING].itertuples(index=False, name=None)])
    run_R = np.repeat(np.arange(len(runs)), runs["depth"] + 1)
    layer_R = np.concatenate([np.arange(depth + 1) for depth in runs["depth"]])
    own = runs[list(metrics.KEYS)]
    layers = own.iloc[run_R].assign(layer=layer_R).reset_index(drop=True)
    learned = own[own["encoding"] == "pix2vec"].merge(
        pd.DataFrame(itertools.product(("before", "after"), range(3)), columns=["stage", "channel"]), how="cross"
    )
    _, setting_R = np.unique(setting_K[run_R] * 100 + layer_R, return_inverse=True)
    return _Design(runs, layers, learned, setting_K, run_R, setting_R)


def world(truth: Callable[..., Truth], of: _Design, noise: Noise, generator: np.random.Generator) -> metrics.Tables:
    """The tables of one study in which `truth` holds, with seeds, images and answers drawn anew."""
    true = [truth(*key) for key in KEYS]
    network_K = of.runs["network"].map(NETWORKS.index).to_numpy()
    loss_K = _between_seeds(of, [one.loss for one in true], [noise.loss[key] for key in KEYS], generator)
    loss_KB = loss_K[:, None] + _image_losses(of, noise.image_loss, generator)
    loss_KB += (loss_K - loss_KB.mean(axis=1))[:, None]
    frames = {"runs": of.runs.copy(), "layers": of.layers.copy(), "learned": of.learned.copy()}
    runs, layers = frames["runs"], frames["layers"]
    runs["validation_loss"] = runs["test_loss"] = loss_K
    runs["mean_absolute_error"], runs["share_within_8"], runs["colour_error"] = 10 * loss_K, 1 - loss_K / 10, loss_K
    answers = _Answers(of, noise, generator, network_K)
    correct_RB = answers.draw([one.accuracy_L for one in true], layers, "")
    untrained_RB = answers.draw([one.untrained_L for one in true], layers, "untrained_")
    for prefix, chosen, share in (("", "best_layer", "test_accuracy"), ("untrained_",) * 2 + ("untrained_accuracy",)):
        validated = layers[f"{prefix}validation_accuracy"].groupby(of.run_R)
        best_K = validated.idxmax().to_numpy()
        runs[chosen if not prefix else "untrained_best_layer"] = layers["layer"].to_numpy()[best_K]
        runs[share] = layers[f"{prefix}test_accuracy"].to_numpy()[best_K]
    runs["gain"] = runs["test_accuracy"] - runs["untrained_accuracy"]
    palette_K = _between_seeds(of, [one.palette for one in true], [noise.palette[key[0]] for key in KEYS], generator)
    kept_K = _between_seeds(of, [one.kept for one in true], [noise.kept[key[0]] for key in KEYS], generator)
    is_after = frames["learned"]["stage"] == "after"
    kept = frames["learned"]["run_id"].map(dict(zip(runs["run_id"], kept_K, strict=True))) * is_after
    frames["learned"]["kept"] = frames["learned"]["kept_off_band"] = kept
    ends = np.searchsorted(of.run_R, np.arange(len(runs) + 1))
    arrays = {
        run_id: {
            "test_loss_B": loss_KB[at],
            "test_correct_LB": correct_RB[ends[at] : ends[at + 1]],
            "untrained_correct_LB": untrained_RB[ends[at] : ends[at + 1]],
            **_pictures(palette_K[at]),
        }
        for at, run_id in enumerate(runs["run_id"])
    }
    curves = pd.DataFrame(columns=list(metrics.CURVE_COLUMNS))
    return metrics.Tables(**frames, curves=curves, arrays=arrays)


def _between_seeds(of: _Design, value: list[float], spread: list[float], generator: np.random.Generator) -> np.ndarray:
    """One value for each run, around that of its setting."""
    return np.array(value)[of.setting_K] + np.array(spread)[of.setting_K] * generator.normal(size=len(of.setting_K))


def _image_losses(of: _Design, spreads: tuple[float, float], generator: np.random.Generator) -> np.ndarray:
    """By how much the loss of each test image departs from a run's, in all networks alike and by setting, K x B."""
    shared_B = generator.normal(size=IMAGES) * spreads[0]
    own_SB = generator.standard_normal((len(KEYS), IMAGES), np.float32) * spreads[1]
    return shared_B + own_SB[of.setting_K]


@dataclasses.dataclass
class _Answers:
    """What layers get right: a normal variable for each image, shared by all, by networks, by settings, and own."""

    of: _Design
    noise: Noise
    generator: np.random.Generator
    network_K: np.ndarray

    def __post_init__(self) -> None:
        self.shared_B = self.generator.standard_normal(IMAGES, np.float32)
        self.network_NB = self.generator.standard_normal((len(NETWORKS), IMAGES), np.float32)

    def draw(self, accuracy_KL: list[np.ndarray], layers: pd.DataFrame, prefix: str) -> np.ndarray:
        """Which layer gets each image right, R x B; its accuracies are written into the table of layers."""
        of, noise, rows = self.of, self.noise, len(self.of.run_R)
        setting_TB = self.generator.standard_normal((of.setting_R.max() + 1, IMAGES), np.float32)
        latent_RB = self.generator.standard_normal((rows, IMAGES), np.float32) * np.sqrt(1 - noise.setting)
        latent_RB += np.sqrt(noise.any) * self.shared_B
        latent_RB += np.sqrt(noise.network - noise.any) * self.network_NB[self.network_K[of.run_R]]
        latent_RB += np.sqrt(noise.setting - noise.network) * setting_TB[of.setting_R]
        accuracy_R = np.concatenate([accuracy_KL[setting] for setting in of.setting_K])
        accuracy_R = accuracy_R + noise.accuracy * self.generator.normal(size=rows)
        accuracy_R = np.clip(accuracy_R, 0.01, 0.99)
        correct_RB = latent_RB < ndtri(accuracy_R)[:, None]
        layers[f"{prefix}test_accuracy"] = correct_RB.mean(axis=1)
        layers[f"{prefix}validation_accuracy"] = self.generator.binomial(VALIDATION, accuracy_R) / VALIDATION
        return correct_RB


def _pictures(levels: float) -> dict[str, np.ndarray]:
    """Three images of one masked pixel each, whose colour is filled in wrong by so many levels, in one channel."""
    original_BHWC = np.full((3, 1, 1, 3), GREY, np.uint8)
    filled_S = original_BHWC.reshape(3, 3).copy()
    filled_S[:, 0] += np.uint8(np.clip(round(levels), 0, LEVELS))
    return {
        "original_BHWC": original_BHWC,
        "is_masked_BHWC": np.ones_like(original_BHWC, bool),
        "filled_S": filled_S.ravel(),
    }


def judged_in(t: metrics.Tables) -> list[Claim]:
    """The claims about trained networks that can be judged in a world: it has the study's grid, and no other arms."""
    return [one.claim for one in claims.judge(t) if one.claim.seeds and one.finding.verdict != Verdict.NOT_RUN]


def verdicts(t: metrics.Tables, ledger: Sequence[Claim]) -> dict[str, Verdict]:
    """The verdict of each claim, and of the gain where one is reported, as `C6, gain`."""
    found = {}
    for one in claims.judge(t, ledger):
        found[one.claim.id] = one.finding.verdict
        if one.finding.gain is not None:
            found[f"{one.claim.id}, gain"] = one.finding.gain.verdict
    return found
