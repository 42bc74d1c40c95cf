"""What settings make of the gap between transformers and convolutions, and of the losses of transformers.

Book: chapter "Why do the transformers fail?".
"""

from __future__ import annotations

import pandas as pd

from isonb import studies
from isonb.evidence import metrics, statistics
from isonb.evidence.ledger import scale
from isonb.evidence.ledger.finding import SEEDS, Verdict
from isonb.pages.verdicts import Study, listed

NOT_RUN = str(Verdict.NOT_RUN)


def by_positions(t: metrics.Tables) -> pd.DataFrame:
    """Validation loss of 1-head transformers by what tells them where a pixel is: a row for each encoding and size.

    In nats per masked sub-pixel; means over the most seeds that two kinds have in common. A kind that lacks one of
    them waits for it.
    """
    kinds = {
        "none": "positions=none",
        "learned": metrics.MAIN,
        "learned (torch)": "initialisation=torch",
        "sincos": "positions=sincos",
    }
    runs = t.runs[(t.runs["network"] == "transformer-1") & t.runs["arm"].isin(kinds.values())]
    rows = []
    for (encoding, depth), cell in runs.groupby(["encoding", "depth"]):
        losses = cell.pivot(index="seed", columns="arm", values="validation_loss")
        shared = losses[losses.notna().sum(axis="columns") > 1]
        if shared.empty:
            continue
        means = shared.mean(skipna=False)
        said = {kind: NOT_RUN if arm not in means else f"{means[arm]:.3f}" for kind, arm in kinds.items()}
        waiting = {kind: "waits for seeds" for kind, mean in said.items() if mean == "nan"}
        rows.append({"transformer": f"{encoding}, size {depth}"} | said | waiting | {"seeds": len(shared)})
    return pd.DataFrame(rows or [{"transformer": NOT_RUN}])


def by_length(t: metrics.Tables) -> str:
    """How much of what sines and cosines gain over learned positions those reach that begin long, in words.

    1-head transformers, validation loss, over the seeds that have all three; where sines and cosines gain with each.
    """
    arms = {metrics.MAIN: "learned", "initialisation=torch": "long", "positions=sincos": "sincos"}
    runs = t.runs[(t.runs["network"] == "transformer-1") & t.runs["arm"].isin(arms)]
    said = []
    for (encoding, depth), cell in runs.groupby(["encoding", "depth"]):
        losses = cell.pivot(index="seed", columns="arm", values="validation_loss").rename(columns=arms)
        losses = losses.reindex(columns=list(arms.values())).dropna()
        gain_S = losses["learned"] - losses["sincos"]
        if len(losses) and (gain_S > 0).all():
            share_S = (losses["learned"] - losses["long"]) / gain_S
            low, high = statistics.student_interval(share_S)
            over = f", {low:.0%} to {high:.0%} over {len(losses)} seeds" if len(losses) > 1 else ", one seed"
            said.append(f"with {encoding} input and size {depth} {share_S.mean():.0%}{over}")
    if not said:
        return f"Learned positions that begin long, beside sines and cosines: {NOT_RUN}."
    return f"Of what sines and cosines gain over learned positions, those that begin long reach: {'; '.join(said)}."


def gap_shares(study: Study) -> pd.DataFrame:
    """What each setting does to the test loss by which the transformer trails the convolution: a row a setting.

    Gaps in nats per masked sub-pixel; shares with Student's interval over the seeds, where there are several. The last
    column has the share of the gap in accuracy that it removes.
    """
    found, of_accuracy = (scale.gap_shares(study.tables, column) for column in ("test_loss", "test_accuracy"))
    arms = dict.fromkeys(metrics.arm(cell) for cell in studies.cells(study.profile))
    rows = [
        {"setting": name, **_share(found.get(name)), "of accuracy's gap": _in_accuracy(of_accuracy.get(name))}
        for name in arms
        if scale.is_asked(name)
    ]
    return pd.DataFrame(rows or [{"setting": NOT_RUN}])


def _mean(found: scale.GapShare) -> str:
    return "no gap" if found.share_S is None else f"{found.share_S.mean():.0%}"


def _interval(found: scale.GapShare) -> str:
    if found.share_S is None:
        return "no gap"
    low, high = statistics.student_interval(found.share_S)
    return f"{low:.0%} to {high:.0%}" if len(found.share_S) > 1 else "takes a second seed"


def _in_accuracy(found: scale.GapShare | None) -> str:
    if found is None:
        return NOT_RUN
    return _mean(found) if found.share_S is None else f"{_mean(found)} ({_interval(found)})"


def _share(found: scale.GapShare | None) -> dict[str, str]:
    if found is None:
        return dict.fromkeys(("pairs", "gap", "gap with it", "share removed", "95 % interval"), NOT_RUN)
    seeds = len(found.gap_S)
    return {
        "pairs": f"{found.pairs}, {seeds} seed{'' if seeds == 1 else 's'}",
        "gap": f"{found.gap_S.mean():.3f}",
        "gap with it": f"{found.changed_S.mean():.3f}",
        "share removed": _mean(found),
        "95 % interval": _interval(found),
    }


def in_short(study: Study) -> pd.DataFrame:
    """The most that a change of each setting takes off the gap, with its interval and how much it was seen in."""
    found = {name: one for name, one in scale.gap_shares(study.tables).items() if one.share_S is not None}
    rows = []
    for setting in scale.SETTINGS:
        of_setting = {name: one.share_S.mean() for name, one in found.items() if name.startswith(setting)}
        if not of_setting:
            rows.append({"change": setting} | dict.fromkeys(("of the gap removed", "networks", "seeds"), NOT_RUN))
            continue
        best = max(of_setting, key=of_setting.__getitem__)
        rows.append({
            "change": f"all images, not {best.split()[0]}" if setting == "data_fraction" else best,
            "of the gap removed": f"{_mean(found[best])} ({_interval(found[best])})",
            "networks": f"{', '.join(found[best].by_encoding)}; size {listed(found[best].sizes)}",
            "seeds": str(len(found[best].share_S)),
        })  # fmt: skip
    return pd.DataFrame(rows)


def missing_shares(study: Study) -> str:
    """Which of the settings asked about have not run, and what runs them, in a sentence of Markdown."""
    table = gap_shares(study)
    left = table.loc[table.iloc[:, -1] == NOT_RUN, "setting"]
    seeds = {name: len(one.gap_S) for name, one in scale.gap_shares(study.tables).items()}
    few = [name for name in table["setting"] if 0 < seeds.get(name, 0) < SEEDS]
    said = [
        f"{why}: {listed([f'`{name}`' for name in names])}."
        for why, names in (("Not run", list(left)), (f"Fewer than {SEEDS} seeds", few))
        if names
    ]
    return " ".join([*said, f"To run them: `{study.command}`"]) if said else "All settings have run."
