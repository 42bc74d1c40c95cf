"""Which sub-pixels are masked, as pure functions of what they are for, and the loss against its definition."""

from math import exp, log, sqrt

import numpy as np
import pytest
import torch

from isonb import draws
from isonb.config import RunConfig
from isonb.models import objectives

SMALL = {"width": 8, "image_size": 8}


def masks(index=range(6), purpose="training", repeat=0, **changes):
    return objectives.sample_masks(RunConfig(**{**SMALL, **changes}), torch.tensor(list(index)), purpose, repeat)


@pytest.mark.parametrize("unit", ["pixel", "subpixel"])
def test_an_image_has_its_masks_whatever_batch_it_is_in(unit):
    together = masks([5, 900, 2, 40_000], mask_unit=unit)
    assert together.shape == (4, 64, 3)
    assert torch.equal(masks([40_000, 5], mask_unit=unit), together[[3, 0]])
    assert torch.equal(masks([900], mask_unit=unit), together[1:2])
    state = torch.get_rng_state()
    torch.manual_seed(99)
    assert torch.equal(masks([5, 900, 2, 40_000], mask_unit=unit), together)
    torch.set_rng_state(state)


def test_training_masks_change_with_seed_epoch_and_image():
    first = masks()
    for other in (masks(seed=1), masks(repeat=1), masks(index=range(6, 12)), masks(purpose="evaluation")):
        agreement = (first[..., 0] == other[..., 0]).double().mean()
        assert 0.6 < agreement < 0.9  # independent masks agree on 0.15^2 + 0.85^2 = 0.745 of 384 pixels
    assert len({tuple(mask[:, 0].tolist()) for mask in first}) == 6


def test_evaluation_masks_are_the_same_for_every_network():
    first = masks(purpose="evaluation", repeat=2)
    other = {"block": "mixer", "encoding": "pix2vec", "seed": 7, "width": 16, "learning_rate": 0.1}
    assert torch.equal(masks(purpose="evaluation", repeat=2, **other), first)
    assert not torch.equal(masks(purpose="evaluation", repeat=3), first)


def test_a_mask_is_the_stateless_number_below_the_rate():
    expected = draws.uniform(3, "training masks", 4, 17, np.arange(64)) < 0.3
    assert masks([17], repeat=4, seed=3, mask_rate=0.3)[0, :, 1].tolist() == expected.tolist()


@pytest.mark.parametrize("rate", [0.05, 0.15, 0.6])
def test_pixels_are_masked_whole_at_the_rate(rate):
    is_masked_BNC = masks(range(500), mask_rate=rate)
    assert torch.equal(is_masked_BNC.any(2), is_masked_BNC.all(2))
    units = 500 * 64
    deviation = sqrt(units * rate * (1 - rate))
    assert abs(is_masked_BNC[..., 0].sum().item() - units * rate) < 4 * deviation
    per_position_N = is_masked_BNC[..., 0].sum(0)
    assert (per_position_N - 500 * rate).abs().max() < 5 * sqrt(500 * rate * (1 - rate))


@pytest.mark.parametrize("rate", [0.15, 0.6])
def test_sub_pixels_are_masked_one_by_one_at_the_rate(rate):
    is_masked_BNC = masks(range(500), mask_rate=rate, mask_unit="subpixel")
    for share, expected in (
        (is_masked_BNC.double().mean().item(), rate),
        (is_masked_BNC.all(2).double().mean().item(), rate**3),  # independent channels
        (is_masked_BNC.any(2).double().mean().item(), 1 - (1 - rate) ** 3),
    ):
        assert abs(share - expected) < 4 * sqrt(expected * (1 - expected) / (500 * 64))


def test_autoregressively_every_sub_pixel_is_scored():
    config = RunConfig(objective="autoregressive", **SMALL)
    assert objectives.sample_scored(config, torch.tensor([5, 900]), "training").sum() == 2 * 64 * 3
    others = [RunConfig(objective=name, **SMALL) for name in ("bert", "mse")]
    for other in others:
        scored = objectives.sample_scored(other, torch.tensor([5, 900]), "training", 3)
        assert torch.equal(scored, masks([5, 900], repeat=3))


# The loss


def scene(unit="pixel", images=3, seed=0):
    """Pixels, masks and logits of every position that holds a masked sub-pixel."""
    generator = torch.Generator().manual_seed(seed)
    pixels_BNC = torch.randint(0, 256, (images, 64, 3), dtype=torch.uint8, generator=generator)
    is_masked_BNC = masks(range(images), mask_unit=unit)
    logits_BNCV = 3 * torch.randn(images, 64, 3, 256, generator=generator, dtype=torch.float64)
    return pixels_BNC, is_masked_BNC, logits_BNCV


