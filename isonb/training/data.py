"""Images as 8-bit tensors, their splits, and the order in which a run sees them.

Two sources: `photos`, crops of ten photographs that come with scikit-image and scikit-learn, and `cifar10`, the binary
version of CIFAR-10. Which images are train, validation and test never depends on a run's seed, so all runs of a study
are compared on the same images; the seed decides their order and augmentation alone.

Book: chapter "Data".
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pooch
import torch

from isonb import draws, records
from isonb.config import RunConfig

POOL_SEED = 0  # fixed: crops and splits are the same in every run, whatever the run's seed

PHOTOGRAPHS = (
    "astronaut",
    "chelsea",
    "coffee",
    "hubble_deep_field",
    "immunohistochemistry",
    "motorcycle",
    "retina",
    "rocket",
    "china",
    "flower",
)
SCALES = (1, 2, 3, 4)  # a crop is this many image sizes wide before it is shrunk: texture at 1, objects at 4
CROPS = {
    "train": 160,
    "validation": 16,
    "test": 40,
}  # per photograph: an epoch of seconds; 400 test crops, half-width 5 %
REGIONS = {
    "train": 0.5,
    "validation": 0.2,
    "test": 0.3,
}  # of the width, from left to right; 0.2 holds 64 of 451 columns

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR10_FOLDER = "cifar-10-batches-bin"
CIFAR10_SIZE = 32
CIFAR10_RECORD = 1 + 3 * CIFAR10_SIZE**2  # a label byte, then the red, green and blue planes, each row by row
CIFAR10_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
CIFAR10_TEST = "test_batch.bin"
CIFAR10_NAMES = "batches.meta.txt"
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
    return records.Data(
        name=images.name,
        classes=list(images.classes),
        train=len(images.train),
        validation=len(images.validation),
        test=len(images.test),
        sha256=images.sha256,
    )


def _split(pixels_BNC: np.ndarray, labels_B: np.ndarray, index_B: np.ndarray) -> Split:
    """The images with the given numbers, copied."""
    return Split(
        torch.from_numpy(pixels_BNC[index_B]),
        torch.from_numpy(labels_B[index_B].astype(np.int64)),
        torch.from_numpy(index_B.astype(np.int64)),
    )


def _share(index_B: np.ndarray, fraction: float) -> np.ndarray:
    """A fixed share of the images, at least one, in their order; a smaller share lies inside every larger one."""
    kept = max(1, round(fraction * len(index_B)))
    return np.sort(index_B[draws.permutation(POOL_SEED, "data fraction", len(index_B))[:kept]])


# --- Photographs ---


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
    import skimage.data  # imported here: a CIFAR-10 run in many processes does not wait for them
    import sklearn.datasets

    ours = {"motorcycle": lambda: skimage.data.stereo_motorcycle()[0]}
    for name in ("china", "flower"):
        ours[name] = functools.partial(sklearn.datasets.load_sample_image, f"{name}.jpg")
    return tuple(ours.get(name, getattr(skimage.data, name, None))() for name in PHOTOGRAPHS)


@functools.cache
def _photo_crops(split: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The crops of one split, pixels_BNC and labels_B; image i is of photograph i modulo ten."""
    crops_KB = [
        crop_photograph(photograph, number, split, size, CROPS[split])
        for number, photograph in enumerate(_photographs())
    ]
    pixels_BNC = np.stack(crops_KB, axis=1).reshape(-1, size * size, 3)
    return pixels_BNC, np.tile(np.arange(len(crops_KB)), CROPS[split])


def regions(width: int) -> dict[str, tuple[int, int]]:
    """The columns of each split, first and one past the last: vertical strips, so that each has sky and ground."""
    ends = [round(width * share) for share in np.cumsum(list(REGIONS.values()))]
    return dict(zip(REGIONS, zip([0, *ends[:-1]], ends, strict=True), strict=True))


