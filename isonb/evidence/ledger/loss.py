"""Claims about the relation of loss, accuracy and encoding."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd

from isonb.evidence import regression, statistics
from isonb.evidence.ledger.finding import ALPHA, Finding, NotRun, Verdict, by_parts, combine, decide, parts_note
from isonb.evidence.ledger.select import (
    BLOCK_ORDER,
    ENCODINGS,
    SETTING,
    chosen_correct_B,
    complete_seeds,
    gap,
    grid,
    image_differences,
    needed,
    over_seeds_and_images,
    setting_means,
)
from isonb.evidence.metrics import MAIN, Tables
from isonb.evidence.statistics import stratified_spearman as _inside

ENOUGH_SETTINGS = 6
ENOUGH_PATHS = 3  # the fewest settings probed along training over which an interval says something
POINT = 0.01  # of accuracy


def _scatter(t: Tables) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs, and one row per setting: the points of Figure 4."""
    runs = grid(t)
    settings = setting_means(runs)
    if len(settings) < ENOUGH_SETTINGS:
        raise NotRun(f"Needs at least {ENOUGH_SETTINGS} settings with loss and accuracy; there are {len(settings)}.")
    return runs, settings


def c7(t: Tables) -> Finding:
    """Spearman's correlation of loss and accuracy over all settings."""
    runs, settings = _scatter(t)
    loss, accuracy = settings["validation_loss"].to_numpy(), settings["test_accuracy"].to_numpy()
    value, interval = statistics.spearman(loss, accuracy), statistics.bootstrap(statistics.spearman, loss, accuracy)
    verdict = Verdict.UNDETERMINED
    if value <= -0.8 and interval[1] < -0.5:
        verdict = Verdict.SUPPORTED
    elif interval[1] < 0:
        verdict = Verdict.PARTLY
    elif interval[0] > 0:
        verdict = Verdict.CONTRADICTED
    inside = _rho(_inside(loss, accuracy, settings["network"]))
    return Finding(
        verdict=verdict,
        value=value,
        unit="Spearman",
        interval=interval,
        n=len(settings),
        of="settings",
        seeds=len(complete_seeds(runs)),
        note=f"Separated blocks alone can give such a value; inside them it is {inside} (C8).",
    )


def _rho(rho: float) -> str:
    return "unknown" if np.isnan(rho) else f"{rho:.2f}"  # of one setting, or of equal ones


def c8(t: Tables) -> Finding:
    """The same inside networks (the transformers of 1 and 4 heads apart), and inside networks and encodings."""
    runs, settings = _scatter(t)
    loss, accuracy, network = (settings[name].to_numpy() for name in ("validation_loss", "test_accuracy", "network"))
    inside = {name: statistics.spearman(loss[network == name], accuracy[network == name]) for name in set(network)}
    if len(inside) < 2:
        raise NotRun("Needs runs of at least two blocks.")
    value = _inside(loss, accuracy, network)
    interval = statistics.bootstrap(
        lambda x, y: statistics.stratified_spearman(x, y, network), loss, accuracy, strata=network
    )
    p = statistics.stratified_spearman_p(loss, accuracy, network)
    verdict = Verdict.UNDETERMINED
    if p < ALPHA and interval[0] > 0:
        verdict = Verdict.CONTRADICTED
    elif p < ALPHA and interval[1] < 0:
        verdict = Verdict.SUPPORTED if value <= -0.5 and all(rho < 0 for rho in inside.values()) else Verdict.PARTLY
    finer = _inside(loss, accuracy, settings["network"] + settings["encoding"])
    within = ", ".join(f"{name} {_rho(rho)}" for name, rho in sorted(inside.items()))
    return Finding(
        verdict=verdict,
        value=value,
        unit="stratified Spearman",
        interval=interval,
        n=len(settings),
        of="settings",
        p=p,
        seeds=len(complete_seeds(runs)),
        note=f"Inside networks: {within}; inside networks and encodings together {_rho(finer)}.",
    )


def c9(t: Tables) -> Finding:
    """At equal loss: continuous minus random Fourier, and random Fourier minus pix2vec."""
    runs, settings = _scatter(t)
    steps = {f"{a} above {b}": (a, b) for a, b in (("continuous", "rff"), ("rff", "pix2vec"))}
    if not set(ENCODINGS) <= set(settings["encoding"]):
        raise NotRun("Needs runs of all three encodings.")
    intervals = {name: partial(_contrast_interval, settings, *step) for name, step in steps.items()}
    along = {name: matched_loss(t, runs, "encoding", *step) for name, step in steps.items()}
    along = {name: gap(matched).settings.to_numpy() for name, matched in along.items() if len(matched)}
    for name, by_setting in along.items():
        if len(by_setting) >= ENOUGH_PATHS:
            intervals[f"{name} along training"] = partial(statistics.student_interval, by_setting)
    verdicts = by_parts(intervals)
    smallest = min(steps, key=lambda name: _contrast(settings, *steps[name]).value)
    contrast = _contrast(settings, *steps[smallest])
    return Finding(
        verdict=combine(verdicts.values()),
        value=contrast.value,
        unit=f"accuracy at equal loss, {smallest}",
        interval=contrast.interval,
        n=len(settings),
        of="settings",
        seeds=len(complete_seeds(runs)),
        note=" ".join([parts_note(verdicts), *_in_words(along)]),
    )


