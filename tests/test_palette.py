"""The palette: exact where there are few colours, and measured against loops over pixels where there are many."""

import math

import numpy as np
import pytest
import torch

from isonb.training import data, palette


def images_of(train_BNC, test_BNC):
    def split(pixels_BNC):
        count = len(pixels_BNC)
        return data.Split(torch.from_numpy(pixels_BNC), torch.zeros(count, dtype=torch.int64), torch.arange(count))

    return data.Images("made", ("a",), 4, split(train_BNC), split(test_BNC), split(test_BNC), {})


def test_four_colours_are_found_and_others_take_the_nearest():
    colours_KC = np.array([[0, 0, 0], [250, 0, 0], [0, 250, 0], [0, 0, 250]], np.uint8)
    train_BNC = colours_KC[np.random.default_rng(0).integers(0, 4, (20, 16))]
    test_BNC = np.repeat(colours_KC[None, [1, 1, 2, 3]], 4, axis=1)
    test_BNC[0, 0] = [246, 3, 0]  # 4 and 3 from red: distance 5
    found = palette.measure(images_of(train_BNC, test_BNC), colours=4)
    assert sorted(map(tuple, found["palette_KC"].tolist())) == sorted(map(tuple, colours_KC.tolist()))
    assert found["quantised_BHWC"].shape == (1, 4, 4, 3)
    assert found["quantised_BHWC"][0, 0, 0].tolist() == [250, 0, 0]
    assert found["colour_error_B"][0] == pytest.approx(5 / 16)
    assert found["psnr_B"][0] == pytest.approx(10 * math.log10(255**2 / ((4**2 + 3**2) / 48)))


def test_what_is_kept_is_what_the_errors_are_of():
    generator = np.random.default_rng(1)
    train_BNC, test_BNC = (generator.integers(0, 256, (count, 16, 3), np.uint8) for count in (40, 5))
    found = palette.measure(images_of(train_BNC, test_BNC), colours=8)
    assert np.array_equal(found["original_BHWC"].reshape(3, 16, 3), test_BNC[:3])
    for image in range(3):
        distances = []
        for original, shown in zip(test_BNC[image], found["quantised_BHWC"][image].reshape(16, 3), strict=True):
            apart = [math.dist(original.tolist(), colour.tolist()) for colour in found["palette_KC"]]
            distances.append(math.dist(original.tolist(), shown.tolist()))
            assert distances[-1] == pytest.approx(min(apart))
        assert found["colour_error_B"][image] == pytest.approx(sum(distances) / 16)
        square = sum(distance**2 for distance in distances) / 48
        assert found["psnr_B"][image] == pytest.approx(10 * math.log10(255**2 / square))
    assert len(found["psnr_B"]) == 5
