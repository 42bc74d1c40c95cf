"""Claims about which encoding goes with which network."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from isonb.evidence import regression, statistics
from isonb.evidence.ledger.finding import (
    ALPHA,
    Finding,
    NotRun,
    Setting,
    Verdict,
    bonferroni,
    by_parts,
    by_setting,
    combine,
    parts_note,
    sizes_in_words,
)
from isonb.evidence.ledger.select import (
    BLOCK_ORDER,
    ENCODINGS,
    SETTING,
    Answers,
    chosen_correct_B,
    complete_seeds,
    gain_B,
    grid,
    paired,
    with_gain,
)
from isonb.evidence.metrics import MAIN, Tables
from isonb.evidence.statistics import LEVEL, Interval

POINT = 0.01  # of accuracy
OTHER_SIGMAS = (0.1, 10.0)  # beside 1, which the paper uses


def c10(t: Tables) -> Finding:
    """The best pix2vec network against the best of the others, in loss and in accuracy."""
    runs = grid(t)
    seeds = complete_seeds(runs)
    if not seeds or runs["encoding"].nunique() < 3:
        raise NotRun("Needs runs of all three encodings with every setting of one seed.")
    runs = runs[runs["seed"].isin(seeds)].sort_values([*SETTING, "seed"])
    best = {column: _best(runs, column) for column in ("validation_loss", "test_accuracy")}
    one, other = best["validation_loss"]
    loss_S = (
        _of_setting(runs, other)["validation_loss"].to_numpy() - _of_setting(runs, one)["validation_loss"].to_numpy()
    )
    one_SB, other_SB = (
        np.stack([chosen_correct_B(t, run) for _, run in _of_setting(runs, setting).iterrows()])
        for setting in best["test_accuracy"]
    )
    intervals = {
        "lower loss": partial(statistics.student_interval, loss_S),
        "higher accuracy": partial(statistics.crossed_interval, one_SB - other_SB),
    }
    verdicts = by_parts(intervals)
    low, high = sorted(abs(end) for end in intervals["lower loss"](LEVEL))
    spread = f" ({low:.3f} to {high:.3f})" if verdicts["lower loss"] != Verdict.UNDETERMINED else ""
    by = f"{'lower' if loss_S.mean() > 0 else 'higher'} by {abs(loss_S.mean()):.3f} nats{spread}"
    names = {
        column: " against ".join(f"{network} with {encoding}, size {size}" for network, encoding, size in two)
        for column, two in best.items()
    }
    return Finding(
        verdict=combine(verdicts.values()),
        value=float((one_SB - other_SB).mean()),
        unit="accuracy, the best pix2vec network minus the best other",
        interval=intervals["higher accuracy"](LEVEL),
        n=runs[SETTING].drop_duplicates().shape[0],
        of="settings",
        seeds=len(seeds),
        parts=verdicts,
        note=f"{parts_note(verdicts)} Compared in accuracy: {names['test_accuracy']}. In loss: "
        f"{names['validation_loss']}: {by}. The paper contradicts itself: section "
        "5.2 names pix2vec, section 5.3 says continuous did best (at equal loss).",
    )


def _best(runs: pd.DataFrame, column: str) -> tuple[tuple[object, ...], tuple[object, ...]]:
    """The best setting with pix2vec and the best without, by the mean over seeds."""
    means = runs.groupby(SETTING)[column].mean() * (-1 if column == "validation_loss" else 1)
    is_learned = means.index.get_level_values("encoding") == "pix2vec"
    return means[is_learned].idxmax(), means[~is_learned].idxmax()


def _of_setting(runs: pd.DataFrame, setting: tuple[object, ...]) -> pd.DataFrame:
    """The runs of one setting, in the order of their seeds."""
    return runs[(runs[SETTING] == list(setting)).all(axis=1)]


def c16(t: Tables) -> Finding:
    """Does what an encoding adds depend on the block, and do two blocks prefer different encodings?"""
    return with_gain(_pairing(t, chosen_correct_B), t, lambda twins: _pairing(twins, gain_B))


def _pairing(t: Tables, of: Answers) -> Finding:
    correct_NESB, sizes, seeds = _by_block_and_encoding(t, of)
    effects = regression.interaction(correct_NESB)
    differences = _preferences(correct_NESB)

    def at(level: float) -> dict[str, Verdict]:
        return {"interaction": _interaction(effects, level), "crossover": _crossover(differences, level)}

    verdicts = at(LEVEL)
    if any(verdict != Verdict.SUPPORTED for verdict in verdicts.values()):
        verdicts = at(bonferroni(len(verdicts)))
    row, column = np.unravel_index(np.argmax(np.abs(effects.effect_RC)), effects.effect_RC.shape)
    value = float(effects.effect_RC[row, column])
    half = float(effects.half_RC(bonferroni(effects.effect_RC.size))[row, column])
    return Finding(
        verdict=combine(verdicts.values()),
        value=value,
        unit=f"accuracy, largest interaction effect: {BLOCK_ORDER[row]} with {ENCODINGS[column]}",
        interval=(value - half, value + half),
        n=correct_NESB.shape[3],
        of="test images",
        seeds=len(seeds),
        interval_kind=f"interval that holds together with those of all {effects.effect_RC.size} effects at 95 %",
        under=f"at {sizes_in_words(sizes)}",
        parts=verdicts,
        note=f"{parts_note(verdicts)} {_preferred(differences)}",
    )


def _by_block_and_encoding(t: Tables, of: Answers) -> tuple[np.ndarray, list[int], list[int]]:
    """What each block with each encoding gets right, N x E x S x B, a mean over the sizes that all of them share."""
    runs = grid(t, network=BLOCK_ORDER)
    kinds = runs.drop_duplicates(SETTING).groupby("depth").size()
    sizes = [int(size) for size in kinds.index[kinds == len(BLOCK_ORDER) * len(ENCODINGS)]]
    runs = runs[runs["depth"].isin(sizes)]
    seeds = complete_seeds(runs) if sizes else []
    if not seeds:
        raise NotRun("Needs runs of three blocks with three encodings, of the same sizes and seeds.")
    by_run = runs.set_index(["network", "encoding", "depth", "seed"]).sort_index()
    correct = [
        [[[of(t, by_run.loc[n, e, size, seed]) for size in sizes] for seed in seeds] for e in ENCODINGS]
        for n in BLOCK_ORDER
    ]
    return np.array(correct).mean(axis=3), sizes, seeds


def _interaction(effects: regression.Interaction, level: float) -> Verdict:
    """Supported where one effect is clear among all; contradicted where all together lie within one point of 0."""
    size_RC = np.abs(effects.effect_RC)
    half_RC = effects.half_RC(1 - (1 - level) / size_RC.size)
    if (size_RC > half_RC).any():
        return Verdict.SUPPORTED
    return Verdict.CONTRADICTED if (size_RC + half_RC < POINT).all() else Verdict.UNDETERMINED


def _preferences(correct_NESB: np.ndarray) -> dict[tuple[str, str, str], np.ndarray]:
    """What one encoding gets right more often than another, S x B, for every block and pair of encodings."""
    return {
        (network, ENCODINGS[one], ENCODINGS[other]): correct_NESB[row, one] - correct_NESB[row, other]
        for row, network in enumerate(BLOCK_ORDER)
        for one, other in itertools.combinations(range(len(ENCODINGS)), 2)
    }


def _crossover(differences: Mapping[tuple[str, str, str], np.ndarray], level: float) -> Verdict:
    """Supported where two blocks have different best encodings and each clearly prefers its own to the other's.

    Holm's correction is over all differences. Contradicted where one encoding is clearly best in every block.
    """
    sign = _signs(differences, 1 - level)
    best = {network: _best_encoding(differences, network) for network in BLOCK_ORDER}
    for one, other in itertools.combinations(BLOCK_ORDER, 2):
        pair = sorted((best[one], best[other]), key=ENCODINGS.index)
        if pair[0] != pair[1] and sign[one, pair[0], pair[1]] * sign[other, pair[0], pair[1]] < 0:
            return Verdict.SUPPORTED
    intervals = dict(
        zip(differences, statistics.moderated_crossed_intervals(list(differences.values()), level), strict=True)
    )
    return Verdict.CONTRADICTED if any(_is_best(intervals, one) for one in ENCODINGS) else Verdict.UNDETERMINED


def _best_encoding(differences: Mapping[tuple[str, str, str], np.ndarray], network: str) -> str:
    """The encoding that is ahead of every other one on average, with one block."""
    means = {key[1:]: rows.mean() for key, rows in differences.items() if key[0] == network}
    ahead = {
        one: sum(mean * (1 if one == pair[0] else -1) for pair, mean in means.items() if one in pair)
        for one in ENCODINGS
    }
    return max(ahead, key=ahead.__getitem__)


def _is_best(intervals: Mapping[tuple[str, str, str], Interval], encoding: str) -> bool:
    """Whether an encoding is ahead of every other one, with every block."""
    of_it = {key: interval for key, interval in intervals.items() if encoding in key[1:]}
    return all(low > 0 if one == encoding else high < 0 for (_, one, _), (low, high) in of_it.items())


def _signs(differences: Mapping[tuple[str, str, str], np.ndarray], alpha: float) -> dict[tuple[str, str, str], int]:
    """The sign of each difference, 0 where it is not clear after Holm's correction over all of them."""
    adjusted = statistics.holm(statistics.moderated_crossed_p(list(differences.values())))
    return {
        key: int(np.sign(rows.mean())) if p < alpha else 0
        for (key, rows), p in zip(differences.items(), adjusted, strict=True)
    }


