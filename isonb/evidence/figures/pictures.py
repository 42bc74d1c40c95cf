"""Images in rows and columns: what was hidden, what networks filled in, and the truth.

Book: chapters "Data", "Objective" and "Results".
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from isonb import config, records
from isonb.evidence import NOT_RUN, selection
from isonb.evidence.ledger.select import BLOCK_ORDER
from isonb.evidence.markup import plain
from isonb.evidence.metrics import MAIN, Tables, by_images
from isonb.evidence.picture import (
    WIDE,
    WIDTH,
    Picture,
    describe,
    described,
    for_both_widths,
    name_of,
    our_style,
    say_not_run,
)

LONGEST = 24  # letters of a row's title, which may be the name of somebody's folder
CROP, MOST = 14, 100  # pixels to a side of an enlarged part, and levels that are drawn darkest
NOTHING = (None, None, None)  # in place of a picture masked, filled in and as it is


def reconstructions(
    masked_BHWC: np.ndarray, reconstructed_BHWC: np.ndarray, original_BHWC: np.ndarray, titles: Sequence[str]
) -> Picture:
    """What the network saw, what it filled in and the truth, uint8: one titled row per image. Paper: Figure 1."""
    rows = [list(row) for row in zip(masked_BHWC, reconstructed_BHWC, original_BHWC, strict=True)]
    caption = "Masked input (masked pixels in mid-grey), reconstruction and original."
    return images(rows, caption, row_titles=titles, column_titles=["masked input", "reconstruction", "original"])


def reconstruction_grid(cells: Sequence[config.Cell]) -> Picture:
    """The same test image filled in by every network: a row for each block, a column for each encoding.

    Only networks are shown that read the same images as most of them, and whose arrays can be read.
    """
    readable, pictures = [], {}
    for run, path in filter(None, map(records.shown, cells)):
        with contextlib.suppress(records.RecordError):
            pictures[run.run_id] = records.pictures(records.read_arrays(path))
            readable.append(run)
    runs, *_ = by_images(readable) or [[]]
    first = {
        (run.cell.run.block, run.cell.run.encoding): [picture_BHWC[0] for picture_BHWC in pictures[run.run_id]]
        for run in runs
    }
    masked, _, original = next(iter(first.values()), NOTHING)
    rows = [
        [masked, *(first.get((block, encoding), NOTHING)[1] for encoding in config.GRID_ENCODINGS), original]
        for block in config.GRID_BLOCKS
    ]
    figure = images(
        rows,
        f"One test image: what the networks saw, what each filled in, and the original ({described(runs)}).",
        row_titles=[name_of(block) for block in config.GRID_BLOCKS],
        column_titles=[
            "masked",
            *(name_of(encoding).replace(" ", "\n") for encoding in config.GRID_ENCODINGS),
            "original",
        ],
    )
    figure.runs = selection.frame(runs)
    return figure


def reconstruction_by_block(t: Tables) -> Picture:
    """Three test images filled in by networks of each of the paper's blocks that share all else. Paper: Figure 1.

    They are main runs of the encoding, size and seed that most blocks have; of several such, the largest networks.
    """
    shown, kept = _alike(t)
    by_image = {name: list(zip(*pictures, strict=True)) for name, pictures in kept.items()}
    rows = [
        [masked, *(by_image[name][image][1] if name in by_image else None for name in BLOCK_ORDER), original]
        for image, (masked, _, original) in enumerate(next(iter(by_image.values()), [NOTHING]))
    ]
    figure = images(
        rows,
        f"Test images with masked pixels in mid-grey, what each network fills in, and the originals ({_which(shown)}).",
        column_titles=["masked", *(name_of(network).replace(" (", "\n(") for network in BLOCK_ORDER), "original"],
    )
    figure.runs = shown
    return figure


@for_both_widths
def errors_by_block(t: Tables, width: float = WIDE) -> Picture:
    """Where two of those images were filled in worst, enlarged: the truth and each network's pixels, and their errors.

    The part is the one of CROP x CROP pixels in which the networks together are furthest off.
    """
    shown, kept = _alike(t)
    images_shown = range(min(2, *(len(original) for *_, original in kept.values()))) if kept else range(1)
    side = (width - 0.2) / (1 + len(BLOCK_ORDER))
    height = len(images_shown) * (2 * side + 0.7) + 0.4
    figure = Picture(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.03, wspace=0.02, hspace=0.02)
    axes = figure.subplots(2 * len(images_shown), 1 + len(BLOCK_ORDER), squeeze=False)
    hidden = {run.network: t.arrays[run.run_id]["is_masked_BHWC"] for run in shown.itertuples()}
    words = []
    for image, (filled_row, error_row) in zip(images_shown, axes.reshape(len(images_shown), 2, -1), strict=True):
        errors = {
            name: _errors(hidden[name][image], filled[image], original[image])
            for name, (_, filled, original) in kept.items()
        }
        part = _worst_part(list(errors.values()))
        for name, filled_ax, error_ax in zip(BLOCK_ORDER, filled_row[1:], error_row[1:], strict=True):
            if name not in kept:
                _show(filled_ax, None)
                _show(error_ax, None)
                continue
            _, filled, original = (kind[image][part] for kind in kept[name])
            _show(filled_ax, filled)
            _show(error_ax, _as_reds(errors[name][part]))
            off = np.nanmean(errors[name][part])
            error_ax.set_xlabel(f"{off:.0f} levels off")
            words.append(f"Image {image + 1}, {name_of(name)}: {off:.0f} levels off.")
            _show(filled_row[0], original)
            _show(error_row[0], kept[name][0][image][part])
        filled_row[0].set_title("truth")
        error_row[0].set_title("masked")
    for name, ax in zip(BLOCK_ORDER, axes[0, 1:], strict=True):
        ax.set_title(name_of(name).replace(" (", "\n("))
    figure.runs = shown
    figure.caption = (
        f"The part of two of these images, {CROP} by {CROP} pixels, that the networks together fill in worst. Below "
        f"each network\u2019s pixels are its errors: the darker, the further off, up to {MOST} of 255 levels; their "
        f"mean over the hidden pixels of the part is the number ({_which(shown)})."
    )
    figure.alt = "Enlarged parts of filled-in images and their errors. " + (
        " ".join(words) or f"{NOT_RUN.capitalize()}."
    )
    return figure


def _errors(is_hidden_HWC: np.ndarray, filled_HWC: np.ndarray, original_HWC: np.ndarray) -> np.ndarray:
    """By how many levels each pixel's hidden channels are off on average, shape H, W; not a number where none is."""
    off_HWC = np.abs(filled_HWC.astype(float) - original_HWC) * is_hidden_HWC
    counts_HW = is_hidden_HWC.sum(axis=2)
    return np.where(counts_HW > 0, off_HWC.sum(axis=2) / np.maximum(counts_HW, 1), np.nan)