def _in_words(along: Mapping[str, np.ndarray]) -> list[str]:
    """The accuracy gained at equal loss along training, as a sentence, or an empty list without any."""
    gains = ", ".join(
        f"{name} by {by_setting.mean():+.3f} over {len(by_setting)}" for name, by_setting in along.items()
    )
    return [f"Accuracy at equal loss along training, with the number of settings: {gains}."] * bool(gains)


def _contrast(rows: pd.DataFrame, a: str, b: str, level: float = statistics.LEVEL) -> regression.Contrast:
    return regression.ancova(rows["test_accuracy"], rows["validation_loss"], list(rows["encoding"]), a, b, level)


def _contrast_interval(rows: pd.DataFrame, a: str, b: str, level: float) -> statistics.Interval:
    return _contrast(rows, a, b, level).interval


def matched_loss(t: Tables, runs: pd.DataFrame, factor: str, a: object, b: object) -> pd.Series:
    """Accuracy at level a minus level b of a factor, at equal loss along training, by setting and seed with both."""
    probed = t.curves.dropna(subset=["probe_accuracy"])
    paths = {
        run_id: (path["validation_loss"].to_numpy(float), path["probe_accuracy"].to_numpy(float))
        for run_id, path in probed.groupby("run_id")
    }
    index = [name for name in (*SETTING, "seed") if name != factor]
    wide = runs[runs["run_id"].isin(paths)].pivot(index=index, columns=factor, values="run_id")
    wide = wide.reindex(columns=[a, b]).dropna()
    values = [regression.matched_loss_difference(paths[x], paths[y]) for x, y in zip(wide[a], wide[b], strict=True)]
    return pd.Series(values, wide.index, dtype=float).dropna()


def c10(t: Tables) -> Finding:
    """In what share of the resamples of seeds and test images does a pix2vec network come first?"""
    runs = grid(t)
    seeds = complete_seeds(runs)
    if not seeds or runs["encoding"].nunique() < 3:
        raise NotRun("Needs runs of all three encodings with every setting of one seed.")
    runs = runs[runs["seed"].isin(seeds)].sort_values(["seed", *SETTING])
    correct_SKB = np.stack([chosen_correct_B(t, run) for _, run in runs.iterrows()])
    correct_SKB = correct_SKB.reshape(len(seeds), -1, correct_SKB.shape[1])
    encoding_K = runs["encoding"].to_numpy()[: correct_SKB.shape[1]]
    generator = np.random.default_rng(0)
    images, resamples = correct_SKB.shape[2], statistics.RESAMPLES
    weight_BR = generator.multinomial(images, np.full(images, 1 / images), size=resamples).T.astype(np.float32) / images
    accuracy_SKR = correct_SKB @ weight_BR
    picked_SR = generator.integers(len(seeds), size=(len(seeds), resamples))
    accuracy_KR = np.mean([accuracy_SKR[picked, :, np.arange(resamples)].T for picked in picked_SR], axis=0)
    first_R = encoding_K[accuracy_KR.argmax(axis=0)]
    share = float((first_R == "pix2vec").mean())
    verdict = decide(share > 0.8, share < ALPHA)
    best = runs.groupby(SETTING)["test_accuracy"].mean().idxmax()
    return Finding(
        verdict=verdict,
        value=share,
        unit="share of resamples",
        n=correct_SKB.shape[1],
        of="settings",
        seeds=len(seeds),
        note=f"First in the table: {' '.join(map(str, best))}. The paper contradicts itself: section 5.2 names "
        "pix2vec, section 5.3 says continuous did best (at equal loss).",
    )


def c16(t: Tables) -> Finding:
    """Permutation test of the interaction of block and encoding in accuracy, sizes taken out."""
    runs = grid(t, network=BLOCK_ORDER)
    runs = needed(runs[runs["seed"].isin(complete_seeds(runs))], "three blocks and encodings over sizes or seeds")
    accuracy = runs["test_accuracy"] - runs.groupby("depth")["test_accuracy"].transform("mean")
    try:
        effect = regression.interaction(accuracy, runs["network"], runs["encoding"])
    except ValueError as unbalanced:
        raise NotRun(f"Needs three blocks and encodings over sizes or seeds. {unbalanced}") from None
    verdict = decide(effect.p < ALPHA, effect.upper < POINT)
    means = runs.groupby(["network", "encoding"])["test_accuracy"].mean().unstack("encoding")
    best = "; ".join(
        f"{network} {means.loc[network].idxmax()}, by {np.ptp(np.sort(means.loc[network])[-2:]):.3f}"
        for network in BLOCK_ORDER
        if network in means.index
    )
    return Finding(
        verdict=verdict,
        value=effect.largest,
        unit="accuracy, largest |interaction effect|",
        interval=(max(0.0, 2 * effect.largest - effect.upper), effect.upper),
        n=len(runs),
        of="runs",
        p=None if verdict == Verdict.CONTRADICTED else effect.p,
        seeds=runs["seed"].nunique(),
        note=f"F = {effect.F:.2f}, permutation p = {effect.p:.3g}. The best on average, and by how much: {best}.",
    )


def c20(t: Tables) -> Finding:
    """Accuracy of networks trained on discrete values minus that of their twins trained by squared error."""
    runs = needed(grid(t, (MAIN, "objective=mse")), "runs with objective=mse beside the main ones")
    return over_seeds_and_images(image_differences(t, runs, "objective", "bert", "mse", chosen_correct_B))


RULES = {"C7": c7, "C8": c8, "C9": c9, "C10": c10, "C16": c16, "C20": c20}
