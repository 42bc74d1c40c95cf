"""The palette: exact where there are few colours, and measured against loops over pixels where there are many."""

import math

import numpy as np
import pytest
import torch
from made_records import leave_record, made_record

from isonb import config, features
from isonb.config import ConfigError, RunConfig
from isonb.evidence import claims, figures, tables
from isonb.evidence import palette as evidence
from isonb.models import network as networks
from isonb.models import objectives
from isonb.models import palette as models_palette
from isonb.models.palette import Palette
from isonb.pages import chart
from isonb.pages.runs import Run
from isonb.training import data, evaluate, palette

SMALL = {"width": 8, "image_size": 8, "encoding": "palette", "target": "palette"}


def images_of(train_BNC, test_BNC):
    def split(pixels_BNC):
        count = len(pixels_BNC)
        return data.Split(torch.from_numpy(pixels_BNC), torch.zeros(count, dtype=torch.int64), torch.arange(count))

    return data.Images("made", ("a",), 4, split(train_BNC), split(test_BNC), split(test_BNC), {})


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def nearest_by_hand(pixel_C, palette_KC):
    """The first of the colours that are nearest in [-1, 1]^3."""
    scaled = [[level / 127.5 - 1 for level in colour] for colour in (pixel_C.tolist(), *palette_KC.tolist())]
    apart = [round(math.dist(scaled[0], colour), 12) for colour in scaled[1:]]
    return apart.index(min(apart))


# Fitting


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
    train_BNC, test_BNC = noise(1, 40, 16), noise(2, 5, 16)
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


def test_colours_lie_where_the_pixels_do_and_are_the_means_of_theirs():
    clusters_KC = np.array([[40, 40, 40], [200, 60, 60], [60, 60, 200]])
    pixels_PC = clusters_KC[np.arange(900) % 3] + np.random.default_rng(0).integers(-9, 10, (900, 3))
    found_KC = palette.fit(pixels_PC.astype(np.uint8), colours=3)
    for place, mean_C in enumerate(clusters_KC):
        own_C = pixels_PC[place::3].mean(0)
        assert np.abs(found_KC - own_C).max(1).min() <= 2, mean_C  # small batches of pixels find it to a level or two


def test_a_colour_is_the_nearest_level_to_a_mean_and_the_same_pixels_give_the_same_colours():
    of_four_PC = np.repeat(np.array([[41], [41], [41], [40]], np.uint8), 3, axis=1)
    assert palette.fit(np.tile(of_four_PC, (100, 1)), colours=1).tolist() == [[41] * 3]  # the mean is 40.75
    pixels_PC = noise(20, 600)
    assert np.array_equal(palette.fit(pixels_PC), palette.fit(pixels_PC))


def test_of_many_pixels_those_are_drawn_that_stand_anywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path))
    train_BNC = torch.zeros(60, 1024, 3, dtype=torch.uint8)
    train_BNC[-6:], train_BNC[:6], train_BNC[6:-6, -100:], train_BNC[6:-6, :100] = 1, 2, 3, 4
    assert {*palette.of(train_BNC)[:, 0].tolist()} == {0, 1, 2, 3, 4}


def test_a_palette_is_fitted_once_to_the_same_pixels_and_read_back(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path))
    train_BNC = torch.from_numpy(noise(3, 20, 64))
    first_KC = palette.of(train_BNC)
    assert first_KC.shape == (512, 3) and first_KC.dtype == np.uint8
    (path,) = tmp_path.rglob("*.npz")
    fits = []
    monkeypatch.setattr(palette, "fit", lambda pixels_PC: fits.append(len(pixels_PC)) or first_KC[::-1].copy())
    assert np.array_equal(palette.of(train_BNC), first_KC) and not fits
    other_BNC = train_BNC.clone()
    other_BNC[0, 0, 0] += 1
    assert np.array_equal(palette.of(other_BNC), first_KC[::-1])  # other pixels, another palette
    np.savez(path, palette_KC=first_KC.astype(float))
    assert np.array_equal(palette.of(train_BNC), first_KC[::-1])  # one of another type counts as none
    path.write_bytes(path.read_bytes()[:-30])
    assert np.array_equal(palette.of(train_BNC), first_KC[::-1])  # and so does a damaged one
    assert fits == [1280] * 3


@pytest.mark.parametrize(("images", "colours"), [(1, 3), (9, 512)])
def test_pixels_of_few_colours_keep_each_of_them(images, colours):
    own_KC = np.unique(noise(4, 2000), axis=0)[:colours]
    pixels_PC = own_KC[np.arange(images * 64) % colours]
    found_KC = palette.fit(pixels_PC)
    assert found_KC.shape == (512, 3)
    assert {*map(tuple, found_KC.tolist())} == {*map(tuple, own_KC.tolist())}


