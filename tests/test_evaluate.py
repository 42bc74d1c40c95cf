"""What is scored on held-out images, against loops over images, pixels and neighbours."""

from math import log

import numpy as np
import pytest
import torch

from isonb.config import RunConfig
from isonb.models import network as networks
from isonb.models.objectives import sample_masks
from isonb.training import data, evaluate

SMALL = {"width": 8, "image_size": 8, "evaluation_masks": 2}


def random_split(images, seed=0, first=0, smooth=False):
    """Images of noise, or of noise around one grey level each; their numbers start at `first`."""
    generator = np.random.default_rng(seed)
    pixels_BNC = generator.integers(0, 256, (images, 64, 3))
    if smooth:
        pixels_BNC = np.clip(generator.integers(0, 256, (images, 1, 1)) + pixels_BNC % 20, 0, 255)
    return data.Split(
        torch.from_numpy(pixels_BNC.astype(np.uint8)),
        torch.from_numpy(generator.integers(0, 3, images)),
        torch.arange(first, first + images),
    )


def shaken(config):
    """A network whose predictions differ from pixel to pixel."""
    network = networks.build_network(config).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return network


def made_images(train, validation):
    return data.Images("made", ("a", "b", "c"), 8, train, validation, validation, {})


@pytest.mark.parametrize("unit", ["pixel", "subpixel"])
@pytest.mark.parametrize("block", ["conv", "transformer"])
def test_nats_of_each_image_are_the_loop_over_its_masked_sub_pixels(block, unit):
    config = RunConfig(block=block, mask_unit=unit, **SMALL)
    network, split = shaken(config), random_split(3, first=11)
    nats_B, count_B = evaluate.loss_per_image(network, config, split, "float32")
    assert (nats_B.dtype, count_B.dtype) == (torch.float64, torch.int64)
    for image in range(3):
        nats, count = 0.0, 0
        for repeat in range(2):
            is_masked_BNC = sample_masks(config, split.index_B[image : image + 1], "evaluation", repeat)
            with torch.no_grad():
                logits_MCV = network(split.pixels_BNC[image : image + 1], is_masked_BNC).double()
            for place, position in enumerate(is_masked_BNC[0].any(1).nonzero()[:, 0].tolist()):
                for channel in range(3):
                    if is_masked_BNC[0, position, channel]:
                        value = split.pixels_BNC[image, position, channel].item()
                        nats -= logits_MCV[place, channel].log_softmax(0)[value].item()
                        count += 1
        assert nats_B[image].item() == pytest.approx(nats, rel=1e-5)
        assert count_B[image] == count


def test_nats_do_not_depend_on_the_size_of_a_chunk(monkeypatch):
    config = RunConfig(**SMALL)
    network, split = shaken(config), random_split(5)
    whole, counts = evaluate.loss_per_image(network, config, split, "float32")
    monkeypatch.setattr(evaluate, "CHUNK", 2)
    nats_B, count_B = evaluate.loss_per_image(network, config, split, "float32")
    torch.testing.assert_close(nats_B, whole, rtol=1e-5, atol=0)
    assert torch.equal(count_B, counts)


def test_the_ranks_parts_add_up_to_all_images():
    config = RunConfig(**SMALL)
    network, split = shaken(config), random_split(5)
    whole, counts = evaluate.loss_per_image(network, config, split, "float32")
    parts = [
        evaluate.loss_per_image(network, config, split, "float32", torch.tensor(part, dtype=torch.int64))
        for part in ([0, 3], [1, 2, 4], [])
    ]
    assert not parts[0][0][[1, 2, 4]].any() and not parts[0][1][[1, 2, 4]].any()
    torch.testing.assert_close(sum(nats_B for nats_B, _ in parts), whole, rtol=1e-5, atol=0)
    assert torch.equal(sum(count_B for _, count_B in parts), counts)


