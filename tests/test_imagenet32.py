"""ImageNet 32x32: read byte for byte out of its shards, drawn by number from the disk; and every refusal."""

import hashlib
import itertools
import json
import os
import zipfile

import numpy as np
import pooch
import pytest
import torch
from published_files import write_imagenet32

from isonb.config import RunConfig
from isonb.training import data
from isonb.training.sources import DataError, imagenet32

SHARDS, TEST = [[7, 1000, 1], [2, 7, 7]], [1, 2, 1000]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv("ISONB_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    return tmp_path / "files"


@pytest.fixture
def written(folder):
    return write_imagenet32(folder, SHARDS, TEST)


def load(folder, **changes):
    return imagenet32.load(RunConfig(data="imagenet32", **changes), folder)


def by_content(pictures_BHWC, labels):
    """Pairs of a picture in raster order and its label from 0."""
    pairs = zip(pictures_BHWC, labels, strict=True)
    return sorted((picture_HWC.reshape(-1, 3).tobytes(), label - 1) for picture_HWC, label in pairs)


@pytest.mark.parametrize("chunk", [imagenet32.CHUNK, 2])
def test_every_image_of_every_shard_is_there_once_with_its_own_label(folder, written, chunk, monkeypatch):
    monkeypatch.setattr(imagenet32, "CHUNK", chunk)
    found = load(folder)
    whole = np.concatenate([written["train_data_batch_1"], written["train_data_batch_2"]])
    read = found.train.pixels_BNC
    assert read is found.validation.pixels_BNC
    assert by_content(whole, [7, 1000, 1, 2, 7, 7]) == by_content(
        np.asarray(read).reshape(-1, 32, 32, 3), found.train.labels_B + 1
    )
    assert by_content(written["val_data"], TEST) == by_content(
        np.asarray(found.test.pixels_BNC).reshape(-1, 32, 32, 3), found.test.labels_B + 1
    )
    assert found.classes[:2] == ("1", "2")
    assert len(found.classes) == 1000
    assert found.official is None


def test_training_images_are_one_piece_of_a_random_order_whatever_their_share(folder):
    write_imagenet32(folder, [[number % 1000 + 1 for number in range(200)]], TEST)
    found = load(folder)
    assert found.validation.index_S.tolist() == list(range(20))
    assert found.train.index_S.tolist() == list(range(20, 200))
    assert load(folder, data_fraction=0.25).train.index_S.tolist() == list(range(20, 65))
    assert load(folder, seed=5).validation.index_S.tolist() == list(range(20))
    assert found.train.labels_B.tolist() != sorted(found.train.labels_B.tolist())
    assert found.train.labels_B.tolist() == load(folder, seed=5).train.labels_B.tolist()


def test_a_batch_is_read_from_the_file_and_the_file_is_mapped(folder, written):
    with pytest.warns(UserWarning):  # of classes without images
        images = data.load(RunConfig(data="imagenet32"), folder)
    whole = load(folder).train.pixels_BNC
    assert isinstance(whole, np.memmap)
    position_B = torch.tensor([3, 0])
    numbers_B = images.train.index_B[position_B]
    assert np.array_equal(images.train.pixels_BNC[position_B].numpy(), np.asarray(whole)[numbers_B])


@pytest.mark.parametrize("world_size", [2, 4])
def test_each_epoch_has_every_image_once_in_the_same_batches_on_any_number_of_processes(folder, written, world_size):
    count = len(load(folder).train.index_S)
    alone = [batch_B.tolist() for batch_B in data.batches(count, 4, seed=0, epoch=1)]
    ranks = [data.batches(count, 4, seed=0, epoch=1, rank=r, world_size=world_size) for r in range(world_size)]
    together = [torch.cat(batch).tolist() for batch in zip(*ranks, strict=True)]
    assert together == alone
    assert sorted(itertools.chain(*alone)) == list(range(count))


def test_shards_lie_in_the_folder_or_in_those_that_the_archives_make(folder, tmp_path):
    direct = write_imagenet32(folder, SHARDS, TEST)
    expected = load(folder)
    apart = tmp_path / "apart"
    for name in direct:
        place = apart / ("Imagenet32_val_npz" if name == "val_data" else "Imagenet32_train_npz")
        place.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.npz").rename(place / f"{name}.npz")
    found = load(apart)
    assert np.array_equal(found.train.pixels_BNC, expected.train.pixels_BNC)
    assert found.sha256 == expected.sha256


def test_compressed_shards_are_the_same_images(folder, written):
    expected = load(folder)
    for path in folder.glob("*.npz"):
        np.savez_compressed(path, **np.load(path))
    found = load(folder)
    assert np.array_equal(found.train.pixels_BNC, expected.train.pixels_BNC)
    assert np.array_equal(found.train.labels_B, expected.train.labels_B)


def test_other_images_in_a_file_of_the_same_name_are_read(folder, written):
    before = np.asarray(load(folder).test.pixels_BNC).copy()
    other = write_imagenet32(folder, [*SHARDS, [1]], TEST)["val_data"]  # pictures hang on how many files are before
    after = np.asarray(load(folder).test.pixels_BNC)
    assert {picture.tobytes() for picture in after} == {picture.tobytes() for picture in other}
    assert not np.array_equal(after, before)


def test_one_image_is_too_few_to_train_and_validate_on(folder):
    write_imagenet32(folder, [[3]], TEST)
    with pytest.raises(DataError, match=r"train_data_batch_1\.npz holds one image: at least two are needed"):
        load(folder)


def test_a_shard_of_more_images_than_any_has_is_refused(folder, written, monkeypatch):
    monkeypatch.setattr(imagenet32, "MOST", 2)
    with pytest.raises(DataError, match=r"its data are uint8 of the shape \(3, 3072\)"):
        load(folder)


def test_the_checksums_are_those_of_the_files_before_and_after_they_are_read(folder, written):
    run = RunConfig(data="imagenet32")
    names = ["train_data_batch_1.npz", "train_data_batch_2.npz", "val_data.npz"]
    expected = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    assert imagenet32.checksums(run, folder) == expected
    assert load(folder).sha256 == expected
    assert imagenet32.checksums(run, folder) == expected
    assert imagenet32.checksums(run, None) == imagenet32.checksums(run, folder / "nowhere") == {}


def rewrite(path, **changes):
    content = dict(np.load(path)) | changes
    np.savez(path, **{name: array for name, array in content.items() if array is not None})


def lying_header(path):
    """The header of an array of 10^13 numbers, in front of the few that are there."""
    with zipfile.ZipFile(path, "w") as archive, archive.open("data.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 3072)})
        file.write(b"0" * 100)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: rewrite(path, data=None), "it has no data"),
        (lambda path: rewrite(path, labels=None), "it has no labels"),
        (lambda path: rewrite(path, data=np.zeros((3, 3072))), "its data are float64 of the shape"),
        (lambda path: rewrite(path, data=np.zeros((3, 999), np.uint8)), r"of the shape \(3, 999\), not rows of 3072"),
        (lambda path: rewrite(path, data=np.zeros((0, 3072), np.uint8)), r"of the shape \(0, 3072\)"),
        (lambda path: rewrite(path, data=np.zeros((3, 3072), np.uint8, order="F")), "its data are no plain array"),
        (lambda path: rewrite(path, labels=np.array([1, 2])), "not one for each of 3 images"),
        (lambda path: rewrite(path, labels=np.array([1.0, 2.0, 3.0])), "its labels are float64 of the shape"),
        (lambda path: rewrite(path, labels=np.array([1, 2, 0])), "label 0 at 2 is not one of 1 to 1000"),
        (lambda path: rewrite(path, labels=np.array([1, 1001, 5])), "label 1001 at 1 is not one of 1 to 1000"),
        (lambda path: rewrite(path, labels=np.array([1, "x", None], dtype=object)), "its labels are no plain array"),
        (lying_header, "its data are no plain array"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "is no shard of ImageNet 32x32"),
        (lambda path: path.write_bytes(b""), "is no shard of ImageNet 32x32"),
        (lambda path: path.write_bytes(b"\x80\x04pickle"), "is no shard of ImageNet 32x32"),
        (lambda path: path.unlink() or os.mkfifo(path), "it is not a regular file"),
        (lambda path: path.unlink() or path.symlink_to("nothing"), "cannot be read"),
    ],
)  # fmt: skip
def test_a_damaged_shard_is_refused_in_a_sentence(folder, written, damage, words):
    damage(folder / "train_data_batch_1.npz")
    with pytest.raises(DataError, match=words) as refusal:
        load(folder)
    assert "\n" not in str(refusal.value)
    assert "train_data_batch_1.npz" in str(refusal.value)
    assert imagenet32.checksums(RunConfig(data="imagenet32"), folder) is not None


