"""CIFAR-10 and CIFAR-100: read byte for byte, divided the same way in every run, downloaded once; and every refusal."""

import dataclasses
import gzip
import hashlib
import io
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pooch
import pytest
import requests

from isonb import draws
from isonb.config import RunConfig
from isonb.training import download
from isonb.training.sources import DataError, cifar

TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def random_records(labels, seed=0, coarse=None):
    """One record per label in the official layout: the label bytes, then 3072 random bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), np.uint8)
    columns = [np.full(len(labels), coarse, np.uint8)] if coarse is not None else []
    return np.column_stack([*columns, np.asarray(labels, np.uint8), pixels]).tobytes()


@dataclass
class AtHand:
    """A folder of 40 training and 10 test images, and how the source that reads it is laid out."""

    source: cifar.Cifar
    folder: Path
    coarse: int | None
    files: list[str]
    test: str
    names: str
    url: str

    @property
    def prefix(self) -> bytes:
        """What stands before the label of each record."""
        return b"" if self.coarse is None else bytes([self.coarse])

    def run(self, **changes):
        return RunConfig(data=self.source.name, **changes)

    def load(self, folder="here", **changes):
        return self.source.load(self.run(**changes), self.folder if folder == "here" else folder)

    def records(self, labels, seed=0):
        return random_records(labels, seed, self.coarse)


@pytest.fixture(params=["cifar10", "cifar100"])
def images(request, tmp_path, monkeypatch):
    monkeypatch.delenv("ISONB_DATA", raising=False)
    ten = request.param == "cifar10"
    folder = tmp_path / ("cifar-10-batches-bin" if ten else "cifar-100-binary")
    folder.mkdir()
    images = AtHand(
        cifar.CIFAR10 if ten else cifar.CIFAR100,
        folder,
        coarse=None if ten else 19,
        files=["data_batch_1.bin", "data_batch_2.bin"] if ten else ["train.bin"],
        test="test_batch.bin" if ten else "test.bin",
        names="batches.meta.txt" if ten else "fine_label_names.txt",
        url=f"https://www.cs.toronto.edu/~kriz/{'cifar-10' if ten else 'cifar-100'}-binary.tar.gz",
    )
    labels = [*range(10)] if ten else [*range(90, 100)]
    counts = [3, 1] if ten else [4]
    for seed, (name, count) in enumerate(zip(images.files, counts, strict=True)):
        (folder / name).write_bytes(images.records(labels * count, seed))
    (folder / images.test).write_bytes(images.records(labels, seed=9))
    return images


def same(one, other):
    """Whether two splits are of the same images."""
    return np.array_equal(one.index_S, other.index_S) and all(
        np.array_equal(getattr(one, name)[one.index_S], getattr(other, name)[other.index_S])
        for name in ("pixels_BNC", "labels_B")
    )


# What is read


def test_every_byte_of_a_record_lands_at_its_position_and_channel(images):
    record = np.zeros(3073, np.uint8)
    record[0] = 7
    record[1] = 11  # red, row 0, column 0
    record[1 + 31] = 12  # red, row 0, column 31
    record[1 + 1024 + 32] = 13  # green, row 1, column 0
    record[1 + 2048 + 1023] = 14  # blue, row 31, column 31
    (images.folder / images.test).write_bytes(images.prefix + bytes(3073) + images.prefix + record.tobytes())
    test = images.load().test
    expected = np.zeros((1024, 3), np.uint8)
    expected[0, 0], expected[31, 0], expected[32, 1], expected[1023, 2] = 11, 12, 13, 14
    assert np.array_equal(test.pixels_BNC[1], expected)
    assert not test.pixels_BNC[0].any()
    assert test.labels_B.tolist() == [0, 7]
    assert test.index_S.tolist() == [0, 1]


def test_training_files_follow_each_other_and_are_divided_into_train_and_validation(images):
    found = images.load()
    assert [len(split.index_S) for split in (found.train, found.validation, found.test)] == [36, 4, 10]
    assert sorted([*found.train.index_S, *found.validation.index_S]) == list(range(40))
    read = found.train
    assert read.pixels_BNC is found.validation.pixels_BNC
    records = [
        images.prefix + bytes([label]) + pixels_NC.T.tobytes()
        for pixels_NC, label in zip(read.pixels_BNC, read.labels_B, strict=True)
    ]
    assert b"".join(records) == b"".join((images.folder / name).read_bytes() for name in images.files)


def test_the_split_does_not_depend_on_the_seed_and_follows_the_configured_fraction(images):
    first, other = images.load(), images.load(seed=3)
    assert same(first.train, other.train)
    assert same(first.validation, other.validation)
    assert first.validation.index_S.tolist() != list(range(4))  # neither the first images
    assert first.validation.index_S.tolist() != list(range(36, 40))  # nor the last
    larger = images.load(validation_fraction=0.25)
    assert (len(larger.train.index_S), len(larger.validation.index_S)) == (30, 10)
    assert len(images.load(validation_fraction=0.001).validation.index_S) == 1
    assert len(images.load(validation_fraction=0.999).train.index_S) == 1


def test_the_validation_images_are_the_first_of_a_draw_of_their_own(images):
    # Every result at hand rests on this draw and its name.
    draw_B = draws.permutation(0, f"{images.source.name}/validation", 40)
    assert images.load().validation.index_S.tolist() == sorted(draw_B[:4])


def test_data_fractions_are_nested_and_leave_validation_and_test_alone(images):
    whole = images.load()
    larger = set(whole.train.index_S.tolist())
    for fraction in (0.5, 0.25, 0.1, 1e-6):
        smaller = images.load(data_fraction=fraction)
        numbers = smaller.train.index_S.tolist()
        assert len(numbers) == max(1, round(fraction * 36))
        assert set(numbers) < larger
        assert same(smaller.validation, whole.validation)
        assert same(smaller.test, whole.test)
        assert smaller.sha256 == whole.sha256
        larger = set(numbers)


def test_the_checksums_are_of_exactly_the_files_that_were_read(images):
    count = len(images.source.classes)
    (images.folder / images.names).write_text("\n".join(f"class_{number}" for number in range(count)) + "\n\n")
    (images.folder / "readme.html").write_text("not read")
    (images.folder / "coarse_label_names.txt").write_text("not read")
    found = images.load()
    assert found.name == images.source.name
    assert found.classes == tuple(f"class_{number}" for number in range(count))
    names = sorted([*images.files, images.test, images.names])
    assert found.sha256 == {name: hashlib.sha256((images.folder / name).read_bytes()).hexdigest() for name in names}
    assert list(found.sha256) == names


def test_the_classes_have_their_official_names_without_the_file_of_names(images):
    classes = list(images.load().classes)
    if images.source is cifar.CIFAR10:
        assert classes == TEN
    else:  # as https://www.cs.toronto.edu/~kriz/cifar.html lists them; labels count them in alphabetical order
        assert classes == sorted(classes)
        assert len({*classes}) == 100
        known = {0: "apple", 1: "aquarium_fish", 26: "crab", 41: "lawn_mower", 47: "maple_tree", 72: "seal", 99: "worm"}
        assert {number: classes[number] for number in known} == known


def test_files_are_found_in_the_named_folder_or_below_it_and_the_argument_comes_first(images, monkeypatch):
    direct, above = images.load(), images.folder.parent
    assert images.load(above).sha256 == direct.sha256
    monkeypatch.setenv("ISONB_DATA", str(above))
    assert images.load(None).sha256 == direct.sha256
    monkeypatch.setenv("ISONB_DATA", str(above / "nowhere"))
    assert images.load().sha256 == direct.sha256


def test_a_part_of_the_published_files_is_not_official_and_the_whole_is(images, monkeypatch):
    assert images.load().official is False
    files = {name: hashlib.sha1((images.folder / name).read_bytes()).hexdigest() for name in images.files}
    files[images.test] = hashlib.sha1((images.folder / images.test).read_bytes()).hexdigest()
    published = dataclasses.replace(images.source, sha1=files)
    assert published.load(images.run(), images.folder).official is True
    (images.folder / images.test).write_bytes(images.records([1, 2]))
    assert published.load(images.run(), images.folder).official is False


# Checksums without decoding


def test_checksums_are_those_that_a_run_records(images, monkeypatch):
    run, loaded = images.run(), images.load().sha256
    assert images.source.checksums(run, images.folder) == loaded
    assert images.source.checksums(run, images.folder.parent) == loaded
    monkeypatch.setenv("ISONB_DATA", str(images.folder.parent))
    assert images.source.checksums(run) == loaded
    (images.folder / images.names).write_text("\n".join(images.source.classes))
    assert images.source.checksums(run) == images.load().sha256 != loaded


def test_a_changed_file_shows_in_a_process_that_looked_before(images):
    before = images.source.checksums(images.run(), images.folder)
    (images.folder / images.test).write_bytes(images.records([1, 2, 3]))
    assert images.source.checksums(images.run(), images.folder) != before


def test_without_images_at_hand_there_is_nothing_to_compare(images, tmp_path, monkeypatch):
    checksums, run = images.source.checksums, images.run()
    assert checksums(run) == {}
    (tmp_path / "empty").mkdir()
    assert checksums(run, tmp_path / "empty") == {}
    assert checksums(run, tmp_path / "nowhere") == {}
    (images.folder / images.files[-1]).unlink()
    (images.folder / images.files[-1]).mkdir()  # cannot be read
    assert checksums(run, images.folder) == {}


# Refusals


def refusal(images, folder="here"):
    """The message of the refusal, which is one sentence."""
    with pytest.raises(DataError) as caught:
        images.load(folder)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert ". " not in message
    return message


@pytest.mark.parametrize("is_test", [False, True])
def test_a_damaged_file_is_refused_by_its_path(images, is_test):
    path = images.folder / (images.test if is_test else images.files[-1])
    size, classes = 3073 + len(images.prefix), len(images.source.classes)
    for content, says in (
        (b"", "is empty"),
        (bytes(3072), f"3072 bytes, no whole number of {size}-byte records"),
        (images.records([1, 2])[:-1], f"{2 * size - 1} bytes, no whole number of {size}-byte records"),
        (
            images.records([1, classes - 1, classes, 3]),
            f"has label {classes} in record 2, not one of 0 to {classes - 1}",
        ),
        (images.records([255]), "label 255 in record 0"),
    ):
        path.write_bytes(content)
        message = refusal(images)
        assert message.startswith(str(path))
        assert says in message
        assert "fetch it again" in message


@pytest.mark.parametrize("images", ["cifar100"], indirect=True)
def test_a_wrong_coarse_label_is_refused_too(images):
    path = images.folder / "train.bin"
    path.write_bytes(random_records([1], coarse=0) + random_records([2], coarse=20))
    assert "has coarse label 20 in record 1, not one of 0 to 19" in refusal(images)


def test_a_missing_test_file_is_refused(images):
    (images.folder / images.test).unlink()
    assert f"{images.folder / images.test} is missing" in refusal(images)


def test_a_single_training_image_is_refused(images):
    for name in images.files[1:]:
        (images.folder / name).unlink()
    (images.folder / images.files[0]).write_bytes(images.records([4]))
    assert "one training image: at least two" in refusal(images)


def sparse(path):
    with path.open("wb") as file:
        file.truncate(50 * 2**30)  # takes no room on the disk


@pytest.mark.parametrize("which", ["first", "test", "names"])
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.mkdir(), "not a regular file"),
        (lambda path: os.mkfifo(path), "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: path.symlink_to("nowhere"), "No such file or directory"),
        (sparse, "it has 53,687,091,200 bytes"),
    ],
)
def test_what_is_no_file_is_refused_unread(make, says, which, images):
    path = images.folder / {"first": images.files[0], "test": images.test, "names": images.names}[which]
    path.unlink(missing_ok=True)
    make(path)
    message = refusal(images)
    assert message.startswith(f"{path} cannot be read (")
    assert says in message or path.is_dir()
    assert images.source.checksums(images.run(), images.folder) == {}


@pytest.mark.parametrize("content", [b"\xff\xfe\x00" * 40, b"a\x00b " * 100, b"\x1b[31m " * 10])
def test_names_that_are_no_text_are_refused(content, images):
    (images.folder / images.names).write_bytes(content)
    assert f"{images.folder / images.names}" in refusal(images)


def test_a_wrong_number_of_class_names_is_refused(images):
    (images.folder / images.names).write_text("cat\ndog\n")
    assert f"2 class names instead of {len(images.source.classes)}" in refusal(images)


def test_a_folder_without_images_is_refused_with_what_was_looked_for(images, tmp_path, monkeypatch):
    empty = tmp_path / "empty"
    empty.mkdir()
    message = refusal(images, empty)
    assert f"The data folder '{empty}' holds no {images.source.title}" in message
    looked_for = "neither data_batch_1.bin to data_batch_5.bin nor a folder cifar-10-batches-bin with one of them"
    if images.source is cifar.CIFAR100:
        looked_for = "neither train.bin nor a folder cifar-100-binary with it"
    assert f"{looked_for}: unpack {images.url} there." in message
    monkeypatch.setenv("ISONB_DATA", str(empty))
    assert f"ISONB_DATA '{empty}' holds no {images.source.title}" in refusal(images, None)


def test_a_data_folder_that_is_none_is_refused_and_nothing_is_downloaded(images, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setattr(pooch, "retrieve", lambda *_, **__: pytest.fail("a download was tried"))
    for place in (tmp_path / "nowhere", file):
        monkeypatch.setenv("ISONB_DATA", str(place))
        assert f"ISONB_DATA '{place}' is not a directory" in refusal(images, None)


# The download


@pytest.fixture
def server(images, tmp_path, monkeypatch):
    """Stands in for the network: what `server["content"]` holds is fetched, an exception there is raised."""
    content = {"content": b"", "requests": 0}

    def fetch(url, output_file, pooch):
        content["requests"] += 1
        assert url == images.url
        Path(output_file).write_bytes(b"a part of the archive")
        if isinstance(content["content"], Exception):
            raise content["content"]
        Path(output_file).write_bytes(content["content"])

    monkeypatch.setattr(download, "resume", fetch)
    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path / "cache")
    return content


def cached(tmp_path):
    return [path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize(
    "error", [requests.ConnectionError("no route"), requests.Timeout("slow"), OSError("disk full")]
)
def test_without_network_the_message_says_how_to_get_the_images_by_hand(server, images, error, tmp_path):
    server["content"] = error
    message = refusal(images, None)
    assert f"{images.source.title} could not be downloaded" in message
    assert f"unpack {images.url} by hand and set ISONB_DATA to the folder that holds {images.folder.name}." in message
    assert cached(tmp_path) == []


def test_a_cache_that_cannot_be_made_is_a_sentence(server, images, tmp_path):
    (tmp_path / "cache").touch()
    assert f"could not be downloaded ({tmp_path / 'cache'}: File exists)" in refusal(images, None)


def test_an_archive_with_a_wrong_checksum_is_refused_and_not_kept(server, images, tmp_path):
    server["content"] = b"a login page"
    assert "wrong checksum" in refusal(images, None)
    assert cached(tmp_path) == []


def test_the_archive_is_downloaded_once_and_read_without_being_unpacked(server, images, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(images.folder, arcname=images.folder.name)
    server["content"] = buffer.getvalue()
    source = dataclasses.replace(images.source, sha256=hashlib.sha256(buffer.getvalue()).hexdigest())
    expected = images.load()
    for _ in range(2):
        found = source.load(images.run())
        assert found.sha256 == expected.sha256
        assert same(found.train, expected.train)
        assert same(found.test, expected.test)
        assert found.official is True  # by the checksum of the archive
    assert server["requests"] == 1
    assert cached(tmp_path) == [images.url.rpartition("/")[2]]


def packed(images, change):
    """An archive of the folder, each of whose entries may be changed: `change(entry)` gives that and its content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path in sorted(images.folder.iterdir()):
            entry = tarfile.TarInfo(f"{images.folder.name}/{path.name}")
            content = path.read_bytes()
            entry.size = len(content)
            change(entry)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def as_link(entry):
    entry.type, entry.linkname, entry.size = tarfile.SYMTYPE, "/etc/passwd", 0