def test_a_regression_is_scored_and_filled_in_by_the_value_it_predicts():
    config = RunConfig(objective="mse", mask_rate=0.4, **SMALL)
    network, split = shaken(config), random_split(3, first=11)
    loss_B, count_B = evaluate.loss_per_image(network, config, split, "float32")
    filled_BNC, _ = evaluate.reconstruct(network, config, split, "float32", torch.arange(3))
    for image in range(3):
        squares, count = 0.0, 0
        for repeat in range(2):
            is_masked_BNC = sample_masks(config, split.index_B[image : image + 1], "evaluation", repeat)
            with torch.no_grad():
                value_MC1 = network(split.pixels_BNC[image : image + 1], is_masked_BNC)
            assert value_MC1.shape[1:] == (3, 1)
            for place, position in enumerate(is_masked_BNC[0].any(1).nonzero()[:, 0].tolist()):
                for channel in range(3):
                    guess = value_MC1[place, channel, 0].item()
                    squares += (guess - (split.pixels_BNC[image, position, channel].item() / 127.5 - 1)) ** 2
                    count += 1
                    if repeat == 0:
                        shown = min(255, max(0, round(127.5 * (guess + 1))))
                        assert filled_BNC[image, position, channel] == shown
        assert loss_B[image].item() == pytest.approx(squares, rel=1e-5)
        assert count_B[image] == count


@pytest.mark.parametrize("unit", ["pixel", "subpixel"])
def test_a_reconstruction_fills_in_the_most_probable_values_and_nothing_else(unit):
    config = RunConfig(mask_unit=unit, mask_rate=0.4, **SMALL)
    network, split = shaken(config), random_split(4, first=5)
    filled_BNC, is_masked_BNC = evaluate.reconstruct(network, config, split, "float32", torch.tensor([3, 1]))
    original_BNC = split.pixels_BNC[[3, 1]]
    assert torch.equal(is_masked_BNC, sample_masks(config, torch.tensor([8, 6]), "evaluation"))
    assert torch.equal(filled_BNC[~is_masked_BNC], original_BNC[~is_masked_BNC])
    with torch.no_grad():
        logits_MCV = network(original_BNC, is_masked_BNC)
    for place, (image, position) in enumerate(is_masked_BNC.any(2).nonzero().tolist()):
        for channel in range(3):
            if is_masked_BNC[image, position, channel]:
                scores = logits_MCV[place, channel].tolist()
                assert filled_BNC[image, position, channel] == scores.index(max(scores))


def test_reconstruction_scores_by_hand():
    original_BNC = torch.full((1, 4, 3), 100, dtype=torch.uint8)
    filled_BNC, is_masked_BNC = original_BNC.clone(), torch.zeros(1, 4, 3, dtype=torch.bool)
    is_masked_BNC[0, 1] = True
    is_masked_BNC[0, 2, 0] = True
    filled_BNC[0, 1] = torch.tensor([103, 96, 100])  # distance 5
    filled_BNC[0, 2, 0] = 91  # distance 9, below the original: unsigned numbers would wrap
    scores = evaluate.reconstruction_scores(filled_BNC, is_masked_BNC, original_BNC)
    assert scores.mean_absolute_error == pytest.approx((3 + 4 + 0 + 9) / 4)
    assert scores.share_within_8 == pytest.approx(3 / 4)
    assert scores.colour_error == pytest.approx((5 + 9) / 2)
    filled_BNC[0, 2, 0] = 92
    assert evaluate.reconstruction_scores(filled_BNC, is_masked_BNC, original_BNC).share_within_8 == 1


# Baselines without a network


def visible_mean(value_HW, masked_HW, row, column):
    """The rounded mean of the visible ones among the eight neighbours, 127 where there are none."""
    seen = [
        int(value_HW[i, j])
        for i in range(row - 1, row + 2)
        for j in range(column - 1, column + 2)
        if (i, j) != (row, column) and 0 <= i < 8 and 0 <= j < 8 and not masked_HW[i, j]
    ]
    return round(sum(seen) / len(seen)) if seen else 127


