"""What a claim is, what a finding is, and the few ways in which a number becomes a verdict.

Book: chapter "Verdict".
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from isonb.evidence import NOT_RUN
from isonb.evidence.metrics import Tables
from isonb.evidence.statistics import LEVEL, Interval


class Verdict(enum.StrEnum):
    """What a study says about a claim."""

    SUPPORTED = "supported"
    PARTLY = "partly"
    UNDETERMINED = "undetermined"
    CONTRADICTED = "contradicted"
    NOT_RUN = NOT_RUN


SETTINGS_AGREE = 8 / 9  # the share of settings that must have the sign of an average
SEEDS = 3  # the fewest seeds on which a claim about trained networks is judged (A26)
ALPHA = 0.05


class NotRun(Exception):
    """The data that a rule needs are missing; the message says what has to be run."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the rule of one claim found.

    value and interval are in `unit`; interval_kind says what the interval is; n counts `of`; p is the raw p value that
    the verdict rests on, if any; seeds is the number of seeds for which every compared setting has run. by_seed is the
    statistic of each of these seeds, threshold the value from which it must differ, and level the confidence level of
    the interval; by_seed is given only where the rule's interval is over seeds, so that more of them narrow it.
    images_needed is how many test images would tell the networks at hand apart. under names the conditions without
    which the verdict would mislead, such as the sizes that it rests on.
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


@dataclass(frozen=True)
class Claim:
    """One claim, written before the runs. `judge` is the rule.

    quotation holds the source's own words, shortened, or is empty where the statement paraphrases it. columns are
    the `frame.column` names that the rule reads beyond those that every record has. seeds is the fewest seeds that it
    may rest on; 0 for what is computed or counted without training. is_whole: it is about the best of all networks, so
    that none may be left out for having fewer seeds.
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


def bonferroni(comparisons: int) -> float:
    """The level of confidence at which each of several intervals must be taken to hold together at 95 %."""
    return 1 - (1 - LEVEL) / comparisons


def parts_note(verdicts: Mapping[str, Verdict]) -> str:
    """One sentence that gives the verdict of every part, or the one that all of them share."""
    if len(verdicts) > 1 == len(set(verdicts.values())):
        return f"All {next(iter(verdicts.values()))}: {', '.join(verdicts)}."
    return "; ".join(f"{name}: {verdict}" for name, verdict in verdicts.items()) + "."