@pytest.mark.parametrize("unit", ["pixel", "subpixel"])
def test_nats_are_minus_log_softmax_of_the_masked_and_zero_elsewhere(unit):
    pixels_BNC, is_masked_BNC, logits_BNCV = scene(unit)
    nats_MC = objectives.CrossEntropy.per_subpixel(logits_BNCV[is_masked_BNC.any(2)], pixels_BNC, is_masked_BNC)
    expected = []
    for image, position in is_masked_BNC.any(2).nonzero().tolist():  # in raster order
        for channel in range(3):
            logits = logits_BNCV[image, position, channel].tolist()
            probability = exp(logits[pixels_BNC[image, position, channel]]) / sum(map(exp, logits))
            expected.append(-log(probability) if is_masked_BNC[image, position, channel] else 0)
    assert nats_MC.flatten().tolist() == pytest.approx(expected, rel=1e-10)


def test_bfloat16_logits_are_scored_in_single_precision():
    pixels_BNC, is_masked_BNC, logits_BNCV = scene()
    logits_MCV = logits_BNCV[is_masked_BNC.any(2)].bfloat16()
    nats_MC = objectives.CrossEntropy.per_subpixel(logits_MCV, pixels_BNC, is_masked_BNC)
    assert nats_MC.dtype == torch.float32
    torch.testing.assert_close(
        nats_MC, objectives.CrossEntropy.per_subpixel(logits_MCV.float(), pixels_BNC, is_masked_BNC)
    )


@pytest.mark.parametrize("unit", ["pixel", "subpixel"])
def test_the_parts_of_a_batch_add_up_to_the_whole(unit):
    pixels_BNC, is_masked_BNC, logits_BNCV = scene(unit)

    def network(pixels, is_masked):  # finds its images again by their content
        image = [next(i for i in range(3) if torch.equal(pixels_BNC[i], one)) for one in pixels]
        return logits_BNCV[image][is_masked.any(2)]

    whole, count = objectives.summed_loss(RunConfig(), network, pixels_BNC, is_masked_BNC)
    parts = [
        objectives.summed_loss(RunConfig(), network, pixels_BNC[part], is_masked_BNC[part])
        for part in (slice(0, 1), slice(1, 3))
    ]
    assert whole.item() == pytest.approx(sum(nats.item() for nats, _ in parts), rel=1e-12)
    assert count == sum(number for _, number in parts) == is_masked_BNC.sum()
    empty, none = objectives.summed_loss(RunConfig(), network, pixels_BNC, torch.zeros_like(is_masked_BNC))
    assert (empty.item(), none) == (0, 0)


# The twin that regresses values


@pytest.mark.parametrize("unit", ["pixel", "subpixel"])
def test_squares_are_of_the_distance_on_the_scale_from_minus_one_to_one(unit):
    pixels_BNC, is_masked_BNC, logits_BNCV = scene(unit)
    guess_BNC1 = logits_BNCV[..., :1] / 3
    square_MC = objectives.SquaredError.per_subpixel(guess_BNC1[is_masked_BNC.any(2)], pixels_BNC, is_masked_BNC)
    expected = []
    for image, position in is_masked_BNC.any(2).nonzero().tolist():  # in raster order
        for channel in range(3):
            truth = (pixels_BNC[image, position, channel].item() - 127.5) / 127.5
            apart = guess_BNC1[image, position, channel].item() - truth
            expected.append(apart**2 if is_masked_BNC[image, position, channel] else 0)
    assert square_MC.flatten().tolist() == pytest.approx(expected, rel=1e-10)


def test_a_network_that_says_mid_grey_is_wrong_by_the_mean_square_of_the_values():
    pixels_BNC, is_masked_BNC, _ = scene()
    total, count = objectives.summed_loss(
        RunConfig(objective="mse"),
        lambda pixels, is_masked: torch.zeros(int(is_masked.any(2).sum()), 3, 1, dtype=torch.bfloat16),
        pixels_BNC, is_masked_BNC,
    )  # fmt: skip
    value_S = pixels_BNC[is_masked_BNC].double() / 127.5 - 1
    assert (total.item(), count) == (pytest.approx(value_S.square().sum().item(), rel=1e-5), len(value_S))


def test_what_a_prediction_fills_in():
    logits_MCV = torch.zeros(1, 3, 256)
    logits_MCV[0, 0, 7] = logits_MCV[0, 1, 200] = logits_MCV[0, 2, 0] = 1
    assert objectives.CrossEntropy.filled_in(logits_MCV).tolist() == [[7, 200, 0]]
    # 127.5 (1 + y), rounded: -1 is black, 1 is white, and what lies beyond is cut off
    value_MC1 = torch.tensor([[-1.0, 1.0, 0.5], [-1.2, 1.3, 0.1]])[..., None]
    assert objectives.SquaredError.filled_in(value_MC1).tolist() == [[0, 255, 191], [0, 255, 140]]
