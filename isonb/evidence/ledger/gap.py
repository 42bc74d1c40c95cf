"""The claim about what the gap between transformers and convolutions hangs on: data, settings or the architecture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from isonb.evidence import statistics, words
from isonb.evidence.ledger.finding import SEEDS, Finding, NotRun, Verdict, bonferroni, combine, decide, parts_note
from isonb.evidence.ledger.select import ENCODINGS, TRANSFORMERS
from isonb.evidence.metrics import MAIN, Tables
from isonb.evidence.statistics import Interval

SMALL_SHARE = 0.05  # of the gap; a cause removes more
OVERFITS = 0.05  # nats by which the validation loss exceeds the training loss where more images can matter
DATA = "data"
PIX2VEC = "encoding=pix2vec"  # the main runs with it, as a change of those with continuous input
CHANGES = {  # what is asked about, by the settings that an arm changes
    frozenset({"positions"}): "positions",
    frozenset({"learning_rate"}): "learning rate",
    frozenset({"batch_size"}): "batch size",
    frozenset({"epochs"}): "length",
    frozenset({"epochs", "learning_rate"}): "length and rate",
    frozenset({"encoding"}): "encoding",
    frozenset({"width"}): "capacity",
    frozenset({"mlp_ratio"}): "capacity",
    frozenset({"data_fraction"}): DATA,
}
NEEDED = tuple(dict.fromkeys(kind for kind in CHANGES.values() if kind != DATA))  # before it is the architecture's
OF_BOTH = ("length", "length and rate", "encoding", DATA)  # changes that both blocks are given


class GapShare(NamedTuple):
    """What one setting does to the gap in test loss (nats) or accuracy by which a transformer trails conv.

    `gap_S` and `changed_S` are the gaps of each seed without and with the change, means over the networks compared.
    `share_S` is the share of the gap that the change removes, below 0 where it adds to it; for a part of the images,
    the share of that part's gap that all images remove; None where some seed has no such gap. `by_encoding` has the
    share of each encoding alone, and `compared` the encoding, size and seed of each pair.
    """

    pairs: int
    sizes: tuple[int, ...]
    gap_S: np.ndarray
    changed_S: np.ndarray
    share_S: np.ndarray | None
    by_encoding: dict[str, float]
    compared: pd.MultiIndex


def change(arm: str) -> str | None:
    """Which of the changes that C24 asks about an arm is; None where it is another one.

    A part of the images may be passed over more often, so that training takes as many steps.
    """
    changed = {name.split("=")[0] for name in arm.split()}
    return CHANGES.get(frozenset(changed - {"epochs", "warmup_epochs"} if "data_fraction" in changed else changed))


def gap_shares(t: Tables, column: str = "test_loss", network: str = TRANSFORMERS[0]) -> dict[str, GapShare]:
    """The share of every arm that C24 asks about, over the networks that have run with and without the change.

    A changed transformer is compared with the unchanged conv; both are changed where it is about the images, the length
    of training or the encoding, and conv alone where only its capacity was changed. A size at which an encoding has
    fewer seeds than others is left out, so that every seed's mean is over the same networks and does not depend on
    which encoding came first.
    """
    values = _values(t, column, network)
    main = values[values["arm"] == MAIN].drop(columns="arm").dropna()
    sign = 1 if column == "test_loss" else -1  # behind by a higher loss, or by a lower accuracy
    shares = {}
    for name, arm in values[values["arm"] != MAIN].groupby("arm"):
        kind = change(name)
        if kind is None:
            continue
        both = main.join(arm.drop(columns="arm").add_suffix(" of arm"), how="inner")
        if kind not in OF_BOTH:
            is_convs = kind == "capacity" and both[f"{network} of arm"].isna().all()
            unchanged = network if is_convs else "conv"
            both[f"{unchanged} of arm"] = both[unchanged]  # the paper's, whether or not an arm of it has run
        both = _of_whole_sizes(both.dropna())
        if len(both):
            gap = sign * (both[network] - both["conv"])
            shares[name] = _share(gap, sign * (both[f"{network} of arm"] - both["conv of arm"]), kind == DATA)
    return shares


def _values(t: Tables, column: str, network: str) -> pd.DataFrame:
    """The column by encoding, size and seed, for conv and the network; with the main runs with pix2vec as an arm."""
    runs = t.runs[t.runs["encoding"].isin(ENCODINGS)]
    learned = runs[(runs["arm"] == MAIN) & (runs["encoding"] == "pix2vec")]
    runs = pd.concat([runs, learned.assign(encoding="continuous", arm=PIX2VEC)])
    wide = runs.pivot(index=["encoding", "depth", "seed", "arm"], columns="network", values=column)
    return wide.reindex(columns=["conv", network]).astype(float).reset_index("arm")


def _of_whole_sizes(both: pd.DataFrame) -> pd.DataFrame:
    """Without the sizes at which some encoding has fewer seeds than another one has."""
    if both.empty:
        return both
    seeds = both.groupby(level=["encoding", "depth"])["conv"].transform("size")
    return both[seeds.groupby(level="depth").transform("min") == seeds.max()]


def _share(gap: pd.Series, changed: pd.Series, is_part: bool) -> GapShare:
    """The share of one gap that a change removes; of that with a part of the images, what all of them remove."""
    gaps = pd.DataFrame({"gap": gap, "changed": changed})
    before, after = ("changed", "gap") if is_part else ("gap", "changed")
    by_seed, by_encoding = (gaps.groupby(level=level).mean() for level in ("seed", "encoding"))
    share_S = 1 - by_seed[after] / by_seed[before]
    trailing = by_encoding[by_encoding[before] > 0]
    return GapShare(
        len(gaps),
        tuple(sorted(set(gaps.index.get_level_values("depth")))),
        by_seed["gap"].to_numpy(),
        by_seed["changed"].to_numpy(),
        share_S.to_numpy() if (by_seed[before] > 0).all() else None,
        (1 - trailing[after] / trailing[before]).to_dict(),
        gaps.index,
    )


def behind(t: Tables, name: str, of_arm: GapShare, network: str = TRANSFORMERS[0]) -> pd.DataFrame:
    """The rows of the table of runs that the share of an arm rests on: with the change, without it, and of conv."""
    runs = t.runs[t.runs["network"].isin(("conv", network))]
    compared = of_arm.compared
    if name == PIX2VEC:
        levels = [["continuous", "pix2vec"], *map(compared.unique, ("depth", "seed"))]
        compared, name = pd.MultiIndex.from_product(levels), MAIN
    runs = runs[pd.MultiIndex.from_frame(runs[["encoding", "depth", "seed"]]).isin(compared)]
    is_changed = runs["arm"] == name
    if change(name) not in OF_BOTH:
        is_networks = runs["network"] == network
        is_changed &= is_networks if (is_changed & is_networks).any() else ~is_networks
    return runs[is_changed | (runs["arm"] == MAIN)]


def overfitting(t: Tables, arm: str, networks: Iterable[str]) -> float:
    """By how many nats the validation loss of an arm's networks exceeds their loss in the last epoch of training.

    The largest of the networks' means over their runs; nan where no curve has been kept.
    """
    curves = t.curves[(t.curves["arm"] == arm) & t.curves["network"].isin(tuple(networks))]
    last = curves.dropna(subset=["train_loss"]).sort_values("epoch").groupby("run_id").last()
    excess = (last["validation_loss"] - last["train_loss"]).astype(float)
    return float(excess.groupby(last["network"]).mean().max()) if len(last) else float("nan")


def c24(t: Tables) -> Finding:
    """Is lack of data a part of the loss gap of each transformer and conv, and does no change remove all of it?

    A change counts once it has the seeds that the ledger asks for. Data are judged only where something overfits, and
    the architecture only once every other change has been tried.
    """
    shares = {network: _with_seeds(t, network) for network in TRANSFORMERS}
    verdicts, reasons = {}, []
    for network, of_network in shares.items():
        for name, (verdict, reason) in {
            f"lack of data, {network}": _of_data(t, of_network, network),
            f"architecture, {network}": _of_architecture(of_network, network),
        }.items():
            verdicts[name] = verdict
            reasons += [reason] * bool(reason)
    judged = {(network, name): share for network in shares for name, share in shares[network].items()}
    if not judged or set(verdicts.values()) == {Verdict.NOT_RUN}:
        raise NotRun(f"Needs more before the gap can be put down to anything. {' '.join(reasons)}")
    network, name = max(judged, key=lambda key: judged[key].share_S.mean())
    shown = judged[network, name]
    level = bonferroni(len(shares[network]))
    notes = [_in_words(name, share, network) for (network, name), share in judged.items()]
    return Finding(
        verdict=combine(verdicts.values()),
        value=float(shown.share_S.mean()),
        unit=f"share of the gap of {network} and conv, {words.of_arm(name)}",
        interval=statistics.student_interval(shown.share_S, level),
        n=len(judged),
        of="changed settings",
        seeds=min(len(share.share_S) for share in judged.values()),
        by_seed=tuple(map(float, shown.share_S)),
        threshold=SMALL_SHARE,
        level=level,
        interval_kind=f"{100 * level:.4g} % interval",
        under=f"with {' and '.join(shown.by_encoding)} input, at size {' and '.join(map(str, shown.sizes))}",
        parts=verdicts,
        note=" ".join([parts_note(verdicts), *reasons, *notes]),
    )


def _with_seeds(t: Tables, network: str) -> dict[str, GapShare]:
    """The shares that rest on as many seeds as the ledger asks for."""
    shares = gap_shares(t, network=network).items()
    return {name: share for name, share in shares if share.share_S is not None and len(share.share_S) >= SEEDS}


def _intervals(shares: Mapping[str, GapShare], names: Iterable[str]) -> dict[str, Interval]:
    """The intervals of some shares over their seeds, which hold together at 95 %."""
    names = list(names)
    return {name: statistics.student_interval(shares[name].share_S, bonferroni(len(names))) for name in names}


def _of_data(t: Tables, shares: Mapping[str, GapShare], network: str) -> tuple[Verdict, str]:
    """Whether all images remove more than a small share of the gap that there is with a part of them, and if not why.

    Judged only where networks that see a part of the images overfit: otherwise they have images enough.
    """
    parts = [name for name in shares if change(name) == DATA]
    if not parts:
        return Verdict.NOT_RUN, f"{SEEDS} seeds of {network} and of conv have yet to try a part of the images."
    excess = {name: overfitting(t, name, ("conv", network)) for name in parts}
    lacking = [name for name in parts if excess[name] > OVERFITS]
    if not lacking:
        most = max(excess.values())
        return Verdict.NOT_RUN, (
            f"With a part of the images {network} and conv do not overfit: validation loss is at most {most:+.3f} nats "
            f"above the training loss, the margin is {OVERFITS}. So more images cannot matter at this length."
        )
    intervals = _intervals(shares, lacking).values()
    verdict = decide(any(low > SMALL_SHARE for low, _ in intervals), all(high <= SMALL_SHARE for _, high in intervals))
    return verdict, ""


def _of_architecture(shares: Mapping[str, GapShare], network: str) -> tuple[Verdict, str]:
    """Whether every change leaves a part of the gap, with each encoding; not run as long as some are not tried."""
    intervals = _intervals(shares, shares)
    if any(low >= 1 for low, _ in intervals.values()):
        return Verdict.CONTRADICTED, ""
    missing = [kind for kind in NEEDED if kind not in {change(name) for name in shares}]
    if missing:
        return Verdict.NOT_RUN, f"Changes that {SEEDS} seeds of {network} have yet to try: {', '.join(missing)}."
    is_left = all(high < 1 for _, high in intervals.values()) and all(
        share < 1 for of_arm in shares.values() for share in of_arm.by_encoding.values()
    )
    return (Verdict.SUPPORTED if is_left else Verdict.UNDETERMINED), ""


def _in_words(name: str, of_arm: GapShare, network: str) -> str:
    """What a setting does to which gap, with the share of each encoding if there are several, as a sentence."""
    is_part = change(name) == DATA
    share, gap = float(of_arm.share_S.mean()), float((of_arm.changed_S if is_part else of_arm.gap_S).mean())
    arm = f"all images instead of {words.of_arm(name)}" if is_part else words.of_arm(name)
    sign, does = (1, "shrinks") if share > 0 else (-1, "grows")
    parts = ", ".join(f"{encoding} {round(sign * part, 2) + 0.0:.0%}" for encoding, part in of_arm.by_encoding.items())
    whose = parts if len(of_arm.by_encoding) > 1 else f"{' '.join(of_arm.by_encoding)} only"
    return f"With {arm}, {network}'s gap of {gap:.3f} nats {does} by {sign * share:.0%} ({whose})."


RULES = {"C24": c24}
