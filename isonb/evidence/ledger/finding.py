"""What a claim is, what a finding is, and the few ways in which a number becomes a verdict.

Book: chapter "Verdict".
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from isonb.evidence import NOT_RUN, statistics
from isonb.evidence.markup import listed
from isonb.evidence.metrics import Tables
from isonb.evidence.statistics import LEVEL, Interval
from isonb.rows import in_words


class Verdict(enum.StrEnum):
    """What a study says about a claim."""

    SUPPORTED = "supported"
    PARTLY = "partly"
    UNDETERMINED = "undetermined"
    CONTRADICTED = "contradicted"
    NOT_RUN = NOT_RUN


IN_WORDS = {  # what is so of a part of a claim
    Verdict.SUPPORTED: "So it is",
    Verdict.PARTLY: "So it is in part",
    Verdict.UNDETERMINED: "Not clear",
    Verdict.CONTRADICTED: "It is not so",
    Verdict.NOT_RUN: "Not run",
}
SETTINGS_AGREE = 8 / 9  # the share of settings that must have the sign of an average
SEEDS = 3  # the fewest seeds on which a claim about trained networks is judged (A26)
ALPHA = 0.05


class NotRun(Exception):
    """The data that a rule needs are missing; the message says what has to be run."""


class Setting(NamedTuple):
    """Where a difference is measured: which two networks are compared, with which encoding, at which size."""

    pair: str
    encoding: str
    size: int


class Contrast(NamedTuple):
    """The difference in one setting: its mean, its 95 % interval, its sign, and how many seeds it rests on.

    sign is that of the mean where it is clear after Holm's correction over all settings that are judged, otherwise 0.
    """

    mean: float
    low: float
    high: float
    sign: int
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the rule of one claim found.

    value and interval are in `unit`; interval_kind says what the interval is; n counts `of`; p is the raw p value that
    the verdict rests on, if any; seeds is the number of seeds for which every compared setting has run. by_seed is the
    statistic of each of these seeds, threshold the value from which it must differ, and level the confidence level of
    the interval; by_seed is given only where the rule's interval is over seeds, so that more of them narrow it.
    images_needed is how many test images would tell the networks at hand apart. under names the conditions without
    which the verdict would mislead, such as the sizes that it rests on. parts has the verdicts of a claim's parts.
    """

    verdict: Verdict
    value: float | None = None
    unit: str = ""
    interval: Interval | None = None
    n: int = 0
    of: str = ""
    p: float | None = None
    seeds: int | None = None
    by_seed: tuple[float, ...] = ()
    threshold: float = 0.0
    level: float = LEVEL
    images_needed: int | None = None
    interval_kind: str = "95 % interval"
    under: str = ""
    note: str = ""
    gain: Finding | None = None
    map: Mapping[Setting, Contrast] = field(default_factory=dict)
    parts: Mapping[str, Verdict] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """One claim, as `claims.toml` has it. `judge` is the rule.

    quotation holds the source's own words, shortened, or is empty where the statement paraphrases it. columns are
    the `frame.column` names that the rule reads beyond those that every record has. seeds is the fewest seeds that it
    may rest on; 0 for what is computed or counted without training. is_whole: it is about the best of all networks, so
    that none may be left out for having fewer seeds. p: the rule asks for a p value, corrected by Holm over all
    such claims, run or not. added is the day on which a claim was added after results had been seen.
    """

    id: str
    source: str
    statement: str
    statistic: str
    rule: str
    needs: str
    judge: Callable[[Tables], Finding]
    quotation: str = ""
    figure: str = "-"
    columns: Sequence[str] = ()
    seeds: int = SEEDS
    is_whole: bool = False
    p: bool = False
    added: str = ""


def by_sign(interval: Interval, threshold: float = 0.0) -> Verdict:
    """Supported if the interval lies above the threshold, contradicted if below, otherwise undetermined."""
    return decide(interval[0] > threshold, interval[1] < threshold)


