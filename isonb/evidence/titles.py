"""What a run is called in words: its network, encoding and size, what was changed, and its seed.

Book: chapter "All runs".
"""

from __future__ import annotations

from typing import Any

from isonb import config, rows
from isonb.evidence import metrics, picture

WORDS: dict[str, str | dict[Any, str]] = {  # of a setting's name and value, where "learning rate 0.001" will not do
    "kernel_size": "kernel {0} by {0}",
    "positions": {"none": "no positions", "learned": "learned positions", "sincos": "sine and cosine positions"},
    "objective": {"mse": "squared error", "autoregressive": "autoregressive", "bert": "masked pixels"},
    "target": {"palette": "palette predicted", "values": "values predicted"},
    "data_fraction": "{} of the training images",
    "unlabelled": {True: "images without labels"},
    "probe_data": "probed on {}",
    "probe_classes": "probed on classes {}",
    "probe_fold": "probed on fold {}",
    "finetune_data": "fine-tuned on {}",
    "finetune_classes": "fine-tuned on classes {}",
    "finetune_fold": "fine-tuned on fold {}",
    "epochs": "{} epochs",
    "warmup_epochs": "{} epochs of warm-up",
    "batch_size": "batches of {}",
    "mlp_ratio": "MLP ratio {}",
    "rff_trainable": {True: "trained frequencies", False: "fixed frequencies"},
    "rff_range": "frequencies on the {} range",
}


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
    words = ", ".join(parts)
    return words[0].upper() + words[1:]


def changes(cell: config.Cell) -> str:
    """In what a cell departs from its study's grid: "learning rate 0.001, batches of 128", or nothing."""
    return ", ".join(in_words(name, value) for name, value in metrics.departures(cell).items())


def in_words(setting: str, value: Any) -> str:
    """A setting and its value: "learning rate 0.001", "no positions"."""
    words = WORDS.get(setting)
    if isinstance(words, dict) and value in words:
        return words[value]
    name = setting.replace("_", " ")
    if isinstance(value, bool):
        return f"{'with' if value else 'without'} {name}"
    shown = str(value).removesuffix(".0")
    return words.format(shown) if isinstance(words, str) else f"{name} {shown}"