def test_damage_in_the_middle_of_a_compressed_shard_is_refused(folder, written):
    path = folder / "train_data_batch_1.npz"
    np.savez_compressed(path, **np.load(path))
    content = bytearray(path.read_bytes())
    content[3000] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="is no shard of ImageNet 32x32"):
        load(folder)


def test_nothing_is_downloaded_and_the_sentence_says_where_to_log_in(folder, tmp_path):
    with pytest.raises(DataError, match=r"is not downloaded, as it needs a login: fetch the npz files of 32x32 pixels"):
        load(None)
    with pytest.raises(DataError, match=r"holds no train_data_batch_1\.npz to train_data_batch_10\.npz of ImageNet"):
        load(tmp_path)
    write_imagenet32(folder, SHARDS, TEST)
    (folder / "val_data.npz").unlink()
    with pytest.raises(DataError, match=r"holds no val_data\.npz of ImageNet 32x32"):
        load(folder)


def test_a_cache_without_its_pictures_is_made_anew(folder, written):
    expected = load(folder).train.pixels_BNC.copy()
    for path in (folder.parent / "cache" / "isonb" / "imagenet32").glob("*/about.json"):
        assert set(json.loads(path.read_text())) == {"pixels.npy", "about.npy", "facts", "facts sha256"}
        (path.parent / "pixels.npy").unlink()
    assert np.array_equal(load(folder).train.pixels_BNC, expected)