def loop(config, split, purpose):
    """(channel, value, neighbours' mean) of every masked sub-pixel, one after another."""
    for repeat in range(config.evaluation_masks if purpose == "evaluation" else 1):
        masked_BHWC = sample_masks(config, split.index_B, purpose, repeat).numpy().reshape(-1, 8, 8, 3)
        value_BHWC = split.pixels_BNC.numpy().reshape(-1, 8, 8, 3)
        for image, row, column, channel in np.argwhere(masked_BHWC):
            mean = visible_mean(value_BHWC[image, ..., channel], masked_BHWC[image, ..., channel], row, column)
            yield channel, int(value_BHWC[image, row, column, channel]), mean


@pytest.mark.parametrize(("unit", "rate"), [("pixel", 0.15), ("subpixel", 0.3), ("pixel", 0.9)])
def test_baselines_equal_counting_one_sub_pixel_at_a_time(unit, rate):
    config = RunConfig(mask_unit=unit, mask_rate=rate, **SMALL)
    train, validation = random_split(6, seed=1, smooth=True), random_split(3, seed=2, first=40, smooth=True)
    of_value, of_offset = [{}, {}, {}], [{}, {}, {}]
    for channel, value, mean in loop(config, train, "training"):
        of_value[channel][value] = of_value[channel].get(value, 0) + 1
        of_offset[channel][value - mean] = of_offset[channel].get(value - mean, 0) + 1
    marginal, neighbour, count, lonely = 0.0, 0.0, 0, 0
    for channel, value, mean in loop(config, validation, "evaluation"):
        marginal -= log((of_value[channel].get(value, 0) + 1) / (sum(of_value[channel].values()) + 256))
        chances = [of_offset[channel].get(other - mean, 0) + 1 for other in range(256)]
        neighbour -= log(chances[value] / sum(chances))
        count, lonely = count + 1, lonely + (mean == 127)
    made = evaluate.baselines(config, made_images(train, validation))
    assert made.uniform == pytest.approx(5.545177444479562)
    assert made.channel_marginal == pytest.approx(marginal / count, rel=1e-12)
    assert made.neighbour_mean == pytest.approx(neighbour / count, rel=1e-12)
    assert lonely > 0 or rate < 0.9  # at 0.9 some pixels see no neighbour at all
    if rate == 0.15:
        assert made.neighbour_mean < made.channel_marginal < 5.6


@pytest.mark.parametrize(("unit", "rate"), [("pixel", 0.15), ("subpixel", 0.3)])
def test_baselines_of_a_regression_are_the_squared_errors_of_the_same_predictors_means(unit, rate):
    config = RunConfig(mask_unit=unit, mask_rate=rate, objective="mse", **SMALL)
    train, validation = random_split(6, seed=1, smooth=True), random_split(3, seed=2, first=40, smooth=True)
    of_value, of_offset = [[1] * 256 for _ in range(3)], [dict.fromkeys(range(-255, 256), 1) for _ in range(3)]
    for channel, value, mean in loop(config, train, "training"):
        of_value[channel][value] += 1
        of_offset[channel][value - mean] += 1
    squares, count = [0.0, 0.0, 0.0], 0
    for channel, value, mean in loop(config, validation, "evaluation"):
        near = [of_offset[channel][other - mean] for other in range(256)]
        for place, chances in enumerate(([1] * 256, of_value[channel], near)):
            guess = sum(other * chance for other, chance in enumerate(chances)) / sum(chances)
            squares[place] += ((value - guess) / 127.5) ** 2
        count += 1
    made = evaluate.baselines(config, made_images(train, validation))
    assert list(made.model_dump().values())[:3] == pytest.approx([square / count for square in squares], rel=1e-9)


