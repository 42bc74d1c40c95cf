"""What `make bench` measured, as tables: speed of a training step, its parts, several processes, and memory.

Only ratios are shown beside a machine's name: contestants took turns, so what slowed one slowed the others.

Book: chapters "Training" and "Probing".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd
import scipy  # which loads its parts when they are asked for

from isonb import disk
from isonb import rows as study_rows
from isonb.evidence import NOT_RUN
from isonb.evidence.markup import as_table, escaped, or_the_fault
from isonb.evidence.measurements import Row, machine_of, palette_arrays, rows
from isonb.evidence.statistics import LEVEL, Interval, wilson

KEPT = "attention, every weight kept"  # attention as the paper computed it
EFFICIENT = "attention, memory-efficient"
ALONE = "attention's weights alone"  # the difference of the two
NOISE, DECIDED = "noise", ("supported", "partly", "contradicted")


@or_the_fault(escaped)
def machine(part: str) -> str:
    """One sentence about the machine that measured a part, in Markdown."""
    about = machine_of(part)
    if about is None:
        return f"{part}: {NOT_RUN}"
    units = " and ".join(name for name in ("amx", "avx512_bf16") if about[name]) or "no bfloat16 units"
    return (
        f"Measured on {escaped(about['processor'])} with {units}, {about['threads']} of {about['cores']} cores, "
        f"torch {escaped(about['torch'])}; load average {about['load']:.1f} at the start."
    )


def _ratio(value: dict[str, float] | None) -> str:
    """The median of the rounds, with the least and the greatest in brackets."""
    return "{median:.1f} ({least:.1f} to {greatest:.1f})".format(**value) if value else NOT_RUN


def _against_peer(step: str) -> Callable[[Row], str]:
    """The ratio to a library's network; a library's mixer has our objective and outputs: one step is all there is."""
    return lambda row: _ratio(row["speed_up"].get("trainer" if row["block"] == "mixer" else step))


def _heads(row: Row) -> str | int:
    return row["heads"] if study_rows.BLOCKS[row["block"]].has_heads else "none"


def _size(whose: str) -> Callable[[Row], str]:
    def in_words(row: Row) -> str:
        if row["outputs"] is None:
            return NOT_RUN
        block, whole = (row[name][whose] for name in ("parameters_per_block", "parameters"))
        parts, values = row["outputs"][whose]
        return f"{block:,} parameters a block, {whole:,} in all; {parts} x {values} values a pixel"

    return in_words


def _apart(row: Row) -> str:
    return f"{np.abs(np.subtract(row['losses']['auto'], row['losses']['plain'])).max():.3f}"


def _change(value: dict[str, float]) -> float:
    return value["bfloat16"] - value["float32"]


def _spread(seeds: Row, name: str, factor: float, form: str) -> str:
    return NOT_RUN if seeds[name] is None else f"{format(factor * seeds[name], form)} ({seeds['count']} seeds)"


def _counts(row: Row) -> Iterator[Row]:
    """The passes of images through the network, and the processor seconds, of all layers at once and plainly."""
    for name, shown, spec in (("passes", "passes", ",d"), ("seconds", "processor seconds", ".0f")):
        ours, paper = (row[name][whose] for whose in ("ours", "paper"))
        yield row | {"of": shown, "ours": f"{ours:{spec}}", "paper": f"{paper:{spec}}", "ratio": paper / ours}


def _layers(row: Row) -> Iterator[Row]:
    """The accuracies of the classifiers that both solvers found, by layer, and of Adam's without whitening."""
    solvers = ("adam", "lbfgs", "not_whitened")
    of_layers = zip(
        *(row["accuracies"][name] or [None] * len(row["accuracies"]["adam"]) for name in solvers), strict=True
    )
    for layer, accuracies in enumerate(of_layers):
        yield row | {"layer": layer} | dict(zip(solvers, accuracies, strict=True))


