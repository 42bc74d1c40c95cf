"""Reading pixels off the layers: the same map as by least squares, and nothing from where there is nothing to read."""

import numpy as np
import pytest
import torch

from isonb.config import RunConfig
from isonb.models import network as networks
from isonb.models import objectives
from isonb.training import data, decoding

N = 64


def random_split(count, seed, first=0):
    pixels_BNC = torch.randint(0, 256, (count, N, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return data.Split(pixels_BNC, torch.zeros(count, dtype=torch.int64), torch.arange(first, first + count))


def images_of(train, test):
    return data.Images("made", ("a",), 8, train, test, test, {})


def random_images():
    return images_of(random_split(70, 1), random_split(30, 2, 500))  # more training images than a chunk


class MadeLayers(torch.nn.Module):
    """Stands in for a network of width 4 whose layers are given functions of the pixels, whatever is hidden."""

    def __init__(self, *layers, **settings):
        super().__init__()
        self.config = RunConfig(width=4, image_size=8, depth=len(layers) - 1, **settings)
        self.layers, self.parameter = layers, torch.nn.Parameter(torch.zeros(1))

    def forward_layers(self, pixels_BNC, is_masked_BNC):
        return [torch.nn.functional.pad(layer(pixels_BNC.float()), (0, 1)) for layer in self.layers]


@pytest.mark.parametrize("objective", ["bert", "autoregressive"])
def test_a_layer_that_holds_the_pixels_and_one_that_holds_nothing(objective):
    images = random_images()
    network = MadeLayers(lambda x_BNC: 3 - x_BNC.flip(2) / 9, torch.zeros_like, objective=objective)
    held, nothing = decoding.pixel_accuracies(network, images, "raw")
    assert held == 1
    means, near, count = [], 0, 0
    for name in ("train", "test"):
        split = getattr(images, name)
        is_scored_BNC = objectives.sample_scored(network.config, split.index_B, "evaluation").numpy()
        for channel in range(3):
            value = split.pixels_BNC.numpy()[..., channel][is_scored_BNC[..., channel]].astype(float)
            if name == "train":
                means.append(round(value.mean()))
            else:
                near, count = near + (abs(value - means[channel]) <= 8).sum(), count + len(value)
    assert nothing == near / count


@pytest.mark.parametrize("feature", ["layernorm", "raw"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"mask_unit": "subpixel", "mask_rate": 0.3}, {"objective": "mse"}, {"objective": "autoregressive"}],
    ids=["pixels", "sub-pixels", "squares", "autoregressive"],
)
def test_the_maps_are_those_of_least_squares(settings, feature):
    run = RunConfig(width=8, image_size=8, depth=2, block="transformer", **settings)
    network, images = networks.build_network(run).eval(), random_images()
    expected, matrices = [], {}
    for name in ("train", "test"):
        split = getattr(images, name)
        is_scored_BNC = objectives.sample_scored(run, split.index_B, "evaluation")
        with torch.no_grad():
            layers = network.forward_layers(split.pixels_BNC, None if run.is_causal else is_scored_BNC)
        matrices[name] = (np.stack(layers).astype(float), split.pixels_BNC.numpy().astype(float), is_scored_BNC.numpy())
    for layer in range(3):
        near, count = 0, 0
        for channel in range(3):
            found = {}
            for name, (x_LBND, value_BNC, is_scored_BNC) in matrices.items():
                x_SD = x_LBND[layer][is_scored_BNC[..., channel]]
                if feature == "layernorm":
                    x_SD = (x_SD - x_SD.mean(1, keepdims=True)) / np.sqrt(x_SD.var(1, keepdims=True) + 1e-5)
                found[name] = np.c_[x_SD, np.ones(len(x_SD))], value_BNC[..., channel][is_scored_BNC[..., channel]]
            map_F = np.linalg.lstsq(*found["train"], rcond=1e-6)[0]
            guess_S = np.clip(np.rint(found["test"][0] @ map_F), 0, 255)
            near, count = near + (abs(guess_S - found["test"][1]) <= 8).sum(), count + len(guess_S)
        expected.append(near / count)
    accuracies = decoding.pixel_accuracies(network, images, feature)
    assert accuracies == pytest.approx(expected, abs=0.002)  # a guess or two lie on the edge
    assert len(set(accuracies)) > 1


@pytest.mark.parametrize("objective", ["bert", "autoregressive"])
def test_the_encoding_holds_no_pixel_that_is_to_be_predicted(objective):
    """Of random pixels nothing is known before they are shown; a guess of the mean hits some 17 of 256 values."""
    run = RunConfig(width=8, image_size=8, objective=objective, positions="learned")
    accuracies = decoding.pixel_accuracies(networks.build_network(run).eval(), random_images(), "raw")
    assert all(abs(accuracy - 17 / 256) < 0.02 for accuracy in accuracies)


def test_autoregressively_the_encoding_holds_the_pixel_before():
    grey_B = torch.arange(70, dtype=torch.uint8) * 3
    plain = data.Split(grey_B[:, None, None].expand(-1, N, 3).contiguous(), torch.zeros(70).long(), torch.arange(70))
    run = RunConfig(width=8, image_size=8, objective="autoregressive")
    encoding, *_ = decoding.pixel_accuracies(networks.build_network(run).eval(), images_of(plain, plain), "raw")
    assert 63 / 64 <= encoding < 1  # all but the first of an image


def test_a_guess_beyond_black_or_white_is_black_or_white():
    """The map is fitted on values of 64 to 191, which each layer holds, and meets layers that stand for 300 and -45."""
    train, test = random_split(70, 1), random_split(30, 2, 500)
    train.pixels_BNC.div_(2, rounding_mode="floor").add_(64)
    test.pixels_BNC.copy_(torch.where(test.pixels_BNC > 127, 255, 0))
    further = MadeLayers(*[lambda x_BNC: torch.where(x_BNC == 255, 300, torch.where(x_BNC == 0, -45, x_BNC))] * 2)
    assert decoding.pixel_accuracies(further, images_of(train, test), "raw") == [1.0, 1.0]


def test_no_network_is_changed_and_no_gradient_is_left():
    network = networks.build_network(RunConfig(width=8, image_size=8)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    decoding.pixel_accuracies(network, random_images(), "layernorm")
    assert network.training and all(tensor.equal(before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
