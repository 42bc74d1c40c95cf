"""Images of noise, in three classes, and a network that is kept, for tests that need any at all."""

import numpy as np
import torch

from isonb.config import RunConfig
from isonb.models import network as networks
from isonb.training import checkpoint, data


def some_images():
    generator = torch.Generator().manual_seed(0)

    def split(images, first):
        pixels_BNC = torch.randint(256, (images, 64, 3), dtype=torch.uint8, generator=generator)
        return data.Split(pixels_BNC, torch.arange(images) % 3, first + torch.arange(images))

    return data.Images("some", ("a", "b", "c"), 8, split(70, 0), split(20, 70), split(20, 90), {})


def image_gpt(depth):
    """The settings of a small one, which reads and predicts a palette."""
    palette = {"encoding": "palette", "target": "palette"}
    return RunConfig(block="image-gpt", depth=depth, width=8, image_size=8, objective="autoregressive", **palette)


def keep(folder, run):
    """Keep an untrained network of these settings, as a finished run does, and return the file."""
    network = networks.build_network(run, np.random.default_rng(0).integers(0, 256, (512, 3), dtype=np.uint8))
    checkpoint.keep_at(folder / "kept.safetensors", run, network)
    return folder / "kept.safetensors"
