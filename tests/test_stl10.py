"""STL-10: read byte for byte, shrunk exactly, divided by its folds, its images without labels; and every refusal."""

import hashlib
import io
import os
import tarfile
import time
from concurrent import futures

import numpy as np
import pooch
import pytest
import requests
from published_files import write_stl10

from isonb.config import RunConfig
from isonb.training import data, download
from isonb.training.sources import DataError, kept, squares, stl10

TRAIN, TEST = [0, 1, 2, 0, 1, 2], [2, 1, 0]
FOLDS = ["0 1 3 4", "5 4 2 1 0"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv("ISONB_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    return tmp_path / "stl10_binary"


@pytest.fixture
def written(folder):
    return write_stl10(folder, TRAIN, TEST, unlabelled=40, folds=FOLDS)


def run(**changes):
    return RunConfig(data="stl10", **changes)


def load(folder, **changes):
    return stl10.load(run(**changes), folder)


def means(pictures_BHWC):
    """Of each square of three by three pixels, naively; exact halves cannot occur among ninths."""
    return np.array([
        [
            [
                [round(sum(int(v) for v in picture[i : i + 3, j : j + 3, c].ravel()) / 9) for c in range(3)]
                for j in range(0, 96, 3)
            ]
            for i in range(0, 96, 3)
        ]
        for picture in pictures_BHWC
    ]).reshape(len(pictures_BHWC), 1024, 3)  # fmt: skip


def test_every_pixel_is_the_mean_of_its_nine_and_lands_at_its_place(folder, written):
    found = load(folder)
    assert np.array_equal(found.test.pixels_BNC, means(written["test"]))
    assert np.array_equal(found.train.pixels_BNC, means(written["train"]))
    assert found.test.labels_B.tolist() == TEST
    assert found.train.labels_B.tolist() == TRAIN


def test_other_sizes_are_those_of_any_picture(folder, written):
    for size in (8, 36, 64):
        small_BNC = load(folder, image_size=size).test.pixels_BNC
        for picture_HWC, small_NC in zip(written["test"], small_BNC, strict=True):
            assert np.array_equal(squares.shrink(picture_HWC, size).reshape(-1, 3), small_NC)


def test_training_images_are_divided_and_the_division_is_the_same_for_every_seed(folder, written):
    found, other = load(folder, validation_fraction=0.34), load(folder, validation_fraction=0.34, seed=3)
    assert [len(split.index_S) for split in (found.train, found.validation, found.test)] == [4, 2, 3]
    assert sorted([*found.train.index_S, *found.validation.index_S]) == list(range(6))
    assert found.validation.index_S.tolist() == other.validation.index_S.tolist()
    assert len(load(folder, validation_fraction=0.34, data_fraction=0.5).train.index_S) == 2


def test_a_fold_has_the_images_that_its_line_names(folder, written):
    for fold, line in enumerate(FOLDS, start=1):
        found = load(folder, fold=fold)
        assert sorted([*found.train.index_S, *found.validation.index_S]) == sorted(map(int, line.split()))
        assert len(found.validation.index_S) == 1
        assert len(found.test.index_S) == 3
        assert "fold_indices.txt" in found.sha256
    assert "fold_indices.txt" not in load(folder).sha256


def test_images_without_labels_are_all_there_in_one_piece_and_the_test_keeps_its_labels(folder, written):
    found = load(folder, unlabelled=True)
    in_order = [squares.shrink(picture_HWC, 32).tobytes() for picture_HWC in written["unlabeled"]]
    read = [small_NC.tobytes() for small_NC in found.train.pixels_BNC]
    assert sorted(read) == sorted(in_order)
    assert read != in_order  # a random order, so that a part of them is a fair share
    assert found.validation.index_S.tolist() == [0, 1, 2, 3]
    assert found.train.index_S.tolist() == list(range(4, 40))
    assert load(folder, unlabelled=True, data_fraction=0.5).train.index_S.tolist() == list(range(4, 22))
    assert found.test.labels_B.tolist() == TEST
    with pytest.warns(UserWarning, match="test images"):
        images = data.load(run(unlabelled=True), folder)
    assert len(images.remarks) == 1  # of the test images' classes; nothing is said of classes that nobody has given
    assert images.name == "stl10, unlabelled"
    assert set(found.sha256) == {"test_X.bin", "test_y.bin", "unlabeled_X.bin"}


def test_a_picture_without_a_label_that_is_also_in_the_test_is_remarked_upon_and_in_one_class(folder, written):
    (folder / "unlabeled_X.bin").write_bytes((folder / "test_X.bin").read_bytes())
    with pytest.warns(UserWarning, match="test images"):
        images = data.load(run(unlabelled=True), folder)
    assert any("test images are also among the training images" in remark for remark in images.remarks)
    assert not any("more than one class" in remark for remark in images.remarks)


def test_what_was_shrunk_once_is_mapped_afterwards(folder, written, monkeypatch):
    first = load(folder)
    monkeypatch.setattr(squares, "shrink_all", lambda *_: pytest.fail("an image was shrunk"))
    second = load(folder)
    assert isinstance(second.train.pixels_BNC, np.memmap)
    assert np.array_equal(first.train.pixels_BNC, second.train.pixels_BNC)
    assert first.sha256 == second.sha256
    monkeypatch.undo()


def test_the_checksums_are_those_of_the_files_before_and_after_they_are_read(folder, written):
    names = ["test_X.bin", "test_y.bin", "train_X.bin", "train_y.bin"]
    expected = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    assert stl10.checksums(run(), folder) == expected
    assert load(folder.parent).sha256 == expected
    assert stl10.checksums(run(), folder) == expected
    (folder / "class_names.txt").write_text("\n".join("abcdefghij"))
    assert load(folder).classes == tuple("abcdefghij")
    assert set(stl10.checksums(run(fold=1), folder)) == {*names, "class_names.txt", "fold_indices.txt"}
    content = bytearray((folder / "train_X.bin").read_bytes())
    content[5] ^= 1
    (folder / "train_X.bin").write_bytes(content)
    assert stl10.checksums(run(), folder)["train_X.bin"] == hashlib.sha256(content).hexdigest()


def test_damage_of_what_the_cache_says_of_the_files_is_noticed(folder, written):
    expected = load(folder).sha256
    for path in (folder.parent / "cache" / "isonb" / "stl10").glob("*/about.json"):
        path.write_text(path.read_text().replace(expected["train_X.bin"], "0" * 64))
    assert stl10.checksums(run(), folder) == expected
    assert load(folder).sha256 == expected


def test_the_whole_is_official_by_the_checksums_of_its_files_and_a_part_is_not(folder, written, monkeypatch):
    assert load(folder).official is False
    md5 = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in stl10.MD5}
    monkeypatch.setattr(stl10, "MD5", md5)
    assert load(folder).official is True
    (folder / "test_y.bin").write_bytes(bytes([1, 2, 3]))
    assert load(folder).official is False


def test_without_files_at_hand_there_is_nothing_to_compare(tmp_path, folder):
    assert stl10.checksums(run(), None) == {}
    assert stl10.checksums(run(), tmp_path) == {}
    assert stl10.checksums(run(), tmp_path / "nowhere") == {}


def cut(path, count):
    path.write_bytes(path.read_bytes()[:count])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: cut(f / "train_X.bin", -1), r"train_X\.bin has 165887 bytes, no whole number of 27648-byte images"),
        (lambda f: cut(f / "train_X.bin", 0), r"train_X\.bin is empty: fetch it again"),
        (lambda f: cut(f / "train_X.bin", 27648), r"train_y\.bin has 6 labels for 1 images"),
        (lambda f: (f / "train_y.bin").write_bytes(bytes([1, 2, 3, 1, 2, 11])), r"label 11 at 5, not one of 1 to 10"),
        (lambda f: (f / "train_y.bin").write_bytes(bytes([1, 0, 3, 1, 2, 1])), r"label 0 at 1, not one of 1 to 10"),
        (lambda f: (f / "test_X.bin").unlink(), r"test_X\.bin is missing: put it beside the other files"),
        (lambda f: (f / "train_y.bin").unlink(), r"train_y\.bin is missing"),
        (lambda f: (f / "class_names.txt").write_text("a b"), r"class_names\.txt is not a list of 10 names"),
        (lambda f: (f / "class_names.txt").write_bytes(b"\xff " * 10), r"class_names\.txt is not a list of 10 names"),
        (lambda f: (f / "test_y.bin").unlink() or os.mkfifo(f / "test_y.bin"), "is not a regular file"),
        (lambda f: (f / "test_X.bin").unlink() or os.mkfifo(f / "test_X.bin"), "is not a regular file"),
        (lambda f: (f / "test_y.bin").unlink() or (f / "test_y.bin").symlink_to("nothing"), "cannot be read"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_in_a_sentence(folder, written, damage, words):
    damage(folder)
    with pytest.raises(DataError, match=words) as refusal:
        load(folder)
    assert str(refusal.value).endswith(".")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 1 2\n", r"no list of numbers in line 2"),
        ("0 1\n0 x\n", r"no list of numbers in line 2"),
        ("0 1\n-1 2\n", r"no list of numbers in line 2"),
        ("0 1\n3 6\n", r"names image 6 of 6, which are numbered from 0"),
        ("0 1\n4 4\n", r"holds one training image"),
    ],
)
def test_a_damaged_list_of_folds_is_refused_in_a_sentence(folder, written, text, words):
    (folder / "fold_indices.txt").write_text(text)
    with pytest.raises(DataError, match=words):
        load(folder, fold=2)


