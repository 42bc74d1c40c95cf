"""A palette of 512 colours, as image-GPT reads its pixels: fitted once to a run's training pixels, and how faithful.

Book: chapters "image-GPT" and "Results".
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from isonb import disk, draws, places
from isonb.features import CHANNELS, COLOURS
from isonb.models.palette import Palette

PIXELS = 50_000  # of the training images, on which a palette is fitted
SHOWN = 3
SEED = 0
LARGEST = 2**16  # bytes of a file with a palette


class Split(Protocol):
    """The part of `training.data.Split` that is looked at."""

    pixels_BNC: torch.Tensor


class Images(Protocol):
    """The part of `training.data.Images` that is looked at."""

    train: Split
    test: Split
    size: int


def of(pixels_BNC: torch.Tensor) -> np.ndarray:
    """The palette of these training images, 512 x 3, uint8: kept from an earlier run, else fitted and kept.

    It is found by a digest of the very pixels that it is fitted to. One that is damaged or cannot be kept is fitted
    again.
    """
    chosen_PC = _chosen(pixels_BNC)
    path = kept(chosen_PC)
    try:
        palette_KC = disk.read_arrays(path, LARGEST)["palette_KC"]
        if palette_KC.shape == (COLOURS, CHANNELS) and palette_KC.dtype == np.uint8:
            return palette_KC
    except (disk.Unreadable, KeyError):
        pass
    palette_KC = fit(chosen_PC)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, palette_KC=palette_KC)
    with contextlib.suppress(OSError):
        disk.write_atomically(path, buffer.getvalue())
    return palette_KC


def kept(chosen_PC: np.ndarray) -> Path:
    """Where the palette that is fitted to these pixels lies."""
    digest = hashlib.sha256(np.ascontiguousarray(chosen_PC).tobytes()).hexdigest()
    return places.runs_folder("palettes") / f"{digest[:32]}.npz"


def _chosen(pixels_BNC: torch.Tensor) -> np.ndarray:
    """All pixels of the images or, where there are more than enough, as many as are enough, drawn among all."""
    images, positions = pixels_BNC.shape[:2]
    if images * positions <= PIXELS:
        return pixels_BNC.flatten(0, 1).numpy()
    drawn_P = (draws.uniform(SEED, "palette pixels", np.arange(PIXELS)) * (images * positions)).astype(np.int64)
    image_P, position_P = np.divmod(drawn_P, positions)
    return pixels_BNC[torch.from_numpy(image_P), torch.from_numpy(position_P)].numpy()


def fit(pixels_PC: np.ndarray, colours: int = COLOURS) -> np.ndarray:
    """So many colours, uint8, by k-means. Of pixels that have fewer, each of theirs, and the last one again and again.

    The same pixels give the same colours on one machine with the same versions of its libraries.
    """
    own_KC = np.unique(pixels_PC, axis=0)
    if len(own_KC) <= colours:
        return np.concatenate([own_KC, np.repeat(own_KC[-1:], colours - len(own_KC), axis=0)])
    from sklearn.cluster import MiniBatchKMeans  # imported here: nothing else waits for it

    means = MiniBatchKMeans(colours, batch_size=4096, n_init=1, random_state=SEED).fit(pixels_PC.astype(float))
    return np.clip(np.rint(means.cluster_centers_), 0, 255).astype(np.uint8)


def measure(images: Images, colours: int = COLOURS) -> dict[str, np.ndarray]:
    """Fit a palette to training pixels and put every test pixel into its nearest colour.

    `palette_KC`: the colours, uint8; `psnr_B`: peak signal-to-noise ratio of each test image in dB; `colour_error_B`:
    its mean Euclidean distance in RGB, in 8-bit levels; `original_BHWC`, `quantised_BHWC`: the first test images.
    """
    palette_KC = fit(_chosen(images.train.pixels_BNC), colours)
    palette, pixels_BNC = Palette(palette_KC), images.test.pixels_BNC
    original_BNC, quantised_BNC = pixels_BNC.numpy(), palette.pixels(palette.tokens(pixels_BNC)).numpy()
    error_BNC = quantised_BNC.astype(float) - original_BNC
    size = images.size
    return {
        "palette_KC": palette_KC,
        "psnr_B": 10 * np.log10(255**2 / np.square(error_BNC).mean(axis=(1, 2))),
        "colour_error_B": np.linalg.norm(error_BNC, axis=2).mean(axis=1),
        "original_BHWC": original_BNC[:SHOWN].reshape(-1, size, size, 3),
        "quantised_BHWC": quantised_BNC[:SHOWN].reshape(-1, size, size, 3),
    }
