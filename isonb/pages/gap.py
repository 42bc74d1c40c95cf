"""What settings do to the gap between transformers and convolutions, and to the losses of transformers.

Book: chapter "Why do the transformers fail?".
"""

from __future__ import annotations

import pandas as pd

from isonb import studies
from isonb.evidence import NOT_RUN, metrics, statistics
from isonb.evidence.ledger import gap as ledger
from isonb.evidence.ledger import select
from isonb.evidence.ledger.finding import SEEDS
from isonb.pages.verdicts import Study, listed

TRANSFORMER, *_ = select.TRANSFORMERS  # the one with 1 head


def by_positions(t: metrics.Tables) -> pd.DataFrame:
    """Validation loss of 1-head transformers by the kind of their positions: one row per encoding and size.

    In nats per masked sub-pixel; means over the seeds that at least two kinds share. A kind that lacks one of these
    seeds waits for it.
    """
    kinds = {
        "none": "positions=none",
        "learned": metrics.MAIN,
        "learned (torch)": "initialisation=torch",
        "sincos": "positions=sincos",
    }
    runs = t.runs[(t.runs["network"] == TRANSFORMER) & t.runs["arm"].isin(kinds.values())]
    rows = []
    for (encoding, depth), cell in runs.groupby(["encoding", "depth"]):
        losses = cell.pivot(index="seed", columns="arm", values="validation_loss")
        shared = losses[losses.notna().sum(axis="columns") > 1]
        if shared.empty:
            continue
        means = shared.mean(skipna=False)
        shown = {kind: NOT_RUN if arm not in means else f"{means[arm]:.3f}" for kind, arm in kinds.items()}
        waiting = {kind: "waits for seeds" for kind, mean in shown.items() if mean == "nan"}
        rows.append({"transformer": f"{encoding}, size {depth}"} | shown | waiting | {"seeds": len(shared)})
    return pd.DataFrame(rows or [{"transformer": NOT_RUN}])


def by_length(t: metrics.Tables) -> str:
    """How much of what sines and cosines gain over learned positions is also gained by those that begin long, in words.

    Validation losses of 1-head transformers, over the seeds that have all three, where every seed gains from sines and
    cosines.
    """
    arms = {metrics.MAIN: "learned", "initialisation=torch": "long", "positions=sincos": "sincos"}
    runs = t.runs[(t.runs["network"] == TRANSFORMER) & t.runs["arm"].isin(arms)]
    clauses = []
    for (encoding, depth), cell in runs.groupby(["encoding", "depth"]):
        losses = cell.pivot(index="seed", columns="arm", values="validation_loss").rename(columns=arms)
        losses = losses.reindex(columns=list(arms.values())).dropna()
        gain_S = losses["learned"] - losses["sincos"]
        if len(losses) and (gain_S > 0).all():
            share_S = (losses["learned"] - losses["long"]) / gain_S
            low, high = statistics.student_interval(share_S)
            over = f", {low:.0%} to {high:.0%} over {len(losses)} seeds" if len(losses) > 1 else ", one seed"
            clauses.append(f"with {encoding} input and size {depth} {share_S.mean():.0%}{over}")
    if not clauses:
        return f"Learned positions that begin long, beside sines and cosines: {NOT_RUN}."
    return f"Of what sines and cosines gain over learned positions, those that begin long reach: {'; '.join(clauses)}."


def gap_shares(study: Study) -> pd.DataFrame:
    """What each setting does to the test loss by which the transformer trails the convolution: one row per setting.

    Gaps in nats per masked sub-pixel; shares with Student's interval over the seeds, where there are several. The last
    column has the share that the setting removes of the gap in accuracy.
    """
    of_loss, of_accuracy = (ledger.gap_shares(study.tables, column) for column in ("test_loss", "test_accuracy"))
    rows = [
        {"setting": name, **_share(of_loss.get(name)), "of accuracy's gap": _in_accuracy(of_accuracy.get(name))}
        for name in asked(study.name)
    ]
    return pd.DataFrame(rows or [{"setting": NOT_RUN}])


def asked(study: str) -> list[str]:
    """The arms of a study that are among the changes that C24 asks about, in its order; then the other encoding."""
    arms = ((metrics.arm(cell), cell.run.block) for cell in studies.cells(study))
    changes = ((name, ledger.change(name), block) for name, block in arms)
    names = dict.fromkeys(
        name for name, kind, block in changes if kind == "capacity" or (kind and block == "transformer")
    )
    return [*names, ledger.PIX2VEC]


def _mean(of_arm: ledger.GapShare) -> str:
    return "no gap" if of_arm.share_S is None else f"{of_arm.share_S.mean():.0%}"


def _interval(of_arm: ledger.GapShare) -> str:
    if of_arm.share_S is None:
        return "no gap"
    low, high = statistics.student_interval(of_arm.share_S)
    return f"{low:.0%} to {high:.0%}" if len(of_arm.share_S) > 1 else "takes a second seed"


