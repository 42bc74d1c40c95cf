"""Networks that are probed on other images than they were pre-trained on, beside those that were trained on the same.

Every accuracy of a row is on the same test images: that of the untrained network, of the one that was pre-trained on
other images, and of its reference, which was pre-trained on the images that both are probed on.

Book: chapter "image-GPT".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from isonb import config, records, rows, schema, studies, subsets
from isonb.evidence import NOT_RUN, markup, metrics, statistics
from isonb.evidence.picture import name_of
from isonb.evidence.selection import frame, link

OTHERS, SAME = "trained on others", "trained on the same"
COLUMNS = ("untrained", OTHERS, SAME, "difference")


class Pair(NamedTuple):
    """A cell that is probed on other images than its own, and its reference, None where the study has none."""

    cell: config.Cell
    reference: config.Cell | None


class Answers(NamedTuple):
    """Which test images are right by the probes of a run's chosen layer, and of its untrained twin's; as numbers."""

    record: schema.Record
    trained_B: np.ndarray
    untrained_B: np.ndarray


def pairs(study: str) -> list[Pair]:
    """The cells of a study that are probed on other images than they were pre-trained on, each with its reference."""
    listed = [cell for cell in studies.cells(study) if cell.selects_images]
    plain = {cell.model_dump_json(): cell for cell in studies.cells(study)}
    return [
        Pair(cell, plain.get(_trained_on_the_same(cell).model_dump_json()))
        for cell in listed
        if cell.run.read_by(cell.probe) != cell.run
    ]


def _trained_on_the_same(cell: config.Cell) -> config.Cell:
    """The cell that is pre-trained on the images on which this one is probed, alike in all else."""
    probed = cell.run.read_by(cell.probe)
    run = cell.run.model_copy(update={name: getattr(probed, name) for name in config.IMAGES})
    probe = cell.probe.model_copy(update={name: getattr(config.ProbeConfig(), name) for name in subsets.OWN})
    return cell.model_copy(update={"run": run, "probe": probe})


@markup.or_the_fault(markup.as_table)
def table(study: str) -> pd.DataFrame:
    """A row for each network and pair of sets of images: accuracies in per cent, and what other images lack, in points.

    `difference` is the accuracy after pre-training on other images less that after pre-training on the probed ones,
    with its interval over seeds and test images. Means over the seeds of which both have run; without a seed, "not
    run". Which images these are stands in a column where a study has several pairs of them.
    """
    settings: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs(study):
        run = pair.cell.run
        network = f"{name_of(run.network)}, {name_of(run.encoding)}, size {run.depth}"
        settings.setdefault((network, f"{_called(run)}; {_called(run.read_by(pair.cell.probe))}"), []).append(pair)
    are_several = len({images for _, images in settings}) > 1
    return pd.DataFrame([
        {"network": network} | ({"trained on; probed on": images} if are_several else {}) | _row(of_seeds)
        for (network, images), of_seeds in settings.items()
    ] or [{"network": NOT_RUN}])  # fmt: skip


@markup.or_the_fault(markup.escaped)
def in_words(study: str) -> str:
    """What the pairs of a study that have run show together, in a sentence of Markdown."""
    seeds = [both for pair in pairs(study) if (both := _both(pair))]
    if not seeds:
        return f"Networks that were probed on other classes than they were trained on: {NOT_RUN}."
    gains = [100 * (other.trained_B - other.untrained_B).mean() for other, _ in seeds]
    of_same = [100 * (same.trained_B - same.untrained_B).mean() for _, same in seeds]
    ahead = sum(gain > 0 for gain in gains)
    images = len(seeds[0][0].trained_B)
    return (
        f"Over {len(seeds)} network{'s' * (len(seeds) > 1)}, pre-training on other classes than those that are probed "
        f"changes the untrained network's accuracy by {np.mean(gains):+.1f} points, and pre-training on the same "
        f"classes by {np.mean(of_same):+.1f}. In {ahead} of the {len(seeds)}, features learned on other classes are "
        f"ahead of the untrained network's. Study {study}, {images} test images."
    )


def _called(run: config.RunConfig) -> str:
    return rows.SOURCES[run.data].title + subsets.in_words(run.classes, run.fold, run.unlabelled)


def _row(of_seeds: Sequence[Pair]) -> dict[str, str | markup.Link]:
    found = [both for pair in of_seeds if (both := _both(pair))]
    seeds = {"seeds": f"{len(found)} of {len(of_seeds)}"}
    if not found:
        return dict.fromkeys(COLUMNS, NOT_RUN) | seeds
    others, same = zip(*found, strict=True)
    difference_SB = 100 * np.stack([one.trained_B - other.trained_B for one, other in found])
    low, high = statistics.crossed_interval(difference_SB)
    interval = f" ({low:+.1f} to {high:+.1f})" if np.isfinite(high - low) else ""
    behind, behind_same = (frame(one.record for one in ones) for ones in (others, same))
    texts = {
        "untrained": (f"{_mean(one.untrained_B for one in others):.1f}", behind),
        OTHERS: (f"{_mean(one.trained_B for one in others):.1f}", behind),
        SAME: (f"{_mean(one.trained_B for one in same):.1f}", behind_same),
        "difference": (f"{difference_SB.mean():+.1f}{interval}", pd.concat([behind, behind_same])),
    }
    return {name: link(text, runs) for name, (text, runs) in texts.items()} | seeds


def _mean(shares: Iterable[np.ndarray]) -> float:
    return 100 * float(np.mean(list(shares)))


def _both(pair: Pair) -> tuple[Answers, Answers] | None:
    """The answers of a cell and of its reference, where both have run, with twins, and are on the same images."""
    other, same = _answers(pair.cell), pair.reference and _answers(pair.reference)
    if not (other and same) or other.record.numerics != same.record.numerics:
        return None
    alike = metrics.data_id(other.record.probed_on) == metrics.data_id(same.record.probed_on)
    return (other, same) if alike else None


def _answers(cell: config.Cell) -> Answers | None:
    shown = records.shown(cell)
    if shown is None or (twin := shown[0].probe.untrained) is None:
        return None
    record, path = shown
    arrays = records.read_arrays(path)
    places = {"test_correct_LB": record.probe.best_layer, "untrained_correct_LB": twin.best_layer}
    return Answers(record, *(arrays[name][layer].astype(float) for name, layer in places.items()))
