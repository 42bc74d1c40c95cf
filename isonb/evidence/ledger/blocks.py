"""Claims about the blocks: which reconstructs best, whose features are best, how far apart they are."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pandas as pd

from isonb.evidence import statistics
from isonb.evidence.ledger.finding import (
    ALPHA,
    SETTINGS_AGREE,
    Finding,
    NotRun,
    Verdict,
    by_parts,
    combine,
    decide,
    parts_note,
)
from isonb.evidence.ledger.select import (
    BLOCK_ORDER,
    Gap,
    array,
    chosen_correct_B,
    common_seeds,
    complete_seeds,
    differences,
    gap,
    grid,
    needed,
    setting_means,
    smallest_of,
)
from isonb.evidence.metrics import Tables

CONV, MIXER, TRANSFORMER = BLOCK_ORDER
NEIGHBOURS = ((MIXER, CONV), (TRANSFORMER, MIXER))  # in each pair the one that is expected to be worse comes first
SYMMETRIES = {
    ("conv", "shift"): True,
    ("conv", "permutation"): False,
    ("mixer", "shift"): False,
    ("mixer", "permutation"): False,
    ("transformer", "shift"): True,
    ("transformer", "permutation"): True,
}
EXACT, BROKEN = 1e-5, 1e-2


def c1(t: Tables) -> Finding:
    """Four measures of reconstruction at the same masked pixels of the same test images, two gaps each."""
    runs = grid(t, network=BLOCK_ORDER)
    intervals, nats, settings, agree = {}, {}, {}, []
    for worse, better in NEIGHBOURS:
        name = f"{better} before {worse} in nats"
        pairs = differences(runs, "test_loss", "network", worse, better)
        settings[name] = gap(pairs).settings
        agree.append(f"{better} before {worse} in {(settings[name] > 0).sum()} of {len(settings[name])}")
        nats[name] = _nats_difference(t, runs, pairs, worse, better)
        intervals[name] = partial(statistics.crossed_interval, nats[name])
        for column, sign in (("mean_absolute_error", 1), ("share_within_8", -1), ("colour_error", 1)):
            of_column = gap(sign * differences(runs, column, "network", worse, better))
            name = f"{better} before {worse} in {column.replace('_', ' ')}"
            settings[name] = of_column.settings
            intervals[name] = partial(statistics.student_interval, of_column.by_seed)
    finding = smallest_of(nats, "nats per masked sub-pixel, smaller gap", intervals, settings)
    near = setting_means(runs, "share_within_8").groupby("network")["share_within_8"].mean().reindex(BLOCK_ORDER)
    levels = ", ".join(f"{network} {share:.0%}" for network, share in near.items())
    # The order is of averages, and the claim's words are about levels: say what both hide.
    note = f"Masked sub-pixels within 8 levels of the truth: {levels}. Setting by setting, in nats: {', '.join(agree)}."
    return dataclasses.replace(finding, note=f"{note} {finding.note}")


def _nats_difference(t: Tables, runs: pd.DataFrame, pairs: pd.Series, a: str, b: str) -> np.ndarray:
    """Nats of network a minus network b, per seed and test image, averaged over the settings of these pairs."""
    seeds = complete_seeds(pairs)
    if not seeds:
        raise NotRun(f"Needs one seed with every setting of {a} and {b}.")
    ids = runs.set_index(["network", "encoding", "depth", "seed"])["run_id"]
    settings = pairs.index.droplevel("seed").unique()
    return np.stack(
        [
            np.mean(
                [
                    array(t, ids[a, *setting, seed], "test_loss_B").astype(float)
                    - array(t, ids[b, *setting, seed], "test_loss_B")
                    for setting in settings
                ],
                axis=0,
            )
            for seed in seeds
        ]
    )


def _order(runs: pd.DataFrame, column: str, sign: int, unit: str) -> Finding:
    """Do both gaps, conv to mixer and mixer to 1-head transformer, have one sign in nearly all settings?"""
    gaps = [gap(sign * differences(runs, column, "network", worse, better)) for worse, better in NEIGHBOURS]
    p_values = [statistics.wilcoxon(of_pair.settings.to_numpy()) for of_pair in gaps]
    parts = [_gap_verdict(of_pair, p) for of_pair, p in zip(gaps, p_values, strict=True)]
    both = pd.concat([of_pair.settings for of_pair in gaps], axis=1, join="inner")
    joint = float((both > 0).all(axis=1).mean()) if len(both) else 0.0
    verdict = combine(parts)
    if verdict == Verdict.SUPPORTED and joint < SETTINGS_AGREE:
        verdict = Verdict.PARTLY
    decided = [p for p, part in zip(p_values, parts, strict=True) if part != Verdict.UNDETERMINED]
    smaller = min(gaps, key=lambda of_pair: of_pair.value)
    names = [f"{better} before {worse}" for worse, better in NEIGHBOURS]
    return Finding(
        verdict=verdict,
        value=smaller.value,
        unit=f"{unit}, smaller gap",
        interval=smaller.over_settings,
        n=len(both),
        of="settings",
        p=min(1.0, 2 * min(decided)) if verdict in (Verdict.PARTLY, Verdict.CONTRADICTED) else max(p_values),
        seeds=min(len(of_pair.by_seed) for of_pair in gaps),
        note=f"Both gaps have the claimed sign in {joint:.0%} of {len(both)} settings. "
        + parts_note(dict(zip(names, parts, strict=True))),
    )


def _gap_verdict(of_pair: Gap, p: float) -> str:
    """Supported: positive in 8 of 9 settings with p < .05. Contradicted: its interval lies below 0 with p < .05."""
    if p >= ALPHA:
        return Verdict.UNDETERMINED
    if (of_pair.settings > 0).mean() >= SETTINGS_AGREE:
        return Verdict.SUPPORTED
    return Verdict.CONTRADICTED if of_pair.over_settings[1] < 0 else Verdict.UNDETERMINED


def c5(t: Tables) -> Finding:
    """Validation loss: conv below mixer below the 1-head transformer."""
    return _order(grid(t, network=BLOCK_ORDER), "validation_loss", 1, "nats per masked sub-pixel")


def c6(t: Tables) -> Finding:
    """Accuracy at the chosen layer: conv above mixer above the 1-head transformer."""
    return _order(grid(t, network=BLOCK_ORDER), "test_accuracy", -1, "accuracy")


def c25(t: Tables) -> Finding:
    """conv with continuous input minus 1-head transformer with pix2vec, on the same test images, at each size."""
    return _paired_accuracy(t, dict(network=CONV, encoding="continuous"), dict(network=TRANSFORMER, encoding="pix2vec"))


def _paired_accuracy(t: Tables, a: dict[str, str], b: dict[str, str]) -> Finding:
    """Accuracy of one kind of network minus another's, at every size, over seeds and test images."""
    by_size = {}
    ours, theirs = grid(t, **a), grid(t, **b)
    for depth in sorted(set(ours["depth"]) & set(theirs["depth"])):
        pair = [runs[runs["depth"] == depth] for runs in (ours, theirs)]
        seeds = common_seeds(*pair)
        if seeds:
            correct = [
                np.stack([chosen_correct_B(t, run) for _, run in runs.set_index("seed").loc[seeds].iterrows()])
                for runs in pair
            ]
            by_size[f"size {depth}"] = correct[0] - correct[1]
    if not by_size:
        raise NotRun(f"Needs runs of {' '.join(a.values())} and of {' '.join(b.values())} at one size and seed.")
    finding = smallest_of(by_size, "accuracy, smallest gap over sizes")
    return dataclasses.replace(finding, seeds=min(map(len, by_size.values())))


