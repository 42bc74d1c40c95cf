"""The encodings against the paper's section 3.2 by hand, the masked sub-pixel, and the weights they start from."""

from math import cos, pi, sin, sqrt

import numpy as np
import pytest
import torch

from isonb import draws, features, rows
from isonb.config import ENCODINGS, RunConfig
from isonb.models.encodings import build_encoding

SMALL = {"width": 8, "image_size": 8}
MERGES = ["sum", "concat"]


def build(encoding, seed=0, **changes):
    """A float64 encoding whose maps, tables and biases are random, so that no term is zero."""
    module = build_encoding(RunConfig(encoding=encoding, **{**SMALL, **changes})).double()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if name != "beta_k":
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return module


def random_pixels(images=2, seed=1):
    return torch.randint(0, 256, (images, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def features_by_hand(encoding, value, module):
    """What one channel's value becomes before it is mapped to the width."""
    p = (value - 127.5) / 127.5
    if encoding == "continuous":
        return np.array([p])
    phases = [2 * beta * pi * p for beta in module.beta_k.tolist()]
    return np.array([sin(phase) for phase in phases] + [cos(phase) for phase in phases])


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("encoding", ["continuous", "rff"])
def test_a_token_is_the_mapped_features_of_its_three_channels(encoding, merge):
    settings = {"frequencies": 5} if encoding == "rff" else {}
    module = build(encoding, channel_merge=merge, **settings)
    weight_CFD, bias_CD = module.weight_CFD.detach().numpy(), module.bias_CD.detach().numpy()
    pixels_BNC = random_pixels()
    x_BND = module(pixels_BNC, None).detach().numpy()
    for image, position in ((0, 0), (0, 63), (1, 17)):
        parts = [features_by_hand(encoding, value, module) for value in pixels_BNC[image, position].tolist()]
        if merge == "sum":
            expected_D = sum(part @ weight_CFD[c] + bias_CD[c] for c, part in enumerate(parts))
        else:  # one map of the channels' features side by side
            expected_D = np.concatenate(parts) @ np.concatenate(list(weight_CFD)) + bias_CD.sum(0)
        np.testing.assert_allclose(x_BND[image, position], expected_D, atol=1e-6)  # p is kept in float32


def test_pix2vec_looks_up_one_row_per_channel_and_adds_them():
    module = build("pix2vec")
    table_CVD = module.embedding_CVF
    assert table_CVD.shape == (3, 256, 8)
    pixels_BNC = random_pixels()
    red, green, blue = pixels_BNC[1, 40].tolist()
    torch.testing.assert_close(
        module(pixels_BNC, None)[1, 40], table_CVD[0, red] + table_CVD[1, green] + table_CVD[2, blue]
    )


def test_concatenated_pix2vec_maps_the_three_rows_side_by_side():
    module = build("pix2vec", channel_merge="concat")
    rows_CF = torch.stack([module.embedding_CVF[c, value] for c, value in enumerate((3, 200, 255))])
    expected_D = rows_CF.flatten() @ module.weight_CFD.flatten(0, 1) + module.bias_CD.sum(0)
    pixels_BNC = torch.tensor([3, 200, 255], dtype=torch.uint8).expand(1, 64, 3)
    torch.testing.assert_close(module(pixels_BNC, None)[0, 9], expected_D)


@pytest.mark.parametrize("value", [0, 1, 128, 255])
def test_rows_of_the_random_fourier_table_are_equation_4(value):
    module = build("rff", frequencies=3, sigma=2.0, rff_range="unit", seed=4)
    module.weight_CFD.data = torch.eye(6, 8, dtype=torch.float64).expand(3, -1, -1)  # shows the features themselves
    module.bias_CD.data.zero_()
    beta_k = [2.0 * float(draws.normal(0, "random Fourier frequencies", i)) for i in range(3)]
    phases = [2 * beta * pi * value / 255 for beta in beta_k]
    expected = [sin(phase) for phase in phases] + [cos(phase) for phase in phases] + [0, 0]
    for channel in range(3):
        # the frequencies are kept in float32, so phases of a few turns are right to about 1e-6
        assert module.table()[channel, value].tolist() == pytest.approx(expected, abs=5e-6)


def test_the_continuous_table_is_a_straight_line():
    table_CVD = build("continuous").table()
    step_CVD = table_CVD.diff(dim=1)
    torch.testing.assert_close(step_CVD, step_CVD[:, :1].expand_as(step_CVD), rtol=1e-5, atol=1e-6)
    middle_CD = (table_CVD[:, 127] + table_CVD[:, 128]) / 2  # p = 0 lies between the two
    assert not torch.allclose(step_CVD[0, 0], step_CVD[1, 0])
    torch.testing.assert_close(middle_CD, (table_CVD[:, 0] + table_CVD[:, 255]) / 2)


@pytest.mark.parametrize("value_range", ["symmetric", "unit"])
@pytest.mark.parametrize("trainable", [False, True])
def test_frequencies_give_the_readers_features_and_learn_only_when_told(trainable, value_range):
    module = build("rff", frequencies=16, rff_trainable=trainable, rff_range=value_range)
    beta_k = features.draw_frequencies(1.0, 16, seed=0)
    expected_VF = features.random_fourier(beta_k, value_range)
    np.testing.assert_allclose(module.features().detach().numpy(), expected_VF, atol=2e-6)
    module(random_pixels(), None).square().sum().backward()
    assert ("beta_k" in module.state_dict()) and module.beta_k.requires_grad is trainable
    if trainable:
        assert module.beta_k.grad.abs().min() > 0
    else:
        assert module.beta_k.grad is None


def test_every_run_draws_its_own_frequencies():
    beta = [build_encoding(RunConfig(encoding="rff", seed=seed, **SMALL)).beta_k for seed in (0, 0, 1)]
    assert torch.equal(beta[0], beta[1]) and not torch.isclose(beta[0], beta[2]).any()


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if not rows.ENCODINGS[name].reads_palette])
def test_a_masked_sub_pixel_adds_nothing_and_leaves_the_others(encoding, merge):
    module, pixels_BNC = build(encoding, channel_merge=merge), random_pixels()
    is_masked_BNC = torch.rand(2, 64, 3, generator=torch.Generator().manual_seed(2)) < 0.5
    table_CVD, x_BND = module.table(), module(pixels_BNC, is_masked_BNC)
    for image, position in ((0, 0), (0, 31), (1, 5), (1, 63)):
        expected_D = torch.zeros(8, dtype=torch.float64)
        for c in range(3):
            if not is_masked_BNC[image, position, c]:
                expected_D = expected_D + table_CVD[c, pixels_BNC[image, position, c].item()]
        torch.testing.assert_close(x_BND[image, position], expected_D)
    assert not x_BND[is_masked_BNC.all(2)].any() and is_masked_BNC.all(2).any()
    nothing_masked = torch.zeros_like(is_masked_BNC)
    assert torch.equal(module(pixels_BNC, nothing_masked), module(pixels_BNC, None))


