"""Which runs a rule compares: the same setting, the same seed, the same test images, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from isonb import rows
from isonb.evidence import statistics
from isonb.evidence.ledger.finding import (
    SEEDS,
    SETTINGS_AGREE,
    Finding,
    NotRun,
    Setting,
    Verdict,
    by_parts,
    combine,
    parts_note,
    sizes_in_words,
)
from isonb.evidence.markup import listed
from isonb.evidence.metrics import MAIN, Tables
from isonb.evidence.statistics import Interval

_IN_PAPER = tuple(network for network in rows.networks() if network.in_paper)
NETWORKS = tuple(network.name for network in _IN_PAPER)  # the claims are about these, whatever else a study holds
BLOCK_ORDER = tuple(network.name for network in _IN_PAPER if network.heads == 1)  # one for each of the paper's blocks
TRANSFORMERS = tuple(network.name for network in rows.BLOCKS["transformer"].networks if network.in_paper)
ENCODINGS = tuple(name for name, row in rows.ENCODINGS.items() if row.in_paper)  # the paper's, in its order
AUTOREGRESSIVE = "objective=autoregressive"  # the arm with image-GPT's other objective
SIZES = (1, 3, 6)  # of the networks that the paper's text is about
SETTING = ["network", "encoding", "depth"]
Run = pd.Series | dict[str, Any]  # a row of the table of runs
Answers = Callable[[Tables, Run], np.ndarray]  # which test images a run gets right, by one way of judging it
Measured = Callable[[Run], np.ndarray | float]  # a quantity of a run, or of each of its test images


def grid(t: Tables, arms: tuple[str, ...] = (MAIN,), **only: object) -> pd.DataFrame:
    """The runs of some arms, of the paper's networks and the tables' encodings.

    `only` gives columns a value or a tuple of values.

    Only of the sizes that the paper reports, unless others are asked for: a size that was added must neither make the
    seeds of the grid incomplete nor be judged by claims that were never about it.
    """
    wanted = {"arm": arms, "network": NETWORKS, "encoding": t.encodings}
    is_wanted = np.logical_and.reduce([t.runs[column].isin(values) for column, values in wanted.items()])
    for column, values in ({"depth": SIZES} | only).items():
        is_wanted = is_wanted & t.runs[column].isin(values if isinstance(values, tuple) else (values,))
    return t.runs[is_wanted]


def needed(runs: pd.DataFrame, what: str) -> pd.DataFrame:
    """The same runs; raises `NotRun`, which says what to run, when there are none."""
    if runs.empty:
        raise NotRun(f"Needs {what}.")
    return runs


def differences(runs: pd.DataFrame, column: str, factor: str, a: object, b: object) -> pd.Series:
    """`column` at level a minus level b of a factor, by setting and seed with both. Raises `NotRun` if none has."""
    index = [name for name in (*SETTING, "seed") if name != factor]
    wide = runs[runs[factor].isin((a, b))].pivot(index=index, columns=factor, values=column)
    wide = wide.reindex(columns=[a, b]).dropna()
    if wide.empty:
        raise NotRun(f"Needs runs with {factor} {a} and {b} that share all else.")
    return (wide[a] - wide[b]).astype(float)


def complete_seeds(runs: pd.DataFrame | pd.Series) -> list[int]:
    """The seeds for which every setting has run that has run for any seed."""
    frame = runs.index.to_frame(index=False) if isinstance(runs, pd.Series) else runs
    settings = frame.drop(columns="seed") if isinstance(runs, pd.Series) else frame[SETTING]
    setting = settings.groupby(list(settings.columns)).ngroup()
    per_seed = setting.groupby(frame["seed"].to_numpy()).nunique()
    return [int(seed) for seed in per_seed.index[per_seed == setting.nunique()]]


def replicated(t: Tables, seeds: int) -> Tables:
    """The tables without the networks that have fewer than `seeds` seeds.

    The settings of one network, size and arm stay or go together, with every encoding, and so do the three blocks of
    one size and arm: a study that is halfway through them must not be judged by those that happened to come first.
    """
    runs = t.runs[t.runs["encoding"].isin(t.encodings)]
    size = [runs["depth"], runs["arm"]]
    alike = runs.groupby([*SETTING, "arm"])["seed"].transform("nunique").astype(float)
    fewest = alike.groupby([runs["network"], *size]).transform("min")
    of_blocks = alike.where(runs["network"].isin(BLOCK_ORDER)).groupby(size).transform("min")
    ids = set(runs.loc[(fewest >= seeds) & ~(of_blocks < seeds), "run_id"])
    frames = {name: t.frame(name) for name in ("runs", "layers", "curves", "learned")}
    return dataclasses.replace(t, **{name: frame[frame["run_id"].isin(ids)] for name, frame in frames.items()})


class Gap(NamedTuple):
    """A paired difference: its mean, that of each complete seed and setting, and its intervals over both."""

    value: float
    by_seed: tuple[float, ...]
    over_seeds: Interval
    over_settings: Interval
    settings: pd.Series


def gap(difference: pd.Series) -> Gap:
    """Summarise paired differences; seeds are averaged within a setting first, so as not to count as settings."""
    levels = [name for name in difference.index.names if name != "seed"]
    settings = difference.groupby(level=levels).mean()
    whole = difference[difference.index.get_level_values("seed").isin(complete_seeds(difference))]
    by_seed = whole.groupby(level="seed").mean().to_numpy()
    return Gap(
        float(settings.mean()),
        tuple(float(value) for value in by_seed),
        statistics.student_interval(by_seed),
        statistics.bootstrap_mean(settings.to_numpy()),
        settings,
    )


def image_differences(
    t: Tables, runs: pd.DataFrame, factor: str, a: object, b: object, of: Answers, column: str = "test_accuracy"
) -> pd.Series:
    """What level a of a factor gets right minus what level b does, by test image, for each setting and seed with both.

    Only where `column`, the accuracy that `of` adds up to, is known for both. Raises `NotRun` if it is for none.
    """
    both = differences(runs, column, factor, a, b).index
    places = zip(*(runs[name] for name in (*both.names, factor)), strict=True)
    run = dict(zip(places, _rows(runs), strict=True))
    return pd.Series([of(t, run[*key, a]) - of(t, run[*key, b]) for key in both], both)


def over_seeds_and_images(difference_B: pd.Series, unit: str = "accuracy", is_order: bool = True) -> Finding:
    """Is a difference positive over seeds and test images? It is given by test image for every setting and seed.

    With `is_order` it must also have the sign of its mean in nearly every setting. The note has the mean of each, and
    `under` says which settings they are. Raises `NotRun` where no seed has all of them.
    """
    mean = difference_B.map(np.mean).astype(float)
    settings, seeds = gap(mean).settings, complete_seeds(mean)
    if not seeds:
        raise NotRun("Needs one seed of which every setting that is compared has run.")
    of_seed = difference_B.groupby(level="seed")
    mean_SB = np.stack([np.stack(of_seed.get_group(seed).to_list()).mean(axis=0) for seed in seeds])
    sizes, encodings = (sorted(set(settings.index.get_level_values(name))) for name in ("depth", "encoding"))
    words = "; ".join(
        f"{network}, {encoding}, size {size}: {value:+.3f}" for (network, encoding, size), value in settings.items()
    )
    return dataclasses.replace(
        smallest_of({"": mean_SB}, unit, settings={"": settings} if is_order else None),
        under=f"with {listed(encodings)} input, at {sizes_in_words(sizes)}",
        note=f"Setting by setting: {words}.",
    )


def smallest_of(
    by_name: Mapping[str, np.ndarray],
    unit: str,
    intervals: Mapping[str, Callable[[float], Interval]] | None = None,
    settings: Mapping[str, pd.Series] | None = None,
) -> Finding:
    """Are all of several differences positive, each given by seed and test image? The smallest is shown.

    `intervals` gives the interval of everything that is judged at a level of confidence, by default of these
    differences. `settings` has the difference in each setting where a difference is a mean over settings: nearly all
    must have the sign of the mean.
    """
    if intervals is None:
        intervals = {name: partial(statistics.crossed_interval, mean_SB) for name, mean_SB in by_name.items()}
    verdicts = by_parts(intervals)
    for name, by_setting in (settings or {}).items():
        sign = {Verdict.SUPPORTED: 1, Verdict.CONTRADICTED: -1}.get(verdicts[name], 0)
        if (sign * by_setting > 0).mean() < SETTINGS_AGREE:
            verdicts[name] = Verdict.UNDETERMINED
    smallest_SB = min(by_name.values(), key=np.mean)
    return Finding(
        verdict=combine(verdicts.values()),
        value=float(smallest_SB.mean()),
        unit=unit,
        interval=statistics.crossed_interval(smallest_SB),
        n=smallest_SB.shape[1],
        of="test images",
        seeds=len(smallest_SB),
        by_seed=spread_of_seeds(smallest_SB),
        images_needed=statistics.images_needed(smallest_SB.mean(axis=0)),
        parts=verdicts,
        note=parts_note(verdicts),
    )


def spread_of_seeds(difference_SB: np.ndarray) -> tuple[float, ...]:
    """Each seed's mean difference over the test images; empty where more seeds cannot make up for too few images."""
    enough = statistics.images_needed(difference_SB.mean(axis=0))
    is_enough = enough is not None and enough <= difference_SB.shape[1]
    return tuple(float(value) for value in difference_SB.mean(axis=1)) if is_enough else ()