def test_a_missing_list_of_folds_or_file_of_images_without_labels_is_named(folder):
    write_stl10(folder, TRAIN, TEST)
    with pytest.raises(DataError, match=r"fold_indices\.txt is missing, which says what fold=2 is"):
        load(folder, fold=2)
    with pytest.raises(DataError, match=r"unlabeled_X\.bin is missing"):
        load(folder, unlabelled=True)


def test_a_folder_without_images_is_refused_with_what_was_looked_for(tmp_path, folder):
    with pytest.raises(DataError, match=r"holds no STL-10, neither train_X\.bin nor a folder stl10_binary with it"):
        load(tmp_path)
    with pytest.raises(DataError, match=r"is not a directory: name the one that holds stl10_binary"):
        load(tmp_path / "nowhere")


def test_a_full_disk_leaves_nothing_behind_and_gives_the_same_images(folder, written, monkeypatch):
    expected = load(folder).test.pixels_BNC.copy()

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pooch, "os_cache", lambda name: folder.parent / "other" / name)
    monkeypatch.setattr(kept, "_put", refuse)
    with pytest.warns(UserWarning, match="No space left on device"):
        found = load(folder)
    assert np.array_equal(found.test.pixels_BNC, expected)
    assert len(found.sha256["test_X.bin"]) == 64
    assert not [*(folder.parent / "other").rglob("*.part")]


