"""Claims about where in the network the best features are."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from functools import partial

import numpy as np

from isonb.evidence import statistics
from isonb.evidence.ledger.finding import (
    Finding,
    NotRun,
    Verdict,
    bonferroni,
    by_parts,
    by_sign,
    combine,
    decide,
    parts_note,
)
from isonb.evidence.ledger.select import (
    AUTOREGRESSIVE,
    array,
    common_seeds,
    complete_seeds,
    correct_SLB,
    grid,
    needed,
    smallest_of,
    spread_of_seeds,
)
from isonb.evidence.metrics import MAIN, Tables

INSIDE = 0.8
DEEP = 3  # a smaller network has no middle
FLAT = 0.03  # a range below three points is "equally bad"


def middle(t: Tables, networks: Sequence[str], arms: tuple[str, ...] = (MAIN,)) -> Finding:
    """Does the layer chosen on validation lie inside 1..L-1, and does it beat the last layer on test images?"""
    runs = grid(t, arms, network=tuple(networks))
    runs = runs[runs["depth"] >= DEEP]
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
    verdict = Verdict.UNDETERMINED
    if share >= INSIDE and interval[0] > 0:
        verdict = Verdict.SUPPORTED
    elif share <= 1 - INSIDE:
        verdict = Verdict.CONTRADICTED
    return Finding(
        verdict,
        float(gain_SB.mean()),
        "accuracy, best minus last layer",
        interval,
        len(runs),
        "runs",
        seeds=len(seeds),
        by_seed=spread_of_seeds(gain_SB),
        images_needed=statistics.images_needed(gain_SB.mean(axis=0)),
        note=f"The chosen layer lies inside the network in {share:.0%} of the runs.",
    )


def c12(t: Tables) -> Finding:
    """Best layer of conv networks of size 3 and more."""
    return middle(t, ["conv"])


def c28(t: Tables) -> Finding:
    """Best layer of transformers of size 3 and more, trained by BERT and, where there are such, autoregressively."""
    networks = ("transformer-1", "transformer-4")
    found, lacking = {}, {}
    for name, arm in (("BERT", MAIN), ("autoregressive", AUTOREGRESSIVE)):
        try:
            found[name] = middle(t, networks, (arm,))
        except NotRun as reason:
            lacking[name] = reason
    if not found:
        raise lacking["BERT"]
    verdicts = {name: one.verdict for name, one in found.items()} | dict.fromkeys(lacking, Verdict.NOT_RUN)
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
        note=" ".join(
            [parts_note({name: one.verdict for name, one in found.items()})]
            + [f"{name}: {one.note}" for name, one in found.items()]
            + [f"{name}: no networks that could be judged." for name in lacking]
        ),
    )


def _layers(t: Tables, network: str, encodings: Sequence[str]) -> dict[str, np.ndarray]:
    """Per-image correctness (seeds, layers, images) of each encoding at L = 6, over the seeds that all have."""
    runs = {name: grid(t, network=network, encoding=name, depth=6) for name in encodings}
    seeds = common_seeds(*runs.values())
    if not seeds:
        raise NotRun(f"Needs {network} runs of size 6 with {', '.join(encodings)} of one seed.")
    return {name: correct_SLB(t, of_encoding, seeds) for name, of_encoding in runs.items()}


def _above(a_SLB: np.ndarray, b_SLB: np.ndarray, label: str = "") -> dict[str, np.ndarray]:
    """Differences a - b per seed and test image, by layer."""
    return {f"layer {layer}{label}": (a_SLB - b_SLB)[:, layer] for layer in range(a_SLB.shape[1])}


def c13(t: Tables) -> Finding:
    """L = 6 mixer: random Fourier minus continuous at every layer, 0 (the encoding) to 6."""
    correct = _layers(t, "mixer", ("rff", "continuous"))
    found = _above(correct["rff"], correct["continuous"])
    finding = smallest_of(found, "accuracy, smallest gap over layers")
    return dataclasses.replace(finding, n=len(found), of="comparisons")


def c14(t: Tables) -> Finding:
    """L = 6 mixer: differences between any two layers of pix2vec, and its level against continuous.

    Flat: the interval of every difference lies within 3 points. Not flat: one lies outside, at Bonferroni's level.
    """
    correct = _layers(t, "mixer", ("pix2vec", "continuous"))
    pix2vec_SLB = correct["pix2vec"]
    order = pix2vec_SLB.mean(axis=(0, 2)).argsort()
    pairs = [pix2vec_SLB[:, high] - pix2vec_SLB[:, low] for low, high in itertools.combinations(order, 2)]
    flat = Verdict.UNDETERMINED
    if all(max(map(abs, statistics.crossed_interval(pair_SB))) < FLAT for pair_SB in pairs):
        flat = Verdict.SUPPORTED
    elif any(statistics.crossed_interval(pair_SB, bonferroni(len(pairs)))[0] > FLAT for pair_SB in pairs):
        flat = Verdict.CONTRADICTED
    below = statistics.crossed_interval((correct["continuous"] - pix2vec_SLB).mean(axis=1))
    verdicts = {"equal at every layer": flat, "below continuous": by_sign(below)}
    widest_SB = pix2vec_SLB[:, order[-1]] - pix2vec_SLB[:, order[0]]
    by_seed = tuple(float(value) for value in widest_SB.mean(axis=1))
    return Finding(
        combine(verdicts.values()),
        float(widest_SB.mean()),
        "accuracy, best minus worst layer",
        statistics.crossed_interval(widest_SB),
        len(order),
        "layers",
        seeds=len(by_seed),
        by_seed=by_seed,
        threshold=FLAT,
        note=parts_note(verdicts),
    )


def c15(t: Tables) -> Finding:
    """L = 6, 1-head transformer: pix2vec against both others at every layer; at the last it must not be ahead."""
    correct = _layers(t, "transformer-1", ("pix2vec", "rff", "continuous"))
    before, last = {}, {}
    for name in ("rff", "continuous"):
        found = _above(correct["pix2vec"], correct[name], f" above {name}")
        *earlier, final = found
        before |= {layer: found[layer] for layer in earlier}
        last[final] = partial(statistics.crossed_interval, found[final])
    finding = smallest_of(before, "accuracy, smallest gap before the last layer")
    at_last = by_parts(last)
    ahead = combine(at_last.values()) == Verdict.SUPPORTED
    verdict = Verdict.PARTLY if finding.verdict == Verdict.SUPPORTED and ahead else finding.verdict
    note = f"{finding.note} At the last: {parts_note(at_last)}"
    return dataclasses.replace(finding, verdict=verdict, n=len(before), of="comparisons", note=note)


def c36(t: Tables) -> Finding:
    """Exploratory: in which share of the runs of size 3 and more is the class best read before the pixels are?"""
    runs = grid(t)
    runs = needed(runs[runs["depth"] >= DEEP], f"runs of size {DEEP} or more")
    decoded = t.layers.dropna(subset=["pixel_accuracy"])
    decoded = needed(
        decoded[decoded["run_id"].isin(runs["run_id"])],
        "main runs with pixel-decoding probes of every layer (probe_pixels=true)",
    )
    best = decoded.sort_values("layer").set_index("layer").groupby("run_id")
    is_before = best["validation_accuracy"].idxmax() < best["pixel_accuracy"].idxmax()
    share = float(is_before.mean())
    verdict = decide(share >= INSIDE, share <= 1 - INSIDE)
    seeds = complete_seeds(runs[runs["run_id"].isin(is_before.index)])
    return Finding(verdict, share, "share of the runs", None, len(is_before), "runs", seeds=len(seeds))


RULES = {"C12": c12, "C13": c13, "C14": c14, "C15": c15, "C28": c28, "C36": c36}
