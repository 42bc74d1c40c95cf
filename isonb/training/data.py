"""Images as 8-bit tensors, their splits, and the order in which a run sees them.

Two sources: `photos`, crops of ten photographs that come with scikit-image and scikit-learn, and `cifar10`, the binary
version of CIFAR-10. Which images are train, validation and test never depends on a run's seed, so all runs of a study
are compared on the same images; the seed decides their order alone.

Book: chapter "Data".
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np
import pooch
import torch

from isonb import draws, records
from isonb.config import RunConfig
from isonb.fingerprints import CIFAR10_FILES, CIFAR10_FOLDER, CIFAR10_NAMES, CIFAR10_TEST, CIFAR10_TRAIN
from isonb.training import download

POOL_SEED = 0  # fixed: crops and splits are the same in every run, whatever the run's seed

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

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR10_SIZE = 32
CIFAR10_RECORD = 1 + 3 * CIFAR10_SIZE**2  # a label byte, then the red, green and blue planes, each row by row
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class DataError(ValueError):
    """Images that cannot be read; its message is one sentence that says what was wrong and what to do."""


@dataclass(frozen=True)
class Split:
    """Images in raster order (uint8), their classes (int64), and their numbers within the source (int64).

    The number of an image stays the same in every subset, so that masks and augmentations can be functions of it.
    """

    pixels_BNC: torch.Tensor
    labels_B: torch.Tensor
    index_B: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels_B)


@dataclass(frozen=True)
class Images:
    """The three splits of one data set, and the SHA-256 of everything that was read for them."""

    name: str
    classes: tuple[str, ...]
    size: int
    train: Split
    validation: Split
    test: Split
    sha256: dict[str, str]


def load(run: RunConfig, folder: Path | None = None) -> Images:
    """The images of a run. CIFAR-10 is looked for in `folder`, else in ISONB_DATA, else it is downloaded.

    Raises `DataError` when files are missing, damaged or of another format, or when the download fails.
    """
    return _load_photos(run) if run.data == "photos" else _load_cifar10(run, folder)


def describe(images: Images) -> records.Data:
    """What a run read, for its record."""
    counts = {split: len(getattr(images, split)) for split in CROPS}
    return records.Data(name=images.name, classes=list(images.classes), **counts, sha256=images.sha256)


def _split(pixels_BNC: np.ndarray, labels_B: np.ndarray, index_B: np.ndarray) -> Split:
    """The images with the given numbers, copied."""
    return Split(*map(torch.from_numpy, (pixels_BNC[index_B], labels_B[index_B].astype(np.int64), index_B)))


def _share(index_B: np.ndarray, fraction: float) -> np.ndarray:
    """A fixed share of the images, at least one, in their order; a smaller share lies inside every larger one."""
    kept = max(1, round(fraction * len(index_B)))
    return np.sort(index_B[draws.permutation(POOL_SEED, "data fraction", len(index_B))[:kept]])


def _load_photos(run: RunConfig) -> Images:
    splits, sha256 = {}, {}
    for name in CROPS:
        pixels_BNC, labels_B = _photo_crops(name, run.image_size)
        index_B = np.arange(len(labels_B))
        splits[name] = _split(pixels_BNC, labels_B, _share(index_B, run.data_fraction) if name == "train" else index_B)
        sha256[f"photos/{name}"] = hashlib.sha256(pixels_BNC.tobytes() + labels_B.tobytes()).hexdigest()
    return Images(name="photos", classes=PHOTOGRAPHS, size=run.image_size, **splits, sha256=sha256)


@functools.cache
def _photographs() -> tuple[np.ndarray, ...]:
    """The ten photographs, uint8, height x width x 3: files inside the two packages, never downloaded."""
    import skimage.data  # imported here: a CIFAR-10 run in many processes does not wait for it

    sklearn = importlib.metadata.distribution("scikit-learn")  # whose own loader imports all of it, in a second
    return (
        *(getattr(skimage.data, name)() for name in SKIMAGE),
        skimage.data.stereo_motorcycle()[0],
        *(skimage.io.imread(sklearn.locate_file(f"sklearn/datasets/images/{name}.jpg")) for name in SKLEARN),
    )


@functools.cache
def _photo_crops(split: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The crops of one split, pixels_BNC and labels_B; image i is of photograph i modulo ten."""
    count = CROPS[split]
    crops_KB = [crop_photograph(photo, number, split, size, count) for number, photo in enumerate(_photographs())]
    pixels_BNC = np.stack(crops_KB, axis=1).reshape(-1, size * size, 3)
    return pixels_BNC, np.tile(np.arange(len(crops_KB)), count)


def regions(width: int) -> dict[str, tuple[int, int]]:
    """The columns of each split, first and one past the last: vertical strips, so that each has sky and ground."""
    ends = [round(width * share) for share in np.cumsum(list(REGIONS.values()))]
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