@pytest.fixture
def server(folder, written, monkeypatch):
    """The archive, in place of the published one, and how often it was asked for."""
    buffer, asked = io.BytesIO(), []
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        (folder / "class_names.txt").write_text("\n".join(stl10.CLASSES))
        archive.add(folder, "stl10_binary")
    content = buffer.getvalue()

    def fetch(url, output_file, pooch):
        asked.append(url)
        output_file = os.fspath(output_file)
        with open(output_file, "wb") as file:
            file.write(content)

    monkeypatch.setattr(download, "resume", fetch)
    monkeypatch.setattr(stl10, "SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(stl10, "COUNTS", {"train_X.bin": 6, "test_X.bin": 3, "unlabeled_X.bin": 40})
    monkeypatch.setattr(stl10, "MD5", {})
    return asked


def test_without_a_folder_the_archive_is_fetched_once_and_read_without_unpacking(folder, written, server):
    found = load(None)
    assert server == ["http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"]
    assert np.array_equal(found.test.pixels_BNC, means(written["test"]))
    assert found.sha256["train_X.bin"] == hashlib.sha256((folder / "train_X.bin").read_bytes()).hexdigest()
    assert sorted([*load(None, fold=2).train.index_S, *load(None, fold=2).validation.index_S]) == [0, 1, 2, 4, 5]
    assert len(load(None, unlabelled=True).train.index_S) == 36
    assert len(server) == 1
    assert sorted(path.name for path in (folder.parent / "cache" / "isonb").iterdir()) == [
        "stl10", "stl10_binary.tar.gz", "stl10_binary.tar.gz.lock",
    ]  # fmt: skip


def test_two_that_want_the_archive_at_once_fetch_it_once(written, server, monkeypatch):
    fetch = download.resume

    def slow(*arguments):
        time.sleep(0.3)  # so that the other one arrives meanwhile
        fetch(*arguments)

    monkeypatch.setattr(download, "resume", slow)
    with futures.ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: load(None), range(2))
    assert len(server) == 1
    assert np.array_equal(one.test.pixels_BNC, other.test.pixels_BNC)
    assert np.array_equal(one.train.labels_B, other.train.labels_B)


def test_an_archive_of_another_checksum_or_a_broken_connection_is_told(folder, server, monkeypatch):
    monkeypatch.setattr(stl10, "SHA256", "0" * 64)
    with pytest.raises(DataError, match=r"STL-10 archive has a wrong checksum: try again, or unpack http://ai"):
        load(None)

    def broken(*_):
        raise requests.ConnectionError

    monkeypatch.setattr(download, "resume", broken)
    with pytest.raises(DataError, match=r"STL-10 could not be downloaded \(ConnectionError\): try again"):
        load(None)


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-2000], lambda content: content[:30] + b"no gzip any more"]
)
def test_an_archive_that_cannot_be_unpacked_is_told_though_its_checksum_is_right(
    damage, folder, written, server, monkeypatch
):
    """As one is that was published with damage, or that has changed since it was checked."""
    load(None)
    archive = folder.parent / "cache" / "isonb" / "stl10_binary.tar.gz"
    archive.write_bytes(content := damage(archive.read_bytes()))
    monkeypatch.setattr(stl10, "SHA256", hashlib.sha256(content).hexdigest())
    with pytest.raises(DataError, match=r"stl10_binary\.tar\.gz (cannot be unpacked|holds no .* as it is published)"):
        load(None, unlabelled=True)


def test_a_file_of_the_archive_that_is_longer_than_any_published_one_is_not_read(folder, written, server, monkeypatch):
    monkeypatch.setattr(stl10, "LARGEST", 6 * 27648 - 1)
    with pytest.raises(DataError, match=r"holds no train_X\.bin as it is published: delete it"):
        load(None)


def test_the_largest_archive_may_be_downloaded():
    assert download.LARGEST > 2_640_397_119  # bytes, of which TensorFlow Datasets knows