def _as_reds(error_HW: np.ndarray) -> np.ndarray:
    """Errors as colours, uint8 of shape H, W, C: white where nothing was hidden or nothing is wrong."""
    return matplotlib.colormaps["Reds"](np.nan_to_num(error_HW) / MOST, bytes=True)[..., :3]


def _worst_part(errors: Sequence[np.ndarray]) -> tuple[slice, slice]:
    """Rows and columns of the part with the largest mean error over several networks."""
    total_HW = np.nansum(errors, axis=0) if errors else np.zeros((CROP, CROP))
    side = min(CROP, *total_HW.shape)
    sums = np.lib.stride_tricks.sliding_window_view(total_HW, (side, side)).sum(axis=(2, 3))
    top, left = np.unravel_index(sums.argmax(), sums.shape)
    return slice(top, top + side), slice(left, left + side)


def _alike(t: Tables) -> tuple[pd.DataFrame, dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """The networks of Figure 1, and by their names the images masked, filled in and as they are."""
    runs = t.runs[(t.runs["arm"] == MAIN) & t.runs["network"].isin(BLOCK_ORDER)]
    alike = [group for _, group in runs.groupby(["encoding", "depth", "seed"])]
    shown = max(alike, key=lambda group: (len(group), *_worth(group.iloc[0])), default=runs)
    return shown, {run.network: records.pictures(t.arrays[run.run_id]) for run in shown.itertuples()}


def _which(shown: pd.DataFrame) -> str:
    which = f"size {shown['depth'].iloc[0]}, {name_of(shown['encoding'].iloc[0])} input; " if len(shown) else ""
    return f"{which}{describe(shown)}"


def _worth(run: pd.Series) -> tuple[int, int, int]:
    """How much a run is worth showing: larger networks first, then encodings in the rows' order, then low seeds."""
    return run["depth"], -config.ENCODINGS.index(run["encoding"]), -run["seed"]


def images(
    rows: Sequence[Sequence[np.ndarray | None]],
    caption: str,
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
) -> Picture:
    """A grid of uint8 images of shape H, W, C; None is drawn as an empty frame that says "not run"."""
    row_titles = [plain(title, LONGEST) for title in row_titles]
    figure = _images(rows, row_titles, column_titles, WIDTH)
    if len(rows[0]) > 3:  # fewer are large enough as they are
        figure.wide = _images(rows, row_titles, column_titles, WIDE)
    figure.caption = caption
    named = {"Rows": ", ".join(row_titles), "Columns": ", ".join(column_titles)}
    alt = [caption, *(f"{what}: {which}." for what, which in named.items() if which)]
    figure.alt = " ".join(alt).replace("\n", " ")
    return figure


@our_style()
def _images(
    rows: Sequence[Sequence[np.ndarray | None]], row_titles: Sequence[str], column_titles: Sequence[str], width: float
) -> Picture:
    columns = len(rows[0])
    size = 11 if width == WIDE or columns < 5 else 10
    margin = 0.1 + 0.09 * max(map(len, row_titles), default=0)  # a letter is about 0.09 inches wide
    heading = 0.2 * max((1 + title.count("\n") for title in column_titles), default=0)
    figure = Picture(figsize=(width, (width - margin) / columns * len(rows) + 0.1 + heading), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for ax, image in zip(axes.flat, (image for row in rows for image in row), strict=True):
        _show(ax, image)
    for ax, title in zip(axes[0], column_titles, strict=False):
        ax.set_title(title, fontsize=size, fontweight="normal", parse_math=False)
    for ax, title in zip(axes[:, 0], row_titles, strict=False):
        ax.set_ylabel(title, fontsize=size, rotation=0, ha="right", va="center", parse_math=False)
    return figure


def _show(ax: Axes, image_HWC: np.ndarray | None) -> None:
    """Draw an image without axes, or an empty frame that says "not run"."""
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(image_HWC is None)
    if image_HWC is None:
        ax.set_box_aspect(1)
        say_not_run(ax)
    else:
        ax.imshow(image_HWC, interpolation="none")