def _load_cifar10(run: RunConfig, folder: Path | None) -> Images:
    place = _find_cifar10(folder) or _download_cifar10()
    content = _read_folder(place) if place.is_dir() else _read_archive(place)
    parts = [decode_records(content[name], place / name) for name in CIFAR10_TRAIN if name in content]
    pixels_BNC, labels_B = (np.concatenate(part) for part in zip(*parts, strict=True))
    if len(labels_B) < 2:
        raise DataError(f"{place} holds one training image: at least two are needed, one of them to validate.")
    order_B = draws.permutation(POOL_SEED, "cifar10/validation", len(labels_B))
    held_out = min(max(round(run.validation_fraction * len(labels_B)), 1), len(labels_B) - 1)
    test_pixels_BNC, test_labels_B = decode_records(content[CIFAR10_TEST], place / CIFAR10_TEST)
    classes = tuple(content.get(CIFAR10_NAMES, b"").decode(errors="replace").split()) or CIFAR10_CLASSES
    if len(classes) != len(CIFAR10_CLASSES):
        raise DataError(f"{place / CIFAR10_NAMES} holds {len(classes)} class names instead of 10: fetch it again.")
    return Images(
        name="cifar10",
        classes=classes,
        size=CIFAR10_SIZE,
        train=_split(pixels_BNC, labels_B, _share(np.sort(order_B[held_out:]), run.data_fraction)),
        validation=_split(pixels_BNC, labels_B, np.sort(order_B[:held_out])),
        test=_split(test_pixels_BNC, test_labels_B, np.arange(len(test_labels_B))),
        sha256={name: hashlib.sha256(content[name]).hexdigest() for name in sorted(content)},
    )


def decode_records(content: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Any number of whole records as uint8 pixels_BNC and labels_B. Raises `DataError` that names `path`."""
    if not content:
        raise DataError(f"{path} is empty: fetch it again.")
    if len(content) % CIFAR10_RECORD:
        wrong = f"{len(content)} bytes, no whole number of {CIFAR10_RECORD}-byte records"
        raise DataError(f"{path} has {wrong}: it is truncated or not CIFAR-10's binary version, so fetch it again.")
    records_BR = np.frombuffer(content, np.uint8).reshape(-1, CIFAR10_RECORD)
    labels_B = records_BR[:, 0]
    if labels_B.max() >= len(CIFAR10_CLASSES):
        wrong = int(np.argmax(labels_B >= len(CIFAR10_CLASSES)))
        raise DataError(f"{path} has label {labels_B[wrong]} in record {wrong}, not one of 0 to 9: fetch it again.")
    planes_BCN = records_BR[:, 1:].reshape(-1, 3, CIFAR10_SIZE**2)
    return np.ascontiguousarray(planes_BCN.transpose(0, 2, 1)), labels_B


def _find_cifar10(folder: Path | None) -> Path | None:
    """The folder that holds the .bin files, or None when neither `folder` nor ISONB_DATA is set."""
    setting = "ISONB_DATA" if folder is None else "The data folder"
    named = folder or os.environ.get("ISONB_DATA")
    if not named:
        return None
    root = Path(named).expanduser()
    if not root.is_dir():
        raise DataError(f"{setting} {str(root)!r} is not a directory: name the one that holds {CIFAR10_FOLDER}.")
    for place in (root, root / CIFAR10_FOLDER):
        if any((place / name).exists() for name in CIFAR10_TRAIN):
            return place
    raise DataError(
        f"{setting} {str(root)!r} holds no CIFAR-10, neither data_batch_1.bin to data_batch_5.bin nor a folder "
        f"{CIFAR10_FOLDER} with one of them: unpack {CIFAR10_URL} there."
    )


def _read_folder(place: Path) -> dict[str, bytes]:
    """The contents of the files by name; the class names' file may be missing."""
    if not (place / CIFAR10_TEST).exists():
        raise DataError(f"{place / CIFAR10_TEST} is missing: put it beside the training files.")
    try:
        return {name: (place / name).read_bytes() for name in CIFAR10_FILES if (place / name).exists()}
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}): make it a readable file.") from None


def _read_archive(place: Path) -> dict[str, bytes]:
    """The same from the archive itself: nothing is unpacked, so nothing is ever left half-written."""
    with tarfile.open(place) as archive:
        files = [(Path(item.name).name, item) for item in archive]
        return {name: archive.extractfile(item).read() for name, item in files if name in CIFAR10_FILES}


def _download_cifar10() -> Path:
    """The official archive in the user's cache; a download that breaks off goes on from there the next time."""
    by_hand = f"unpack {CIFAR10_URL} by hand and set ISONB_DATA to the folder that holds {CIFAR10_FOLDER}."
    folder, name = Path(pooch.os_cache("isonb")), Path(CIFAR10_URL).name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / f"{name}.lock"):  # the ranks of one host share the cache
            return Path(pooch.retrieve(CIFAR10_URL, f"md5:{CIFAR10_MD5}", name, folder, downloader=download.resume))
    except OSError as error:
        raise DataError(f"CIFAR-10 could not be downloaded ({type(error).__name__}): try again, or {by_hand}") from None
    except ValueError:
        raise DataError(f"The downloaded CIFAR-10 archive has a wrong checksum: try again, or {by_hand}") from None


def steps_per_epoch(n_images: int, batch_size: int) -> int:
    """Batches an epoch, the last one possibly short."""
    return -(-n_images // batch_size)


def epoch_order(n_images: int, *, seed: int, epoch: int) -> torch.Tensor:
    """A permutation of 0..n_images-1 for one epoch, int64."""
    return torch.from_numpy(draws.permutation(seed, "batch order", n_images, epoch))


def rank_slice(batch_index_B: torch.Tensor, rank: int, world_size: int) -> torch.Tensor:
    """One rank's contiguous share of a global batch; shares cover it and differ by at most one, so may be empty."""
    count = len(batch_index_B)
    return batch_index_B[rank * count // world_size : (rank + 1) * count // world_size]


def batches(
    n_images: int, batch_size: int, *, seed: int, epoch: int, rank: int = 0, world_size: int = 1
) -> Iterator[torch.Tensor]:
    """One rank's share of each batch, as positions in the split; the batches depend on (seed, epoch) alone."""
    for batch_index_B in epoch_order(n_images, seed=seed, epoch=epoch).split(batch_size):
        yield rank_slice(batch_index_B, rank, world_size)
