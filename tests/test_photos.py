"""Crops of the ten photographs: whose pixels they hold, at which scale, and that no split sees another's."""

import hashlib
import itertools
import socket
from pathlib import Path

import numpy as np
import pooch
import pytest
import skimage
import sklearn
from PIL import Image

from isonb.config import RunConfig
from isonb.training.sources import photos

SPLITS = ("train", "validation", "test")


def test_photographs_are_the_files_inside_the_packages_and_nothing_is_fetched(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(pooch.Pooch, "fetch", refuse)
    files = {"immunohistochemistry": "ihc.png", "motorcycle": "motorcycle_left.png"}
    files |= {name: f"{name}.jpg" for name in ("hubble_deep_field", "retina", "rocket", "china", "flower")}
    photographs = photos._photographs.__wrapped__()  # past the cache
    assert len(photographs) == len(photos.PHOTOGRAPHS) == 10
    for name, photograph in zip(photos.PHOTOGRAPHS, photographs, strict=True):
        package = "datasets/images" if name in ("china", "flower") else "data"
        root = Path((sklearn if package == "datasets/images" else skimage).__file__).parent
        with Image.open(root / package / files.get(name, f"{name}.png")) as image:
            expected = np.asarray(image.convert("RGB"))
        assert photograph.dtype == np.uint8
        assert np.array_equal(photograph, expected), name


def test_the_pool_has_its_counts_shapes_and_every_photograph_equally_often():
    found = photos.load(RunConfig())
    assert found.classes == photos.PHOTOGRAPHS
    for split, count in ((found.train, 1600), (found.validation, 160), (found.test, 400)):
        assert split.pixels_BNC.shape == (count, 32 * 32, 3)
        assert split.pixels_BNC.dtype == np.uint8
        assert np.bincount(split.labels_B).tolist() == [count // 10] * 10
        assert split.index_S.tolist() == list(range(count))


def test_a_label_names_the_photograph_that_the_crop_is_of():
    test = photos.load(RunConfig(image_size=16)).test
    for number, photograph in enumerate(photos._photographs()):
        crops = photos.crop_photograph(photograph, number, "test", 16, 40)
        assert np.array_equal(test.pixels_BNC[test.labels_B == number], crops.reshape(40, 256, 3))


def test_the_pool_is_the_same_for_every_seed_and_its_fingerprint_is_of_its_bytes():
    first, other = photos.load(RunConfig(seed=0)), photos.load(RunConfig(seed=7))
    for split in SPLITS:
        assert np.array_equal(getattr(first, split).pixels_BNC, getattr(other, split).pixels_BNC)
        assert np.array_equal(getattr(first, split).labels_B, getattr(other, split).labels_B)
    assert first.sha256 == other.sha256
    assert set(first.sha256) == {"photos/train", "photos/validation", "photos/test"}
    test = first.test.pixels_BNC.tobytes() + first.test.labels_B.tobytes()
    assert first.sha256["photos/test"] == hashlib.sha256(test).hexdigest()
    assert photos.load(RunConfig(image_size=16)).sha256["photos/test"] != first.sha256["photos/test"]


def test_the_pool_is_not_published_by_anyone_and_there_is_nothing_to_compare():
    found = photos.load(RunConfig())
    assert found.official is None
    assert found.remarks == ()
    assert photos.checksums(RunConfig()) == {}


def test_regions_are_adjacent_strips_that_cover_the_width():
    assert photos.regions(100) == {"train": (0, 50), "validation": (50, 70), "test": (70, 100)}
    for width in range(64, 1500, 7):
        (a, b), (c, d), (e, f) = photos.regions(width).values()
        assert (a, b, d, f) == (0, c, e, width)


@pytest.mark.parametrize("size", [8, 32, 64])
@pytest.mark.parametrize("shape", [(300, 451), (427, 640)])
def test_no_split_sees_a_pixel_of_another(shape, size):
    photograph = np.zeros((*shape, 3), np.uint8)
    colours = {"train": 50, "validation": 100, "test": 200}
    for split, (first, end) in photos.regions(shape[1]).items():
        photograph[:, first:end] = colours[split]
    for split, colour in colours.items():
        crops = photos.crop_photograph(photograph, 0, split, size, 300)
        assert (crops == colour).all()  # one foreign column would shift a mean


def test_smooth_crops_are_drawn_again_while_there_is_texture_to_find():
    rows, columns = np.mgrid[:160, :400]
    checks = np.where((rows // 4 + columns // 4) % 2, 200, 40)  # a step of 160 at every fourth pixel: texture 40
    photograph = np.where(columns % 100 < 50, 90, checks)[:, :, None].repeat(3, axis=2).astype(np.uint8)
    textures = photos.texture(photos.crop_photograph(photograph, 0, "train", 8, 40))
    assert min(textures) >= photos.TEXTURE  # half of the columns are flat: one draw in three, but hardly six in a row
    flat = np.full_like(photograph, 90)
    assert photos.crop_photograph(flat, 0, "train", 8, 3).tolist() == np.full((3, 8, 8, 3), 90).tolist()


def test_texture_is_the_mean_step_between_neighbours():
    image = np.array([[[0], [4]], [[10], [6]]])  # steps across: 4 and 4; down: 10 and 2
    assert photos.texture(image[None]).tolist() == [(4 + 6) / 2]


def test_crops_are_block_means_at_scales_that_fit_every_region(monkeypatch):
    monkeypatch.setattr(photos, "TEXTURE", 0.0)  # this photograph is smoother at scale 1 than what is redrawn
    rows, columns = np.mgrid[:200, :256]
    photograph = np.stack([rows, columns, (rows * 7 + columns * 13) % 251], axis=2).astype(np.uint8)
    for split, (first, end) in {"train": (0, 128), "validation": (128, 179), "test": (179, 256)}.items():
        scales, tops = set(), set()
        for crop in photos.crop_photograph(photograph, 0, split, 16, 24).astype(int):
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
