"""Small files in the layouts in which STL-10 and ImageNet 32x32 are published, of pictures that a test makes up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def pictures(count: int, side: int, seed: int = 0) -> np.ndarray:
    """Random pictures, count x row x column x channel."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def write_stl10(
    folder: Path, train: Sequence[int], test: Sequence[int], unlabelled: int = 0, folds: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Files with images of these classes, from 0; returns the pictures of each file. Folds are lines of numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for seed, (name, labels) in enumerate((("train", train), ("test", test), ("unlabeled", [0] * unlabelled))):
        if not len(labels):
            continue
        written[name] = pictures(len(labels), 96, seed)
        # for each image three planes, and within a plane one column after the other
        planes = [
            picture[:, column, channel] for picture in written[name] for channel in range(3) for column in range(96)
        ]
        (folder / f"{name}_X.bin").write_bytes(b"".join(column.tobytes() for column in planes))
        if name != "unlabeled":
            (folder / f"{name}_y.bin").write_bytes(bytes(label + 1 for label in labels))
    if folds:
        (folder / "fold_indices.txt").write_text("".join(f"{line}\n" for line in folds))
    return written


def write_imagenet32(folder: Path, shards: Sequence[Sequence[int]], test: Sequence[int]) -> dict[str, np.ndarray]:
    """Shards with images of these labels, from 1, and the validation images; returns the pictures of each file."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    names = [*(f"train_data_batch_{number}" for number in range(1, len(shards) + 1)), "val_data"]
    for seed, (name, labels) in enumerate(zip(names, (*shards, test), strict=True)):
        written[name] = pictures(len(labels), 32, seed)
        rows = [np.concatenate([picture[:, :, channel].ravel() for channel in range(3)]) for picture in written[name]]
        np.savez(folder / f"{name}.npz", data=np.stack(rows), labels=np.array(labels), mean=np.zeros(3072))
    return written
