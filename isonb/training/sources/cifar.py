"""CIFAR-10 and CIFAR-100 in their binary versions, whole or in part, from a folder or downloaded once.

Book: chapter "Data".
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isonb import disk, draws, rows
from isonb.config import RunConfig
from isonb.training.sources import POOL_SEED, DataError, Found, Pictures, at_hand, fetched, part, share

SIZE = 32
LARGEST = 2**28  # bytes of a file; the largest published one has 154 million
PIXELS = 3 * SIZE**2  # bytes of a record after its labels: the red, green and blue planes, each row by row


@dataclass(frozen=True)
class Cifar:
    """One of the two data sets: where it is published, the names of its files, and the layout of its records.

    `sha1` has the checksum of every published file of records, in their order; `test` is the one with the test images.
    `names` is the file of class names and `classes` its content. `labels` are the label bytes at the start of a record,
    each with its number of values; the last one is the class.
    """

    name: str
    url: str
    sha256: str
    folder: str
    sha1: Mapping[str, str]
    test: str
    names: str
    classes: tuple[str, ...]
    labels: tuple[tuple[str, int], ...]

    @property
    def title(self) -> str:
        """Its name in sentences."""
        return rows.SOURCES[self.name].title

    @property
    def train(self) -> tuple[str, ...]:
        """The files of training images, in their order."""
        return tuple(name for name in self.sha1 if name != self.test)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that are read; the class names may be missing."""
        return (*self.train, self.test, self.names)

    @property
    def record(self) -> int:
        """The length of a record in bytes."""
        return len(self.labels) + PIXELS

    def load(self, run: RunConfig, folder: Path | None = None) -> Found:
        """The images at hand in `folder`, else in ISONB_DATA, else all of them by a download.

        Raises `DataError` when files are missing, damaged or of another format, or when the download fails.
        """
        place = self._find(folder) or fetched.archive(self.title, self.url, self.sha256, self.folder)
        content = self._read_folder(place) if place.is_dir() else self._read_archive(place)
        parts = [self.decode(content[name], place / name) for name in self.train if name in content]
        pixels_BNC, labels_B = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        if len(labels_B) < 2:
            raise DataError(f"{place} holds one training image: at least two are needed, one of them to validate.")
        order_B = draws.permutation(POOL_SEED, f"{self.name}/validation", len(labels_B))
        held_out = part(len(labels_B), run.validation_fraction)
        test_BNC, test_labels_B = self.decode(content[self.test], place / self.test)
        return Found(
            name=self.name_of(run, folder),
            classes=self._class_names(content, place),
            train=Pictures(pixels_BNC, labels_B, share(np.sort(order_B[held_out:]), run.data_fraction)),
            validation=Pictures(pixels_BNC, labels_B, np.sort(order_B[:held_out])),
            test=Pictures(test_BNC, test_labels_B, np.arange(len(test_labels_B))),
            sha256={name: hashlib.sha256(content[name]).hexdigest() for name in sorted(content)},
            official=place.is_file() or self._is_published(content),
        )

    def name_of(self, run: RunConfig, folder: Path | None = None) -> str:
        """The data set's, whole or in part."""
        return self.name

    def checksums(self, run: RunConfig, folder: Path | None = None) -> dict[str, str]:
        """The SHA-256 of each file at hand, by name; empty where there is none or one cannot be read."""
        named = at_hand(folder)
        place = self._place(named[1]) if named else None
        if place is None:
            return {}
        paths = [place / name for name in sorted(self.files) if os.path.lexists(place / name)]
        try:
            return {path.name: fetched.digests(path, LARGEST).sha256 for path in paths}
        except DataError:
            return {}

    def decode(self, content: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Any number of whole records as uint8 pixels_BNC and labels_B. Raises `DataError` that names `path`."""
        if not content:
            raise DataError(f"{path} is empty: fetch it again.")
        if len(content) % self.record:
            wrong = f"{len(content)} bytes, no whole number of {self.record}-byte records"
            raise DataError(
                f"{path} has {wrong}: it is truncated or not {self.title}'s binary version, so fetch it again."
            )
        records_BR = np.frombuffer(content, np.uint8).reshape(-1, self.record)
        for column, (label, values) in enumerate(self.labels):
            is_wrong_B = records_BR[:, column] >= values
            if is_wrong_B.any():
                wrong = int(np.argmax(is_wrong_B))
                raise DataError(
                    f"{path} has {label} {records_BR[wrong, column]} in record {wrong}, not one of 0 to {values - 1}: "
                    "fetch it again."
                )
        planes_BCN = records_BR[:, len(self.labels) :].reshape(-1, 3, SIZE**2)
        return np.ascontiguousarray(planes_BCN.transpose(0, 2, 1)), records_BR[:, len(self.labels) - 1]

    def _class_names(self, content: Mapping[str, bytes], place: Path) -> tuple[str, ...]:
        text = content.get(self.names, b"").decode(errors="replace")
        classes = tuple(text.split()) or self.classes
        if "\N{REPLACEMENT CHARACTER}" in text or not "".join(classes).isprintable():
            raise DataError(f"{place / self.names} is not a list of names: fetch it again.")
        if len(classes) != len(self.classes):
            wrong = f"{len(classes)} class names instead of {len(self.classes)}"
            raise DataError(f"{place / self.names} holds {wrong}: fetch it again.")
        return classes

    def _is_published(self, content: Mapping[str, bytes]) -> bool:
        """Whether these files hold exactly the published records."""
        return all(
            name in content and hashlib.sha1(content[name], usedforsecurity=False).hexdigest() == sha1
            for name, sha1 in self.sha1.items()
        )

    def _find(self, folder: Path | None) -> Path | None:
        """The folder that holds the .bin files, or None when neither `folder` nor ISONB_DATA is set."""
        root = fetched.root(folder, self.folder)
        if root is None or (place := self._place(root)):
            return root and place
        setting, _ = at_hand(folder)
        files = f"{self.train[0]} to {self.train[-1]}" if len(self.train) > 1 else self.train[0]
        raise DataError(
            f"{setting} {str(root)!r} holds no {self.title}, neither {files} nor a folder {self.folder} with "
            f"{'one of them' if len(self.train) > 1 else 'it'}: unpack {self.url} there."
        )

    def _place(self, root: Path) -> Path | None:
        """The folder itself or the one below it that the archive makes, whichever holds training images."""
        places = (root, root / self.folder)
        return next((place for place in places if any(os.path.lexists(place / name) for name in self.train)), None)

    def _read_folder(self, place: Path) -> dict[str, bytes]:
        """The contents of the files by name; the class names' file may be missing."""
        if not os.path.lexists(place / self.test):
            raise DataError(f"{place / self.test} is missing: put it beside the training files.")
        content = {}
        for name in self.files:
            if os.path.lexists(place / name):  # a link that leads nowhere is no missing file
                try:
                    content[name] = disk.read_bytes(place / name, LARGEST)
                except disk.Unreadable as error:
                    raise DataError(f"{place / name} cannot be read ({error}): make it a readable file.") from None
        return content

    def _read_archive(self, place: Path) -> dict[str, bytes]:
        """The same from the archive itself: nothing is unpacked, so nothing is ever left half-written."""
        content = {}
        try:
            with tarfile.open(place, "r:gz") as archive:
                for member in archive:
                    name = Path(member.name).name
                    if Path(member.name) == Path(self.folder, name) and name in self.files:
                        if not member.isreg() or member.size > LARGEST:
                            raise DataError(f"{place} holds {name} in another form than is published: delete it.")
                        content[name] = archive.extractfile(member).read()
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise DataError(f"{place} cannot be unpacked ({error}): delete it.") from None
        if self.test not in content or not {*self.train} & {*content}:
            raise DataError(f"{place} lacks training or test images: delete it.")
        return content


# The archives' SHA-256 are those by which TensorFlow Datasets checks them (url_checksums/cifar10.txt and cifar100.txt);
# their authors print an MD5 on https://www.cs.toronto.edu/~kriz/cifar.html, and nothing of the single files. The SHA-1
# below are those by which Apache MXNet checks these (python/mxnet/gluon/data/vision/datasets.py).
CIFAR10 = Cifar(
    name="cifar10",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    folder="cifar-10-batches-bin",
    sha1={
        "data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
        "data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
        "data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
        "data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
        "data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
        "test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c",
    },
    test="test_batch.bin",
    names="batches.meta.txt",
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    labels=(("label", 10),),
)
FINE = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
    maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
    plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail
    snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout
    tulip turtle wardrobe whale willow_tree wolf woman worm
"""  # the class names of CIFAR-100, as its own file has them
CIFAR100 = Cifar(
    name="cifar100",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    folder="cifar-100-binary",
    sha1={
        "train.bin": "e207cd2e05b73b1393c74c7f5e7bea451d63e08e",
        "test.bin": "8fb6623e830365ff53cf14adec797474f5478006",
    },
    test="test.bin",
    names="fine_label_names.txt",
    classes=tuple(FINE.split()),
    labels=(("coarse label", 20), ("label", 100)),
)