def _preferred(differences: Mapping[tuple[str, str, str], np.ndarray]) -> str:
    """Which encoding of a pair each block clearly prefers, and by how much, as a sentence."""
    sign = _signs(differences, ALPHA)
    clear = [
        f"with {network} {one} to {other} (by {abs(rows.mean()):.3f})"
        for (network, *pair), rows in differences.items()
        if (of_pair := sign[network, pair[0], pair[1]])
        for one, other in [pair if of_pair > 0 else pair[::-1]]
    ]
    preferred = f"Clearly preferred are, {'; '.join(clear)}" if clear else "No encoding is clearly preferred"
    return f"{preferred}, after Holm's correction over {len(differences)} differences."


def at_each_sigma(t: Tables) -> pd.DataFrame:
    """The runs of size 1 with random Fourier input, of sigma 1 and of those that it is compared with."""
    arms = (MAIN, *(f"sigma={sigma}" for sigma in OTHER_SIGMAS))
    return grid(t, arms, encoding="rff", network=BLOCK_ORDER, depth=1)


def by_sigma(t: Tables, column: str) -> pd.DataFrame:
    """A column of these runs by their sigma, from small to large: one row per network and seed that has each."""
    wide = at_each_sigma(t).pivot(index=["network", "seed"], columns="sigma", values=column)
    return wide.reindex(columns=sorted((1.0, *OTHER_SIGMAS))).dropna().astype(float)


