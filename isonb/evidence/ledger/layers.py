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
    TRANSFORMERS,
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

INSIDE = 0.8  # the share of runs in which the best layer must lie inside the network
DEEP = 3  # the smallest size that has a middle
FLAT = 0.03  # a range below three points is "equally bad"


def middle(t: Tables, networks: Sequence[str], arms: tuple[str, ...] = (MAIN,)) -> Finding:
    """Does the layer chosen on validation lie inside 1..L-1, and does it beat the last layer on test images?"""
    runs = grid(t, arms, network=tuple(networks))
    runs = runs[runs["depth"] >= DEEP]
    seeds = complete_seeds(runs) if len(runs) else []
    if not seeds:
        raise NotRun(f"Needs runs of {' or '.join(networks)} with size 3 or more and every setting of one seed.")
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
        verdict=verdict,
        value=float(gain_SB.mean()),
        unit="accuracy, best minus last layer",
        interval=interval,
        n=len(runs),
        of="runs",
        seeds=len(seeds),
        by_seed=spread_of_seeds(gain_SB),
        images_needed=statistics.images_needed(gain_SB.mean(axis=0)),
        note=f"The chosen layer lies inside the network in {share:.0%} of the runs.",
    )


def c12(t: Tables) -> Finding:
    """Where the best layer of conv networks of size 3 and more lies."""
    return middle(t, ["conv"])


def c28(t: Tables) -> Finding:
    """The same for transformers trained by BERT and, where there are any, for those trained autoregressively."""
    findings, lacking = {}, {}
    for name, arm in (("BERT", MAIN), ("autoregressive", AUTOREGRESSIVE)):
        try:
            findings[name] = middle(t, TRANSFORMERS, (arm,))
        except NotRun as reason:
            lacking[name] = reason
    if not findings:
        raise lacking["BERT"]
    verdicts = {name: finding.verdict for name, finding in findings.items()}
    least = min(findings.values(), key=lambda finding: finding.value)
    return Finding(
        verdict=combine([*verdicts.values(), *(Verdict.NOT_RUN for _ in lacking)]),
        value=least.value,
        unit=least.unit,
        interval=least.interval,
        n=least.n,
        of=least.of,
        seeds=min(finding.seeds for finding in findings.values()),
        by_seed=least.by_seed,
        note=" ".join([
            parts_note(verdicts),
            *(f"{name}: {finding.note}" for name, finding in findings.items()),
            *(f"{name}: no networks that could be judged." for name in lacking),
        ]),
    )  # fmt: skip


def _layers(t: Tables, network: str, encodings: Sequence[str]) -> dict[str, np.ndarray]:
    """Whether each test image is right, of shape S, L, B, for each encoding at size 6, over the seeds that all have."""
    runs = {name: grid(t, network=network, encoding=name, depth=6) for name in encodings}
    seeds = common_seeds(*runs.values())
    if not seeds:
        raise NotRun(f"Needs {network} runs of size 6 with {', '.join(encodings)} of one seed.")
    return {name: correct_SLB(t, of_encoding, seeds) for name, of_encoding in runs.items()}


def _above(a_SLB: np.ndarray, b_SLB: np.ndarray, label: str = "") -> dict[str, np.ndarray]:
    """Differences a - b by layer, each of shape S, B."""
    return {f"layer {layer}{label}": (a_SLB - b_SLB)[:, layer] for layer in range(a_SLB.shape[1])}


def c13(t: Tables) -> Finding:
    """Mixer of size 6: random Fourier minus continuous at every layer, from 0 (the encoding) to 6."""
    correct = _layers(t, "mixer", ("rff", "continuous"))
    by_layer = _above(correct["rff"], correct["continuous"])
    finding = smallest_of(by_layer, "accuracy, smallest gap over layers")
    return dataclasses.replace(finding, n=len(by_layer), of="comparisons")


def c14(t: Tables) -> Finding:
    """Mixer of size 6: differences between any two layers of pix2vec, and its mean accuracy against continuous.

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
        verdict=combine(verdicts.values()),
        value=float(widest_SB.mean()),
        unit="accuracy, best minus worst layer",
        interval=statistics.crossed_interval(widest_SB),
        n=len(order),
        of="layers",
        seeds=len(by_seed),
        by_seed=by_seed,
        threshold=FLAT,
        note=parts_note(verdicts),
    )


def c15(t: Tables) -> Finding:
    """1-head transformer of size 6: pix2vec against both others at every layer; at the last it must not be ahead."""
    correct = _layers(t, "transformer-1", ("pix2vec", "rff", "continuous"))
    before, last = {}, {}
    for name in ("rff", "continuous"):
        by_layer = _above(correct["pix2vec"], correct[name], f" above {name}")
        *earlier, final = by_layer
        before |= {layer: by_layer[layer] for layer in earlier}
        last[final] = partial(statistics.crossed_interval, by_layer[final])
    finding = smallest_of(before, "accuracy, smallest gap before the last layer")
    at_last = by_parts(last)
    ahead = combine(at_last.values()) == Verdict.SUPPORTED
    verdict = Verdict.PARTLY if finding.verdict == Verdict.SUPPORTED and ahead else finding.verdict
    note = f"{finding.note} At the last: {parts_note(at_last)}"
    return dataclasses.replace(finding, verdict=verdict, n=len(before), of="comparisons", note=note)


def c36(t: Tables) -> Finding:
    """Exploratory: in what share of the runs of size 3 and more is the class best read before the pixels are?"""
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
    return Finding(
        verdict=verdict, value=share, unit="share of the runs", n=len(is_before), of="runs", seeds=len(seeds)
    )


RULES = {"C12": c12, "C13": c13, "C14": c14, "C15": c15, "C28": c28, "C36": c36}