SEVERAL = {"probing": _counts, "solvers": _layers}  # parts of which a measured row becomes several of the table
BLOCK = {"block": itemgetter("block")}
SIZE = BLOCK | {"size": itemgetter("depth")}
BATCH = SIZE | {"batch": itemgetter("batch")}
NETWORK = {"network": "{block}, size {depth}".format_map}
COLUMNS: dict[str, dict[str, Callable[[Row], Any]]] = {
    # How many times as many images a second as the plain form; the largest difference of a step's losses, in nats.
    "steps": BATCH
    | {
        "ours": lambda row: _ratio(row["speed_up"]["auto"]),
        "in processor time": "{speed_up[auto][processor_time]:.1f}".format_map,
        "ours in float32": lambda row: _ratio(row["speed_up"].get("float32")),
        "loss differs by": "{loss_difference[auto]:.0e}".format_map,
    },
    # How many times as many with torch.compile, and the seconds until its first step is done.
    "compiled": BATCH
    | {
        "compiled": lambda row: _ratio(row["speed_up"]),
        "first step": "{first_step_seconds:.0f} s".format_map,
    },
    # The loss in nats after the same steps of the trainer and of the plain form, how far they came apart, and by how
    # much a loss changes from one batch to the next, in the median.
    "curves": BLOCK
    | {
        "steps": lambda row: len(row["losses"]["auto"]),
        "loss at first": "{losses[auto][0]:.3f}".format_map,
        "ours at last": lambda row: f"{row['losses']['auto'][-1]:.3f}",
        "plain at last": lambda row: f"{row['losses']['plain'][-1]:.3f}",
        "at most apart": _apart,
        "from batch to batch": lambda row: f"{np.median(np.abs(np.diff(row['losses']['plain']))):.3f}",
    },
    # Seconds of training that `estimate` predicted, those that it took, and the error.
    "forecast": SIZE
    | {
        "images": "{images:,}".format_map,
        "predicted": "{predicted_seconds:.0f} s".format_map,
        "measured": "{measured_seconds:.0f} s".format_map,
        "error": lambda row: f"{row['predicted_seconds'] / row['measured_seconds'] - 1:+.0%}",
    },
    # How many times as many images a second as other libraries' networks of equal size. "same objective" is the trainer
    # with the library's own objective, "same outputs" the same with its outputs, too.
    "peers": {
        "library": itemgetter("library"),
        "heads": _heads,
        "size": itemgetter("depth"),
        "same objective": _against_peer("autoregressive"),
        "same outputs": _against_peer("palette"),
        "our BERT step": _against_peer("trainer"),
        "their network": _size("peer"),
        "our network": _size("ours"),
    },
    # Where a step's time goes, and what share of the machine's measured rate of matrix products it reaches.
    "profile": SIZE
    | {
        "share of the product rate": "{share_of_rate:.0%}".format_map,
        "time goes to": lambda row: ", ".join(f"{name} {share:.0%}" for name, share in list(row["shares"].items())[:4]),
    },
    # Images a second of two processes, over twice those of one.
    "processes": SIZE
    | {
        "global batch": itemgetter("batch"),
        "processes": itemgetter("processes"),
        "efficiency": "{efficiency[median]:.2f} ({efficiency[least]:.2f} to {efficiency[greatest]:.2f})".format_map,
        "in processor time": "{efficiency_processor_time:.2f}".format_map,
        "two that share nothing": "{efficiency_apart:.2f}".format_map,
        "loss differs by": "{loss_difference:.0e}".format_map,
    },
    # What changes from float32 to bfloat16, in nats and in points, beside the study's standard deviation over seeds.
    "precision": NETWORK
    | {
        "encoding": itemgetter("encoding"),
        "loss in float32": "{validation_loss[float32]:.4f}".format_map,
        "bfloat16 changes it by": lambda row: f"{_change(row['validation_loss']):+.4f}",
        "spread of seeds": lambda row: _spread(row["seeds"], "validation_loss", 1, ".4f"),
        "accuracy in float32": "{accuracy[float32]:.1%}".format_map,
        "bfloat16 changes that by": lambda row: f"{100 * _change(row['accuracy']):+.1f}",
        "spread of its seeds": lambda row: _spread(row["seeds"], "accuracy", 100, ".1f"),
    },
    # How many times as fast as by whole passes lower halves are drawn; outputs are compared with the largest.
    "samples": SIZE
    | {"as fast": lambda row: _ratio(row["speed_up"]), "outputs differ by": "{difference:.0e}".format_map},
    # What probing all layers at once takes, and the plain procedure.
    "probing": NETWORK
    | {
        "of": itemgetter("of"),
        "at once": itemgetter("ours"),
        "plainly": itemgetter("paper"),
        "times as many": "{ratio:.0f}".format_map,
    },
    # Test accuracy by layer of the classifiers that Adam and L-BFGS found, the difference in points, and that of Adam's
    # without whitening.
    "solvers": NETWORK
    | {
        "layer": itemgetter("layer"),
        "Adam": "{adam:.1%}".format_map,
        "L-BFGS": "{lbfgs:.1%}".format_map,
        "differ by": lambda row: f"{100 * abs(row['adam'] - row['lbfgs']):.1f} points",
        "Adam, not whitened": lambda row: NOT_RUN if row["not_whitened"] is None else f"{row['not_whitened']:.1%}",
    },
}