def c40(t: Tables) -> Finding:
    """Sigma 1 against 0.1 and 10 in trained networks, block by block, in loss and in accuracy."""
    runs = grid(t, encoding="rff", network=BLOCK_ORDER)
    loss, accuracy, missing = {}, {}, []
    for sigma in OTHER_SIGMAS:
        others = grid(t, (f"sigma={sigma}",), encoding="rff", network=BLOCK_ORDER)
        for network in BLOCK_ORDER:
            two = [frame[frame["network"] == network] for frame in (runs, others)]
            name = f"{network}, sigma 1 before {sigma:g}"
            of_loss = paired(*two, lambda run: -run["validation_loss"], name)
            missing += [] if of_loss else [name]
            loss |= of_loss
            accuracy |= paired(*two, partial(chosen_correct_B, t), name)
    if not loss:
        raise NotRun(f"Needs runs with sigma={' and sigma='.join(map(str, OTHER_SIGMAS))} beside the main ones.")
    return in_both(loss, accuracy, missing)


def in_both(
    loss: Mapping[Setting, np.ndarray], accuracy: Mapping[Setting, np.ndarray], absent: Sequence[str]
) -> Finding:
    """Are all differences in loss (S each) and in accuracy (S x B) positive? The smallest in accuracy is shown.

    Supported and contradicted where both halves are, as in `by_setting`; partly where a difference is positive after
    the correction over those of both halves together.
    """
    halves = {
        "In loss": by_setting(loss, "nats", absent, 2),
        "In accuracy": by_setting(accuracy, "accuracy", absent, 2),
    }
    p_values = [*statistics.moderated_p(list(loss.values())), *statistics.moderated_crossed_p(list(accuracy.values()))]
    means = [rows.mean() for rows in (*loss.values(), *accuracy.values())]
    is_clear = any(mean > 0 and p < ALPHA for mean, p in zip(means, statistics.holm(p_values), strict=True))
    verdicts = {half.verdict for half in halves.values()}
    unclear = Verdict.PARTLY if is_clear else Verdict.UNDETERMINED
    return dataclasses.replace(
        halves["In accuracy"],
        verdict=verdicts.pop() if verdicts in ({Verdict.SUPPORTED}, {Verdict.CONTRADICTED}) else unclear,
        n=len(means),
        of="differences",
        seeds=min(half.seeds or 0 for half in halves.values()),
        note=" ".join(f"{name}. {half.note}" for name, half in halves.items()),
    )


RULES = {"C10": c10, "C16": c16, "C40": c40}