def test_a_folder_that_refuses_files_costs_the_palette_and_not_the_run(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "file"))
    assert palette.of(torch.from_numpy(noise(5, 2, 64))).shape == (512, 3)


# Pixels and numbers


def test_a_pixel_gets_the_number_of_the_nearest_colour_the_first_of_equals():
    palette_KC = np.concatenate([noise(6, 509), [[7, 7, 7], [9, 7, 7], [7, 7, 7]]]).astype(np.uint8)
    pixels_BNC = noise(7, 2, 50)
    pixels_BNC[0, 0] = [8, 7, 7]  # as near to 509 as to 510, and 511 is 509 again
    colours = Palette(palette_KC)
    found_BN = colours.tokens(torch.from_numpy(pixels_BNC))
    expected_BN = [[nearest_by_hand(pixel_C, palette_KC) for pixel_C in pixels_NC] for pixels_NC in pixels_BNC]
    assert found_BN.tolist() == expected_BN
    with torch.autocast("cpu", torch.bfloat16):  # which would round distances to 8 bits
        assert torch.equal(colours.tokens(torch.from_numpy(pixels_BNC)), found_BN)
    assert np.array_equal(colours.pixels(found_BN).numpy(), palette_KC[np.array(expected_BN)])
    assert torch.equal(colours.double().tokens(torch.from_numpy(pixels_BNC)), found_BN)


@pytest.mark.parametrize("at_once", [7, 2**12])
def test_a_colours_rank_counts_the_colours_that_are_nearer_and_of_equally_near_ones_those_before_it(
    at_once, monkeypatch
):
    monkeypatch.setattr(models_palette, "AT_ONCE", {"cpu": at_once})
    palette_KC, centre_PC = features.even_colours(), torch.from_numpy(noise(8, 30).astype(np.int64))
    palette_KC[300] = palette_KC[7]
    centre_PC[:3], token_P = torch.from_numpy(palette_KC[7].astype(np.int64)), torch.arange(30) * 17
    token_P[:3] = torch.tensor([7, 300, 7])
    found_P = Palette(palette_KC).ranks(centre_PC, token_P)
    assert found_P[:3].tolist() == [0, 1, 0]
    for centre_C, token, rank in zip(centre_PC.tolist(), token_P.tolist(), found_P.tolist(), strict=True):
        apart = [sum((a - b) ** 2 for a, b in zip(centre_C, colour, strict=True)) for colour in palette_KC.tolist()]
        assert rank == sorted(range(512), key=lambda k: (apart[k], k)).index(token)
    assert Palette(palette_KC).tokens(torch.from_numpy(palette_KC[:20])).tolist() == [*range(20)]


# Networks


def test_a_network_keeps_its_colours_with_its_weights():
    palette_KC = noise(9, 512)
    network = networks.build_network(RunConfig(**SMALL), palette_KC)
    tensors = network.state_dict()
    other = networks.build_network(RunConfig(**SMALL, seed=1), features.even_colours())
    other.load_state_dict(tensors)
    assert np.array_equal(other.palette.palette_KC, palette_KC)
    network.palette.levels_KC -= 0.25  # as colours of another library may lie between two levels
    twin = networks.untrained(network.double())
    assert np.array_equal(twin.palette.palette_KC, palette_KC)
    assert torch.equal(twin.palette.levels_KC.double(), network.palette.levels_KC)
    assert "palette.levels_KC" in tensors and not any("palette" in name for name, _ in network.named_parameters())
    assert not any("palette" in name for name in networks.build_network(RunConfig()).state_dict())


def test_a_network_without_its_colours_is_refused_in_a_sentence():
    with pytest.raises(ConfigError, match=r"^A network with a palette needs its colours: give it .*\.$"):
        networks.build_network(RunConfig(**SMALL))
    with pytest.raises(ValueError, match=r"^With target='palette' a loss needs the palette: give it .*\.$"):
        objectives.loss_of(RunConfig(**SMALL))


@pytest.mark.parametrize("objective", ["bert", "autoregressive"])
def test_the_loss_is_of_the_true_colour_among_all(objective):
    run = RunConfig(**SMALL, objective=objective, mask_rate=0.4)
    palette_KC = noise(10, 512)
    network = networks.build_network(run, palette_KC).double()
    network.head.bias.data = torch.randn(512, generator=torch.Generator().manual_seed(0)).double()
    pixels_BNC = torch.from_numpy(noise(11, 2, 64))
    is_scored_BNC = objectives.sample_scored(run, torch.arange(2), "training")
    assert is_scored_BNC.shape == (2, 64, 1)
    nats, count = objectives.summed_loss(run, network, pixels_BNC, is_scored_BNC, network.palette)
    logits_MV = network(pixels_BNC, is_scored_BNC)[:, 0].tolist()
    expected = 0.0
    for logits_V, pixel_C in zip(logits_MV, pixels_BNC[is_scored_BNC[..., 0]].numpy(), strict=True):
        total = math.log(sum(map(math.exp, logits_V)))
        expected += total - logits_V[nearest_by_hand(pixel_C, palette_KC)]
    assert (nats.item(), count) == (pytest.approx(expected), len(logits_MV))
    filled_MC = objectives.loss_of(run, network.palette).filled_in(torch.tensor(logits_MV)[:, None])
    assert filled_MC.tolist() == [
        palette_KC[max(range(512), key=logits_V.__getitem__)].tolist() for logits_V in logits_MV
    ]


