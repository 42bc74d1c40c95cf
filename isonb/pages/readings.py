"""What the study `cpu` shows about each claim, in one sentence that a person wrote, beside what makes it true.

A reading holds on the project's own records; if one no longer does, the page says so and a test fails. Other studies
and other images have the verdict alone.

Book: chapters "Results", "Why do the transformers fail?" and "Verdict".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from isonb.evidence.ledger import pairing, select
from isonb.evidence.ledger.finding import Verdict
from isonb.evidence.metrics import Tables
from isonb.pages import findings
from isonb.pages.findings import Statement

Row = Mapping[str, Any]  # a claim's row, as `claims.as_rows` gives it
Reading = Callable[[Tables, Row], Statement]
HARDLY = 0.05  # nats
SUPPORTED, PARTLY, UNDETERMINED = Verdict.SUPPORTED, Verdict.PARTLY, Verdict.UNDETERMINED


def of(t: Tables, row: Row) -> Statement:
    """The sentence about the claim of a row of the study whose tables these are."""
    return READINGS[row["id"]](t, row)


def _statement(row: Row, sentence: str, is_so: Callable[[], bool], **numbers: object) -> Statement:
    """A sentence about a claim that has been judged; it may name its numbers, and `points` and `behind` in per cent."""
    shown = {name: math.nan if row[name] is None else row[name] for name in ("value", "low", "high")}
    shown |= {
        "points": 100 * shown["value"],
        "behind": -100 * shown["value"],
        "n": row["n"],
        "asked": row["seeds_asked"],
    }
    shown |= {"seeds": f"{row['seeds'] or 0} seed{'' if row['seeds'] == 1 else 's'}"}
    return Statement(sentence, None if row["verdict"] == Verdict.NOT_RUN else is_so(), **shown | numbers)


def _verdict(verdict: Verdict, sentence: str, also: Callable[[Row], bool] = lambda row: True) -> Reading:
    """A sentence that holds as long as a claim has this verdict and something else is so."""
    return lambda t, row: _statement(row, sentence, lambda: row["verdict"] == verdict and also(row))


def _not_run(sentence: str) -> Reading:
    """Why a claim has not been judged."""
    return lambda t, row: Statement(sentence, row["verdict"] == Verdict.NOT_RUN)


def _judged(row: Row, pair: str = "", encodings: tuple[str, ...] = ()) -> list[int]:
    """The signs of a claim's settings that have the seeds it asks for: 1 clearly so, -1 clearly not so, 0 not clear.

    Of those whose pair begins as given, and whose encoding is among the given ones if there are any.
    """
    return [
        cell["sign"]
        for cell in row["map"]
        if cell["seeds"] >= row["seeds_asked"]
        and cell["pair"].startswith(pair)
        and (not encodings or cell["encoding"] in encodings)
    ]


def _all_clear(signs: list[int]) -> bool:
    return set(signs) == {1}


def _is_ahead(signs: list[int]) -> bool:
    """Whether some settings are clearly as claimed, and none is clearly not."""
    return 1 in signs and -1 not in signs


def _has_no_sign(row: Row) -> bool:
    """Whether the interval of a claim's value has both signs, or is missing."""
    return row["low"] is None or row["low"] < 0 < row["high"]


def _is_so(row: Row, *parts: str) -> bool:
    """Whether these parts of a claim are among those that are supported."""
    return set(parts) <= set(row["so"])


def _reconstruction(t: Tables, row: Row) -> Statement:
    runs = select.grid(select.replicated(t, row["seeds_asked"]))
    near = select.setting_means(runs, "share_within_8").groupby("network")["share_within_8"].mean()
    return _statement(
        row,
        "The convolution fills in hidden pixels best in every setting: it gets {conv:.0%} of the sub-pixels right to "
        "within 8 levels, the mixer {mixer:.0%} and the transformer (1 head) {transformer:.0%}. Whether a mixer's "
        "colours are closer to the truth than a transformer's depends on the encoding.",
        lambda: row["verdict"] == PARTLY and _all_clear(_judged(row, "conv before ")),
        **{
            name.removesuffix("-1"): findings.behind(t, runs[runs["network"] == name], it=near.get(name, math.nan))[
                "it"
            ]
            for name in select.BLOCK_ORDER
        },
    )


