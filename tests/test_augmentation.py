"""Mirrored and shifted training images as a pure function of what they are drawn for."""

import itertools

import numpy as np
import torch

from isonb.training.augmentation import augment


def test_augmentation_gives_every_mirrored_and_shifted_view_and_no_other():
    image = np.random.default_rng(0).integers(1, 256, (8, 8, 3), np.uint8)
    views = {}
    for mirrored, top, left in itertools.product((False, True), range(3), range(3)):
        padded = np.zeros((10, 10, 3), np.uint8)
        padded[1:9, 1:9] = image[:, ::-1] if mirrored else image
        views[padded[top : top + 8, left : left + 8].tobytes()] = (mirrored, top, left)
    pixels_BNC = torch.from_numpy(image).reshape(1, 64, 3).repeat(1800, 1, 1)
    augmented_BNC = augment(pixels_BNC, torch.arange(1800), seed=0, epoch=1, size=8)
    assert augmented_BNC.dtype == torch.uint8
    assert augmented_BNC.shape == (1800, 64, 3)
    seen = [views[image_NC.numpy().tobytes()] for image_NC in augmented_BNC]
    counts = [seen.count(view) for view in views.values()]
    assert min(counts) > 60  # 100 expected of each of the 18 views, four standard deviations are 39
    assert max(counts) < 140


def test_augmentation_depends_on_seed_epoch_and_image_number_alone():
    pixels_BNC = torch.randint(0, 256, (50, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    index_B = torch.arange(50) * 7
    together = augment(pixels_BNC, index_B, seed=1, epoch=3, size=8)
    order = torch.arange(49, -1, -1)
    assert torch.equal(augment(pixels_BNC[order], index_B[order], seed=1, epoch=3, size=8), together[order])
    alone = [augment(pixels_BNC[i : i + 1], index_B[i : i + 1], seed=1, epoch=3, size=8) for i in range(50)]
    assert torch.equal(torch.cat(alone), together)
    for other in ({"seed": 2, "epoch": 3}, {"seed": 1, "epoch": 4}):
        assert not torch.equal(augment(pixels_BNC, index_B, **other, size=8), together)
    assert not torch.equal(augment(pixels_BNC, index_B + 1, seed=1, epoch=3, size=8), together)
    assert augment(pixels_BNC[:0], index_B[:0], seed=1, epoch=3, size=8).shape == (0, 64, 3)
