"""Images of noise, in three classes, for tests that need any images at all."""

import torch

from isonb.training import data


def some_images():
    generator = torch.Generator().manual_seed(0)

    def split(images, first):
        pixels_BNC = torch.randint(256, (images, 64, 3), dtype=torch.uint8, generator=generator)
        return data.Split(pixels_BNC, torch.arange(images) % 3, first + torch.arange(images))

    return data.Images("some", ("a", "b", "c"), 8, split(70, 0), split(20, 70), split(20, 90), {})
