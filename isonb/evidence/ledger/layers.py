"""Claims about where in the network the best features are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isonb.evidence import statistics
from isonb.evidence.ledger.finding import (
    CONTRADICTED,
    NOT_RUN,
    PARTLY,
    SUPPORTED,
    UNDETERMINED,
    Finding,
    NotRun,
    by_sign,
    combine,
    parts_note,
)
from isonb.evidence.ledger.select import array, common_seeds, complete_seeds, correct_SLB, grid
from isonb.evidence.metrics import MAIN, Tables

INSIDE = 0.8
FLAT = 0.03  # a range below three points is "equally bad"


def middle(t: Tables, networks: Sequence[str], arms: tuple[str, ...] = (MAIN,)) -> Finding:
    """Does the layer chosen on validation lie inside 1..L-1, and does it beat the last layer on test images?"""
    runs = grid(t, arms, network=tuple(networks))
    runs = runs[runs["depth"] >= 3]
    seeds = complete_seeds(runs) if len(runs) else []
    if not seeds:
        raise NotRun(f"Needs runs of {' or '.join(networks)} with size 3 or more and every cell of one seed.")
    runs = runs[runs["seed"].isin(seeds)]
    share = float(((runs["best_layer"] > 0) & (runs["best_layer"] < runs["depth"])).mean())
    gains: dict[int, list[np.ndarray]] = {}
    for run in runs.itertuples():
        correct_LB = array(t, run.run_id, "test_correct_LB").astype(float)
        gains.setdefault(run.seed, []).append(correct_LB[run.best_layer] - correct_LB[-1])
    gain_SB = np.stack([np.mean(gains[seed], axis=0) for seed in seeds])
    interval = statistics.crossed_interval(gain_SB)
    verdict = UNDETERMINED
    if share >= INSIDE and interval[0] > 0:
        verdict = SUPPORTED
    elif share <= 1 - INSIDE:
        verdict = CONTRADICTED
    by_seed = tuple(float(value) for value in gain_SB.mean(axis=1))
    return Finding(
        verdict,
        float(gain_SB.mean()),
        "accuracy, best minus last layer",
        interval,
        len(runs),
        "runs",
        seeds=len(seeds),
        by_seed=by_seed,
        note=f"The chosen layer lies inside the network in {share:.0%} of the runs.",
    )


def c12(t: Tables) -> Finding:
    """Best layer of conv networks of size 3 and more."""
    return middle(t, ["conv"])


def c28(t: Tables) -> Finding:
    """Best layer of transformers of size 3 and more, trained by BERT and, where there are such, autoregressively."""
    networks = ("transformer-1", "transformer-4")
    found = {"BERT": middle(t, networks)}
    autoregressive = "objective=autoregressive"
    if autoregressive in set(t.runs["arm"]):
        found["autoregressive"] = middle(t, networks, (autoregressive,))
    verdicts = {name: one.verdict for name, one in found.items()}
    verdicts.setdefault("autoregressive", NOT_RUN)
    least = min(found.values(), key=lambda one: one.value)
    return Finding(
        combine(verdicts.values()),
        least.value,
        least.unit,
        least.interval,
        least.n,
        least.of,
        seeds=min(one.seeds for one in found.values()),
        by_seed=least.by_seed,
        note=parts_note(verdicts) + " " + " ".join(f"{k}: {v.note}" for k, v in found.items()),
    )


def _layers(t: Tables, network: str, encodings: Sequence[str]) -> dict[str, np.ndarray]:
    """Per-image correctness (seeds, layers, images) of each encoding at L = 6, over the seeds that all have."""
    runs = {name: grid(t, network=network, encoding=name, depth=6) for name in encodings}
    seeds = common_seeds(*runs.values())
    if not seeds:
        raise NotRun(f"Needs {network} runs of size 6 with {', '.join(encodings)} of one seed.")
    return {name: correct_SLB(t, of_encoding, seeds) for name, of_encoding in runs.items()}


def _gaps(a_SLB: np.ndarray, b_SLB: np.ndarray) -> list[tuple[float, statistics.Interval]]:
    """Difference of accuracy and its interval over seeds and images, layer by layer."""
    return [
        (float((a_SLB - b_SLB)[:, layer].mean()), statistics.crossed_interval((a_SLB - b_SLB)[:, layer]))
        for layer in range(a_SLB.shape[1])
    ]


def c13(t: Tables) -> Finding:
    """L = 6 mixer: random Fourier minus continuous at every layer, 0 (the encoding) to 6."""
    correct = _layers(t, "mixer", ("rff", "continuous"))
    gaps = _gaps(correct["rff"], correct["continuous"])
    verdicts = {f"layer {layer}": by_sign(interval) for layer, (_, interval) in enumerate(gaps)}
    value, interval = min(gaps)
    difference_SL = (correct["rff"] - correct["continuous"]).mean(axis=2)
    by_seed = difference_SL[:, difference_SL.mean(axis=0).argmin()]
    return Finding(
        combine(verdicts.values()),
        value,
        "accuracy, smallest gap over layers",
        interval,
        len(gaps),
        "layers",
        seeds=len(by_seed),
        by_seed=tuple(by_seed),
        note=parts_note(verdicts),
    )


def c14(t: Tables) -> Finding:
    """L = 6 mixer: range of pix2vec's accuracy over layers, and its level against continuous."""
    correct = _layers(t, "mixer", ("pix2vec", "continuous"))
    range_S = np.ptp(correct["pix2vec"].mean(axis=2), axis=1)
    interval = statistics.student_interval(range_S)
    below = statistics.crossed_interval((correct["continuous"] - correct["pix2vec"]).mean(axis=1))
    verdicts = {
        "equal at every layer": by_sign((FLAT - interval[1], FLAT - interval[0])),
        "below continuous": by_sign(below),
    }
    return Finding(
        combine(verdicts.values()),
        float(range_S.mean()),
        "accuracy, range over layers",
        interval,
        correct["pix2vec"].shape[1],
        "layers",
        seeds=len(range_S),
        by_seed=tuple(range_S),
        threshold=FLAT,
        note=parts_note(verdicts),
    )


def c15(t: Tables) -> Finding:
    """L = 6, 1-head transformer: pix2vec against both others at every layer; at the last it must not be ahead."""
    correct = _layers(t, "transformer-1", ("pix2vec", "rff", "continuous"))
    gaps = [
        min(pair)
        for pair in zip(*(_gaps(correct["pix2vec"], correct[name]) for name in ("rff", "continuous")), strict=True)
    ]
    verdicts = {f"layer {layer}": by_sign(interval) for layer, (_, interval) in enumerate(gaps[:-1])}
    verdict = combine(verdicts.values())
    verdicts["ahead at the last layer too"] = by_sign(gaps[-1][1])
    if verdict == SUPPORTED == verdicts["ahead at the last layer too"]:
        verdict = PARTLY
    layer = int(np.argmin([value for value, _ in gaps[:-1]]))
    others = np.minimum(
        *((correct["pix2vec"] - correct[name]).mean(axis=2)[:, layer] for name in ("rff", "continuous"))
    )
    value, interval = gaps[layer]
    return Finding(
        verdict,
        value,
        "accuracy, smallest gap before the last layer",
        interval,
        len(gaps),
        "layers",
        seeds=len(others),
        by_seed=tuple(others),
        note=parts_note(verdicts),
    )


RULES = {"C12": c12, "C13": c13, "C14": c14, "C15": c15, "C28": c28}
