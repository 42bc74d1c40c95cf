"""Completions: the cache against the whole pass, draws against probabilities, neighbours against a naive search."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from isonb import rows
from isonb.config import RunConfig
from isonb.models import blocks, network
from isonb.models.continuation import Continuation
from isonb.training import data, sampling
from isonb.training.sampling import Way

SIZE, CAUSAL = 8, [name for name, row in rows.BLOCKS.items() if row.has_causal_form]
PALETTE = np.random.default_rng(1).integers(0, 256, (512, 3), dtype=np.uint8)


def a_network(seed=0, **settings):
    """A causal network in float64 whose every number is random, its head's too."""
    small = {"width": 8, "image_size": SIZE, "depth": 2, "objective": "autoregressive"}
    run = RunConfig(**{**small, **settings})
    made = network.build_network(run, PALETTE if run.has_palette else None).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters():
        parameter.data.normal_(0, 0.5, generator=generator)
    return made


def a_split(count=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels_BNC = torch.randint(0, 256, (count, SIZE**2, 3), dtype=torch.uint8, generator=generator)
    return data.Split(pixels_BNC, torch.zeros(count, dtype=torch.int64), 10 * torch.arange(count))


def whole_pass(made, pixels_BNC):
    """The outputs at every position, shape B, N, T, V."""
    is_scored_BNC = torch.ones(*pixels_BNC.shape, dtype=torch.bool)
    with torch.no_grad():
        return made(pixels_BNC, is_scored_BNC).unflatten(0, pixels_BNC.shape[:2])


def in_pieces(made, pixels_BNC, lengths):
    reading, outputs = Continuation(made), []
    with torch.no_grad():
        for part_BTC in pixels_BNC.split(lengths, dim=1):
            x_BOD = reading.read(part_BTC)
            outputs.append(reading.outputs(x_BOD).unflatten(0, x_BOD.shape[:2]))
    return torch.cat(outputs, dim=1)


def assert_the_same_in_pieces(made, lengths=(20, *[1] * 44)):
    pixels_BNC = a_split(2).pixels_BNC
    expected = whole_pass(made, pixels_BNC)
    assert expected.std() > 0.1
    torch.testing.assert_close(in_pieces(made, pixels_BNC, list(lengths)), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("target", ["values", "palette"])
@pytest.mark.parametrize("encoding", rows.ENCODINGS)
@pytest.mark.parametrize("block", CAUSAL)
def test_what_is_read_in_pieces_is_what_a_whole_pass_gives(block, encoding, target):
    assert_the_same_in_pieces(a_network(block=block, encoding=encoding, target=target))


@pytest.mark.parametrize("lengths", [[64], [1] * 64, [0, 1, 30, 33]], ids=lambda x: str(x[:3]))
@pytest.mark.parametrize("block", CAUSAL)
def test_so_it_is_in_pieces_of_any_length(block, lengths):
    assert_the_same_in_pieces(a_network(block=block), lengths)


@pytest.mark.parametrize(
    "settings",
    [
        {"block": "conv", "kernel_size": 5},
        {"block": "mixer", "token_ratio": 2.3},
        {"block": "mixer", "token_ratio": 0.4, "encoding": "pix2vec"},
        {"block": "mixer", "positions": "learned"},
        {"block": "mixer", "head_norm": False},  # which takes off what a position's own bias adds to all channels
        {"block": "transformer", "heads": 4, "positions": "none"},
        {"block": "transformer", "attention_output": False, "positions": "sincos", "head_norm": False},
    ],
    ids=str,
)
def test_so_it_is_with_every_setting_that_a_block_has(settings):
    assert_the_same_in_pieces(a_network(**settings))


class WithoutExtend(nn.Module):
    """A researcher's own causal block."""

    def __init__(self, config):
        super().__init__()
        self.inside = blocks.ConvBlock(config)

    def forward(self, x):
        return self.inside(x)


def test_a_block_without_a_way_to_go_on_is_slow_and_right_and_this_is_told_once():
    made, split = a_network(block="conv"), a_split(3)
    own = a_network(block="conv")
    for place, block in enumerate(made.blocks):
        own.blocks[place] = WithoutExtend(own.config).double()
        own.blocks[place].inside = block
    own.load_state_dict({**own.state_dict(), **{k: v for k, v in made.state_dict().items() if "blocks" not in k}})
    torch.testing.assert_close(in_pieces(own, split.pixels_BNC, [40] + [1] * 24), whole_pass(made, split.pixels_BNC))
    with pytest.warns(UserWarning, match="WithoutExtend has no method `extend`: each pixel takes a whole pass") as told:
        slow = sampling.complete(own, split, torch.arange(3), rows=6, together=2)
    assert len(told) == 1
    assert torch.equal(slow, sampling.complete(made, split, torch.arange(3), rows=6))


@pytest.mark.parametrize("block", CAUSAL)
def test_the_same_seed_draws_the_same_pixels_however_many_images_are_drawn_together(block):
    made, split = a_network(block=block).float(), a_split(4)
    every = sampling.complete(made, split, torch.arange(4), rows=5, seed=3)
    assert every.shape == (4, 5, 64, 3)
    assert torch.equal(every[:, :, :40], split.pixels_BNC[:, None, :40].expand(-1, 5, -1, -1))
    for together in (1, 3, 100):
        assert torch.equal(sampling.complete(made, split, torch.arange(4), 5, seed=3, together=together), every)
    some = sampling.complete(made, split, torch.tensor([2, 0]), 5, (Way(1.0, 1), Way(0.0)), seed=3)
    assert torch.equal(some, every[[2, 0]][:, [2, 0]])
    other = sampling.complete(made, split, torch.arange(4), 5, seed=4)
    assert torch.equal(other[:, 0], every[:, 0])  # without chance
    assert not any(torch.equal(*pair) for pair in zip(other[0, 1:], every[0, 1:], strict=True))
    assert len({tuple(one.flatten().tolist()) for one in every[0]}) == 5


def test_the_same_image_under_another_number_is_completed_otherwise_and_without_chance_alike():
    made, split = a_network(block="conv", depth=1), a_split(2)
    split.pixels_BNC[1] = split.pixels_BNC[0]
    first, second = sampling.complete(made, split, torch.arange(2), 6, [Way(0.0), Way(1.0)])
    assert torch.equal(first[0], second[0]) and not torch.equal(first[1], second[1])


def test_an_image_is_completed_alike_in_another_split_where_it_has_its_number():
    made, split = a_network(block="conv", depth=1), a_split(4)
    order_B = torch.tensor([2, 0, 3, 1])
    moved = data.Split(split.pixels_BNC[order_B], split.labels_B, split.index_B[order_B])
    expected = sampling.complete(made, split, order_B, 6, [Way(1.0)])
    assert torch.equal(sampling.complete(made, moved, torch.arange(4), 6, [Way(1.0)]), expected)


def test_a_completion_goes_on_alike_below_rows_that_it_made_itself():
    made, split = a_network(block="mixer"), a_split(2)
    whole = sampling.complete(made, split, torch.arange(2), 4, [Way(1.0)])[:, 0]
    further = data.Split(whole, split.labels_B, split.index_B)
    assert not torch.equal(whole[:, 32:40], split.pixels_BNC[:, 32:40])
    assert torch.equal(sampling.complete(made, further, torch.arange(2), 5, [Way(1.0)])[:, 0], whole)


def test_what_draws_computes_in_double_precision_and_leaves_the_network_as_it_was(monkeypatch):
    kinds, drawn = [], sampling._drawn
    monkeypatch.setattr(sampling, "_drawn", lambda logits, *rest: kinds.append(logits.dtype) or drawn(logits, *rest))
    made = a_network(block="conv", depth=1).float().train()
    sampling.complete(made, a_split(1), torch.arange(1), 7)
    assert {*kinds} == {torch.float64}
    assert made.training and {parameter.dtype for parameter in made.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("logits", "uniform", "value"),
    [
        ([-1e9, 0.0], 0.0, 1),  # the first has no probability at all
        ([0.0] * 10 + [-1e9], 1 - 2**-53, 9),  # nor has the last, and ten tenths add up to less than one
        ([0.0, 0.0], 0.5, 1),
        ([0.0, 0.0], 0.5 - 2**-53, 0),
    ],
)
def test_what_has_no_probability_is_never_drawn(logits, uniform, value):
    logits_MTV = torch.tensor(logits, dtype=torch.float64)[None, None]
    one, uniform_MT = torch.ones(1, dtype=torch.float64), torch.full((1, 1), uniform, dtype=torch.float64)
    assert sampling._drawn(logits_MTV, one, uniform_MT).tolist() == [[value]]


@pytest.mark.parametrize(("block", "target"), [*itertools.product(CAUSAL, ["values", "palette"])])
def test_without_chance_every_pixel_takes_the_most_probable_value_given_those_before_it(block, target):
    made, split = a_network(block=block, target=target), a_split(2)
    pixels_BNC = split.pixels_BNC.clone()
    for position in range(48, 64):
        likeliest_BT = whole_pass(made, pixels_BNC)[:, position].argmax(2)
        pixels_BNC[:, position] = torch.tensor(PALETTE)[likeliest_BT[:, 0]] if target == "palette" else likeliest_BT
    assert torch.equal(sampling.complete(made, split, torch.arange(2), 6, [Way(0.0)])[:, 0], pixels_BNC)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_values_are_drawn_as_often_as_they_are_probable_at_the_temperature(temperature):
    made = a_network(block="conv", depth=1)
    made.head.weight.data.zero_()  # every pixel alike
    probability_V = torch.zeros(256, dtype=torch.float64)
    probability_V[[0, 7, 200, 255]] = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    made.head.bias.data[:] = probability_V.log().repeat(3)
    drawn = sampling.complete(made, a_split(20), torch.arange(20), 2, [Way(temperature, n) for n in range(5)])[
        :, :, 16:
    ]
    expected_V = probability_V ** (1 / temperature) / (probability_V ** (1 / temperature)).sum()
    for channel in range(3):
        share_V = torch.bincount(drawn[..., channel].flatten().int(), minlength=256) / (20 * 5 * 48)
        assert (share_V - expected_V).abs().max() < 5 * 0.5 / (20 * 5 * 48) ** 0.5
    red, green = (drawn[..., channel] == 0 for channel in (0, 1))
    assert abs((red & green).double().mean() - expected_V[0] ** 2) < 0.04  # a pixel's channels are drawn independently


def test_the_coldest_draw_is_the_most_probable_and_the_hottest_is_anything():
    made, split = a_network(block="conv"), a_split(2)
    cold, coldest, hot = sampling.complete(made, split, torch.arange(2), 4, [Way(1e-300), Way(0.0), Way(1e300)]).unbind(
        1
    )
    assert torch.equal(cold, coldest)
    assert len(hot[:, 32:].unique()) > 100


def test_with_a_palette_only_its_colours_are_drawn():
    made = a_network(block="mixer", target="palette", encoding="palette")
    drawn = sampling.complete(made, a_split(), torch.arange(4), 4)[:, :, 32:].reshape(-1, 3)
    assert {tuple(colour) for colour in drawn.tolist()} <= {tuple(colour) for colour in PALETTE.tolist()}


def test_how_many_pixels_have_been_drawn_is_told_to_the_last():
    told = []
    ways = [Way(1.0, number) for number in range(3)]
    sampling.complete(
        a_network(block="conv", depth=1), a_split(), torch.arange(4), 7, ways, 0, lambda *step: told.append(step), 5
    )
    assert told[0] == (5, 96) and told[-1] == (96, 96)
    assert [drawn for drawn, _ in told] == sorted({drawn for drawn, _ in told})


@pytest.mark.parametrize(("block", "target"), [*itertools.product(rows.BLOCKS, ["values", "palette"])])
def test_a_masked_network_fills_in_all_that_is_hidden_at_once(block, target):
    made, pixels_BNC = a_network(block=block, target=target, objective="bert"), a_split(3).pixels_BNC
    filled_BNC = sampling.fill_in(made, pixels_BNC, rows=3)
    is_hidden_BNC = torch.zeros(3, 64, 3, dtype=torch.bool)
    is_hidden_BNC[:, 24:] = True
    with torch.no_grad():
        likeliest_MT = made(pixels_BNC, is_hidden_BNC).argmax(2)
    expected_MC = torch.tensor(PALETTE)[likeliest_MT[:, 0]] if target == "palette" else likeliest_MT
    assert torch.equal(filled_BNC[:, :24], pixels_BNC[:, :24])
    assert torch.equal(filled_BNC[:, 24:].flatten(0, 1), expected_MC.to(torch.uint8))
    unlike_BNC = pixels_BNC.clone()
    unlike_BNC[:, 24:] = 255 - unlike_BNC[:, 24:]
    assert torch.equal(sampling.fill_in(made, unlike_BNC, rows=3), filled_BNC)


@pytest.mark.parametrize("first", [0, 24])
def test_the_nearest_image_is_the_one_a_naive_search_finds(first, monkeypatch):
    monkeypatch.setattr(sampling, "COMPARED", 7)
    train, wanted_BNC = a_split(30), a_split(5, seed=1).pixels_BNC
    wanted_BNC[2] = train.pixels_BNC[11]
    place_B, levels_B = sampling.nearest(train, wanted_BNC, first)
    for wanted_NC, place, levels in zip(wanted_BNC.numpy().astype(float), place_B, levels_B, strict=True):
        apart = [np.sqrt(np.mean((one[first:] - wanted_NC[first:]) ** 2)) for one in train.pixels_BNC.numpy()]
        assert int(place) == int(np.argmin(apart))
        assert float(levels) == pytest.approx(min(apart), abs=1e-9)
    assert (int(place_B[2]), float(levels_B[2])) == (11, 0.0)


def test_what_a_record_keeps_are_the_lower_halves_and_what_was_nearest_to_them():
    made, test, train = a_network(block="mixer"), a_split(4), a_split(9, seed=1)
    images = data.Images("made up", ("one",), SIZE, train, train, test, sha256={})
    kept = sampling.kept(made, images)
    completed = sampling.complete(made, test, torch.arange(3), 4)
    assert np.array_equal(kept["completed_BSHWC"].reshape(3, 5, 32, 3), completed[:, :, 32:].numpy())
    for place, first in enumerate((32, 0)):
        nearest_B = sampling.nearest(train, completed[:, 1], first)[0]
        neighbour_BNC = kept["neighbour_BKHWC"][:, place].reshape(3, 64, 3)
        assert np.array_equal(neighbour_BNC, train.pixels_BNC[nearest_B].numpy())
    assert kept["nearest_BK"][:, 5] == pytest.approx(sampling.nearest(train, test.pixels_BNC[:3], 32)[1].numpy())
    assert kept["nearest_BK"][:, 2] == pytest.approx(sampling.nearest(train, completed[:, 2], 32)[1].numpy())


def test_of_a_masked_network_it_is_what_was_filled_in():
    made, test = a_network(block="mixer", objective="bert"), a_split(4)
    images = data.Images("made up", ("one",), SIZE, test, test, test, sha256={})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        [(name, lower_BHWC)] = sampling.kept(made, images).items()
    assert name == "filled_below_BHWC"
    expected_BNC = sampling.fill_in(made, test.pixels_BNC[:3], 4)[:, 32:]
    assert np.array_equal(lower_BHWC.reshape(3, 32, 3), expected_BNC.numpy())