def naive_window(value_HWC, visible_HWC, row, column):
    """The neighbours' mean of each channel, and the 5x5 window in which what is hidden counts as that; then a 1."""
    means, window = [], []
    for channel in range(3):
        seen = {
            (i, j): int(value_HWC[row + i, column + j, channel])
            for i in range(-2, 3)
            for j in range(-2, 3)
            if 0 <= row + i < 8 and 0 <= column + j < 8 and visible_HWC[row + i, column + j, channel]
        }
        near = [value for (i, j), value in seen.items() if max(abs(i), abs(j)) == 1]
        means.append(round(sum(near) / len(near)) if near else 127)
        window += [seen.get((i, j), means[-1]) - means[-1] for i in range(-2, 3) for j in range(-2, 3)]
    return means, [*window, 1]


def naive_windows(config, split, purpose):
    """(channel, value, neighbours' mean, window) of every scored sub-pixel, one after another."""
    is_causal = config.objective == "autoregressive"
    order_HWC = np.arange(64).reshape(8, 8, 1).repeat(3, axis=2)
    for repeat in range(config.evaluation_masks if purpose == "evaluation" and not is_causal else 1):
        masked_BHWC = sample_masks(config, split.index_B, purpose, repeat).numpy().reshape(-1, 8, 8, 3)
        value_BHWC = split.pixels_BNC.numpy().reshape(-1, 8, 8, 3)
        scored_BHWC = np.ones_like(masked_BHWC) if is_causal else masked_BHWC
        for image, row, column, channel in np.argwhere(scored_BHWC):
            visible_HWC = order_HWC < 8 * row + column if is_causal else ~masked_BHWC[image]
            means, window = naive_window(value_BHWC[image], visible_HWC, row, column)
            yield channel, int(value_BHWC[image, row, column, channel]), means[channel], window


@pytest.mark.parametrize(
    ("settings", "images"),
    [
        ({"mask_rate": 0.15}, 20),
        ({"mask_rate": 0.15}, 6),  # fewer masked pixels than a window has values
        ({"mask_rate": 0.9}, 6),
        ({"mask_unit": "subpixel", "mask_rate": 0.3}, 12),
        ({"objective": "mse"}, 20),
        ({"objective": "mse", "mask_unit": "subpixel"}, 12),
        ({"objective": "autoregressive"}, 4),
        ({"objective": "autoregressive", "mask_unit": "subpixel"}, 4),
    ],
)
def test_the_linear_filter_is_the_least_squares_map_of_windows_gathered_one_by_one(settings, images, monkeypatch):
    monkeypatch.setattr(evaluate, "CHUNK", 5)
    config = RunConfig(**SMALL | settings)
    train = random_split(images, seed=1, smooth=True)
    validation = random_split(3, seed=2, first=40, smooth=True)
    maps, offsets = [], []
    for channel in range(3):
        scored = [row for row in naive_windows(config, train, "training") if row[0] == channel]
        x_SF = np.array([window for *_, window in scored], dtype=float)
        off_S = np.array([value - mean for _, value, mean, _ in scored], dtype=float)
        maps.append(np.linalg.lstsq(x_SF, off_S, rcond=None)[0])
        offsets.append(dict.fromkeys(range(-255, 256), 1))
        for _, value, mean, window in scored:
            offsets[channel][value - min(255, max(0, round(mean + maps[channel] @ window)))] += 1
    loss, count = 0.0, 0
    for channel, value, mean, window in naive_windows(config, validation, "evaluation"):
        centre = min(255, max(0, round(mean + maps[channel] @ window)))
        chances = [offsets[channel][other - centre] for other in range(256)]
        if config.objective == "mse":
            guess = sum(other * chance for other, chance in enumerate(chances)) / sum(chances)
            loss += ((value - guess) / 127.5) ** 2
        else:
            loss -= log(chances[value] / sum(chances))
        count += 1
    made = evaluate.baselines(config, made_images(train, validation))
    assert made.linear_filter == pytest.approx(loss / count, rel=1e-9)


