"""image-GPT's block against its equation written out, and a network that is asked by the numbers of colours."""

import math

import numpy as np
import pytest
import torch

from isonb.config import ConfigError, RunConfig
from isonb.models import blocks, imagegpt
from isonb.models import network as networks

SMALL = {"block": "image-gpt", "width": 8, "heads": 2, "depth": 2, "image_size": 8}
PALETTE = {"encoding": "palette", "target": "palette"}
CAUSAL = {"objective": "autoregressive"}
START = 512


def shaken(module, scale=0.3):
    """A module after some imagined training: no number of it is zero."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.data += scale * torch.randn(parameter.shape, generator=generator)
    return module


def a_network(**changes):
    palette_KC = np.random.default_rng(0).integers(0, 256, (512, 3), dtype=np.uint8)
    return shaken(networks.build_network(RunConfig(**{**SMALL, **PALETTE, **changes}), palette_KC)).eval()


def naive(block, x_ND, heads, is_causal):
    """The published code's block, a position and a head at a time, in numpy."""
    weight = {name: parameter.detach().numpy() for name, parameter in block.named_parameters()}

    def norm(x, name):
        return x / np.sqrt(np.square(x).mean() + 1e-5) * weight[f"{name}.weight"]

    def linear(x, name):
        return weight[f"{name}.weight"] @ x + weight[f"{name}.bias"]

    positions, width = x_ND.shape
    per_head = width // heads
    q, k, v = (
        np.stack([linear(norm(x, "norm1"), name) for x in x_ND]).reshape(positions, heads, per_head)
        for name in ("query", "key", "value")
    )
    rows = []
    for n in range(positions):
        seen = n + 1 if is_causal else positions
        attended = []
        for h in range(heads):
            score = np.array([q[n, h] @ k[m, h] for m in range(seen)]) / math.sqrt(per_head)
            share = np.exp(score - score.max())
            attended.append((share / share.sum()) @ v[:seen, h])
        u = x_ND[n] + linear(np.concatenate(attended), "output")
        hidden = linear(norm(u, "norm2"), "hidden")
        rows.append(u + linear(hidden / (1 + np.exp(-1.702 * hidden)), "project"))
    return np.stack(rows)


@pytest.mark.parametrize("is_causal", [True, False])
def test_the_block_is_the_published_ones_with_biases(is_causal):
    config = RunConfig(**SMALL, **(CAUSAL if is_causal else {}))
    block = shaken(blocks.build_block(config).double())
    x_BND = torch.randn(2, 64, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for image, x_ND in zip(block(x_BND), x_BND, strict=True):
        np.testing.assert_allclose(image.detach(), naive(block, x_ND.numpy(), 2, is_causal), rtol=1e-9, atol=1e-9)


def test_its_norm_subtracts_no_mean_and_its_gelu_is_the_quick_one():
    norm = imagegpt.RootMeanSquareNorm(2, 0.5)
    norm.weight.data = torch.tensor([1.0, 10.0])
    # the mean square of 3 and 4 is 12.5, and with eps 13
    torch.testing.assert_close(norm(torch.tensor([3.0, 4.0])), torch.tensor([3.0, 40.0]) / math.sqrt(13))
    torch.testing.assert_close(norm(torch.tensor([2.0, 2.0])), torch.tensor([2.0, 20.0]) / math.sqrt(4.5))
    # 1 / (1 + e^-1.702) = 0.845796
    torch.testing.assert_close(
        imagegpt.quick_gelu(torch.tensor([1.0, -1.0, 0.0])), torch.tensor([0.845796, -0.154204, 0])
    )


def test_in_half_precision_it_stays_there_and_warns_of_nothing():
    block = blocks.build_block(RunConfig(**SMALL))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert block(torch.randn(1, 64, 8).bfloat16()).dtype == torch.bfloat16


def test_the_cost_of_a_block():
    config, n, d = RunConfig(block="image-gpt"), 1024, 128
    assert blocks.multiply_accumulates(config) == 12 * n * d * d + 2 * n * n * d
    assert networks.parameters(blocks.build_block(config)) == 12 * d * d + (3 + 1 + 4 + 1) * d + 2 * d


def test_it_has_the_transformers_settings_and_its_own_defaults():
    config = RunConfig(block="image-gpt")
    assert (config.mlp_ratio, config.layer_norm_eps, config.positions) == (4.0, 1e-5, "learned")
    assert RunConfig(block="image-gpt", mlp_ratio=2.0, heads=4, attention_output=False).mlp_ratio == 2.0
    assert RunConfig(**config.model_dump()) == config
    networks.build_network(RunConfig(**SMALL, initialisation="keras-mha"))
    with pytest.raises(ConfigError, match="kernel_size=5 has no effect with block='image-gpt'"):
        RunConfig(block="image-gpt", kernel_size=5)


def test_its_network_has_the_same_norm_at_its_end_and_a_head_without_bias():
    network = a_network()
    assert isinstance(network.head_norm, imagegpt.RootMeanSquareNorm) and network.head_norm.eps == 1e-5
    assert network.head.bias is None and network.head.out_features == 512


def test_after_the_start_token_the_numbers_of_colours_are_what_the_network_makes_of_their_pixels():
    network = a_network(**CAUSAL)
    colour_BN = torch.randint(512, (2, 64), generator=torch.Generator().manual_seed(3))
    pixels_BNC = network.palette.pixels(colour_BN)
    is_scored_BNC = torch.ones(2, 64, 3, dtype=torch.bool)
    moved_BN = torch.cat([torch.full((2, 1), START), colour_BN[:, :-1]], dim=1)
    expected_BNV = network(pixels_BNC, is_scored_BNC).unflatten(0, (2, 64)).squeeze(2)
    torch.testing.assert_close(network(moved_BN), expected_BNV)
    torch.testing.assert_close(network(pixels_BNC), expected_BNV)
    torch.testing.assert_close(network(moved_BN[:, :5]), expected_BNV[:, :5])
    assert network(moved_BN[:, :0]).shape == (2, 0, 512)


def test_a_network_by_masked_prediction_reads_whole_images_of_colours():
    network = a_network()
    colour_BN = torch.randint(512, (2, 64), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(network(colour_BN), network(network.palette.pixels(colour_BN)))
    assert a_network(target="values")(colour_BN).shape == (2, 64, 3, 256)


@pytest.mark.parametrize(
    ("settings", "colour_BN", "sentence"),
    [
        (CAUSAL, torch.tensor([[513]]), "A colour's number is outside 0 to 512: look at what has made them."),
        (CAUSAL, torch.tensor([[-1]]), "A colour's number is outside 0 to 512: look at what has made them."),
        (CAUSAL, torch.zeros(1, 65, dtype=int), "65 positions are given and the network has 64: give it whole images."),
        ({}, torch.zeros(1, 63, dtype=int), "63 positions are given and the network has 64: give it whole images."),
        ({}, torch.full((1, 64), START), "A colour's number is outside 0 to 511: look at what has made them."),
        (
            {"encoding": "pix2vec"},
            torch.zeros(1, 64, dtype=int),
            "With encoding='pix2vec' a network reads pixels, no numbers of colours.",
        ),
    ],
)
def test_numbers_that_are_no_colours_are_refused(settings, colour_BN, sentence):
    with pytest.raises(ConfigError) as refusal:
        a_network(**settings)(colour_BN)
    assert str(refusal.value) == sentence