def _order_of_losses(t: Tables, row: Row) -> Statement:
    of_mixer = {encoding: _judged(row, "mixer before ", (encoding,)) for encoding in select.ENCODINGS}
    signs = _judged(row, "conv before ")
    return _statement(
        row,
        "The convolution has the lowest loss in all {settings} settings. Whether a mixer comes before a transformer "
        "depends on the encoding: with random Fourier features it does, with continuous input and pix2vec it does not.",
        lambda: (
            _all_clear(signs)
            and _is_ahead(of_mixer["rff"])
            and all(_is_ahead([-sign for sign in of_mixer[name]]) for name in ("continuous", "pix2vec"))
        ),
        settings=len(signs),
    )


def _order_of_accuracies(t: Tables, row: Row) -> Statement:
    of_conv, of_mixer = _judged(row, "conv before "), _judged(row, "mixer before ")
    return _statement(
        row,
        "The convolution's features are clearly better than the mixer's in {clear} of {settings} settings; the mixer's "
        "are clearly better than a transformer's in none.",
        lambda: _is_ahead(of_conv) and 1 not in of_mixer,
        clear=of_conv.count(1),
        settings=len(of_conv),
    )


def _gain(t: Tables, row: Row) -> Statement:
    signs = _judged(row)
    return _statement(
        row,
        "Pre-training clearly improves the features in {clear} of {settings} settings. In the others what it adds "
        "cannot be told from nothing, and nowhere does it clearly do harm.",
        lambda: _is_ahead(signs) and 0 in signs,
        clear=signs.count(1),
        settings=len(signs),
    )


def _gain_by_what_is_built_in(t: Tables, row: Row) -> Statement:
    if row["verdict"] == Verdict.NOT_RUN:
        return Statement("", None)
    runs = select.grid(select.with_twins(t))
    gain = 100 * runs.groupby("encoding")["gain"].mean().reindex(list(select.ENCODINGS))
    return _statement(
        row,
        "Pre-training adds most with pix2vec ({pix2vec:.1f} points, against {continuous:.1f} with continuous input and "
        "{rff:.1f} with random Fourier features). That it adds more to a mixer or a transformer than to a convolution "
        "does not show.",
        lambda: row["verdict"] == PARTLY and gain.idxmax() == "pix2vec",
        **findings.behind_each(t, runs, "encoding", gain),
    )


def _size(t: Tables, row: Row) -> Statement:
    means = select.setting_means(select.grid(t)).pivot(
        index=["network", "encoding"], columns="depth", values="validation_loss"
    )
    by_size = means.reindex(columns=list(select.SIZES)).dropna().mean()
    falls = by_size.iloc[0] - by_size.iloc[-1]
    return _statement(
        row,
        "From the smallest to the largest size accuracy rises by {points:.1f} points on average, and the loss hardly "
        "falls ({falls:.2f} nats); with {seeds} of the largest size either may be chance.",
        lambda: row["verdict"] == UNDETERMINED and row["value"] > 0 and abs(falls) < HARDLY,
        falls=falls,
    )


def _equal_parameters(t: Tables, row: Row) -> Statement:
    signs = _judged(row)
    losses = select.grid(t).pivot_table(index="encoding", columns=["network", "depth"], values="validation_loss")
    others = [losses[name, 3] for name in select.TRANSFORMERS if (name, 3) in losses]
    return _statement(
        row,
        "With as many parameters as a transformer has, the convolution still has the lower loss with every encoding; "
        "its features are clearly better in {clear} of {comparisons} comparisons.",
        lambda: (
            row["verdict"] == PARTLY
            and ("conv", 1) in losses
            and all((losses["conv", 1] < other).all() for other in others)
        ),
        clear=signs.count(1),
        comparisons=len(signs),
    )