def decide(is_so: bool, is_not_so: bool) -> Verdict:
    """Supported where `is_so`, otherwise contradicted where `is_not_so`, otherwise undetermined."""
    if is_so:
        return Verdict.SUPPORTED
    return Verdict.CONTRADICTED if is_not_so else Verdict.UNDETERMINED


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of a claim in several parts.

    All parts supported: supported. Some: partly. None, and at least one contradicted: contradicted. None run: not run.
    Otherwise undetermined.
    """
    verdicts = list(verdicts)
    if all(verdict == Verdict.NOT_RUN for verdict in verdicts):
        return Verdict.NOT_RUN
    if all(verdict == Verdict.SUPPORTED for verdict in verdicts):
        return Verdict.SUPPORTED
    if any(verdict in (Verdict.SUPPORTED, Verdict.PARTLY) for verdict in verdicts):
        return Verdict.PARTLY
    return Verdict.CONTRADICTED if Verdict.CONTRADICTED in verdicts else Verdict.UNDETERMINED


def by_parts(intervals: Mapping[str, Callable[[float], Interval]]) -> dict[str, Verdict]:
    """The verdict of every part of a claim; each part gives its interval at a level of confidence.

    That all parts hold needs no correction: each must pass by itself. If some fail, picking out those that pass does
    need one, so all parts are then judged at Bonferroni's level, `1 - 0.05 / parts`.
    """
    verdicts = {name: by_sign(interval(LEVEL)) for name, interval in intervals.items()}
    if all(verdict == Verdict.SUPPORTED for verdict in verdicts.values()):
        return verdicts
    return {name: by_sign(interval(bonferroni(len(intervals)))) for name, interval in intervals.items()}


def by_setting(
    difference_SB: Mapping[Setting, np.ndarray], unit: str, absent: Sequence[str] = (), parts: int = 1
) -> Finding:
    """Is a difference positive in every setting? It is given by seed, S, or by seed and test image, S x B.

    Every setting has an interval over its seeds (and images); with few seeds it borrows from the spread of the others.
    Supported: every 95 % interval lies above 0, which needs no correction. Contradicted: every one lies below 0.
    Partly: at least one lies above 0 after Holm's correction over the settings (and Bonferroni's over the `parts` of
    the claim that are judged so). Otherwise undetermined. `absent` names pairs of the claim that have not run: without
    them it is supported in part at most. The smallest difference is shown, and the note says which settings are clearly
    above and below. Raises `NotRun` where there are no settings.
    """
    if not difference_SB:
        raise NotRun(f"Needs runs to compare, of one size and seed: {', '.join(absent) or 'none are there'}.")
    contrasts = _contrasts(difference_SB, parts)
    smallest = min(contrasts, key=lambda setting: contrasts[setting].mean)
    of_smallest_SB = np.asarray(difference_SB[smallest], float)
    has_images = of_smallest_SB.ndim == 2
    return Finding(
        verdict=_verdict_by_setting(contrasts.values(), bool(absent)),
        value=contrasts[smallest].mean,
        unit=f"{unit}, smallest of {len(contrasts)}" if len(contrasts) > 1 else unit,
        interval=(contrasts[smallest].low, contrasts[smallest].high),
        n=len(contrasts),
        of="settings",
        seeds=min(contrast.seeds for contrast in contrasts.values()),
        images_needed=statistics.images_needed(of_smallest_SB.mean(axis=0)) if has_images else None,
        note=_note_by_setting(contrasts, absent),
        map=contrasts,
    )


def _contrasts(difference_SB: Mapping[Setting, np.ndarray], parts: int) -> dict[Setting, Contrast]:
    """The contrast of every setting; variances are moderated and p values corrected over all of them."""
    rows = [np.asarray(of_setting, float) for of_setting in difference_SB.values()]
    has_images = rows[0].ndim == 2
    intervals = statistics.moderated_crossed_intervals(rows) if has_images else statistics.moderated_intervals(rows)
    p_values = statistics.moderated_crossed_p(rows) if has_images else statistics.moderated_p(rows)
    contrasts = {}
    for setting, row, interval, p in zip(
        difference_SB, rows, intervals, statistics.holm(parts * p_values), strict=True
    ):
        mean = float(row.mean())
        contrasts[setting] = Contrast(mean, *interval, int(np.sign(mean)) if p < ALPHA else 0, len(row))
    return contrasts


def _verdict_by_setting(contrasts: Iterable[Contrast], is_incomplete: bool) -> Verdict:
    contrasts = list(contrasts)
    if all(contrast.low > 0 for contrast in contrasts):
        return Verdict.PARTLY if is_incomplete else Verdict.SUPPORTED
    if all(contrast.high < 0 for contrast in contrasts):
        return Verdict.CONTRADICTED
    return Verdict.PARTLY if any(contrast.sign > 0 for contrast in contrasts) else Verdict.UNDETERMINED


def _note_by_setting(contrasts: Mapping[Setting, Contrast], absent: Sequence[str]) -> str:
    """Pair by pair, in which settings the difference is clearly above 0 and in which it is clearly below."""
    sentences = []
    for pair in dict.fromkeys(setting.pair for setting in contrasts):
        of_pair = {setting: contrast for setting, contrast in contrasts.items() if setting.pair == pair}
        sentences.append(f"{_capitalised(pair)}: {_counts(of_pair)}.")
    if absent:
        sentences.append(f"Not run: {'; '.join(absent)}.")
    if len(contrasts) > 1:
        sentences.append(f"Clear is what survives Holm's correction over {len(contrasts)} settings.")
    return " ".join(sentences)


def _counts(contrasts: Mapping[Setting, Contrast]) -> str:
    """Such as "clearly so in 2 of 6 settings (rff at sizes 1 and 3), clearly the opposite in 1 of 6 settings (...)"."""
    words = []
    for sign, what in ((1, "clearly so"), (-1, "clearly the opposite")):
        if clear := [setting for setting, contrast in contrasts.items() if contrast.sign == sign]:
            if len(clear) == len(contrasts):
                return f"{what} in {'all ' * (len(clear) > 2)}{_settings(len(clear))}"
            words.append(f"{what} in {len(clear)} of {_settings(len(contrasts))} ({where(clear)})")
    return ", ".join(words) or f"not clear in {'any of ' * (len(contrasts) > 1)}{_settings(len(contrasts))}"


def _settings(count: int) -> str:
    return f"{count} setting{'s' * (count > 1)}" if count > 1 else "the one setting"


def where(settings: Iterable[Setting]) -> str:
    """Encodings with their sizes, such as "continuous and pix2vec at sizes 1 and 3; rff at size 1"."""
    sizes: dict[str, list[int]] = {}
    for setting in settings:
        sizes.setdefault(setting.encoding, []).append(setting.size)
    encodings: dict[tuple[int, ...], list[str]] = {}
    for encoding, of_encoding in sizes.items():
        encodings.setdefault(tuple(of_encoding), []).append(encoding)
    return "; ".join(f"{listed(names)} at {sizes_in_words(some)}" for some, names in encodings.items())


def sizes_in_words(sizes: Sequence[int]) -> str:
    """Such as "size 1" or "sizes 1, 3 and 6"."""
    return f"size{'s' * (len(sizes) > 1)} {listed(sizes)}"


def _capitalised(words: str) -> str:
    """The words with a capital at the start, as a sentence has it; the name of a network or encoding in the book's."""
    words = in_words(words)
    return words[:1].upper() + words[1:]


