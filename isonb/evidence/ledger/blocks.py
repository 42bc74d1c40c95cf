"""Claims about the blocks: which reconstructs best, whose features are best, how far apart they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import partial
from itertools import product

import numpy as np
import pandas as pd

from isonb.evidence.ledger.colours import ColourErrors, colour_errors
from isonb.evidence.ledger.finding import Finding, NotRun, Setting, Verdict, by_setting, combine, decide, parts_note
from isonb.evidence.ledger.select import (
    BLOCK_ORDER,
    NETWORKS,
    TRANSFORMERS,
    Measured,
    array,
    chosen_correct_B,
    gain_B,
    grid,
    loss_B,
    needed,
    paired,
    setting_means,
    with_gain,
)
from isonb.evidence.metrics import Tables

CONV, MIXER, _ = BLOCK_ORDER
ORDER = ((CONV, MIXER), *product([MIXER], TRANSFORMERS))  # in each pair the one that is expected to be better first
BEST = tuple(product([CONV], (MIXER, *TRANSFORMERS)))
PALETTES = tuple(product([MIXER], TRANSFORMERS))
SYMMETRIES = {
    ("conv", "shift"): True,
    ("conv", "permutation"): False,
    ("mixer", "shift"): False,
    ("mixer", "permutation"): False,
    ("transformer", "shift"): True,
    ("transformer", "permutation"): True,
}
EXACT, BROKEN = 1e-5, 1e-2
NATS, ACCURACY = "nats per masked sub-pixel", "accuracy"


def _ordered(
    runs: pd.DataFrame,
    of: Measured,
    unit: str,
    pairs: Iterable[tuple[str, str]] = ORDER,
    is_error: bool = False,
    parts: int = 1,
) -> Finding:
    """Is the first network of every pair better than the second, setting by setting? An error is better the lower."""
    difference_SB: dict[Setting, np.ndarray] = {}
    absent = []
    for better, worse in pairs:
        first, second = (runs[runs["network"] == name] for name in ((worse, better) if is_error else (better, worse)))
        pair = f"{better} before {worse}"
        settings = paired(first, second, of, pair)
        difference_SB |= settings
        absent += [] if settings else [pair]
    return by_setting(difference_SB, unit, absent, parts)


def c1(t: Tables) -> Finding:
    """conv's loss of masked test pixels against the others', and the mixer's palette against the transformers'."""
    runs = needed(grid(t, network=NETWORKS), "conv, mixer and transformer runs")
    nats = _ordered(runs, partial(loss_B, t), NATS, BEST, is_error=True, parts=2)
    palettes, words = _palettes(t, runs)
    near = setting_means(runs, "share_within_8").groupby("network")["share_within_8"].mean()
    levels = ", ".join(f"{network} {near[network]:.0%}" for network in NETWORKS if network in near)
    parts = {"conv reconstructs best": nats.verdict, "the mixer's palette is closer": palettes.verdict}
    notes = [f"Share of masked sub-pixels within 8 levels of the truth: {levels}.", words, parts_note(parts), nats.note]
    return dataclasses.replace(
        nats,
        verdict=combine(parts.values()),
        parts=parts,
        seeds=min(nats.seeds, palettes.seeds) if palettes.seeds is not None else nats.seeds,
        note=" ".join(filter(None, [*notes, palettes.note])),
    )


def _palettes(t: Tables, runs: pd.DataFrame) -> tuple[Finding, str]:
    """The finding about the palettes over seeds, and a sentence with both colour errors of every network."""
    try:
        errors = {run_id: _colour_errors(t, run_id) for run_id in runs["run_id"]}
        finding = _ordered(runs, lambda run: errors[run["run_id"]].palette, "levels", PALETTES, True, parts=2)
    except NotRun as reason:
        return Finding(verdict=Verdict.NOT_RUN, note=str(reason)), ""
    measured = pd.DataFrame(errors.values(), index=runs["network"]).assign(
        misplacement=[error.misplacement for error in errors.values()]
    )
    of_network = measured.groupby(level=0).mean()
    levels = ", ".join(
        f"{network} {of_network.loc[network, 'palette']:.0f} and {of_network.loc[network, 'misplacement']:.0f}"
        for network in NETWORKS
        if network in of_network.index
    )
    images = len(array(t, runs["run_id"].iloc[0], "original_BHWC"))
    words = f"Error of the palette and of its placement on the {images} kept images, in levels: {levels}."
    note = f"Palettes are compared over seeds, on these {images} images alone. {finding.note}"
    return dataclasses.replace(finding, note=note), words


def _colour_errors(t: Tables, run_id: str) -> ColourErrors:
    return colour_errors({name: array(t, run_id, name) for name in ("original_BHWC", "is_masked_BHWC", "filled_S")})


def c5(t: Tables) -> Finding:
    """Validation loss: conv below mixer below both transformers, setting by setting, over seeds."""
    return _ordered(grid(t, network=NETWORKS), lambda run: run["validation_loss"], NATS, is_error=True)


def c6(t: Tables) -> Finding:
    """Accuracy at the chosen layer: conv above mixer above both transformers, setting by setting."""
    return _accuracies(t, grid(t, network=NETWORKS))


def c27(t: Tables) -> Finding:
    """The same at size 12."""
    return _accuracies(t, needed(grid(t, network=NETWORKS, depth=12), "runs of size 12"))


def _accuracies(t: Tables, runs: pd.DataFrame) -> Finding:
    """The order in accuracy over seeds and test images, and in the gain over the untrained twin."""
    level = _ordered(runs, partial(chosen_correct_B, t), ACCURACY)
    depths = tuple(sorted(set(runs["depth"])))
    return with_gain(
        level,
        t,
        lambda twins: _ordered(grid(twins, network=NETWORKS, depth=depths), partial(gain_B, twins), "gain in accuracy"),
    )


def c25(t: Tables) -> Finding:
    """conv with continuous input minus either transformer with pix2vec, on the same test images, at each size."""
    level = _conv_against_one_hot(t, partial(chosen_correct_B, t), ACCURACY)
    return with_gain(level, t, lambda twins: _conv_against_one_hot(twins, partial(gain_B, twins), "gain in accuracy"))


def _conv_against_one_hot(t: Tables, of: Measured, unit: str) -> Finding:
    difference_SB: dict[Setting, np.ndarray] = {}
    absent = []
    ours = grid(t, network=CONV, encoding="continuous")
    for transformer in TRANSFORMERS:
        theirs = grid(t, network=transformer, encoding="pix2vec").assign(encoding="continuous")  # of its counterpart
        pair = f"{CONV} with continuous before {transformer} with pix2vec"
        settings = paired(ours, theirs, of, pair)
        difference_SB |= {setting._replace(encoding="continuous/pix2vec"): rows for setting, rows in settings.items()}
        absent += [] if settings else [pair]
    return by_setting(difference_SB, unit, absent)


def c22(t: Tables) -> Finding:
    """Does an untrained block commute with shifts and with permutations just where the paper says that it does?"""
    rows = needed(t.frame("equivariance"), "equivariance errors of untrained blocks (make bench)")
    errors = rows.set_index(["block", "change"])["error"]
    missing = [" under ".join(key) for key in SYMMETRIES if key not in errors.index]
    if missing:
        raise NotRun(f"Needs the equivariance error of {', '.join(missing)} (make bench).")
    verdicts = {}
    for (block, change), has_it in SYMMETRIES.items():
        is_exact, is_broken = errors[block, change] < EXACT, errors[block, change] > BROKEN
        part = f"{block} {'keeps' if has_it else 'breaks'} a {change}"
        verdicts[part] = decide(is_exact, is_broken) if has_it else decide(is_broken, is_exact)
    largest = max(errors[key] for key, has_it in SYMMETRIES.items() if has_it)
    return Finding(
        verdict=combine(verdicts.values()),
        value=float(largest),
        unit="relative error, largest where there is a symmetry",
        n=len(SYMMETRIES),
        of="blocks and changes",
        parts=verdicts,
        note=parts_note(verdicts),
    )


RULES = {"C1": c1, "C5": c5, "C6": c6, "C22": c22, "C25": c25, "C27": c27}