def test_an_untrained_network_is_as_good_as_none():
    network = networks.build_network(RunConfig(**SMALL), noise(12, 512)).double()
    pixels_BNC, scored = torch.from_numpy(noise(13, 2, 64)), torch.ones(2, 64, 1, dtype=torch.bool)
    nats, count = objectives.summed_loss(network.config, network, pixels_BNC, scored, network.palette)
    assert (nats.item() / count, count) == (pytest.approx(math.log(512)), 128)


# What is said of networks with a palette


def tables_of(tmp_path, monkeypatch, accuracies):
    """The study cpu with made records: by arm and encoding of transformers of size 3, an accuracy for each seed."""
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    for (encoding, settings), of_seed in accuracies.items():
        for seed, accuracy in enumerate(of_seed):
            cell = config.cpu(block="transformer", depth=3, encoding=encoding, seed=seed, **dict(settings))
            leave_record(made_record(cell, test_accuracy=accuracy))
    return claims.read("cpu")


CAUSAL, COLOURS = ("objective", "autoregressive"), ("target", "palette")


def test_nothing_is_said_where_nothing_has_run(tmp_path, monkeypatch):
    t = tables_of(tmp_path, monkeypatch, {("pix2vec", ()): (0.25, 0.3, 0.25)})
    assert set(evidence.judged(t)["verdict"]) == {"not run"}
    assert set(evidence.accuracies(t)["input and output"]) == set(evidence.reconstructions(t)["input and output"])
    assert set(evidence.accuracies(t)["input and output"]) == {"not run"}
    assert evidence.in_words(t) == "Trained by BERT: not run. Trained by autoregression: not run."
    assert evidence.steps().to_dict("records") == [{"objective": "not run"}]


def test_the_palettes_networks_stand_beside_the_same_with_pix2vec(tmp_path, monkeypatch):
    t = tables_of(tmp_path, monkeypatch, {
        ("pix2vec", ()): (0.25, 0.25, 0.25), ("palette", (COLOURS,)): (0.5, 0.5, 0.5),
        ("pix2vec", (CAUSAL,)): (0.25, 0.25), ("palette", (CAUSAL, COLOURS)): (0.3, 0.3, 0.3),
        ("palette", ()): (0.75,),  # in alone
    })  # fmt: skip
    shown = evidence.accuracies(t).astype(str).values.tolist()
    assert [row[:4] for row in shown] == [
        ["BERT", "palette", "3", "50.0%"],
        ["BERT", "pix2vec", "3", "25.0%"],
        ["autoregression", "palette", "2", "30.0%"],
        ["autoregression", "pix2vec", "2", "25.0%"],
    ]
    words = evidence.in_words(t)
    assert "BERT, the probe reads better: +25.0 points (" in words and "over 3 seeds and 40 test images" in words
    errors = evidence.reconstructions(t).set_index(["objective", "input and output"])["off by"].astype(str)
    assert errors["BERT", "the palette alone"] == "3.0 levels" and errors["BERT", "palette"] == "9.0 levels"
    c35 = next(one for one in claims.judge(t) if one.claim.id == "C35").finding
    assert "+25.0 points" in c35.note or c35.verdict == "not run"
    verdicts = evidence.judged(t).set_index("claim")["verdict"]
    assert verdicts["C28"] != "not run" and verdicts["C31"] != "not run"
    assert set(verdicts[["C30", "C32", "C33", "C34"]]) == {"not run"}


def test_claims_about_the_grid_do_not_see_a_palette(tmp_path, monkeypatch):
    alone = {("pix2vec", ()): (0.25, 0.3, 0.35), ("pix2vec", (CAUSAL,)): (0.3, 0.3, 0.3)}
    before = [one.finding for one in claims.judge(tables_of(tmp_path / "a", monkeypatch, alone))]
    more = alone | {("palette", (COLOURS,)): (0.9,), ("palette", (CAUSAL, COLOURS)): (0.9,), ("palette", ()): (0.8,)}
    after = [one.finding for one in claims.judge(tables_of(tmp_path / "b", monkeypatch, more))]
    told = {one.id for one, x, y in zip(claims.LEDGER, before, after, strict=True) if repr(x) != repr(y)}
    assert told <= {"C35"}