@pytest.mark.parametrize("channels", [1, 3])
def test_of_a_palette_a_pixel_is_one_row_and_a_masked_one_nothing(channels):
    module = build("palette")
    table_KD = module.embedding_CVF[0]
    assert table_KD.shape == (512, 8)
    number_BN = torch.randint(0, 512, (2, 64), generator=torch.Generator().manual_seed(1))
    is_masked_BN = torch.rand(2, 64, generator=torch.Generator().manual_seed(2)) < 0.5
    x_BND = module(number_BN[..., None], is_masked_BN[..., None].expand(-1, -1, channels))
    for image, position in ((0, 0), (0, 63), (1, 17), (1, 18), (1, 19)):
        own_D = table_KD[number_BN[image, position].item()]
        expected_D = torch.zeros(8).double() if is_masked_BN[image, position] else own_D
        assert torch.equal(x_BND[image, position], expected_D)
    assert is_masked_BN[:, 17:20].any() and not is_masked_BN[:, 17:20].all()
    assert torch.equal(module(number_BN[..., None], None), table_KD[number_BN])


@pytest.mark.parametrize("initialisation", ["keras", "torch"])
@pytest.mark.parametrize(
    ("encoding", "merge", "fan_in"),
    [
        ("continuous", "sum", 1),
        ("continuous", "concat", 3),
        ("rff", "sum", 40),
        ("rff", "concat", 120),
        ("pix2vec", "concat", 3 * 64),
    ],
)
def test_maps_start_glorot_uniform_or_as_torchs_linear(encoding, merge, fan_in, initialisation):
    settings = {"frequencies": 20} if encoding == "rff" else {}
    settings |= {"channel_merge": merge, "initialisation": initialisation}
    module = build_encoding(RunConfig(encoding=encoding, width=64, image_size=8, **settings))
    torch.manual_seed(0)
    module.reset_parameters()
    bound = sqrt(6 / (fan_in + 64)) if initialisation == "keras" else 1 / sqrt(fan_in)
    assert 0.9 * bound < module.weight_CFD.abs().max() <= bound  # 192 draws or more reach 0.9 of it
    assert abs(module.weight_CFD.mean()) < 4 * bound / sqrt(3 * module.weight_CFD.numel())
    if initialisation == "keras":
        assert not module.bias_CD.any()
    else:
        assert 0.9 * bound < module.bias_CD.abs().max() <= bound


def test_embeddings_start_in_the_keras_interval():
    module = build_encoding(RunConfig(encoding="pix2vec", **SMALL))
    torch.manual_seed(0)
    module.reset_parameters()
    table_CVF = module.embedding_CVF.detach()
    assert 0.0499 < table_CVF.abs().max() <= 0.05
    assert table_CVF.std().item() == pytest.approx(0.05 / sqrt(3), rel=0.03)
    assert not hasattr(module, "weight_CFD")


def test_the_gradient_of_a_row_is_the_sum_over_the_tokens_that_show_it():
    module, pixels_BNC = build("pix2vec"), random_pixels()
    pixels_BNC[0, :9, 1] = 7  # a row that many tokens show
    is_masked_BNC = torch.rand(pixels_BNC.shape, generator=torch.Generator().manual_seed(2)) < 0.3
    upstream_BND = torch.randn(2, 64, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    module(pixels_BNC, is_masked_BNC).backward(upstream_BND)
    expected_CVD = torch.zeros(3, 256, 8, dtype=torch.float64)
    for image, position, channel in (~is_masked_BNC).nonzero().tolist():
        expected_CVD[channel, int(pixels_BNC[image, position, channel])] += upstream_BND[image, position]
    torch.testing.assert_close(module.embedding_CVF.grad, expected_CVD)
