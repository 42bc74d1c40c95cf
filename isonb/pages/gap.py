"""What settings do to the gap between transformers and convolutions, and to the losses of transformers.

Book: chapter "Why do the transformers fail?".
"""

from __future__ import annotations

import pandas as pd

from isonb import features, studies
from isonb.evidence import NOT_RUN, markup, metrics, selection, statistics
from isonb.evidence.figures.gap_bars import in_words
from isonb.evidence.ledger import gap as ledger
from isonb.evidence.ledger import select
from isonb.evidence.ledger.finding import SEEDS
from isonb.evidence.picture import name_of
from isonb.pages import findings
from isonb.pages.verdicts import Study

BY_POSITIONS = {"none": "positions=none", "learned": metrics.MAIN, "sincos": "positions=sincos"}  # arms, by their kind
TRANSFORMER, *_ = select.TRANSFORMERS  # the one with 1 head


def by_positions(t: metrics.Tables) -> pd.DataFrame:
    """Validation loss of transformers (1 head) by the kind of their positions: one row per encoding and size.

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
        shown |= {kind: "waits for seeds" for kind, mean in shown.items() if mean == "nan"}
        of_seeds = cell[cell["seed"].isin(shared.index)]
        shown |= {
            kind: selection.link(shown[kind], of_seeds[of_seeds["arm"] == arm], t.runs)
            for kind, arm in kinds.items()
            if shown[kind] not in (NOT_RUN, "waits for seeds")
        }
        rows.append({"transformer": f"{name_of(encoding)}, size {depth}"} | shown | {"seeds": len(shared)})
    return pd.DataFrame(rows or [{"transformer": NOT_RUN}])


def by_length(t: metrics.Tables) -> pd.DataFrame:
    """What 1-head transformers lose with positions that are `learned`, that begin `long`, and that are `sincos`.

    Validation losses in nats per masked sub-pixel, means over the seeds that have all three; `share` is the part of
    what sines and cosines gain over learned positions that those that begin long gain, too. One row per encoding and
    size at which every seed gains from sines and cosines.
    """
    arms = {metrics.MAIN: "learned", "initialisation=torch": "long", "positions=sincos": "sincos"}
    runs = t.runs[(t.runs["network"] == TRANSFORMER) & t.runs["arm"].isin(arms)]
    losses = runs.pivot(index=["encoding", "depth", "seed"], columns="arm", values="validation_loss")
    losses = losses.rename(columns=arms).reindex(columns=list(arms.values())).astype(float).dropna()
    losses["share"] = (losses["learned"] - losses["long"]) / (losses["learned"] - losses["sincos"])
    setting = ["encoding", "depth"]
    gains = (losses["learned"] > losses["sincos"]).groupby(level=setting).transform("all")
    return losses[gains].groupby(level=setting).mean()


def losses_by_positions(t: metrics.Tables) -> pd.DataFrame:
    """Validation loss of the smallest 1-head transformers without positions (`none`), with `learned` and with `sincos`.

    In nats per masked sub-pixel, means over the seeds that have all three; one row per encoding.
    """
    arms = {arm: name for name, arm in BY_POSITIONS.items()}
    runs = t.runs[(t.runs["network"] == TRANSFORMER) & (t.runs["depth"] == 1) & t.runs["arm"].isin(arms)]
    losses = runs.pivot(index=["encoding", "seed"], columns="arm", values="validation_loss").rename(columns=arms)
    return losses.reindex(columns=list(arms.values())).astype(float).dropna().groupby(level="encoding").mean()


def learned_positions(t: metrics.Tables) -> pd.DataFrame:
    """How alike learned positions are to their direct neighbours, `near`, and to all further ones, `apart`.

    Mean cosines; one row per transformer that kept them, with what `t.runs` says of it.
    """
    runs = selection.with_array(t, "positions_QN")
    runs = runs[runs["network"].isin(select.TRANSFORMERS)]
    maps = (features.unpack_positions(t.arrays[run_id]["positions_QN"]) for run_id in runs["run_id"])
    found = pd.DataFrame(map(features.near_and_apart, maps), columns=["near", "apart"], index=runs.index)
    return runs.assign(near=found["near"].astype(float), apart=found["apart"].astype(float))


def shares(study: Study) -> pd.Series:
    """The share of the loss gap between the transformer (1 head) and the convolution that each change removes, by arm.

    Means over seeds; missing for a change that C24 asks about and that has not run.
    """
    means = {
        name: of_arm.share_S.mean()
        for name, of_arm in ledger.gap_shares(study.tables).items()
        if of_arm.share_S is not None
    }
    return pd.Series(means, dtype=float).reindex(list(dict.fromkeys([*asked(study.name), *means])))


def shares_behind(study: Study) -> dict[str, object]:
    """The same by arm, for a sentence: each as a link to the runs that it rests on."""
    of_arms = ledger.gap_shares(study.tables)
    return {
        name: share
        if name not in of_arms
        else findings.behind(study.tables, ledger.behind(study.tables, name, of_arms[name]), it=share)["it"]
        for name, share in shares(study).items()
    }


def gap_shares(study: Study) -> pd.DataFrame:
    """What each setting that has run does to the test loss by which the transformer trails the convolution.

    One row per setting; `missing_shares` says which have not run. Gaps in nats per masked sub-pixel; shares with
    Student's interval over the seeds, where there are several. The last column has the share that the setting removes
    of the gap in accuracy.
    """
    of_loss, of_accuracy = (ledger.gap_shares(study.tables, column) for column in ("test_loss", "test_accuracy"))
    rows = [
        {
            "setting": in_words(name),
            **_linked(study.tables, name, _share(of_loss[name]), of_loss[name]),
            **_linked(study.tables, name, _in_accuracy(of_accuracy.get(name)), of_accuracy.get(name)),
        }
        for name in asked(study.name)
        if name in of_loss
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


def _linked(
    t: metrics.Tables, name: str, numbers: dict[str, str], of_arm: ledger.GapShare | None
) -> dict[str, str | markup.Link]:
    """Numbers about a share as links to the runs that it rests on; "not run" leads nowhere."""
    if of_arm is None:
        return dict(numbers)
    address = selection.of(ledger.behind(t, name, of_arm), t.runs)
    return {title: markup.Link(text, address) for title, text in numbers.items()}


def _in_accuracy(of_arm: ledger.GapShare | None) -> dict[str, str]:
    share = NOT_RUN if of_arm is None else _mean(of_arm)
    is_given = of_arm is not None and of_arm.share_S is not None
    return {"of accuracy's gap": f"{share} ({_interval(of_arm)})" if is_given else share}


def _share(of_arm: ledger.GapShare) -> dict[str, str]:
    seeds = len(of_arm.gap_S)
    return {
        "pairs": f"{of_arm.pairs}, {seeds} seed{'' if seeds == 1 else 's'}",
        "gap": f"{of_arm.gap_S.mean():.3f}",
        "gap with it": f"{of_arm.changed_S.mean():.3f}",
        "share removed": _mean(of_arm),
        "95 % interval": _interval(of_arm),
    }


def missing_shares(study: Study) -> str:
    """Which of the changes that C24 asks about have not run, and what runs them, in Markdown."""
    shares = ledger.gap_shares(study.tables)
    seeds = {name: len(shares[name].gap_S) if name in shares else 0 for name in asked(study.name)}
    left = {
        f"{NOT_RUN.capitalize()} yet": [name for name, count in seeds.items() if not count],
        f"With fewer than {SEEDS} seeds": [name for name, count in seeds.items() if 0 < count < SEEDS],
    }
    sentences = [f"{why}: {'; '.join(map(in_words, names))}." for why, names in left.items() if names]
    return " ".join([*sentences, f"To run them: `{study.command}`"]) if sentences else "All changes have run."


def longer(t: metrics.Tables) -> pd.DataFrame:
    """Validation losses of networks trained for more epochs beside those of the grid: one row per network and length.

    Nats per masked sub-pixel, means over the seeds that have both.
    """
    keys = ["encoding", "depth", "network", "seed"]
    is_longer = t.runs["arm"].map(ledger.change) == "length"
    main = t.runs[t.runs["arm"] == metrics.MAIN]
    both = main.merge(t.runs[is_longer], on=keys, suffixes=("", " with more"))
    shown = []
    for (encoding, depth, _, network), of in both.groupby(["encoding", "depth", "epochs with more", "network"]):
        row = {"encoding": name_of(encoding), "size": depth, "network": name_of(network)}
        for which in ("", " with more"):
            runs = t.runs[t.runs["run_id"].isin(of[f"run_id{which}"])]
            row[f"epochs{which}"] = runs["epochs"].iloc[0]
            row[f"loss{which}"] = selection.link(f"{runs['validation_loss'].mean():.3f}", runs, t.runs)
        shown.append(row | {"seeds": of["seed"].nunique()})
    return pd.DataFrame(shown)


def longer_or_how(study: Study) -> str:
    """The same as a Markdown table or, where no such network has run, what runs them."""
    shown = longer(study.tables)
    if len(shown):
        return markup.table(shown)
    return f"No network has been trained for longer yet. To train those of the study: `{study.command}`"
