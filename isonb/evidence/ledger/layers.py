"""Claims about where in the network the best features are."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
import scipy

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
    sizes_in_words,
)
from isonb.evidence.ledger.select import (
    AUTOREGRESSIVE,
    SETTING,
    TRANSFORMERS,
    array,
    common_seeds,
    complete_seeds,
    correct_SLB,
    grid,
    needed,
    smallest_of,
)
from isonb.evidence.metrics import MAIN, Tables

INSIDE = 0.8  # the share of runs in which the best layer must lie in the middle third
DEEP = 3  # the smallest size that has a middle
FLAT = 0.03  # a range below three points is "equally bad"
FIRST, LAST = "middle third above the first block's output", "middle third above the last block's"


def middle_third(depth: int) -> list[int]:
    """The layers that are outputs of the middle third of the blocks: 2 of 3, 3 and 4 of 6, 5 to 8 of 12."""
    return [layer for layer in range(1, depth + 1) if 3 * abs(2 * layer - depth - 1) <= depth]


def middle(t: Tables, networks: Sequence[str], arms: tuple[str, ...] = (MAIN,)) -> Finding:
    """Are the features of the middle third better than those of the first and of the last block, and chosen?

    The layer that stands for the middle is its best on validation; it is compared on the test images. `gain` asks the
    same of what each layer gains over the same layer of the untrained twin.
    """
    runs = grid(t, arms, network=tuple(networks))
    runs = runs[runs["depth"] >= DEEP]
    seeds = complete_seeds(runs) if len(runs) else []
    if not seeds:
        raise NotRun(f"Needs runs of {' or '.join(networks)} with size {DEEP} or more and every setting of one seed.")
    runs = runs[runs["seed"].isin(seeds)]
    layers = t.layers[t.layers["run_id"].isin(runs["run_id"])]
    share = float(np.mean([run.best_layer in middle_third(run.depth) for run in runs.itertuples()]))
    curves = layers.groupby([*SETTING, "layer"])["test_accuracy"].mean().groupby(level=SETTING)
    single = sum(_has_one_peak(curve.to_numpy()) for _, curve in curves)
    correct = {run_id: array(t, run_id, "test_correct_LB").astype(float) for run_id in runs["run_id"]}
    level = _peak(runs, correct, layers.set_index(["run_id", "layer"])["validation_accuracy"], share, "accuracy")
    note = (
        f"{level.note} The chosen layer lies in the middle third in {share:.0%} of {len(runs)} runs. Averaged over "
        f"seeds, accuracy rises to one peak and then falls in {single} of {len(curves)} settings."
    )
    under = f"at {sizes_in_words(sorted(set(runs['depth'])))}"
    return dataclasses.replace(level, under=under, note=note, gain=_peak_of_gain(t, runs, layers, correct))


def _peak_of_gain(
    t: Tables, runs: pd.DataFrame, layers: pd.DataFrame, correct: Mapping[str, np.ndarray]
) -> Finding | None:
    """The same of the gain over the untrained twin, layer by layer; None where a twin has not been probed."""
    validated = layers.set_index(["run_id", "layer"])
    gain = validated["validation_accuracy"] - validated["untrained_validation_accuracy"]
    if gain.isna().any() or not all("untrained_correct_LB" in t.arrays[run_id] for run_id in runs["run_id"]):
        return None
    largest = gain.groupby(level="run_id").idxmax().map(lambda place: place[1])
    share = float(np.mean([largest[run.run_id] in middle_third(run.depth) for run in runs.itertuples()]))
    gained = {run_id: right_LB - t.arrays[run_id]["untrained_correct_LB"] for run_id, right_LB in correct.items()}
    return _peak(runs, gained, gain, share, "gain in accuracy")


def _peak(
    runs: pd.DataFrame, value_by_run: Mapping[str, np.ndarray], validated: pd.Series, share: float, unit: str
) -> Finding:
    """The middle third minus both ends, from what every layer gets right, L x B for each run, and its validation.

    One end that is clearly better than the middle contradicts the claim; both must be clearly worse to support it, in
    part where fewer than `INSIDE` of the runs choose a layer of the middle.
    """
    by_end: dict[str, dict[int, list[np.ndarray]]] = {FIRST: {}, LAST: {}}
    for run in runs.itertuples():
        best = max(middle_third(run.depth), key=lambda layer: validated[run.run_id, layer])
        value_LB = value_by_run[run.run_id]
        for end, layer in ((FIRST, 1), (LAST, run.depth)):
            by_end[end].setdefault(run.seed, []).append(value_LB[best] - value_LB[layer])
    mean_SB = {
        end: np.stack([np.mean(of_seed, axis=0) for of_seed in by_seed.values()]) for end, by_seed in by_end.items()
    }
    verdicts = by_parts({end: partial(statistics.crossed_interval, rows) for end, rows in mean_SB.items()})
    verdict = Verdict.UNDETERMINED
    if Verdict.CONTRADICTED in verdicts.values():
        verdict = Verdict.CONTRADICTED
    elif all(part == Verdict.SUPPORTED for part in verdicts.values()):
        verdict = Verdict.SUPPORTED if share >= INSIDE else Verdict.PARTLY
    smallest = smallest_of(mean_SB, f"{unit}, middle third minus the better end")
    return dataclasses.replace(
        smallest, verdict=verdict, n=len(runs), of="runs", parts=verdicts, note=parts_note(verdicts)
    )


def _has_one_peak(curve_L: np.ndarray) -> bool:
    """Does a curve never rise again once it has fallen?"""
    steps = np.diff(curve_L)
    falls = np.flatnonzero(steps < 0)
    return not len(falls) or not (steps[falls[0] :] > 0).any()


def c12(t: Tables) -> Finding:
    """Whether the middle third of conv networks of size 3 and more is better than both ends."""
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
    together = _of_objectives(findings, list(lacking))
    gains = {name: finding.gain for name, finding in findings.items() if finding.gain}
    if len(gains) < len(findings):
        return together
    return dataclasses.replace(together, gain=_of_objectives(gains, list(lacking)))


def _of_objectives(findings: Mapping[str, Finding], lacking: Sequence[str]) -> Finding:
    """One finding of what was found for each objective: the smaller value, and every verdict in the note."""
    verdicts = {name: finding.verdict for name, finding in findings.items()}
    least = min(findings.values(), key=lambda finding: finding.value)
    notes = [
        *[parts_note(verdicts)] * (len(verdicts) > 1),
        *(f"{name[0].upper()}{name[1:]}. {finding.note}" for name, finding in findings.items()),
        *(f"{name[0].upper()}{name[1:]}. No networks that could be judged." for name in lacking),
    ]
    return dataclasses.replace(
        least,
        verdict=combine([*verdicts.values(), *(Verdict.NOT_RUN for _ in lacking)]),
        parts=verdicts,
        seeds=min(finding.seeds for finding in findings.values()),
        note=" ".join(notes),
        gain=None,
    )


def _image_resolution(difference_SB: Iterable[np.ndarray]) -> str:
    """Below which difference the images' part of an interval alone covers 0, as a sentence about several."""
    mean_B = [rows.mean(axis=0) for rows in difference_SB]
    z = scipy.special.ndtri((1 + statistics.LEVEL) / 2)
    halves = [z * of_images.std(ddof=1) / np.sqrt(len(of_images)) for of_images in mean_B]
    least, most = (f"{100 * half:.1f}" for half in (min(halves), max(halves)))
    points = least if least == most else f"{least} to {most}"
    return (
        f"On {len(mean_B[0])} test images a difference of less than {points} points cannot be told from 0, however "
        "well its seeds agree."
    )


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
    note = f"{finding.note} {_image_resolution(by_layer.values())}"
    return dataclasses.replace(finding, n=len(by_layer), of="comparisons", note=note)


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
        parts=verdicts,
        note=f"{parts_note(verdicts)} {_image_resolution(pairs)}",
    )


def c15(t: Tables) -> Finding:
    """Transformer (1 head) of size 6: pix2vec against both others at every layer; at the last it must not be ahead."""
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
    note = (
        f"{finding.note} At the last layer, where pix2vec should not be ahead: {parts_note(at_last)} "
        f"{_image_resolution(before.values())}"
    )
    return dataclasses.replace(finding, verdict=verdict, n=len(before), of="comparisons", note=note)


def c36(t: Tables) -> Finding:
    """Exploratory: in what share of the runs of size 3 and more is the class best read before the pixels are?

    Wilson's interval takes runs for independent, as they are given their settings, but for the test images that they
    share. That settings differ makes it too wide, if anything.
    """
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
    low, high = statistics.wilson(share, len(is_before))
    return Finding(
        verdict=decide(low >= INSIDE, high <= 1 - INSIDE),
        value=share,
        unit="share of the runs",
        interval=(low, high),
        n=len(is_before),
        of="runs",
        seeds=len(complete_seeds(runs[runs["run_id"].isin(is_before.index)])),
        threshold=INSIDE,
    )


RULES = {"C12": c12, "C13": c13, "C14": c14, "C15": c15, "C28": c28, "C36": c36}