def bonferroni(comparisons: int) -> float:
    """The level of confidence at which each of several intervals must be taken to hold together at 95 %."""
    return 1 - (1 - LEVEL) / comparisons


def parts_note(verdicts: Mapping[str, Verdict]) -> str:
    """A sentence for each verdict that some part has, which names these parts."""
    parts = {verdict: [name for name, of_part in verdicts.items() if of_part == verdict] for verdict in Verdict}
    return " ".join(f"{IN_WORDS[verdict]}: {'; '.join(_together(names))}." for verdict, names in parts.items() if names)


def _together(names: Iterable[str]) -> list[str]:
    """The names of parts, those of several layers as one, such as "layers 0 to 5 above rff"."""
    layers: dict[str, list[int]] = {}
    for name in names:
        of_layer = re.fullmatch(r"layer (\d+)(.*)", name)
        layers.setdefault(f"layer{of_layer[2]}" if of_layer else name, []).extend(
            [int(of_layer[1])] if of_layer else []
        )
    return [
        name.replace("layer", f"layer{'s' * (len(some) > 1)} {_span(some)}", 1) if some else name
        for name, some in layers.items()
    ]


def _span(layers: Sequence[int]) -> str:
    is_unbroken = len(layers) > 2 and list(layers) == list(range(layers[0], layers[-1] + 1))
    return f"{layers[0]} to {layers[-1]}" if is_unbroken else listed(layers)
