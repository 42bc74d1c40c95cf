"""Claims of ours about what pre-training adds to a network with its initial weights, its untrained twin.

Book: chapter "Verdict".
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from isonb.evidence.ledger.finding import Finding, NotRun, Setting, Verdict, by_setting, combine, sizes_in_words
from isonb.evidence.ledger.select import (
    ENCODINGS,
    NETWORKS,
    SETTING,
    TRANSFORMERS,
    complete_seeds,
    gain_B,
    grid,
    image_differences,
    smallest_of,
    with_twins,
)
from isonb.evidence.metrics import Tables

LESS_BUILT_IN = (("mixer", "conv"), *((name, "mixer") for name in TRANSFORMERS))  # the one with less comes first
LESS_KEPT = (("rff", "continuous"), ("pix2vec", "rff"))


def _with_twin(t: Tables) -> pd.DataFrame:
    """The main runs whose untrained twin has been probed, of the sizes that have all of them. Raises `NotRun`."""
    return grid(with_twins(t))


def _under(runs: pd.DataFrame) -> str:
    return f"at {sizes_in_words(sorted(set(runs['depth'])))}"


def _in_order(runs: pd.DataFrame) -> pd.DataFrame:
    """The same runs, networks and encodings as the paper orders them."""
    order = {name: at for names in (NETWORKS, ENCODINGS) for at, name in enumerate(names)}
    return runs.sort_values([*SETTING, "seed"], key=lambda column: column.map(lambda value: order.get(value, value)))


def c37(t: Tables) -> Finding:
    """What the chosen probe gets right minus what the twin's does, setting by setting, over seeds and test images."""
    runs = _with_twin(t)
    gains_SB = {
        Setting(network, encoding, int(depth)): np.stack([gain_B(t, run) for _, run in of_setting.iterrows()])
        for (network, encoding, depth), of_setting in _in_order(runs).groupby(SETTING, sort=False)
    }
    absent = [name for name in NETWORKS if name not in set(runs["network"])]
    finding = by_setting(gains_SB, "accuracy, trained minus untrained", absent)
    means = runs.groupby("network")[["test_accuracy", "untrained_accuracy"]].mean()
    levels = ", ".join(
        f"{name} {means.loc[name, 'untrained_accuracy']:.1%} to {means.loc[name, 'test_accuracy']:.1%}"
        for name in NETWORKS
        if name in means.index
    )
    note = f"{finding.note} Mean accuracy, untrained to trained: {levels}."
    return dataclasses.replace(finding, note=note, under=_under(runs))


def c38(t: Tables) -> Finding:
    """Does the gain rise from conv over mixer to transformers, and from continuous over rff to pix2vec?"""
    runs = _with_twin(t)
    steps = [("network", *step) for step in LESS_BUILT_IN] + [("encoding", *step) for step in LESS_KEPT]
    mean_SB, missing = {}, []
    for factor, less, more in steps:
        name = f"{less} above {more}"
        try:
            mean_SB[name] = _by_seed(image_differences(t, runs, factor, less, more, gain_B, "gain"))
        except NotRun:
            missing.append(name)
    if not mean_SB:
        raise NotRun("Needs untrained twins of two networks or encodings that share all else (isonb complete).")
    finding = smallest_of(mean_SB, "gain in accuracy, smallest step")
    means = [
        f"{name} {gain:+.3f}"
        for factor in ("network", "encoding")
        for name, gain in _in_order(runs).groupby(factor, sort=False)["gain"].mean().items()
    ]
    absent = f" Not run: {', '.join(missing)}." if missing else ""
    return dataclasses.replace(
        finding,
        verdict=combine([finding.verdict, Verdict.NOT_RUN]) if missing else finding.verdict,
        n=len(mean_SB),
        of="comparisons",
        seeds=min(map(len, mean_SB.values())),
        under=_under(runs),
        note=f"{finding.note} Mean gain: {', '.join(means)}.{absent}",
    )


def _by_seed(difference_B: pd.Series) -> np.ndarray:
    """Means over the settings, S x B, of a difference by test image; of the seeds that every setting has."""
    seeds = complete_seeds(difference_B)
    if not seeds:
        raise NotRun("Needs one seed of which every setting that is compared has run.")
    of_seed = difference_B.groupby(level="seed")
    return np.stack([np.stack(of_seed.get_group(seed).to_list()).mean(axis=0) for seed in seeds])


RULES = {"C37": c37, "C38": c38}
