"""What a run is called in words: its network, encoding and size, what was changed, and its seed.

Book: chapter "All runs".
"""

from __future__ import annotations

from isonb import config, rows
from isonb.evidence import metrics, picture, words


def title(cell: config.Cell) -> str:
    """A run's title, unique in its study: "Convolution, continuous, size 3, learning rate 0.001, seed 0"."""
    network = picture.name_of(cell.run.network)
    if network == cell.run.network and cell.run.heads > 1:
        network = f"{picture.name_of(cell.run.block)} ({cell.run.heads} heads)"
    parts = [network, picture.name_of(cell.run.encoding), f"size {cell.run.depth}"]
    if cell.run.data != config.cell(cell.study).run.data:
        parts.append(rows.SOURCES[cell.run.data].title)
    if cell.run.collection:
        parts.append(cell.run.collection)
    parts += [*filter(None, [changes(cell)]), f"seed {cell.run.seed}"]
    whole = ", ".join(parts)
    return whole[0].upper() + whole[1:]


def changes(cell: config.Cell) -> str:
    """In what a cell departs from its study's grid: "learning rate 0.001, batches of 128", or nothing."""
    return ", ".join(words.of_setting(name, value) for name, value in metrics.departures(cell).items())
