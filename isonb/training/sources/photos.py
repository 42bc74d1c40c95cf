"""Crops of ten photographs that come with scikit-image and scikit-learn: at hand everywhere, without a download.

Each photograph is a class. It is divided into vertical strips, one per split, so that no pixel is in two splits.

Book: chapter "Data".
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
from pathlib import Path

import numpy as np

from isonb import draws
from isonb.config import RunConfig
from isonb.training.sources import POOL_SEED, Found, Pictures, share

SKIMAGE = ("astronaut", "chelsea", "coffee", "hubble_deep_field", "immunohistochemistry", "retina", "rocket")
SKLEARN = ("china", "flower")
PHOTOGRAPHS = (*SKIMAGE, "motorcycle", *SKLEARN)
SCALES = (1, 2, 3, 4)  # a crop is this many image sizes wide before it is shrunk: texture at 1, objects at 4
TEXTURE = 8.0  # grey levels; 95 % of CIFAR-10's images have more, and smooth sky or black borders are unlike them
TRIES = 6  # draws of a crop; a photograph that is mostly smooth stays mostly smooth
# Crops per photograph: an epoch takes seconds on two cores, and 400 test crops give an accuracy to within 5 points
CROPS = {"train": 160, "validation": 16, "test": 40}
# Shares of a photograph's width, from left to right; 0.2 of the narrowest, 90 columns, holds crops of the largest size
REGIONS = {"train": 0.5, "validation": 0.2, "test": 0.3}


def load(run: RunConfig, folder: Path | None = None) -> Found:
    """The crops of all photographs; `folder` plays no part."""
    splits, sha256 = {}, {}
    for name in CROPS:
        pixels_BNC, labels_B = _crops(name, run.image_size)
        whole_S = np.arange(len(labels_B))
        index_S = share(whole_S, run.data_fraction) if name == "train" else whole_S
        splits[name] = Pictures(pixels_BNC.copy(), labels_B.copy(), index_S, whole_S)
        sha256[f"photos/{name}"] = hashlib.sha256(pixels_BNC.tobytes() + labels_B.tobytes()).hexdigest()
    return Found(name=name_of(run, folder), classes=PHOTOGRAPHS, **splits, sha256=sha256)


def name_of(run: RunConfig, folder: Path | None = None) -> str:
    """The same for all runs."""
    return "photos"


def checksums(run: RunConfig, folder: Path | None = None) -> dict[str, str]:
    """Empty: the photographs come with packages and are not the user's to change."""
    return {}


@functools.cache
def _photographs() -> tuple[np.ndarray, ...]:
    """The ten photographs, uint8, height x width x 3: files inside the two packages, never downloaded."""
    import skimage.data  # imported here: a run on other images in many processes does not wait for it

    sklearn = importlib.metadata.distribution("scikit-learn")  # whose own loader imports all of it, in a second
    return (
        *(getattr(skimage.data, name)() for name in SKIMAGE),
        skimage.data.stereo_motorcycle()[0],
        *(skimage.io.imread(sklearn.locate_file(f"sklearn/datasets/images/{name}.jpg")) for name in SKLEARN),
    )


@functools.cache
def _crops(split: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The crops of one split, pixels_BNC and labels_B; image i is of photograph i modulo ten."""
    count = CROPS[split]
    crops_KB = [crop_photograph(photo, number, split, size, count) for number, photo in enumerate(_photographs())]
    pixels_BNC = np.stack(crops_KB, axis=1).reshape(-1, size * size, 3)
    return pixels_BNC, np.tile(np.arange(len(crops_KB)), count)


def regions(width: int) -> dict[str, tuple[int, int]]:
    """The columns of each split, first and one past the last: vertical strips, so that each has sky and ground."""
    ends = [round(width * end) for end in np.cumsum(list(REGIONS.values()))]
    return dict(zip(REGIONS, zip([0, *ends[:-1]], ends, strict=True), strict=True))


def crop_photograph(photograph: np.ndarray, number: int, split: str, size: int, count: int) -> np.ndarray:
    """Square crops of one region, shrunk by exact area averaging. Shape count, size, size, 3.

    The scale is drawn from those that fit in all three regions, so that no split sees a scale the others lack. A crop
    with less texture than TEXTURE is drawn again, up to TRIES times in all, and the most textured one is taken.
    Crop i depends on (photograph number, split, size, i) alone.
    """
    height, strips = photograph.shape[0], regions(photograph.shape[1])
    room = min(height, *(end - first for first, end in strips.values()))
    scales = np.array([scale for scale in SCALES if scale * size <= room])
    first, end = strips[split]
    indices = np.arange(count)[:, None], np.arange(TRIES)
    scale_BT, top_BT, left_BT = (
        draws.uniform(POOL_SEED, f"photos/{split}/{part}", number, *indices) for part in ("scale", "top", "left")
    )
    scale_BT = scales[(scale_BT * len(scales)).astype(int)]
    top_BT = (top_BT * (height - scale_BT * size + 1)).astype(int)
    left_BT = (left_BT * (end - first - scale_BT * size + 1)).astype(int)
    strip = photograph[:, first:end]
    sums = np.pad(strip.cumsum(0, dtype=np.int32).cumsum(1), ((1, 0), (1, 0), (0, 0)))  # a summed-area table
    crops_BHWC, texture_B = np.zeros((count, size, size, 3), np.uint8), np.full(count, -1.0)
    for attempt in range(TRIES):
        smooth_B = np.flatnonzero(texture_B < TEXTURE)
        scale_B11 = scale_BT[smooth_B, attempt, None, None]
        rows_BH1 = top_BT[smooth_B, attempt, None, None] + scale_B11 * np.arange(size + 1)[:, None]
        columns_B1W = left_BT[smooth_B, attempt, None, None] + scale_B11 * np.arange(size + 1)
        areas_BHWC = np.diff(np.diff(sums[rows_BH1, columns_B1W], axis=1), axis=2)
        drawn_BHWC = np.rint(areas_BHWC / scale_B11[..., None] ** 2).astype(np.uint8)
        drawn_B = texture(drawn_BHWC)
        better_B = drawn_B > texture_B[smooth_B]
        crops_BHWC[smooth_B[better_B]] = drawn_BHWC[better_B]
        texture_B[smooth_B[better_B]] = drawn_B[better_B]
    return crops_BHWC


def texture(images_BHWC: np.ndarray) -> np.ndarray:
    """The mean absolute step between pixels that are side by side or one below the other, in grey levels. Shape B."""
    steps = (np.abs(np.diff(images_BHWC.astype(np.int16), axis=axis)) for axis in (1, 2))
    return np.mean([step_BHWC.mean(axis=(1, 2, 3)) for step_BHWC in steps], axis=0)