@or_the_fault(as_table)
def table(part: str, *more: str) -> pd.DataFrame:
    """What was measured of a part, and of more that have the same columns; `COLUMNS` says what they mean."""
    measured = [one for name in (part, *more) for row in rows(name) for one in SEVERAL.get(name, _alone)(row)]
    cells = [{title: shown(row) for title, shown in COLUMNS[part].items()} for row in measured]
    return pd.DataFrame(cells or [{next(iter(COLUMNS[part])): NOT_RUN}])


def _alone(row: Row) -> Iterator[Row]:
    yield row


def memory() -> pd.DataFrame:
    """One row per measured training step: `kind`, `positions`, `batch`, `peak_bytes`. Empty where none was measured."""
    return pd.DataFrame(rows("memory"))


def weights_alone(measured: pd.DataFrame) -> pd.DataFrame:
    """What keeping attention's weights adds to a step's memory: that of its memory-efficient twin is subtracted.

    Rows and columns as in `memory`; none where the twin has not been measured or needs as much.
    """
    is_kept = measured["kind"].str.startswith(KEPT)
    kept, twins = measured[is_kept], measured.set_index(["kind", "positions", "batch"])["peak_bytes"]
    keys = zip(kept["kind"].str.replace(KEPT, EFFICIENT), kept["positions"], kept["batch"], strict=True)
    alone = kept.assign(
        kind=kept["kind"].str.replace(KEPT, ALONE),
        peak_bytes=kept["peak_bytes"] - [twins.get(key, np.nan) for key in keys],
    )
    return alone[alone["peak_bytes"] > 0]


@or_the_fault(as_table)
def memory_by_positions() -> pd.DataFrame:
    """Peak MiB of a training step by number of positions, and the slope of its logarithm against theirs.

    Below, what keeping attention's weights adds.
    """
    measured = memory()
    if measured.empty:
        return pd.DataFrame([{"kind": NOT_RUN}])
    measured = pd.concat([measured, weights_alone(measured)])
    shown = []
    for (kind, batch), part in measured.groupby(["kind", "batch"], sort=False):
        sizes = {f"{row.positions} positions": f"{row.peak_bytes / disk.MEBIBYTE:.0f} MiB" for row in part.itertuples()}
        slope, _ = memory_slope(part)
        shown.append({"kind": kind, "batch": batch, **sizes, "slope": "-" if np.isnan(slope) else f"{slope:.2f}"})
    return pd.DataFrame(shown)


def memory_slope(part: pd.DataFrame, level: float = LEVEL) -> tuple[float, Interval]:
    """The slope of log peak memory against log positions, common to one line per batch size, and its interval.

    Least squares; Student's t, with as many degrees of freedom as there are measurements beyond the slope and the
    lines' heights. Unbounded without one; NaN where all are of one number of positions.
    """
    x, y = np.log(part["positions"].to_numpy(float)), np.log(part["peak_bytes"].to_numpy(float))
    batch = part["batch"].to_numpy()
    x, y = (values - pd.Series(values).groupby(batch).transform("mean").to_numpy() for values in (x, y))
    if not x @ x:
        return np.nan, (-np.inf, np.inf)
    slope = float(x @ y / (x @ x))
    freedom = len(x) - len(np.unique(batch)) - 1
    if freedom < 1:
        return slope, (-np.inf, np.inf)
    error = np.sqrt(np.sum((y - slope * x) ** 2) / freedom / (x @ x))
    half = float(scipy.stats.t.ppf((1 + level) / 2, freedom) * error)
    return slope, (slope - half, slope + half)


@or_the_fault(as_table)
def repeat() -> pd.DataFrame:
    """One row per finished cell that was run again: how much its records were compared, and how much differs."""
    again = [
        {"cell": row["run_id"], "numbers and words": row["numbers"], "arrays": row["arrays"],
         "that differ": len(row["different"])}
        for row in rows("repeat")
    ]  # fmt: skip
    return pd.DataFrame(again or [{"cell": NOT_RUN}])


def equivariance() -> pd.DataFrame:
    """One row per block and change of order: the relative `error`. Empty where none was measured."""
    return pd.DataFrame(rows("equivariance"))


def palette() -> pd.DataFrame:
    """One row per test image in the palette's colours: `psnr` in dB, `colour_error`, `tokens` and `sub_pixels`.

    Empty where no palette was fitted.
    """
    images = [
        pd.DataFrame({"psnr": arrays["psnr_B"], "colour_error": arrays["colour_error_B"]}).assign(
            tokens=row["tokens"], sub_pixels=row["sub_pixels"], data=row["data"], colours=row["colours"]
        )
        for row in rows("palette")
        for arrays in [palette_arrays()]
    ]
    return pd.concat(images) if images else pd.DataFrame()