def crop_photograph(photograph: np.ndarray, number: int, split: str, size: int, count: int) -> np.ndarray:
    """Square crops of one region, shrunk by exact area averaging. Shape count, size, size, 3.

    The scale is drawn from those that fit in all three regions, so that no split sees a scale the others lack.
    Crop i depends on (photograph number, split, size, i) alone.
    """
    height, strips = photograph.shape[0], regions(photograph.shape[1])
    room = min(height, *(end - first for first, end in strips.values()))
    scales = [scale for scale in SCALES if scale * size <= room]
    u_B, v_B, w_B = (
        draws.uniform(POOL_SEED, f"photos/{split}/{part}", number, np.arange(count))
        for part in ("scale", "top", "left")
    )
    first, end = strips[split]
    crops = []
    for u, v, w in zip(u_B, v_B, w_B, strict=True):
        scale = scales[int(u * len(scales))]
        side = scale * size
        top, left = int(v * (height - side + 1)), first + int(w * (end - first - side + 1))
        crop = photograph[top : top + side, left : left + side]
        crops.append(np.rint(crop.reshape(size, scale, size, scale, 3).mean(axis=(1, 3))))
    return np.stack(crops).astype(np.uint8)


# --- CIFAR-10 ---


def _load_cifar10(run: RunConfig, folder: Path | None) -> Images:
    content = _cifar10_from_folder(folder)
    if content is None:
        content = _cifar10_from_archive(_download_cifar10())
    classes = CIFAR10_CLASSES
    if CIFAR10_NAMES in content:
        classes = tuple(content[CIFAR10_NAMES].decode(errors="replace").split())
        if len(classes) != len(CIFAR10_CLASSES):
            raise DataError(f"{CIFAR10_NAMES} holds {len(classes)} class names instead of 10: fetch the file again.")
    batches_ = [decode_records(name, content[name]) for name in CIFAR10_TRAIN if name in content]
    pixels_BNC = np.concatenate([pixels for pixels, _ in batches_])
    labels_B = np.concatenate([labels for _, labels in batches_])
    held_out, count = round(run.validation_fraction * len(labels_B)), len(labels_B)
    if count < 2:
        raise DataError("CIFAR-10's training files hold one image: at least two are needed, one of them to validate.")
    held_out = min(max(held_out, 1), count - 1)
    order_B = draws.permutation(POOL_SEED, "cifar10/validation", count)
    test_pixels_BNC, test_labels_B = decode_records(CIFAR10_TEST, content[CIFAR10_TEST])
    return Images(
        name="cifar10",
        classes=classes,
        size=CIFAR10_SIZE,
        train=_split(pixels_BNC, labels_B, _share(np.sort(order_B[held_out:]), run.data_fraction)),
        validation=_split(pixels_BNC, labels_B, np.sort(order_B[:held_out])),
        test=_split(test_pixels_BNC, test_labels_B, np.arange(len(test_labels_B))),
        sha256={name: hashlib.sha256(content[name]).hexdigest() for name in sorted(content)},
    )


def decode_records(name: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Any number of whole records as pixels_BNC and labels_B, both uint8. `DataError` names the file at fault."""
    if not content:
        raise DataError(f"{name} is empty: fetch the file again.")
    if len(content) % CIFAR10_RECORD:
        raise DataError(
            f"{name} has {len(content)} bytes, no whole number of {CIFAR10_RECORD}-byte records: "
            "it is truncated or not of CIFAR-10's binary version, so fetch the file again."
        )
    records_BR = np.frombuffer(content, np.uint8).reshape(-1, CIFAR10_RECORD)
    labels_B = records_BR[:, 0]
    if labels_B.max() >= len(CIFAR10_CLASSES):
        wrong = int(np.argmax(labels_B >= len(CIFAR10_CLASSES)))
        raise DataError(
            f"{name} has label {labels_B[wrong]} in record {wrong}, but CIFAR-10's labels are 0 to 9: "
            "fetch the file again."
        )
    planes_BCN = records_BR[:, 1:].reshape(-1, 3, CIFAR10_SIZE**2)
    return np.ascontiguousarray(planes_BCN.transpose(0, 2, 1)), labels_B


def _cifar10_from_folder(folder: Path | None) -> dict[str, bytes] | None:
    """The files' contents by name, or None when neither `folder` nor ISONB_DATA names a place."""
    named = str(folder) if folder is not None else os.environ.get("ISONB_DATA")
    if not named:
        return None
    setting, root = "The data folder" if folder is not None else "ISONB_DATA", Path(named).expanduser()
    if not root.is_dir():
        raise DataError(f"{setting} {named!r} is not a directory: name the one that holds {CIFAR10_FOLDER}.")
    places = [root, root / CIFAR10_FOLDER, *sorted(root.glob(f"*/{CIFAR10_FOLDER}"))]
    found = [place for place in places if any((place / name).exists() for name in CIFAR10_TRAIN)]
    if not found:
        raise DataError(
            f"No CIFAR-10 in {setting} {named!r}: looked for data_batch_1.bin to data_batch_5.bin there and in "
            f"{CIFAR10_FOLDER}; put the binary version ({CIFAR10_URL}) there, unpacked."
        )
    if len(found) > 1:
        raise DataError(f"{setting} {named!r} holds CIFAR-10 twice, in {found[0]} and {found[1]}: name one of them.")
    if not (found[0] / CIFAR10_TEST).exists():
        raise DataError(f"{CIFAR10_TEST} is missing in {found[0]}: put it beside the training files.")
    try:
        names = (*CIFAR10_TRAIN, CIFAR10_TEST, CIFAR10_NAMES)
        return {name: (found[0] / name).read_bytes() for name in names if (found[0] / name).exists()}
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}): make it a readable file.") from None