def _sigma(t: Tables, row: Row) -> Statement:
    signs, loss = _judged(row), pairing.by_sigma(t, "validation_loss")
    if not signs or loss.empty:
        return Statement("Too few networks with another sigma have been trained yet.", True)
    return _statement(
        row,
        "Sigma 1 lies between the two. In loss it is ahead of 0.1 and behind 10 with every block and seed; in features "
        "it is clearly better in {clear} of {comparisons} comparisons and clearly worse in {worse}.",
        lambda: bool((loss.diff(axis="columns").iloc[:, 1:] < 0).all(axis=None)),
        clear=signs.count(1),
        worse=signs.count(-1),
        comparisons=len(signs),
    )


def _largest_size(t: Tables, row: Row) -> Statement:
    if row["verdict"] == Verdict.NOT_RUN:
        return Statement("No networks of size 12 are there to be compared.", True)
    signs = _judged(row)
    return _statement(
        row,
        "At size 12 the order is clearly that of the paper in {clear} of {settings} settings.",
        lambda: bool(signs),
        clear=signs.count(1),
        settings=len(signs),
    )


READINGS: dict[str, Reading] = {
    "C1": _reconstruction,
    "C2": _verdict(
        PARTLY,
        "One-hot features keep nothing of the distance of two pixel values, and random Fourier features of sigma 1 "
        "keep it among values that are near. Continuous input keeps it if distance is what is drawn, and only in part "
        "if it is the cosine, as the caption says.",
        lambda row: _is_so(row, "one-hot destroys it", "continuous keeps it, read as distance"),
    ),
    "C3": _verdict(SUPPORTED, "Everything that the caption says of sigma 0.1, 1 and 10, and of its limits, is so."),
    "C4": _verdict(
        PARTLY,
        "Rank rises with sigma and up to one-hot features, as the caption says. Continuous input has the lowest rank "
        "only if the single number is meant: features with the distances of the picture would rank above sigma 1 with "
        "its {value:.0f}.",
    ),
    "C5": _order_of_losses,
    "C6": _order_of_accuracies,
    "C7": _verdict(
        PARTLY,
        "Over all networks together a lower loss goes with better features, but less strongly than the paper says "
        "(a rank correlation of {value:.2f}), and blocks that lie apart are enough for that.",
        lambda row: row["high"] < 0,
    ),
    "C8": _verdict(
        PARTLY,
        "With the same encoding a lower loss goes with better features. Among the settings of one network it does not: "
        "the correlation there is {value:.2f}.",
        lambda row: _has_no_sign(row) and _is_so(row, "inside encodings"),
    ),
    "C9": _verdict(
        SUPPORTED,
        "At equal loss continuous input gives better features than random Fourier features do, and these better ones "
        "than pix2vec. What training adds to an untrained network does not follow that order.",
        lambda row: row["gain_verdict"] not in (None, SUPPORTED),
    ),
    "C10": _verdict(
        UNDETERMINED,
        "The best network with pix2vec is {behind:.1f} points behind the best other one; with {seeds} of the largest "
        "networks that may be chance.",
        lambda row: row["value"] < 0,
    ),
    "C11": _size,
    "C12": _verdict(
        UNDETERMINED, "The middle of a convolution is not clearly better than both of its ends.", _has_no_sign
    ),
    "C13": _verdict(
        UNDETERMINED,
        "With {seeds} of the mixer of size 6, where the rule asks for {asked}, random Fourier features are clearly "
        "ahead at no layer.",
    ),
    "C14": _verdict(
        UNDETERMINED,
        "The best layer with pix2vec is {points:.1f} points ahead of the worst, in {seeds} where the rule asks for "
        "{asked}.",
    ),
    "C15": _verdict(
        UNDETERMINED,
        "With {seeds} of the transformer (1 head) of size 6, where the rule asks for {asked}, pix2vec is clearly ahead "
        "at no layer.",
    ),
    "C16": _verdict(
        PARTLY,
        "How much an encoding helps depends on the block, but no two blocks clearly prefer different ones.",
        lambda row: _is_so(row, "interaction"),
    ),
    "C17": _verdict(
        PARTLY,
        "The tables of mixers keep more of the distance than those of the transformer (1 head). That convolutions keep "
        "the most does not show: in this sample mixers keep more.",
        lambda row: row["value"] < 0 and _is_so(row, "mixer above transformer-1"),
    ),
    "C18": _verdict(
        UNDETERMINED,
        "No relation shows between what a table keeps of the distance and the accuracy (a rank correlation of "
        "{value:.2f}, between {low:.2f} and {high:.2f}).",
        _has_no_sign,
    ),
    "C19": _verdict(
        SUPPORTED,
        "It is so by arithmetic: some two of 256 vectors in 128 dimensions have a cosine of {value:.3f} or more, and "
        "in random tables of {low:.2f} or more.",
    ),
    "C20": _verdict(
        UNDETERMINED,
        "Predicting the value out of 256 and regressing it give features that cannot be told apart ({points:+.1f} "
        "points).",
        _has_no_sign,
    ),
    "C21": _verdict(
        SUPPORTED,
        "What attention keeps in memory grows at least with the power {value:.1f} of the number of positions, close to "
        "the square; the mixer's memory grows much more slowly.",
    ),
    "C22": _verdict(SUPPORTED, "Untrained blocks keep and break shifts and permutations just as the paper says."),
    "C23": _verdict(
        PARTLY,
        "Blocks have equally many non-linearities, but the transformer's largest activation, its attention, is "
        "{value:.0f} times that of the others.",
    ),
    "C24": _not_run("Open: the changes that could put the gap down to one or the other do not all have three seeds."),
    "C25": _verdict(
        SUPPORTED,
        "The convolution with continuous input is ahead of either transformer with pix2vec by {points:.1f} points or "
        "more. Of what training adds to the features the opposite is true.",
        lambda row: row["gain_value"] is not None and row["gain_value"] < 0,
    ),
    "C27": _largest_size,
    "C28": _verdict(
        UNDETERMINED,
        "The middle of a transformer is not clearly better than both of its ends ({points:+.1f} points against the "
        "better end).",
        _has_no_sign,
    ),
    "C29": _verdict(
        UNDETERMINED,
        "In the transformers that were probed along the way, loss and accuracy do not clearly move together (a rank "
        "correlation of {value:.2f}, between {low:.2f} and {high:.2f}).",
        _has_no_sign,
    ),
    "C30": _verdict(
        UNDETERMINED,
        "Where sizes can be compared at equal loss, the larger transformer is {points:.1f} points ahead, which may be "
        "chance.",
        lambda row: row["value"] > 0 and _has_no_sign(row),
    ),
    "C31": _verdict(
        UNDETERMINED,
        "On the probe, autoregression and masked prediction are not clearly apart ({points:+.1f} points for "
        "autoregression).",
        _has_no_sign,
    ),
    "C32": _not_run(
        "As long as it is open which of the two is behind on the probe, there is nothing to catch up with."
    ),
    "C33": _not_run("Fine-tuning lasted too few epochs for an answer."),
    "C34": _not_run("Fine-tuning lasted too few epochs for an answer."),
    "C35": _verdict(
        SUPPORTED,
        "In 512 colours the test images keep {value:.1f} dB of signal over error, where the rule asks for 25, with a "
        "third of the tokens.",
    ),
    "C36": _verdict(
        UNDETERMINED,
        "In {value:.0%} of {n} networks the class is best read at an earlier layer than the pixels are; so few cannot "
        "decide.",
    ),
    "C37": _gain,
    "C38": _gain_by_what_is_built_in,
    "C39": _equal_parameters,
    "C40": _sigma,
    "C41": _not_run("Networks as small as these cannot test it."),
}