def test_the_linear_filter_sees_what_the_neighbours_mean_does_not():
    """In every second column the values differ, so the pixels two columns away say more than the neighbours."""
    generator = np.random.default_rng(0)

    def striped(images, first):
        shade_B2 = generator.integers(0, 256, (images, 1, 2, 1))
        pixels_BNC = np.broadcast_to(np.tile(shade_B2, (1, 8, 4, 3)), (images, 8, 8, 3)).reshape(images, 64, 3)
        labels_B = torch.zeros(images, dtype=torch.int64)
        return data.Split(torch.from_numpy(pixels_BNC.astype(np.uint8)), labels_B, torch.arange(first, first + images))

    made = evaluate.baselines(RunConfig(**SMALL), made_images(striped(200, 0), striped(20, 200)))
    assert made.linear_filter < made.neighbour_mean - 0.5


def test_the_neighbours_of_a_corner_and_of_the_middle():
    x_BHWC = np.arange(9).reshape(1, 3, 3, 1)
    expected = [[1 + 3 + 4, 0 + 2 + 3 + 4 + 5, 1 + 4 + 5], [0 + 1 + 4 + 6 + 7, 36 - 4, 1 + 2 + 4 + 7 + 8]]
    assert evaluate._sum_over(evaluate.NEIGHBOURS, x_BHWC)[0, :2, :, 0].tolist() == expected
    before = [[0, 0, 1], [0 + 1, 0 + 1 + 2 + 3, 1 + 2 + 4]]
    assert evaluate._sum_over(evaluate.EARLIER, x_BHWC)[0, :2, :, 0].tolist() == before


def test_the_baselines_of_autoregression_look_at_the_pixels_before():
    config = RunConfig(objective="autoregressive", **SMALL)
    train, validation = random_split(6, seed=1, smooth=True), random_split(3, seed=2, first=40, smooth=True)

    def every_sub_pixel(split):
        for value_HWC in split.pixels_BNC.numpy().reshape(-1, 8, 8, 3):
            for row, column, channel in np.ndindex(8, 8, 3):
                before = ((row - 1, column - 1), (row - 1, column), (row - 1, column + 1), (row, column - 1))
                seen = [int(value_HWC[i, j, channel]) for i, j in before if i >= 0 and 0 <= j < 8]
                yield channel, int(value_HWC[row, column, channel]), round(sum(seen) / len(seen)) if seen else 127

    of_value, of_offset = [[1] * 256 for _ in range(3)], [dict.fromkeys(range(-255, 256), 1) for _ in range(3)]
    for channel, value, mean in every_sub_pixel(train):
        of_value[channel][value] += 1
        of_offset[channel][value - mean] += 1
    marginal = neighbour = 0.0
    for channel, value, mean in every_sub_pixel(validation):
        marginal -= log(of_value[channel][value] / sum(of_value[channel]))
        neighbour -= log(of_offset[channel][value - mean] / sum(of_offset[channel][v - mean] for v in range(256)))
    made, count = evaluate.baselines(config, made_images(train, validation)), 3 * 64 * 3
    assert made.channel_marginal == pytest.approx(marginal / count, rel=1e-12)
    assert made.neighbour_mean == pytest.approx(neighbour / count, rel=1e-12)


def test_autoregression_scores_every_sub_pixel_once():
    config = RunConfig(block="mixer", objective="autoregressive", **SMALL)
    split, network = random_split(3), shaken(config)
    loss_B, count_B = evaluate.loss_per_image(network, config, split, "float32")
    assert count_B.tolist() == [64 * 3] * 3
    for image in range(3):
        pixels_BNC = split.pixels_BNC[image : image + 1]
        logits_NCV = network(pixels_BNC, torch.ones_like(pixels_BNC, dtype=torch.bool)).double()
        nats = [
            -torch.log_softmax(logits_NCV[n, channel], 0)[pixels_BNC[0, n, channel].item()].item()
            for n in range(64)
            for channel in range(3)
        ]
        assert loss_B[image].item() == pytest.approx(sum(nats), rel=1e-5)


def test_bfloat16_is_used_only_where_it_is_asked_for():
    with evaluate.autocast(torch.device("cpu"), "bfloat16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with evaluate.autocast(torch.device("cpu"), "float32"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
