"""What happens in which order, as boxes with words beside them: a network, a probe, a step, a cell, an addition.

Book: chapters "Network", "Training", "From pixels to probes", "Run it yourself" and "Add your own".
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from isonb import config, rows
from isonb.evidence.picture import QUIET, WIDE, Picture, for_both_widths
from isonb.features import CHANNELS, COLOURS

BOX, GAP, LINE, PAD = 1.75, 0.26, 0.19, 0.09  # inches: a box's width, from box to box, a line of text, around it
LETTER = 0.088  # inches
FACE, EDGE = "#EAF1F8", "#44698C"


class Step(NamedTuple):
    """A box, what stands beside it, and how many boxes of its kind there are one behind the other."""

    title: str
    words: str
    stacked: int = 1


@for_both_widths
def flow(steps: Sequence[Step], caption: str, width: float = WIDE) -> Picture:
    """One box below the other, each with an arrow to the next and its words on its right."""
    lines = [
        (step.title.split("\n"), textwrap.wrap(step.words, int((width - BOX - 3 * PAD) / LETTER))) for step in steps
    ]
    heights = [max(map(len, of_step)) * LINE + 2 * PAD for of_step in lines]
    height = sum(heights) + GAP * (len(steps) - 1) + 3 * PAD
    figure = Picture(figsize=(width, height))
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    ax.axis("off")
    top = PAD
    for step, (title, words), of_box in zip(steps, lines, heights, strict=True):
        for behind in reversed(range(min(step.stacked, 3))):
            _draw_box(ax, PAD + 0.06 * behind, top + 0.06 * behind, of_box)
        ax.text(PAD + BOX / 2, top + of_box / 2, "\n".join(title), ha="center", va="center", fontweight="bold")
        ax.text(BOX + 3.5 * PAD, top + of_box / 2, "\n".join(words), va="center", linespacing=1.25)
        top += of_box + GAP
        if step is not steps[-1]:
            ends = {
                "xy": (PAD + BOX / 2, top - 0.02),
                "xytext": (PAD + BOX / 2, top - GAP + 0.06 * min(step.stacked, 2)),
            }
            ax.annotate("", arrowprops={"arrowstyle": "-|>", "color": QUIET, "shrinkA": 0, "shrinkB": 0}, **ends)
    figure.caption = caption
    figure.alt = " ".join(
        [caption, *(f"{n}. {step.title}: {step.words}".replace("\n", " ") for n, step in enumerate(steps, 1))]
    )
    return figure


def _draw_box(ax: Axes, left: float, top: float, height: float) -> None:
    look = {"boxstyle": "round,pad=0,rounding_size=0.08", "facecolor": FACE, "edgecolor": EDGE, "linewidth": 1.2}
    ax.add_patch(FancyBboxPatch((left, top), BOX, height, **look))


def network(run: config.RunConfig) -> Picture:
    """The way of one picture through a network, with the shape of what passes from box to box."""
    n, d, block = run.image_size**2, run.width, rows.BLOCKS[run.block].title
    channels, values = (1, COLOURS) if run.predicts_palette else (CHANNELS, rows.OBJECTIVES[run.objective].outputs)
    encoding, sized = rows.ENCODINGS[run.encoding].title, f"{n} × {d} numbers"
    steps = [
        Step("picture", f"{n} pixels of {CHANNELS} channels, whole numbers from 0 to 255."),
        Step("encode", f"Each pixel becomes {d} numbers, by the encoding ({encoding} here): {sized}."),
        Step("mask", f"Hidden pixels, {run.mask_rate:.0%} of all, lose their content: their rows become zero."),
        Step(
            "position",
            "A vector for each place is added, so that a hidden pixel still says where it is."
            if run.positions != "none"
            else "Nothing is added: this network is told no places.",
        ),
        Step(
            f"{run.depth} {'blocks' if run.depth > 1 else 'block'}",
            f"Each is a {block}, and takes and gives {sized}.",
            run.depth,
        ),
        Step("head", f"At hidden pixels alone: {channels} × {values} numbers, how likely each value is."),
    ]
    return flow(steps, f"A network of size {run.depth}, from a picture to its prediction.")


def probe(run: config.RunConfig, classes: int) -> Picture:
    """How a probe reads one layer of a network that no longer learns."""
    n, d = run.image_size**2, run.width
    steps = [
        Step("whole picture", "Nothing is hidden."),
        Step("frozen layers\n0 to l", f"No weight changes any more. Layer l gives {n} × {d} numbers.", run.depth),
        Step("mean over\npositions", f"Each row is normalised; their mean is the picture's features, {d} numbers."),
        Step("linear map", f"All that is trained: {d} × {classes} weights and {classes} biases."),
        Step("class", f"The most likely of {classes}, compared with the label."),
    ]
    return flow(steps, "A linear probe of layer l. Every layer from 0 to L has a probe of its own.")


def step(run: config.RunConfig, processes: int) -> Picture:
    """A training step of several processes."""
    ends = [rank * run.batch_size // processes for rank in range(processes + 1)]
    shares = [last - first for first, last in itertools.pairwise(ends)]
    steps = [
        Step("batch", f"{run.batch_size} pictures, drawn by the seed and the number of the step."),
        Step(
            "shares",
            f"{processes} processes take {', '.join(map(str, shares))} of them, each with its masks.",
            processes,
        ),
        Step("gradients", "Of each share's summed loss, by the same weights.", processes),
        Step("sum", "Added over the processes, divided once by the number of all masked sub-pixels."),
        Step("Adam", "Every process changes its weights alike: they stay equal."),
    ]
    return flow(steps, f"One step with {processes} processes. The sum is the same however the batch is divided.")


def cell() -> Picture:
    """What a command that runs cells does, and in which process."""
    steps = [
        Step("make study", "Snakemake lists the cells whose records are missing or outdated."),
        Step("run-cell", "One process for each cell: it executes the notebook, and waits for its kernel.", 2),
        Step("kernel", "Has the network trained, probes its layers, and writes a record and its arrays.", 2),
        Step("trainer", "The kernel itself, or a process for each device. Keeps a checkpoint to go on from.", 2),
        Step("book/results", "Record, arrays and notebook arrive together, when the notebook has reached its end."),
        Step("make book", "Reads the records and trains nothing: tables, figures and verdicts are made from them."),
    ]
    return flow(steps, "From a command to a page. Boxes one behind the other are processes side by side.")


def addition() -> Picture:
    """Where a block of one's own plugs in, and who then finds it."""
    steps = [
        Step("module", "isonb/models: a class from tokens to tokens, which counts its operations."),
        Step("row", "isonb/rows.py: its name, where the class is, its colour and marker."),
        Step("test", "tests: what it costs and how far it looks."),
        Step("settings", "block=NAME is allowed everywhere; networks are built by the row."),
        Step("studies", "The grid has its cells; training, masks and probes ask for nothing more.", 3),
        Step("book", "Tables, figures and pages show it, in its colour."),
    ]
    return flow(steps, "You write the first three. The others read the row.")