@or_the_fault(escaped)
def probing_in_words() -> str:
    """What the tables of probing and of solvers show, in a sentence or two of Markdown."""
    sentences = []
    for row in rows("probing"):
        passes, seconds = (row[what]["paper"] / row[what]["ours"] for what in ("passes", "seconds"))
        apart = max(abs(a - b) for a, b in zip(row["accuracies"]["ours"], row["accuracies"]["paper"], strict=True))
        differ = (
            f"no layer's accuracy differs by more than {100 * apart:.1f} points" if apart else "all accuracies agree"
        )
        sentences.append(
            f"At size {row['depth']}, for {row['images']} crops of the photographs, that is {passes:.0f} times fewer "
            f"passes and {seconds:.0f} times less processor time, judging by one epoch of each layer; on a small "
            f"network, where both were carried out in full, {differ} ({row['test_images']} test crops)."
        )
    for row in rows("solvers"):
        adam, lbfgs = row["accuracies"]["adam"], row["accuracies"]["lbfgs"]
        apart = max(abs(a - b) for a, b in zip(adam, lbfgs, strict=True))
        sentences.append(
            f"Adam and L-BFGS, on {row['train_images']:,} training images of {escaped(row['data'])}, are at most "
            f"{100 * apart:.1f} points apart on {row['test_images']:,} test images.{_whitening(row)}"
        )
    return " ".join(sentences) or NOT_RUN


def _whitening(row: Row) -> str:
    """What whitening is worth to Adam's classifiers of the blocks' outputs, as a sentence where it was measured."""
    pairs = list(zip(row["accuracies"]["adam"], row["accuracies"]["not_whitened"] or [], strict=False))[1:]
    if not pairs:
        return ""
    gains = [100 * (whitened - plain) for whitened, plain in pairs]
    return f" To Adam, whitening is worth {min(gains):+.1f} to {max(gains):+.1f} points on the outputs of the blocks."


@or_the_fault(as_table)
def faults() -> pd.DataFrame:
    """How many files were damaged on purpose, or their writer killed, by kind, and what came of it."""
    shown = [
        {
            "what was damaged": row["kind"],
            "tried": row["tried"],
            "noticed": row["noticed"],
            "without effect": row["tried"] - row["noticed"],
        }
        for row in rows("faults")
    ]
    return pd.DataFrame(shown or [{"what was damaged": NOT_RUN}])


@or_the_fault(as_table)
def worlds(state: str) -> pd.DataFrame:
    """By claim and made-up world, in what share of the worlds each verdict comes out, the most frequent first.

    `state` is "under way" or "complete": worlds with the seeds that the study has, or with three of every size.
    """
    measured = [row for row in rows("worlds") if row["state"] == state]
    if not measured:
        return pd.DataFrame([{"claim": NOT_RUN}])
    cells = {f"{row['world']} ({row['worlds']:,})": _verdict_shares(row) for row in measured}
    return pd.DataFrame(cells).rename_axis("claim").reset_index().fillna("")


def _verdict_shares(row: Row) -> dict[str, str]:
    shares = {}
    for claim, counts in row["verdicts"].items():
        order = sorted(counts, key=counts.get, reverse=True)
        shares[claim] = ", ".join(f"{verdict} {counts[verdict] / row['worlds']:.0%}" for verdict in order)
    return shares


def false_positives() -> pd.DataFrame:
    """In what share of the worlds without any effect a claim has a verdict, with Wilson's interval, by state and claim.

    A verdict is "supported", "partly" or "contradicted". Empty where nothing was measured.
    """
    found = []
    for row in rows("worlds"):
        if row["world"] == NOISE:
            for claim, counts in row["verdicts"].items():
                share = sum(counts.get(verdict, 0) for verdict in DECIDED) / row["worlds"]
                low, high = wilson(share, row["worlds"])
                about = {"state": row["state"], "claim": claim, "worlds": row["worlds"]}
                found.append(about | {"share": share, "low": low, "high": high})
    return pd.DataFrame(found)


@or_the_fault(escaped)
def worlds_in_words() -> str:
    """How often a rule sees an effect where none is, over all claims, in a sentence for each state of the study."""
    sentences = []
    measured = false_positives()
    for state, of_state in measured.groupby("state", sort=False) if len(measured) else ():
        worst = of_state.loc[of_state["share"].idxmax()]
        sentences.append(
            f"With the seeds of a study that is {state}, of {worst['worlds']:,} worlds without any effect a claim "
            f"has a verdict in {of_state['share'].median():.1%}, in the median over the claims, and at most in "
            f"{worst['share']:.1%} ({worst['low']:.1%} to {worst['high']:.1%}; {worst['claim']})."
        )
    return " ".join(sentences) or NOT_RUN