def setting_means(runs: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """One row per setting: means over its seeds of loss, accuracy and `columns`."""
    return runs.groupby(SETTING, as_index=False)[["validation_loss", "test_accuracy", *columns]].mean()


def array(t: Tables, run_id: str, name: str) -> np.ndarray:
    """An array kept beside a run. Raises `NotRun`, which names the run, where it is missing."""
    arrays = t.arrays.get(run_id, {})
    if name not in arrays:
        raise NotRun(f"Needs the array {name} of run {run_id}: run its cell again.")
    return arrays[name]


def correct_SLB(t: Tables, runs: pd.DataFrame, seeds: list[int]) -> np.ndarray:
    """Whether every layer's probe gets each test image right, for one setting's runs of the given seeds."""
    ids = runs.set_index("seed")["run_id"]
    return np.stack([array(t, ids[seed], "test_correct_LB") for seed in seeds]).astype(float)


def chosen_correct_B(t: Tables, run: Run) -> np.ndarray:
    """Whether the probe of a run's chosen layer gets each test image right."""
    return array(t, run["run_id"], "test_correct_LB")[int(run["best_layer"])].astype(float)


def untrained_correct_B(t: Tables, run: Run) -> np.ndarray:
    """The same of a run's untrained twin, at the layer that was chosen for the twin on validation.

    Raises `NotRun` where the twin has not been probed.
    """
    if pd.isna(run["untrained_best_layer"]):
        raise NotRun(f"Needs the probes of the untrained twin of run {run['run_id']} (isonb complete).")
    return array(t, run["run_id"], "untrained_correct_LB")[int(run["untrained_best_layer"])].astype(float)


def gain_B(t: Tables, run: Run) -> np.ndarray:
    """What a run gets right minus what its untrained twin does, by test image. Raises `NotRun` without the twin."""
    return chosen_correct_B(t, run) - untrained_correct_B(t, run)


def loss_B(t: Tables, run: Run) -> np.ndarray:
    """A run's mean loss per masked sub-pixel of each test image."""
    return array(t, run["run_id"], "test_loss_B").astype(float)


def tuned_correct_B(t: Tables, run: Run) -> np.ndarray:
    """Whether a run's fine-tuned network gets each test image right."""
    return array(t, run["run_id"], "finetune_correct_B").astype(float)


def paired(better: pd.DataFrame, worse: pd.DataFrame, of: Measured, pair: str) -> dict[Setting, np.ndarray]:
    """What `of` gives for a run of the one minus what it gives for its counterpart, S or S x B for each setting.

    A counterpart has the same encoding, size and seed; settings without one are left out.
    """
    first, second = _by_place(better), _by_place(worse)
    settings: dict[Setting, list[np.ndarray | float]] = {}
    for place in sorted(set(first) & set(second), key=lambda place: (ENCODINGS.index(place[0]), place[1:])):
        encoding, size, _ = place
        settings.setdefault(Setting(pair, encoding, size), []).append(of(first[place]) - of(second[place]))
    return {setting: np.array(differences) for setting, differences in settings.items()}


def _by_place(runs: pd.DataFrame) -> dict[tuple[str, int, int], Run]:
    places = zip(runs["encoding"], runs["depth"].astype(int), runs["seed"].astype(int), strict=True)
    return dict(zip(places, _rows(runs), strict=True))


def _rows(runs: pd.DataFrame) -> list[Run]:
    """The rows of a table as dictionaries, as `to_dict("records")` has them, many times faster."""
    return [dict(zip(runs.columns, row, strict=True)) for row in runs.to_numpy(object).tolist()]


def common_seeds(*runs: pd.DataFrame) -> list[int]:
    """The seeds that all of several settings have."""
    return sorted(set.intersection(*(set(map(int, frame["seed"])) for frame in runs)))


def with_twins(t: Tables) -> Tables:
    """The tables of the sizes of which every setting has enough seeds whose untrained twin was probed.

    Without such a size, of all main runs that have one. Raises `NotRun` where there is none.
    """
    runs = grid(t)
    has_twin = runs["gain"].notna()
    of_setting = has_twin.groupby([runs[name] for name in SETTING]).transform("sum")
    is_whole = of_setting.groupby(runs["depth"]).transform("min") >= SEEDS
    kept = set(runs.loc[has_twin & (is_whole if is_whole.any() else True), "run_id"])
    if not kept:
        raise NotRun("Needs the probes of untrained twins (isonb complete).")
    frames = {name: t.frame(name) for name in ("runs", "layers", "curves", "learned")}
    return dataclasses.replace(t, **{name: frame[frame["run_id"].isin(kept)] for name, frame in frames.items()})


def with_gain(finding: Finding, t: Tables, judge: Callable[[Tables], Finding]) -> Finding:
    """The finding with the same statistic on the gain, of the networks whose untrained twin has been probed."""
    try:
        of_twins = with_twins(t)
        gain = judge(of_twins)
    except NotRun:
        return finding
    under = gain.under or f"at {sizes_in_words(sorted(set(of_twins.runs['depth'])))}"
    return dataclasses.replace(finding, gain=dataclasses.replace(gain, under=under))
