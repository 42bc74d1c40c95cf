"""Images in rows and columns: what was hidden, what networks filled in, and the truth.

Book: chapters "Data", "Objective" and "Results".
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from isonb import config, records
from isonb.evidence.ledger.select import BLOCK_ORDER
from isonb.evidence.markup import plain
from isonb.evidence.metrics import MAIN, Tables, by_images
from isonb.evidence.picture import WIDTH, Picture, describe, described, name_of, our_style, say_not_run

LONGEST = 24  # letters of a row's title, which may be the name of somebody's folder
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
    for run in filter(None, map(records.readable, cells)):
        with contextlib.suppress(records.RecordError):
            pictures[run.run_id] = records.pictures(records.read_arrays(records.record_path(run.cell)))
            readable.append(run)
    runs, *_ = by_images(readable) or [[]]
    first = {
        (run.cell.run.block, run.cell.run.encoding): [picture_BHWC[0] for picture_BHWC in pictures[run.run_id]]
        for run in runs
    }
    masked, _, original = next(iter(first.values()), NOTHING)
    rows = [
        [masked, *(first.get((block, encoding), NOTHING)[1] for encoding in config.ENCODINGS), original]
        for block in config.BLOCKS
    ]
    return images(
        rows,
        f"One test image: what the networks saw, what each filled in, and the original ({described(runs)}).",
        row_titles=[name_of(block) for block in config.BLOCKS],
        column_titles=["masked", *(name_of(encoding).replace(" ", "\n") for encoding in config.ENCODINGS), "original"],
    )


def reconstruction_by_block(t: Tables) -> Picture:
    """Three test images filled in by networks of each of the paper's blocks that share all else. Paper: Figure 1.

    They are main runs of the encoding, size and seed that most blocks have; of several such, the largest networks.
    """
    runs = t.runs[(t.runs["arm"] == MAIN) & t.runs["network"].isin(BLOCK_ORDER)]
    alike = [group for _, group in runs.groupby(["encoding", "depth", "seed"])]
    shown = max(alike, key=lambda group: (len(group), *_worth(group.iloc[0])), default=runs)
    kept = {run.network: records.pictures(t.arrays[run.run_id]) for run in shown.itertuples()}
    by_image = {name: list(zip(*pictures, strict=True)) for name, pictures in kept.items()}
    rows = [
        [masked, *(by_image[name][image][1] if name in by_image else None for name in BLOCK_ORDER), original]
        for image, (masked, _, original) in enumerate(next(iter(by_image.values()), [NOTHING]))
    ]
    which = f"size {shown['depth'].iloc[0]}, {name_of(shown['encoding'].iloc[0])} input; " if len(shown) else ""
    return images(
        rows,
        f"Test images with masked pixels in mid-grey, what each network fills in, and the originals ({which}"
        f"{describe(shown)}).",
        column_titles=["masked", *map(name_of, BLOCK_ORDER), "original"],
    )


def _worth(run: pd.Series) -> tuple[int, int, int]:
    """How much a run is worth showing: larger networks first, then encodings in the rows' order, then low seeds."""
    return run["depth"], -config.ENCODINGS.index(run["encoding"]), -run["seed"]


@our_style()
def images(
    rows: Sequence[Sequence[np.ndarray | None]],
    caption: str,
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
) -> Picture:
    """A grid of uint8 images of shape H, W, C; None is drawn as an empty frame that says "not run"."""
    columns = len(rows[0])
    row_titles = [plain(title, LONGEST) for title in row_titles]
    margin = 0.1 + 0.075 * max(map(len, row_titles), default=0)  # a letter is about 0.075 inches wide
    figure = Picture(figsize=(WIDTH, (WIDTH - margin) / columns * len(rows) + 0.3), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for ax, image in zip(axes.flat, (image for row in rows for image in row), strict=True):
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.spines[:].set_visible(image is None)
        if image is None:
            ax.set_box_aspect(1)
            say_not_run(ax)
        else:
            ax.imshow(image, interpolation="none")
    for ax, title in zip(axes[0], column_titles, strict=False):
        ax.set_title(title, fontsize=9, parse_math=False)
    for ax, title in zip(axes[:, 0], row_titles, strict=False):
        ax.set_ylabel(title, fontsize=9, rotation=0, ha="right", va="center", parse_math=False)
    figure.caption = caption
    named = {"Rows": ", ".join(row_titles), "Columns": ", ".join(column_titles)}
    alt = [caption, *(f"{what}: {which}." for what, which in named.items() if which)]
    figure.alt = " ".join(alt).replace("\n", " ")
    return figure
