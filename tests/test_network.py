"""The network: what its forward is made of, what masks hide, where gradients go, and what its weights depend on."""

from itertools import product
from math import cos, log, pi, prod, sin, sqrt

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from isonb import rows
from isonb.config import BLOCKS, ENCODINGS, RunConfig
from isonb.features import even_colours
from isonb.models import blocks
from isonb.models import network as networks
from isonb.models.objectives import sample_masks, summed_loss

SMALL = {"width": 8, "image_size": 8}
POSITIONS = ["none", "learned", "sincos"]
MASKING = list(product(["zero", "learned"], ["pixel", "subpixel"]))


def build(**changes):
    return networks.build_network(RunConfig(**{**SMALL, **changes}), even_colours())


def shaken(**changes):
    """A network after some imagined training: no weight is zero, so everything that can flow does."""
    network = build(**changes)
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return network


def random_pixels(images=2, seed=1):
    return torch.randint(0, 256, (images, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def masks_of(network, images=2):
    return sample_masks(network.config, torch.arange(images), "training")


@pytest.mark.parametrize("head_norm", [True, False])
@pytest.mark.parametrize(("mask_fill", "mask_unit"), MASKING)
@pytest.mark.parametrize("positions", POSITIONS)
def test_the_forward_is_encode_mask_position_blocks_head(positions, mask_fill, mask_unit, head_norm):
    network = shaken(depth=2, positions=positions, mask_fill=mask_fill, mask_unit=mask_unit, head_norm=head_norm)
    pixels_BNC, is_masked_BNC = random_pixels(), masks_of(network)
    x_BND = network.encoding(pixels_BNC, is_masked_BNC)
    if mask_fill == "learned":  # a third of the mask token for each masked channel
        x_BND = x_BND + is_masked_BNC.sum(2, keepdim=True) / 3 * network.mask_token_D
    if positions != "none":
        x_BND = x_BND + network.position_ND
    x_BND = network.blocks[1](network.blocks[0](x_BND))
    if head_norm:
        x_BND = F.layer_norm(x_BND, (8,), network.head_norm.weight, network.head_norm.bias, 1e-3)
    logits_BNX = x_BND @ network.head.weight.T + network.head.bias
    expected = [
        logits_BNX[image, position].view(3, 256)  # red's 256 values, then green's, then blue's
        for image in range(2)
        for position in range(64)
        if is_masked_BNC[image, position].any()
    ]
    torch.testing.assert_close(network(pixels_BNC, is_masked_BNC), torch.stack(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("block", BLOCKS)
def test_the_layers_are_the_encoding_and_every_block(block):
    network = shaken(block=block, depth=3, mask_fill="learned")
    pixels_BNC, is_masked_BNC = random_pixels(), masks_of(network)
    layers = network.forward_layers(pixels_BNC, is_masked_BNC)
    assert len(layers) == 4
    assert torch.equal(layers[0], network.embed(pixels_BNC, is_masked_BNC))
    for before, block_, after in zip(layers, network.blocks, layers[1:], strict=False):
        assert torch.equal(block_(before), after)
    logits_MX = network.head(network.head_norm(layers[-1]))[is_masked_BNC.any(2)]
    torch.testing.assert_close(network(pixels_BNC, is_masked_BNC), logits_MX.unflatten(1, (3, 256)))


def test_layers_of_whole_images_see_every_value_and_no_mask_token():
    network, pixels_BNC = shaken(mask_fill="learned"), random_pixels()
    whole = network.forward_layers(pixels_BNC)
    network.mask_token_D.data += 1
    unmasked = network.forward_layers(pixels_BNC, torch.zeros(2, 64, 3, dtype=torch.bool))
    assert all(map(torch.equal, whole, unmasked))
    torch.testing.assert_close(whole[0], network.encoding(pixels_BNC, None))


# What a mask hides


@pytest.mark.parametrize(("mask_fill", "mask_unit"), MASKING)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("block", BLOCKS)
def test_a_value_under_a_mask_reaches_no_prediction(block, encoding, mask_fill, mask_unit):
    mask_unit = "pixel" if rows.ENCODINGS[encoding].reads_palette else mask_unit
    network = shaken(block=block, encoding=encoding, depth=2, mask_fill=mask_fill, mask_unit=mask_unit, mask_rate=0.4)
    pixels_BNC, is_masked_BNC = random_pixels(), masks_of(network)
    if mask_unit == "subpixel":
        partly_BN = is_masked_BNC.any(2) & ~is_masked_BNC.all(2)
        assert partly_BN.any()
    logits_MCV = network(pixels_BNC, is_masked_BNC)
    hidden_changed = torch.where(is_masked_BNC, 255 - pixels_BNC, pixels_BNC)
    assert torch.equal(network(hidden_changed, is_masked_BNC), logits_MCV)
    layers = network.forward_layers(pixels_BNC, is_masked_BNC)
    assert all(map(torch.equal, network.forward_layers(hidden_changed, is_masked_BNC), layers))
    seen_changed = torch.where(is_masked_BNC, pixels_BNC, 255 - pixels_BNC)
    assert not torch.isclose(network(seen_changed, is_masked_BNC), logits_MCV).all(2).any()


@pytest.mark.parametrize(("block", "reach"), [("conv", 2), ("mixer", 7), ("transformer", 7)])
def test_a_visible_neighbour_reaches_as_far_as_the_block_lets_it(block, reach):
    network = shaken(block=block)
    pixels_BNC = random_pixels(images=1)
    is_masked_BNC = torch.ones(1, 64, 3, dtype=torch.bool)
    is_masked_BNC[0, 0] = False  # the only visible pixel is the top left one
    changed_BNC = pixels_BNC.clone()
    changed_BNC[0, 0] = 255 - pixels_BNC[0, 0]
    moved_M = (network(changed_BNC, is_masked_BNC) != network(pixels_BNC, is_masked_BNC)).flatten(1).any(1)
    expected = [max(divmod(position, 8)) <= reach for position in range(1, 64)]
    assert moved_M.tolist() == expected


# Gradients and the start


# Autoregression

CAUSAL = [{"block": "conv"}, {"block": "mixer"}, {"block": "mixer", "token_ratio": 0.3}, {"block": "transformer"}]


PALETTE = [{}, {"encoding": "palette"}, {"target": "palette"}, {"encoding": "palette", "target": "palette"}]


@pytest.mark.parametrize("palette", PALETTE, ids=["values", "palette in", "palette out", "palette in and out"])
@pytest.mark.parametrize("positions", ["none", "learned"])
@pytest.mark.parametrize("settings", CAUSAL)
def test_a_pixel_reaches_the_predictions_after_it_and_no_other(settings, positions, palette):
    network = shaken(depth=3, objective="autoregressive", positions=positions, **settings, **palette).double()
    pixels_BNC = random_pixels(1)
    everything_BNC = torch.ones_like(pixels_BNC, dtype=torch.bool)
    logits_NCV = network(pixels_BNC, everything_BNC)
    assert logits_NCV.shape == (64, *((1, 512) if "target" in palette else (3, 256)))
    for position in (0, 1, 7, 8, 37, 62, 63):
        changed_BNC = pixels_BNC.clone()
        changed_BNC[0, position, 1] += 101  # modulo 256
        moved_N = (network(changed_BNC, everything_BNC) - logits_NCV).abs().amax((1, 2)) > 0
        assert not moved_N[: position + 1].any()
        reaches_all = settings["block"] != "conv" and "token_ratio" not in settings  # else the next one, at least
        assert moved_N[position + 1 : None if reaches_all else position + 2].all()


def test_a_causal_network_sees_a_start_token_and_the_pixels_before():
    network = shaken(objective="autoregressive", positions="learned")
    pixels_BNC = random_pixels()
    content_BND = network.encoding(pixels_BNC, None)
    expected = torch.cat([network.start_D.expand(2, 1, 8), content_BND[:, :63]], dim=1) + network.position_ND
    torch.testing.assert_close(network.embed(pixels_BNC), expected)
    some_BNC = masks_of(network)  # scoring some positions hides nothing from them
    everything_BNC = torch.ones_like(some_BNC)
    torch.testing.assert_close(
        network(pixels_BNC, some_BNC), network(pixels_BNC, everything_BNC)[some_BNC.any(2).flatten()]
    )


@pytest.mark.parametrize("settings", CAUSAL)
def test_every_parameter_of_a_causal_network_learns(settings):
    network = shaken(objective="autoregressive", **settings)
    pixels_BNC = random_pixels(4)
    summed_loss(network.config, network, pixels_BNC, torch.ones_like(pixels_BNC, dtype=torch.bool))[0].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


@pytest.mark.parametrize("block", BLOCKS)
def test_an_untrained_network_knows_nothing(block):
    network = build(block=block, encoding="rff", mask_unit="subpixel").double()
    nats, count = summed_loss(network.config, network, random_pixels(8), masks_of(network, 8))
    assert nats.item() / count == pytest.approx(log(256), rel=1e-12)
    assert not any(parameter.any() for parameter in network.head.parameters())


@pytest.mark.parametrize(
    ("positions", "mask_fill", "mask_unit"),
    [("none", "zero", "pixel"), ("learned", "learned", "pixel"), ("sincos", "learned", "subpixel")],
)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("block", BLOCKS)
def test_every_parameter_learns(block, encoding, positions, mask_fill, mask_unit):
    settings = {"rff_trainable": True} if encoding == "rff" else {"channel_merge": "concat"}
    if rows.ENCODINGS[encoding].reads_palette:
        settings, mask_unit = {"target": "palette"}, "pixel"
    choices = {"positions": positions, "mask_fill": mask_fill, "mask_unit": mask_unit}
    network = build(block=block, encoding=encoding, depth=2, **choices, **settings)
    sgd = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(2):  # the head starts at zero, so the first step moves the head alone
        sgd.zero_grad()
        summed_loss(network.config, network, random_pixels(4), masks_of(network, 4), network.palette)[0].backward()
        sgd.step()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if name.endswith(".key.bias"):  # it adds one number to all scores of a query, which the softmax ignores
            assert parameter.grad.abs().max() < 1e-3 * network.blocks[0].query.weight.grad.abs().max()
        else:
            assert parameter.grad.any(), name


# The initial weights


@pytest.mark.parametrize("initialisation", ["keras", "keras-mha", "torch"])
def test_initial_weights_depend_on_the_configuration_alone(initialisation):
    settings = {"block": "transformer", "encoding": "pix2vec", "initialisation": initialisation}
    state = torch.get_rng_state()
    first = build(**settings)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(17)
    again, other = build(**settings), build(seed=1, **settings)
    for name, tensor in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
        if tensor.any() and not name.endswith(("norm1.weight", "norm2.weight", "head_norm.weight")):
            assert not torch.equal(other.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("block", "weight", "fans"),
    [
        ("conv", "blocks.0.conv1.weight", 9 * 16 + 9 * 16),
        ("mixer", "blocks.0.token2.weight", 64 + 64),
        ("mixer", "blocks.0.channel1.weight", 16 + 64),
        ("transformer", "blocks.1.key.weight", 16 + 16),
    ],
)
def test_blocks_start_glorot_uniform_with_zero_biases(block, weight, fans):
    settings = {"channel_ratio": 4} if block == "mixer" else {}
    network = build(block=block, depth=2, width=16, **settings)
    bound = sqrt(6 / fans)
    assert 0.97 * bound < network.state_dict()[weight].abs().max() <= bound
    norms = {"norm1", "norm2", "head_norm"}
    for name, tensor in network.state_dict().items():
        if name.endswith("bias"):
            assert not tensor.any(), name
        elif set(name.split(".")) & norms:
            assert (tensor == 1).all(), name


def limits_of_keras(shape):
    """sqrt(6 / (fan in + fan out)) as Keras before 3.15 counts: all axes but a kernel's last two are a window."""
    *window, into, out = shape
    return sqrt(6 / (prod(window) * into + prod(window) * out))


@pytest.mark.parametrize(("heads", "inputs", "output"), [(1, 0.0191, 0.1531), (4, 0.0361, 0.0968)])  # Keras 3.14
def test_attention_starts_as_keras_own_layer(heads, inputs, output):
    settings = {"block": "transformer", "width": 128, "heads": heads, "depth": 2}
    usual, keras = (build(**settings, initialisation=name).state_dict() for name in ("keras", "keras-mha"))
    assert usual.keys() == keras.keys()
    e = 128 // heads  # the shapes of the kernels of keras.layers.MultiHeadAttention(heads, e) for 128 channels
    shapes = {"query": (128, heads, e), "key": (128, heads, e), "value": (128, heads, e), "output": (heads, e, 128)}
    for name in usual:
        _, _, part, kind = name.split(".") if name.startswith("blocks") else (0, 0, "", "")
        if part in shapes and kind == "weight":
            limit = limits_of_keras(shapes[part])
            assert limit == pytest.approx(output if part == "output" else inputs, abs=1e-4)
            assert 0.99 * limit < keras[name].abs().max() <= limit * (1 + 1e-6)
            ratio = limit / sqrt(6 / 256)  # the same draws in other limits
            torch.testing.assert_close(keras[name], usual[name] * ratio)
        else:
            assert torch.equal(keras[name], usual[name]), name


def test_attention_without_a_projection_has_none_to_scale():
    settings = {"block": "transformer", "width": 16, "attention_output": False}
    usual, keras = (build(**settings, initialisation=name).state_dict() for name in ("keras", "keras-mha"))
    changed = [name for name in usual if not torch.equal(usual[name], keras[name])]
    assert changed == [f"blocks.0.{part}.weight" for part in ("query", "key", "value")]


def test_torchs_own_initialisation_is_that_of_its_layers():
    network = build(block="transformer", encoding="pix2vec", width=16, initialisation="torch")
    weight, bias = network.blocks[0].query.weight, network.blocks[0].query.bias
    assert 0.97 / 4 < weight.abs().max() <= 1 / 4  # U(-1/sqrt(16), 1/sqrt(16)) for both
    assert bias.any() and bias.abs().max() <= 1 / 4
    assert not network.head.weight.any()
    for table in (network.encoding.embedding_CVF, network.position_ND):  # N(0, 1), as nn.Embedding
        assert abs(table.mean()) < 0.1 and 0.9 < table.std() < 1.1
        assert 0.6 < (table.abs() < 1).float().mean() < 0.76  # 68 % of a normal distribution, 58 % of a uniform one


def test_learned_positions_start_small_and_fixed_ones_are_not_saved():
    learned = build(block="transformer")
    assert 0.049 < learned.position_ND.abs().max() <= 0.05
    assert "position_ND" in dict(learned.named_parameters())
    fixed = build(positions="sincos")
    assert "position_ND" not in fixed.state_dict() and fixed.position_ND.shape == (64, 8)
    assert build().position_ND is None


def test_sincos_positions_by_hand():
    position_ND = networks.sincos_positions(3, 8)
    assert position_ND.shape == (9, 8)
    for row, column in product(range(3), repeat=2):  # width 8: two frequencies, 1 and 1/100
        expected = [wave(place * f) for place in (row, column) for wave in (sin, cos) for f in (1, 0.01)]
        assert position_ND[3 * row + column].tolist() == pytest.approx(expected, abs=1e-6)


def test_sincos_positions_of_a_network_have_its_base():
    fixed_ND = build(positions="sincos", positions_base=81.0).position_ND  # width 8: frequencies 1 and 1/9
    assert build(positions="sincos").position_ND.tolist() == networks.sincos_positions(8, 8).tolist()
    expected = [wave(place * f) for place in (3, 5) for wave in (sin, cos) for f in (1, 1 / 9)]
    assert fixed_ND[8 * 3 + 5].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("base", "slow", "slowest"), [(10_000.0, 24, 0.004), (100.0, 16, 0.36)])
def test_how_far_the_frequencies_turn_over_32_rows(base, slow, slowest):
    sine_NF = networks.sincos_positions(32, 128, base)[::32, :32]  # of the row, without the column's half
    frequency_F = torch.asin(sine_NF[1])  # all are at most 1 radian a row
    assert int((31 * frequency_F < pi).sum()) == slow
    assert 31 * frequency_F.min().item() == pytest.approx(slowest, rel=0.05)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("block", BLOCKS)
def test_a_saved_state_makes_the_same_network(block, encoding):
    network = shaken(block=block, encoding=encoding, mask_fill="learned")
    other = build(block=block, encoding=encoding, mask_fill="learned", seed=5)
    other.load_state_dict(network.state_dict(), strict=True)
    pixels_BNC, is_masked_BNC = random_pixels(), masks_of(network)
    assert torch.equal(other(pixels_BNC, is_masked_BNC), network(pixels_BNC, is_masked_BNC))


# Counts


@pytest.mark.parametrize(
    ("settings", "numbers"),
    [
        # per channel a map of 1, 2k or 256 features, then depth blocks of conv, positions, and the head with its norm
        ({}, 3 * (128 + 128) + 295_680),
        ({"encoding": "rff"}, 3 * (256 * 128 + 128) + 295_680),
        ({"encoding": "rff", "frequencies": 7, "rff_trainable": True}, 7 + 3 * (14 * 128 + 128) + 295_680),
        ({"encoding": "pix2vec", "depth": 3}, 3 * 256 * 128 + 3 * 295_680),
        ({"positions": "learned", "mask_fill": "learned"}, 3 * (128 + 128) + 295_680 + 1024 * 128 + 128),
        ({"positions": "sincos"}, 3 * (128 + 128) + 295_680),
    ],
)
def test_parameters_of_a_whole_network(settings, numbers):
    with torch.device("meta"):
        network = networks.IsotropicNetwork(RunConfig(**settings))
    assert networks.parameters(network) == numbers + 2 * 128 + (128 * 768 + 768)


def test_a_twin_that_regresses_differs_in_its_head_alone():
    config = RunConfig(depth=2, **SMALL)
    bert, mse = (networks.build_network(config.model_copy(update={"objective": name})) for name in ("bert", "mse"))
    assert mse.head.weight.shape == (3, 8) and not mse.head.weight.any() and not mse.head.bias.any()
    ours, theirs = bert.state_dict(), mse.state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == ["head.weight", "head.bias"]
    positions = round(0.15 * 64)
    saved = networks.multiply_accumulates(bert.config) - networks.multiply_accumulates(mse.config)
    assert saved == positions * 8 * (3 * 256 - 3)


@pytest.mark.parametrize("unit", ["pixel", "subpixel"])
@pytest.mark.parametrize("block", BLOCKS)
def test_multiply_accumulates_are_those_of_the_real_forward(block, unit):
    config = RunConfig(block=block, encoding="pix2vec", depth=2, mask_unit=unit, mask_rate=0.25, **SMALL)
    expected_positions = round(64 * (0.25 if unit == "pixel" else 1 - 0.75**3))
    assert networks.multiply_accumulates(config) == (
        2 * blocks.multiply_accumulates(config) + expected_positions * 8 * 3 * 256
    )
    network = networks.build_network(config)
    is_masked_BNC = torch.zeros(1, 64, 3, dtype=torch.bool)
    is_masked_BNC[:, :expected_positions, 1] = True
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network(random_pixels(1), is_masked_BNC)
    assert counter.get_total_flops() == 2 * networks.multiply_accumulates(config)
