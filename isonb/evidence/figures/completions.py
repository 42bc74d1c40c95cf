"""Lower halves of test images, completed pixel by pixel or filled in at once, beside the nearest training images.

Book: chapter "image-GPT".
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import SubFigure

from isonb import records, rows, schema
from isonb.config import RunConfig
from isonb.evidence import NOT_RUN, selection
from isonb.evidence.metrics import by_images
from isonb.evidence.picture import WIDE, WIDTH, Picture, described, for_both_widths, name_of, say_not_run

FEWER = 2  # images of each network where several networks are shown
GAP = 2  # pixels between images of a column
ON_A_PHONE = 5  # columns beside each other
HEADING, MARGIN = 0.46, 0.44  # inches, of two lines of letters above columns and of two that stand upright
Arrays = Mapping[str, np.ndarray]
Column = tuple[str, list[np.ndarray]]  # what heads it, and its images from top to bottom, uint8 of shape H, W, C


class Panel(NamedTuple):
    """Test images completed by one network. `arrays` are those of its record, with `filled_below_BHWC` of its masked
    twin where that is at hand."""

    name: str
    arrays: Arrays

    @property
    def ways(self) -> int:
        """How many completions there are of an image: one without chance, then those that were drawn."""
        return self.arrays["completed_BSHWC"].shape[1]


def of_cell(record: schema.Record, arrays: Arrays) -> Picture:
    """The completions of an autoregressive network that its record has."""
    return completions([Panel("", arrays)], name_of(record.cell.run.network))


def by_network(runs: Sequence[schema.Record]) -> Picture:
    """The same of the largest autoregressive network of each kind and target among these runs, with its masked twin."""
    runs, *_ = by_images(runs) or [[]]
    shown = {}
    for run in sorted(runs, key=lambda run: (run.cell.run.depth, -run.cell.run.seed)):
        arrays = _arrays(run)
        if "completed_BSHWC" in arrays:
            twin = next((one for one in runs if one.run_id == masked_twin(run.cell.run).run_id), None)
            filled = {name: array for name, array in _arrays(twin).items() if name == "filled_below_BHWC"}
            shown[run.cell.run.network, run.cell.run.target] = (run, {**arrays, **filled})
    order = {network.name: place for place, network in enumerate(rows.networks())}
    chosen = [shown[key] for key in sorted(shown, key=lambda key: (order[key[0]], key[1] != "values"))]
    panels = [
        Panel(_title(run.cell.run), {name: array[:FEWER] for name, array in arrays.items()}) for run, arrays in chosen
    ]
    figure = completions(panels, described(run for run, _ in chosen))
    figure.runs = selection.frame(run for run, _ in chosen)
    return figure


def masked_twin(run: RunConfig) -> RunConfig:
    """The same setting, trained on masked pixels."""
    return run.model_copy(update={"objective": "bert"})


def _arrays(run: schema.Record | None) -> Arrays:
    """The arrays of a run that is shown; none where they cannot be read."""
    if run and (found := records.shown(run.cell)):
        with contextlib.suppress(records.RecordError):
            return records.read_arrays(found[1])
    return {}


def _title(run: RunConfig) -> str:
    return f"{name_of(run.network)}{', palette' if run.predicts_palette else ''}"


@for_both_widths
def completions(panels: Sequence[Panel], whose: str, temperature: float = 1.0, width: float = WIDE) -> Picture:
    """A row for each image: the original, what is given, what is made of it, and what was near it in training.

    `whose` says which networks these are. On a phone the columns are in two groups, one below the other.
    """
    if not panels:
        return _nothing(whose, width)
    columns = [_columns(panel) for panel in panels]
    most = ON_A_PHONE if width == WIDTH else max(map(len, columns))
    groups = [[one[first : first + most] for first in range(0, len(one), most)] for one in columns]
    margin = MARGIN if any(panel.name for panel in panels) else 0.0
    side = (width - margin) / most
    heights = [len(group) * (HEADING + side * _rows(group[0])) for group in groups]
    figure = Picture(figsize=(width, sum(heights)))
    parts = np.atleast_1d(figure.subfigures(len(panels), 1, height_ratios=heights))
    for panel, part, group in zip(panels, parts, groups, strict=True):
        _draw(part, panel.name, group, most, margin / width)
    figure.caption, figure.alt = _in_words(panels, whose, temperature)
    return figure


def _nothing(whose: str, width: float) -> Picture:
    figure = Picture(figsize=(width, 1.2), layout="constrained")
    say_not_run(figure.subplots())
    figure.caption = f"Lower halves of test images, completed by autoregressive networks ({whose})."
    figure.alt = f"{figure.caption} {NOT_RUN.capitalize()}."
    return figure


def _columns(panel: Panel) -> list[Column]:
    """What is shown of each image, from left to right."""
    arrays, original_BHWC = panel.arrays, panel.arrays["original_BHWC"]
    lower = arrays["completed_BSHWC"].shape[2]
    given_BHWC = original_BHWC.copy()
    given_BHWC[:, -lower:] = records.HIDDEN_GREY
    whole_BSHWC = np.repeat(original_BHWC[:, None], panel.ways, axis=1)
    whole_BSHWC[:, :, -lower:] = arrays["completed_BSHWC"]
    columns = [("original", original_BHWC), ("given", given_BHWC), ("most\nprobable", whole_BSHWC[:, 0])]
    columns += [(f"drawn\n{way}", whole_BSHWC[:, way]) for way in range(1, panel.ways)]
    if "filled_below_BHWC" in arrays:
        at_once_BHWC = original_BHWC.copy()
        at_once_BHWC[:, -lower:] = arrays["filled_below_BHWC"]
        columns.insert(3, ("at once", at_once_BHWC))
    near_half_BHWC, near_whole_BHWC = arrays["neighbour_BKHWC"].swapaxes(0, 1)
    columns += [("nearest\n(lower)", near_half_BHWC), ("nearest\n(whole)", near_whole_BHWC)]
    return [(title, list(images)) for title, images in columns]


def _rows(column_group: Sequence[Column]) -> float:
    """How high a column is, in widths of it."""
    stack = _stacked(column_group[0][1])
    return stack.shape[0] / stack.shape[1]


def _stacked(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images below each other with gaps that let the page through: RGBA."""
    opaque = [np.pad(np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]), _around()) for image in images]
    return np.concatenate(opaque)


