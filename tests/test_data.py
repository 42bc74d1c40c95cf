"""Images: what is read byte for byte, which images a split holds, in which order ranks see them, and every refusal."""

import hashlib
import io
import itertools
import os
import socket
import tarfile
from pathlib import Path

import numpy as np
import pooch
import pytest
import requests
import skimage
import sklearn
import torch
from PIL import Image

from isonb.config import RunConfig
from isonb.training import data, download

CIFAR = RunConfig(data="cifar10")
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def random_records(labels, seed=0):
    """One record per label in the official layout: the label byte, then 3072 random bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), np.uint8)
    return np.column_stack([np.asarray(labels, np.uint8), pixels]).tobytes()


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A folder of 40 training images in two files and 10 test images."""
    monkeypatch.delenv("ISONB_DATA", raising=False)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "data_batch_1.bin").write_bytes(random_records(list(range(10)) * 3, seed=1))
    (folder / "data_batch_2.bin").write_bytes(random_records(list(range(10)), seed=2))
    (folder / "test_batch.bin").write_bytes(random_records(list(range(10)), seed=3))
    return folder


def same(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("pixels_BNC", "labels_B", "index_B"))


# Photographs


def test_photographs_are_the_files_inside_the_packages_and_nothing_is_fetched(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(pooch.Pooch, "fetch", refuse)
    files = {"immunohistochemistry": "ihc.png", "motorcycle": "motorcycle_left.png"}
    files |= {name: f"{name}.jpg" for name in ("hubble_deep_field", "retina", "rocket", "china", "flower")}
    photographs = data._photographs.__wrapped__()  # past the cache
    assert len(photographs) == len(data.PHOTOGRAPHS) == 10
    for name, photograph in zip(data.PHOTOGRAPHS, photographs, strict=True):
        package = "datasets/images" if name in ("china", "flower") else "data"
        root = Path((sklearn if package == "datasets/images" else skimage).__file__).parent
        with Image.open(root / package / files.get(name, f"{name}.png")) as image:
            expected = np.asarray(image.convert("RGB"))
        assert photograph.dtype == np.uint8
        assert np.array_equal(photograph, expected), name


def test_the_pool_has_its_counts_shapes_and_every_photograph_equally_often():
    images = data.load(RunConfig())
    assert images.classes == data.PHOTOGRAPHS
    for split, count in ((images.train, 1600), (images.validation, 160), (images.test, 400)):
        assert len(split) == count
        assert split.pixels_BNC.shape == (count, 32 * 32, 3)
        assert split.pixels_BNC.dtype == torch.uint8
        assert split.labels_B.dtype == split.index_B.dtype == torch.int64
        assert split.labels_B.bincount().tolist() == [count // 10] * 10
        assert split.index_B.tolist() == list(range(count))


def test_a_label_names_the_photograph_that_the_crop_is_of():
    images = data.load(RunConfig(image_size=16))
    for number, photograph in enumerate(data._photographs()):
        crops = data.crop_photograph(photograph, number, "test", 16, 40)
        of_this = images.test.pixels_BNC[images.test.labels_B == number]
        assert np.array_equal(of_this.numpy(), crops.reshape(40, 256, 3))


def test_the_pool_is_the_same_for_every_seed_and_its_fingerprint_is_of_its_bytes():
    first, other = data.load(RunConfig(seed=0)), data.load(RunConfig(seed=7))
    assert all(same(getattr(first, split), getattr(other, split)) for split in ("train", "validation", "test"))
    assert first.sha256 == other.sha256
    assert set(first.sha256) == {"photos/train", "photos/validation", "photos/test"}
    test = first.test.pixels_BNC.numpy().tobytes() + first.test.labels_B.numpy().tobytes()
    assert first.sha256["photos/test"] == hashlib.sha256(test).hexdigest()
    assert data.load(RunConfig(image_size=16)).sha256["photos/test"] != first.sha256["photos/test"]


def test_what_a_run_changes_in_its_images_does_not_reach_the_next_run():
    data.load(RunConfig()).train.pixels_BNC.zero_()
    assert data.load(RunConfig()).train.pixels_BNC.any()


def test_regions_are_adjacent_strips_that_cover_the_width():
    assert data.regions(100) == {"train": (0, 50), "validation": (50, 70), "test": (70, 100)}
    for width in range(64, 1500, 7):
        (a, b), (c, d), (e, f) = data.regions(width).values()
        assert (a, b, d, f) == (0, c, e, width)


@pytest.mark.parametrize("size", [8, 32, 64])
@pytest.mark.parametrize("shape", [(300, 451), (427, 640)])
def test_no_split_sees_a_pixel_of_another(shape, size):
    photograph = np.zeros((*shape, 3), np.uint8)
    colours = {"train": 50, "validation": 100, "test": 200}
    for split, (first, end) in data.regions(shape[1]).items():
        photograph[:, first:end] = colours[split]
    for split, colour in colours.items():
        crops = data.crop_photograph(photograph, 0, split, size, 300)
        assert (crops == colour).all()  # one foreign column would shift a mean


def test_smooth_crops_are_drawn_again_while_there_is_texture_to_find():
    rows, columns = np.mgrid[:160, :400]
    checks = np.where((rows // 4 + columns // 4) % 2, 200, 40)  # a step of 160 at every fourth pixel: texture 40
    photograph = np.where(columns % 100 < 50, 90, checks)[:, :, None].repeat(3, axis=2).astype(np.uint8)
    textures = data.texture(data.crop_photograph(photograph, 0, "train", 8, 40))
    assert min(textures) >= data.TEXTURE  # half of the columns are flat: one draw in three, but hardly six in a row
    flat = np.full_like(photograph, 90)
    assert data.crop_photograph(flat, 0, "train", 8, 3).tolist() == np.full((3, 8, 8, 3), 90).tolist()


def test_texture_is_the_mean_step_between_neighbours():
    image = np.array([[[0], [4]], [[10], [6]]])  # steps across: 4 and 4; down: 10 and 2
    assert data.texture(image[None]).tolist() == [(4 + 6) / 2]


def test_crops_are_block_means_at_scales_that_fit_every_region(monkeypatch):
    monkeypatch.setattr(data, "TEXTURE", 0.0)  # this photograph is smoother at scale 1 than what is redrawn
    rows, columns = np.mgrid[:200, :256]
    photograph = np.stack([rows, columns, (rows * 7 + columns * 13) % 251], axis=2).astype(np.uint8)
    for split, (first, end) in {"train": (0, 128), "validation": (128, 179), "test": (179, 256)}.items():
        scales, tops = set(), set()
        for crop in data.crop_photograph(photograph, 0, split, 16, 24).astype(int):
            scale = crop[1, 0, 0] - crop[0, 0, 0]  # the first channel counts rows
            corner = [(crop[0, 0, axis] - (scale - 1) // 2, crop[0, 0, axis] - scale // 2) for axis in (0, 1)]
            expected = [naive_crop(photograph, top, left, 16, scale) for top, left in itertools.product(*corner)]
            assert any(np.array_equal(crop, candidate) for candidate in expected)
            assert first <= crop[..., 1].min()
            assert crop[..., 1].max() < end
            scales.add(int(scale))
            tops.add(int(crop[0, 0, 0]))
        assert scales == {1, 2, 3}  # 4 x 16 = 64 columns fit in 128 and 77, not in 51
        assert len(tops) > 12


def naive_crop(photograph, top, left, size, scale):
    """Each pixel the rounded mean of a block of scale x scale."""
    crop = np.zeros((size, size, 3), int)
    for i, j in itertools.product(range(size), range(size)):
        block = photograph[top + i * scale : top + (i + 1) * scale, left + j * scale : left + (j + 1) * scale]
        crop[i, j] = [round(sum(channel.tolist()) / scale**2) for channel in block.reshape(-1, 3).T]
    return crop


# CIFAR-10


def test_every_byte_of_a_record_lands_at_its_position_and_channel(cifar):
    record = np.zeros(3073, np.uint8)
    record[0] = 7
    record[1] = 11  # red, row 0, column 0
    record[1 + 31] = 12  # red, row 0, column 31
    record[1 + 1024 + 32] = 13  # green, row 1, column 0
    record[1 + 2048 + 1023] = 14  # blue, row 31, column 31
    (cifar / "test_batch.bin").write_bytes(bytes(3073) + record.tobytes())
    test = data.load(CIFAR, cifar).test
    expected = torch.zeros(1024, 3, dtype=torch.uint8)
    expected[0, 0], expected[31, 0], expected[32, 1], expected[1023, 2] = 11, 12, 13, 14
    assert torch.equal(test.pixels_BNC[1], expected)
    assert not test.pixels_BNC[0].any()
    assert test.labels_B.tolist() == [0, 7]
    assert test.index_B.tolist() == [0, 1]


def test_training_files_follow_each_other_and_are_divided_into_train_and_validation(cifar):
    images = data.load(CIFAR, cifar)
    assert (len(images.train), len(images.validation), len(images.test)) == (36, 4, 10)
    content = (cifar / "data_batch_1.bin").read_bytes() + (cifar / "data_batch_2.bin").read_bytes()
    read = {}
    for split in (images.train, images.validation):
        for pixels_NC, label, index in zip(split.pixels_BNC, split.labels_B, split.index_B, strict=True):
            read[int(index)] = bytes([label]) + pixels_NC.T.numpy().tobytes()
    assert b"".join(read[index] for index in range(40)) == content


def test_the_split_does_not_depend_on_the_seed_and_follows_the_configured_fraction(cifar):
    first, other = data.load(CIFAR, cifar), data.load(RunConfig(data="cifar10", seed=3), cifar)
    assert same(first.train, other.train)
    assert same(first.validation, other.validation)
    assert first.validation.index_B.tolist() != list(range(4))  # neither the first images
    assert first.validation.index_B.tolist() != list(range(36, 40))  # nor the last
    larger = data.load(RunConfig(data="cifar10", validation_fraction=0.25), cifar)
    assert (len(larger.train), len(larger.validation)) == (30, 10)
    smallest = data.load(RunConfig(data="cifar10", validation_fraction=0.001), cifar)
    assert len(smallest.validation) == 1
    largest = data.load(RunConfig(data="cifar10", validation_fraction=0.999), cifar)
    assert len(largest.train) == 1


@pytest.mark.parametrize("source", ["photos", "cifar10"])
def test_data_fractions_are_nested_and_leave_validation_and_test_alone(source, cifar):
    whole = data.load(RunConfig(data=source), cifar)
    larger = set(whole.train.index_B.tolist())
    for fraction in (0.5, 0.25, 0.1, 1e-6):
        part = data.load(RunConfig(data=source, data_fraction=fraction), cifar)
        indices = part.train.index_B.tolist()
        assert len(indices) == max(1, round(fraction * len(whole.train)))
        assert set(indices) < larger
        assert same(part.validation, whole.validation)
        assert same(part.test, whole.test)
        assert part.sha256 == whole.sha256
        kept = torch.isin(whole.train.index_B, part.train.index_B)
        assert torch.equal(part.train.pixels_BNC, whole.train.pixels_BNC[kept])
        assert torch.equal(part.train.labels_B, whole.train.labels_B[kept])
        larger = set(indices)


def test_the_record_says_exactly_what_was_read(cifar):
    (cifar / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n\n")
    (cifar / "readme.html").write_text("not read")
    described = data.describe(data.load(CIFAR, cifar))
    assert described.name == "cifar10"
    assert described.classes == list("abcdefghij")
    assert (described.train, described.validation, described.test) == (36, 4, 10)
    names = ["batches.meta.txt", "data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"]
    assert described.sha256 == {name: hashlib.sha256((cifar / name).read_bytes()).hexdigest() for name in names}


def test_the_classes_have_their_official_names_without_the_file_of_names(cifar):
    assert list(data.load(CIFAR, cifar).classes) == CLASSES


def test_files_are_found_in_the_named_folder_or_below_it_and_the_argument_comes_first(cifar, tmp_path, monkeypatch):
    direct = data.load(CIFAR, cifar)
    assert data.load(CIFAR, tmp_path).sha256 == direct.sha256
    monkeypatch.setenv("ISONB_DATA", str(tmp_path))
    assert data.load(CIFAR).sha256 == direct.sha256
    monkeypatch.setenv("ISONB_DATA", str(tmp_path / "nowhere"))
    assert data.load(CIFAR, cifar).sha256 == direct.sha256


def refusal(folder=None):
    """The message of the refusal, which is one sentence."""
    with pytest.raises(data.DataError) as caught:
        data.load(CIFAR, folder)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert ". " not in message
    return message


@pytest.mark.parametrize("name", ["data_batch_2.bin", "test_batch.bin"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (bytes(3072), "3072 bytes, no whole number of 3073-byte records"),
        (random_records([1, 2])[:-1], "6145 bytes, no whole number of 3073-byte records"),
        (random_records([1, 9, 10, 3]), "label 10 in record 2"),
        (random_records([255]), "label 255 in record 0"),
    ],
)
def test_a_damaged_file_is_refused_by_its_path(cifar, name, content, says):
    (cifar / name).write_bytes(content)
    message = refusal(cifar)
    assert str(cifar / name) in message
    assert says in message
    assert "fetch it again" in message


def test_a_missing_test_file_is_refused(cifar):
    (cifar / "test_batch.bin").unlink()
    assert f"{cifar / 'test_batch.bin'} is missing" in refusal(cifar)


def test_a_single_training_image_is_refused(cifar):
    (cifar / "data_batch_1.bin").unlink()
    (cifar / "data_batch_2.bin").write_bytes(random_records([4]))
    assert "one training image: at least two" in refusal(cifar)


def test_a_file_that_cannot_be_read_is_refused(cifar):
    (cifar / "data_batch_3.bin").mkdir()
    assert f"{cifar / 'data_batch_3.bin'} cannot be read" in refusal(cifar)


def test_a_wrong_number_of_class_names_is_refused(cifar):
    (cifar / "batches.meta.txt").write_text("cat\ndog\n")
    assert "2 class names instead of 10" in refusal(cifar)


def test_a_folder_without_images_is_refused_with_what_was_looked_for(tmp_path, monkeypatch):
    message = refusal(tmp_path)
    assert f"The data folder '{tmp_path}' holds no CIFAR-10" in message
    assert "data_batch_1.bin to data_batch_5.bin" in message
    assert "cifar-10-batches-bin" in message
    monkeypatch.setenv("ISONB_DATA", str(tmp_path))
    assert f"ISONB_DATA '{tmp_path}' holds no CIFAR-10" in refusal()


def test_a_data_folder_that_is_none_is_refused_and_nothing_is_downloaded(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setattr(pooch, "retrieve", lambda *_, **__: pytest.fail("a download was tried"))
    for place in (tmp_path / "nowhere", file):
        monkeypatch.setenv("ISONB_DATA", str(place))
        assert f"ISONB_DATA '{place}' is not a directory" in refusal()


# The download


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Stands in for the network: what `server["content"]` holds is fetched, an exception there is raised."""
    content = {"content": b"", "requests": 0}

    def fetch(url, output_file, pooch):
        content["requests"] += 1
        assert url == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
        Path(output_file).write_bytes(b"a part of the archive")
        if isinstance(content["content"], Exception):
            raise content["content"]
        Path(output_file).write_bytes(content["content"])

    monkeypatch.delenv("ISONB_DATA", raising=False)
    monkeypatch.setattr(download, "resume", fetch)
    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path / "cache")
    return content


def cached(tmp_path):
    return [path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize(
    "error", [requests.ConnectionError("no route"), requests.Timeout("slow"), OSError("disk full")]
)
def test_without_network_the_message_says_how_to_get_the_images_by_hand(server, error, tmp_path):
    server["content"] = error
    message = refusal()
    assert "could not be downloaded" in message
    assert "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz by hand and set ISONB_DATA" in message
    assert cached(tmp_path) == []


def test_an_archive_with_a_wrong_checksum_is_refused_and_not_kept(server, tmp_path):
    server["content"] = b"a login page"
    assert "wrong checksum" in refusal()
    assert cached(tmp_path) == []


def test_the_archive_is_downloaded_once_and_read_without_being_unpacked(server, cifar, tmp_path, monkeypatch):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(cifar, arcname="cifar-10-batches-bin")
    server["content"] = buffer.getvalue()
    monkeypatch.setattr(data, "CIFAR10_MD5", hashlib.md5(buffer.getvalue()).hexdigest())
    expected = data.load(CIFAR, cifar)
    for _ in range(2):
        images = data.load(CIFAR)
        assert images.sha256 == expected.sha256
        assert same(images.train, expected.train)
        assert same(images.test, expected.test)
    assert server["requests"] == 1
    assert cached(tmp_path) == ["cifar-10-binary.tar.gz"]


# The real images


@pytest.mark.skipif(not os.environ.get("ISONB_DATA"), reason="ISONB_DATA names no folder with CIFAR-10")
def test_real_cifar10_has_its_published_labels_and_colours():
    images = data.load(CIFAR)
    assert list(images.classes) == CLASSES
    index_B = torch.cat([images.train.index_B, images.validation.index_B])
    order_B = index_B.argsort()
    assert index_B[order_B].tolist() == list(range(len(index_B)))
    labels_B = torch.cat([images.train.labels_B, images.validation.labels_B])[order_B]
    # Counted from the official files: the first 4 000 images of data_batch_1 and the first 1 000 of test_batch.
    assert labels_B[:4000].bincount().tolist() == [396, 366, 420, 384, 422, 393, 414, 385, 407, 413]
    assert images.test.labels_B[:1000].bincount().tolist() == [103, 89, 100, 103, 90, 86, 112, 102, 106, 109]
    # The training set's mean colour, as it is given wherever CIFAR-10 is normalised.
    mean_C = images.train.pixels_BNC.float().mean(dim=(0, 1)) / 255
    assert mean_C.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.01)


# Order and ranks


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("n_images", "batch_size"), [(1, 1), (7, 3), (33, 16), (64, 16), (10, 128)])
def test_ranks_share_every_batch_without_overlap_or_gap(n_images, batch_size, world_size):
    whole = list(data.batches(n_images, batch_size, seed=4, epoch=2))
    by_rank = [
        list(data.batches(n_images, batch_size, seed=4, epoch=2, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    full, rest = divmod(n_images, batch_size)
    assert [len(batch) for batch in whole] == [batch_size] * full + [rest] * (rest > 0)
    assert data.steps_per_epoch(n_images, batch_size) == len(whole)
    assert torch.equal(torch.cat(whole), data.epoch_order(n_images, seed=4, epoch=2))
    for batch_index_B, *shares in zip(whole, *by_rank, strict=True):
        assert torch.equal(torch.cat(shares), batch_index_B)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_rank_slices_by_hand():
    seven, two = torch.arange(7), torch.arange(2)
    assert [data.rank_slice(seven, rank, 3).tolist() for rank in range(3)] == [[0, 1], [2, 3], [4, 5, 6]]
    assert [data.rank_slice(two, rank, 5).tolist() for rank in range(5)] == [[], [], [0], [], [1]]


def test_the_order_is_a_permutation_of_its_own_for_every_epoch_and_seed():
    orders = [data.epoch_order(100, seed=seed, epoch=epoch).tolist() for seed in range(3) for epoch in range(3)]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len({tuple(order) for order in orders}) == 9
    assert data.epoch_order(100, seed=1, epoch=2).tolist() == orders[5]