def test_losses_of_two_units_share_neither_a_table_nor_an_axis(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    usual = made_record(config.cpu(block="transformer", depth=3, encoding="pix2vec"), 3.5)
    other = made_record(config.cpu(block="transformer", depth=3, encoding="palette", target="palette"), 5.75)
    for record in (usual, other):
        leave_record(record)
    drawn = figures.learning_curves([usual, other])
    assert "1 network" in drawn.caption and "5.75" not in drawn.alt
    assert "nats per masked palette pixel" in figures.learning_curve(other).axes[0].get_ylabel()
    assert (
        "No other" in figures.among(usual, [usual, other]).caption
        or "no other" in figures.among(usual, [other]).caption
    )
    page = chart.page([Run(record, None) for record in (usual, other)])
    assert page.count("<figure") == 2 and "nats per masked palette pixel" in page
    assert "palette" not in set(map(str, tables.arms("cpu")["setting"])) and "5.750" not in str(tables.arms("cpu"))


# What makes no sense


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"target": "palette", "objective": "mse"}, "target='palette' is not allowed with objective='mse': "),
        ({"target": "palette", "mask_unit": "subpixel"}, "mask_unit='subpixel' is not allowed with a palette, "),
        ({"encoding": "palette", "mask_unit": "subpixel"}, "mask_unit='subpixel' is not allowed with a palette, "),
        ({"encoding": "palette", "channel_merge": "concat"}, "channel_merge='concat' has no effect with encoding="),
        ({"encoding": "palette", "sigma": 2.0}, "sigma=2.0 has no effect with encoding='palette': "),
        ({"target": "colours"}, "target='colours' is not allowed: choose values or palette."),
    ],
)
def test_a_palette_that_makes_no_sense_is_refused_in_a_sentence(settings, sentence):
    with pytest.raises(ConfigError) as refusal:
        RunConfig(**settings)
    assert str(refusal.value).startswith(sentence) and str(refusal.value).endswith(".")


def test_palettes_have_units_and_names_of_their_own():
    units = {
        (o, t): RunConfig(objective=o, target=t).unit for o in ("bert", "autoregressive") for t in ("values", "palette")
    }
    assert len({*units.values()}) == 4
    assert {target for (_, target), unit in units.items() if "palette pixel" in unit} == {"palette"}
    assert (
        "target" not in RunConfig().identity() and config.smoke(target="palette").run.identity()["target"] == "palette"
    )


# Guesses without a network


@pytest.mark.parametrize("objective", ["bert", "autoregressive"])
def test_guesses_are_of_the_same_colours(objective):
    run = RunConfig(**SMALL, objective=objective, mask_rate=0.3, evaluation_masks=2)
    level_BN1 = noise(14, 6, 64)[..., :1] // 2
    pixels_BNC = np.repeat(level_BN1, 3, axis=2) + np.array([0, 40, 90], np.uint8)
    images, palette_KC = images_of(pixels_BNC[:4], pixels_BNC[4:]), noise(15, 512)
    found = evaluate.baselines(run, images, palette_KC)
    token_BN = [[nearest_by_hand(pixel_C, palette_KC) for pixel_C in pixels_NC] for pixels_NC in pixels_BNC]
    seen = shown_tokens(run, images.train, token_BN[:4], "training", 1)
    asked = shown_tokens(run, images.validation, token_BN[4:], "evaluation", 1 if objective == "autoregressive" else 2)
    counts = [1 + seen.count(token) for token in range(512)]
    expected = -sum(math.log(counts[token] / sum(counts)) for token in asked) / len(asked)
    assert found.uniform == pytest.approx(math.log(512))
    assert found.channel_marginal == pytest.approx(expected)


def shown_tokens(run, split, token_BN, purpose, repeats):
    """The numbers of all scored pixels."""
    scored = [objectives.sample_scored(run, split.index_B, purpose, repeat)[..., 0] for repeat in range(repeats)]
    return [token_BN[image][place] for one_BN in scored for image, place in one_BN.nonzero().tolist()]


def test_neighbours_tell_the_colour_of_flat_images():
    run = RunConfig(**SMALL, mask_rate=0.2, evaluation_masks=1)
    palette_KC = noise(16, 512)
    flat_BNC = np.repeat(palette_KC[:40, None], 64, axis=1)
    images = images_of(flat_BNC[:30], flat_BNC[30:])
    found = evaluate.baselines(run, images, palette_KC)
    # The nearest colour to the neighbours' mean is the true one wherever a neighbour is seen: rank 0. Of some 400
    # hidden training pixels, that has a count of at least 380 beside 511 of one each.
    assert found.neighbour_mean < math.log((511 + 400) / 380) + 0.1 < found.channel_marginal