def as_folder(entry):
    entry.type, entry.size = tarfile.DIRTYPE, 0


def elsewhere(entry):
    entry.name = "../../" + entry.name


def empty(entry):
    entry.size = 0


@pytest.mark.parametrize(
    "make",
    [
        lambda images: packed(images, as_link),
        lambda images: packed(images, as_folder),
        lambda images: packed(images, elsewhere),
        lambda images: packed(images, empty),
        lambda images: packed(images, lambda entry: None)[:-2000],
        lambda images: packed(images, lambda entry: None)[:100],
        lambda images: gzip.compress(bytes(100_000)),
        lambda images: gzip.compress(b"no archive"),
        lambda images: b"\x1f\x8b\x08\x00 no gzip",
        lambda images: b"",
    ],
)
def test_an_archive_of_another_form_is_refused_even_if_its_checksum_is_right(make, server, images, tmp_path):
    server["content"] = make(images)
    source = dataclasses.replace(images.source, sha256=hashlib.sha256(server["content"]).hexdigest())
    with pytest.raises(DataError) as caught:
        source.load(images.run())
    assert str(caught.value).startswith(str(tmp_path / "cache"))


def test_an_entry_that_claims_to_be_endless_is_not_read(server, images, monkeypatch):
    server["content"] = packed(images, lambda entry: None)
    source = dataclasses.replace(images.source, sha256=hashlib.sha256(server["content"]).hexdigest())
    monkeypatch.setattr(cifar, "LARGEST", 30_000)  # the first file has 30 records
    with pytest.raises(DataError, match="in another form than is published: delete it"):
        source.load(images.run())


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("nowhere", path)])
def test_what_is_no_file_in_the_place_of_the_archive_is_refused(make, server, images, tmp_path):
    (tmp_path / "cache").mkdir()
    make(tmp_path / "cache" / images.url.rpartition("/")[2])
    assert "is not a regular file: remove it." in refusal(images, None)
    assert server["requests"] == 0


# The real images


@pytest.mark.skipif(not os.environ.get("ISONB_DATA"), reason="ISONB_DATA names no folder with CIFAR-10")
def test_real_cifar10_has_its_published_labels_and_colours():
    found = cifar.CIFAR10.load(RunConfig(data="cifar10"))
    assert list(found.classes) == TEN
    numbers = np.sort(np.concatenate([found.train.index_S, found.validation.index_S]))
    assert numbers.tolist() == list(range(len(found.train.labels_B)))
    # Counted from the official files: the first 4 000 images of data_batch_1 and the first 1 000 of test_batch.
    counts = np.bincount(found.train.labels_B[:4000]).tolist()
    assert counts == [396, 366, 420, 384, 422, 393, 414, 385, 407, 413]
    assert np.bincount(found.test.labels_B[:1000]).tolist() == [103, 89, 100, 103, 90, 86, 112, 102, 106, 109]
    # The training set's mean colour, as it is given wherever CIFAR-10 is normalised.
    mean_C = found.train.pixels_BNC[found.train.index_S].mean(axis=(0, 1)) / 255
    assert mean_C.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.01)