def _in_accuracy(of_arm: ledger.GapShare | None) -> str:
    if of_arm is None:
        return NOT_RUN
    return _mean(of_arm) if of_arm.share_S is None else f"{_mean(of_arm)} ({_interval(of_arm)})"


def _share(of_arm: ledger.GapShare | None) -> dict[str, str]:
    if of_arm is None:
        return dict.fromkeys(("pairs", "gap", "gap with it", "share removed", "95 % interval"), NOT_RUN)
    seeds = len(of_arm.gap_S)
    return {
        "pairs": f"{of_arm.pairs}, {seeds} seed{'' if seeds == 1 else 's'}",
        "gap": f"{of_arm.gap_S.mean():.3f}",
        "gap with it": f"{of_arm.changed_S.mean():.3f}",
        "share removed": _mean(of_arm),
        "95 % interval": _interval(of_arm),
    }


def in_short(study: Study) -> pd.DataFrame:
    """The most that a change of each setting takes off the gap, with its interval, networks and seeds."""
    shares = {name: of_arm for name, of_arm in ledger.gap_shares(study.tables).items() if of_arm.share_S is not None}
    rows = []
    for kind in (*ledger.NEEDED, ledger.DATA):
        means = {name: of_arm.share_S.mean() for name, of_arm in shares.items() if ledger.change(name) == kind}
        if not means:
            rows.append({"change": kind} | dict.fromkeys(("of the gap removed", "networks", "seeds"), NOT_RUN))
            continue
        best = max(means, key=means.__getitem__)
        rows.append({
            "change": f"all images, not {best.split()[0]}" if kind == ledger.DATA else best,
            "of the gap removed": f"{_mean(shares[best])} ({_interval(shares[best])})",
            "networks": f"{', '.join(shares[best].by_encoding)}; size {listed(shares[best].sizes)}",
            "seeds": str(len(shares[best].share_S)),
        })  # fmt: skip
    return pd.DataFrame(rows)


def missing_shares(study: Study) -> str:
    """Which of the settings that C24 asks about have not run, and what runs them, in a sentence of Markdown."""
    table = gap_shares(study)
    left = table.loc[table.iloc[:, -1] == NOT_RUN, "setting"]
    seeds = {name: len(of_arm.gap_S) for name, of_arm in ledger.gap_shares(study.tables).items()}
    few = [name for name in table["setting"] if 0 < seeds.get(name, 0) < SEEDS]
    sentences = [
        f"{why}: {listed([f'`{name}`' for name in names])}."
        for why, names in ((NOT_RUN.capitalize(), list(left)), (f"Fewer than {SEEDS} seeds", few))
        if names
    ]
    return " ".join([*sentences, f"To run them: `{study.command}`"]) if sentences else "All settings have run."


def what_longer_training_gains(t: metrics.Tables) -> str:
    """What networks trained for more epochs gain in validation loss over the main ones, and in which order they come.

    Nats per masked sub-pixel; a longer run is compared with the main run of the same setting and seed, and the order
    is that of the networks that have both.
    """
    main = t.runs[t.runs["arm"] == metrics.MAIN]
    keys = ["network", "encoding", "depth", "seed"]
    shown = ["validation_loss", "epochs"]
    sentences = []
    for arm in [arm for arm in t.runs["arm"].unique() if ledger.change(arm) == "length"]:
        longer = t.runs[t.runs["arm"] == arm]
        both = main.set_index(keys)[shown].join(longer.set_index(keys)[shown].add_suffix(" of arm"), how="inner")
        for (encoding, depth), cell in both.groupby(level=["encoding", "depth"], sort=False):
            sentences.append(_longer(cell, str(encoding), int(depth)))
    return " ".join(sentences) or f"Longer training: {NOT_RUN}."


def _longer(both: pd.DataFrame, encoding: str, depth: int) -> str:
    """One sentence on the networks of one encoding and size: both losses of each, the seeds, and the orders."""
    seeds = both.groupby(level="network").size()
    means = both.groupby(level="network").mean()
    before, after = (list(means[name].sort_values().index) for name in ("validation_loss", "validation_loss of arm"))
    gains = ", ".join(
        f"{network} {row['validation_loss'] - row['validation_loss of arm']:.3f} (from {row['validation_loss']:.3f} to "
        f"{row['validation_loss of arm']:.3f})"
        for network, row in means.loc[before].iterrows()
    )
    if len(means) < 2:
        order = ""
    elif before == after:
        order = " The order of the networks stays the same."
    else:
        order = f" Their order changes from {listed(before)} to {listed(after)}."
    count = (
        f"{seeds.min()} seed{'s' if seeds.min() > 1 else ''}"
        if seeds.nunique() == 1
        else f"{seeds.min()} to {seeds.max()} seeds"
    )
    epochs, more = (int(both[name].iloc[0]) for name in ("epochs", "epochs of arm"))
    return (
        f"With {encoding} input and size {depth}, {more} epochs instead of {epochs} gain, in nats ({count}): {gains}."
        f"{order}"
    )