def _around() -> tuple[tuple[int, int], ...]:
    """Half a gap on each side of an image."""
    return (GAP // 2, GAP // 2), (GAP // 2, GAP // 2), (0, 0)


def _draw(part: SubFigure, name: str, groups: Sequence[Sequence[Column]], most: int, margin: float) -> None:
    """Fill a part of the figure with groups of columns, one below the other, and a name at its left."""
    high = part.bbox.height / part.figure.dpi
    heading, wide = HEADING / high, (1 - margin) / most
    each = 1 / len(groups)
    for place, group in enumerate(groups):
        bottom = 1 - (place + 1) * each
        for column, (title, images) in enumerate(group):
            ax = part.add_axes((margin + column * wide, bottom, wide, each - heading))
            ax.imshow(_stacked(images), interpolation="none", aspect="auto")
            ax.set_axis_off()
            ax.set_title(title, fontsize=10, fontweight="normal", pad=2, linespacing=1.0)
    if name:
        lines = name.replace(" (", "\n(")
        part.text(margin / 2, 0.5, lines, rotation=90, ha="center", va="center", fontweight="bold", parse_math=False)


def _in_words(panels: Sequence[Panel], whose: str, temperature: float) -> tuple[str, str]:
    """The caption, and the description in words."""
    first = panels[0].arrays
    size, lower = first["original_BHWC"].shape[1], first["completed_BSHWC"].shape[2]
    ways = max(panel.ways for panel in panels)
    chance = f", and {ways - 1} times drawn by chance (temperature {temperature:g})" if ways > 1 else ""
    at_once = " At once: the masked network's prediction of all these pixels from the given ones."
    has_twin = any("filled_below_BHWC" in panel.arrays for panel in panels)
    distances = _distances(panels)
    caption = (
        f"Test images of which the first {size - lower} of {size} rows are given, and the rest completed pixel by "
        f"pixel: with the most probable value each time{chance}.{at_once if has_twin else ''} At the right, the "
        f"training images nearest to {'the first drawn' if ways > 1 else 'that'} completion, by the completed rows and "
        f"as a whole ({whose}). {distances}"
    )
    count = sum(len(panel.arrays["original_BHWC"]) for panel in panels)
    titles = [title.replace("\n", " ") for title, _ in _columns(panels[0])]
    networks = ", ".join(panel.name for panel in panels if panel.name)
    alt = f"{count} rows of images{f', by {networks}' if networks else ''}. Columns: {', '.join(titles)}. {distances}"
    return caption, alt


def _distances(panels: Sequence[Panel]) -> str:
    """How far completions are from what each network was trained on, beside the truth."""
    levels = []
    for panel in panels:
        levels_BK = panel.arrays["nearest_BK"]
        made = levels_BK[:, min(1, panel.ways - 1) : panel.ways]
        name = f"{panel.name}, " if panel.name else ""
        levels.append(f"{name}{made.mean():.0f} levels; the true rows, {levels_BK[:, -1].mean():.0f}")
    return (
        "How far the completed rows are from the nearest training image's, as the root of the mean square: "
        f"{'. '.join(levels)}."
    )