def _download_cifar10() -> Path:
    """The official archive in the user's cache; a failed download leaves nothing behind."""
    by_hand = f"unpack {CIFAR10_URL} by hand and set ISONB_DATA to the folder that holds {CIFAR10_FOLDER}."
    try:
        path = pooch.retrieve(
            CIFAR10_URL,
            known_hash=f"md5:{CIFAR10_MD5}",
            fname=CIFAR10_URL.rpartition("/")[2],
            path=pooch.os_cache("isonb"),
            downloader=pooch.HTTPDownloader(progressbar=True, chunk_size=2**20),
        )
    except OSError as error:
        raise DataError(f"CIFAR-10 could not be downloaded ({type(error).__name__}): {by_hand}") from None
    except ValueError:
        raise DataError(f"The downloaded CIFAR-10 archive has a wrong checksum: try again, or {by_hand}") from None
    return Path(path)


def _cifar10_from_archive(path: Path) -> dict[str, bytes]:
    """The files' contents by name, read from the archive itself: nothing is unpacked, so nothing is left half-written."""
    wanted = {f"{CIFAR10_FOLDER}/{name}": name for name in (*CIFAR10_TRAIN, CIFAR10_TEST, CIFAR10_NAMES)}
    with tarfile.open(path) as archive:
        return {wanted[item.name]: archive.extractfile(item).read() for item in archive if item.name in wanted}


# --- The order of the images, and their augmentation ---


def steps_per_epoch(n_images: int, batch_size: int) -> int:
    """Batches an epoch, the last one possibly short."""
    return math.ceil(n_images / batch_size)


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
    """One rank's share of each global batch of an epoch, as positions within the split; int64.

    The global batches depend on (seed, epoch) alone, never on rank or world size.
    """
    for batch_index_B in epoch_order(n_images, seed=seed, epoch=epoch).split(batch_size):
        yield rank_slice(batch_index_B, rank, world_size)


def augment(pixels_BNC: torch.Tensor, index_B: torch.Tensor, *, seed: int, epoch: int, size: int) -> torch.Tensor:
    """Each image mirrored with probability 1/2, padded by size/8 black pixels on all sides and cropped to its size.

    A function of (seed, epoch, image number) alone, whatever batch the image is in. Same shape and type as given.
    """
    margin, numbers_B = size // 8, index_B.cpu().numpy()
    flip_B = torch.from_numpy(draws.uniform(seed, "augmentation/flip", epoch, numbers_B) < 0.5)
    top_B, left_B = (
        torch.from_numpy((draws.uniform(seed, f"augmentation/{side}", epoch, numbers_B) * (2 * margin + 1)).astype(int))
        for side in ("top", "left")
    )
    rows_BH = top_B[:, None] - margin + torch.arange(size)
    columns_BW = left_B[:, None] - margin + torch.arange(size)
    inside_BHW = _within(rows_BH, size)[:, :, None] & _within(columns_BW, size)[:, None, :]
    columns_BW = torch.where(flip_B[:, None], size - 1 - columns_BW, columns_BW)
    source_BN = (rows_BH.clamp(0, size - 1)[:, :, None] * size + columns_BW.clamp(0, size - 1)[:, None, :]).flatten(1)
    device = pixels_BNC.device
    moved_BNC = pixels_BNC.gather(1, source_BN[:, :, None].expand(-1, -1, 3).to(device))
    return moved_BNC * inside_BHW.flatten(1)[:, :, None].to(device)


def _within(position: torch.Tensor, size: int) -> torch.Tensor:
    return (position >= 0) & (position < size)