def c27(t: Tables) -> Finding:
    """The order of accuracy at size 12, averaged over the encodings."""
    runs = needed(grid(t, network=BLOCK_ORDER, depth=12), "runs of size 12")
    gaps = {
        f"{better} before {worse}": gap(-differences(runs, "test_accuracy", "network", worse, better))
        for worse, better in NEIGHBOURS
    }
    verdicts = by_parts({name: partial(statistics.student_interval, one.by_seed) for name, one in gaps.items()})
    smaller = min(gaps.values(), key=lambda one: one.value)
    return Finding(
        verdict=combine(verdicts.values()),
        value=smaller.value,
        unit="accuracy, smaller gap",
        interval=smaller.over_seeds,
        n=len(smaller.settings),
        of="settings",
        seeds=min(len(one.by_seed) for one in gaps.values()),
        by_seed=smaller.by_seed,
        note=parts_note(verdicts),
    )


def c22(t: Tables) -> Finding:
    """Does an untrained block commute with shifts and with permutations just where the paper says that it does?"""
    rows = needed(t.frame("equivariance"), "equivariance errors of untrained blocks (make bench)")
    errors = rows.set_index(["block", "change"])["error"]
    missing = [" under ".join(key) for key in SYMMETRIES if key not in errors.index]
    if missing:
        raise NotRun(f"Needs the equivariance error of {', '.join(missing)} (make bench).")
    verdicts = {}
    for (block, change), has_it in SYMMETRIES.items():
        is_exact, is_broken = errors[block, change] < EXACT, errors[block, change] > BROKEN
        part = f"{block} {'keeps' if has_it else 'breaks'} a {change}"
        verdicts[part] = decide(is_exact, is_broken) if has_it else decide(is_broken, is_exact)
    largest = max(errors[key] for key, has_it in SYMMETRIES.items() if has_it)
    return Finding(
        verdict=combine(verdicts.values()),
        value=float(largest),
        unit="relative error, largest where there is a symmetry",
        n=len(SYMMETRIES),
        of="blocks and changes",
        note=parts_note(verdicts),
    )


RULES = {"C1": c1, "C5": c5, "C6": c6, "C22": c22, "C25": c25, "C27": c27}
