"""The three blocks against loops written from the paper's equations, their exact cost, and the bias each one has."""

import copy
from math import erf, exp, sqrt

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from isonb import rows, studies
from isonb.config import RunConfig
from isonb.models import blocks
from isonb.models.network import parameters

SMALL = {"width": 8, "image_size": 8}
PAPERS = ("conv", "mixer", "transformer")
CAUSAL = [name for name, row in rows.BLOCKS.items() if row.has_causal_form]


def random_block(seed=0, **changes):
    """A float64 block whose every parameter is random: no bias is zero and no LayerNorm scale is one."""
    config = RunConfig(**{**SMALL, **changes})
    block = blocks.build_block(config).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in block.parameters():
        parameter.data = 0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return block.eval().requires_grad_(False)


def random_tokens(images=2, seed=1, size=8, width=8):
    return torch.randn(images, size**2, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# The equations, in loops


def gelu(x):
    return np.vectorize(lambda z: z * 0.5 * (1 + erf(z / sqrt(2))))(x)


def layer_norm(x_ND, norm, eps=1e-3):
    y_ND = np.empty_like(x_ND)
    for n, token_D in enumerate(x_ND):
        mean = sum(token_D) / len(token_D)
        variance = sum((value - mean) ** 2 for value in token_D) / len(token_D)
        for d, value in enumerate(token_D):
            y_ND[n, d] = (value - mean) / sqrt(variance + eps) * norm.weight[d].item() + norm.bias[d].item()
    return y_ND


def source(place, size, padding):
    """Where a padded coordinate reads from, or None for a zero."""
    if 0 <= place < size:
        return place
    if padding == "zeros":
        return None
    if padding == "circular":
        return place % size
    return -place if place < 0 else 2 * (size - 1) - place


def convolution(x_ND, conv, size, padding):
    weight_OIHW, kernel = conv.weight.numpy(), conv.weight.shape[2]
    y_ND = np.tile(conv.bias.numpy(), (size * size, 1))
    for row in range(size):
        for column in range(size):
            for i in range(kernel):
                for j in range(kernel):
                    from_row = source(row + i - kernel // 2, size, padding)
                    from_column = source(column + j - kernel // 2, size, padding)
                    if from_row is not None and from_column is not None:
                        y_ND[row * size + column] += weight_OIHW[:, :, i, j] @ x_ND[from_row * size + from_column]
    return y_ND


def affine(x_ND, linear):
    return np.array([linear.weight.numpy() @ token_D + linear.bias.numpy() for token_D in x_ND])


def equation_1(x_ND, block, padding="zeros"):
    u_ND = x_ND + gelu(convolution(layer_norm(x_ND, block.norm1), block.conv1, 8, padding))
    return u_ND + gelu(convolution(layer_norm(u_ND, block.norm2), block.conv2, 8, padding))


def equation_2(x_ND, block):
    # U = X + W2 GELU(W1 LN(X)) channel by channel, Y = (U^T + W4 GELU(W3 LN(U)^T))^T token by token
    normal_ND, u_ND = layer_norm(x_ND, block.norm1), x_ND.copy()
    for d in range(x_ND.shape[1]):
        hidden = gelu(block.token1.weight.numpy() @ normal_ND[:, d] + block.token1.bias.numpy())
        u_ND[:, d] += block.token2.weight.numpy() @ hidden + block.token2.bias.numpy()
    return u_ND + affine(gelu(affine(layer_norm(u_ND, block.norm2), block.channel1)), block.channel2)


def equation_3(x_ND, block, heads, has_output, is_causal=False):
    normal_ND = layer_norm(x_ND, block.norm1)
    q_ND, k_ND, v_ND = (affine(normal_ND, linear) for linear in (block.query, block.key, block.value))
    mixed_ND, per_head = np.zeros_like(x_ND), x_ND.shape[1] // heads
    for head in range(heads):
        part = slice(head * per_head, (head + 1) * per_head)
        for n in range(len(x_ND)):
            seen = n + 1 if is_causal else len(x_ND)
            score_N = [exp(sum(q_ND[n, part] * k_ND[m, part]) / sqrt(per_head)) for m in range(seen)]
            for m, score in enumerate(score_N):
                mixed_ND[n, part] += score / sum(score_N) * v_ND[m, part]
    u_ND = x_ND + (affine(mixed_ND, block.output) if has_output else mixed_ND)
    return u_ND + affine(gelu(affine(layer_norm(u_ND, block.norm2), block.hidden)), block.project)


def assert_same(block, equation, *arguments):
    x_BND = random_tokens()
    expected = np.stack([equation(x_ND.numpy(), block, *arguments) for x_ND in x_BND])
    np.testing.assert_allclose(block(x_BND).numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("padding", ["zeros", "reflect", "circular"])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_conv_is_equation_1(kernel_size, padding):
    block = random_block(block="conv", kernel_size=kernel_size, padding=padding)
    assert block.conv1.weight.shape == (8, 8, kernel_size, kernel_size)
    assert_same(block, equation_1, padding)


@pytest.mark.parametrize(
    ("token_ratio", "token_hidden", "channel_ratio", "channel_hidden"),
    [(1.0, 64, 1.0, 8), (0.5, 32, 4.0, 32), (2.0, 128, 0.05, 1)],  # 0.05 x 8 rounds to 0, and one unit is the least
)
def test_mixer_is_equation_2(token_ratio, token_hidden, channel_ratio, channel_hidden):
    block = random_block(block="mixer", token_ratio=token_ratio, channel_ratio=channel_ratio)
    assert (block.token1.out_features, block.channel1.out_features) == (token_hidden, channel_hidden)
    assert_same(block, equation_2)


def test_the_gradients_of_a_mixer_block():
    block = random_block(block="mixer", token_ratio=0.1).requires_grad_(True)
    x_BND = random_tokens().requires_grad_()
    weights = dict(block.named_parameters())

    def computed(x_BND, *values):
        return torch.func.functional_call(block, dict(zip(weights, values, strict=True)), x_BND)

    assert torch.autograd.gradcheck(computed, (x_BND, *weights.values()), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mixer_block_learns_under_autocast(dtype):
    block, x_BND = random_block(block="mixer").float().requires_grad_(True), random_tokens().to(dtype)
    block(x_BND.float()).square().mean().backward()
    exact = block.token1.weight.grad.clone()
    block.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y_BND = block(x_BND)
    y_BND.float().square().mean().backward()
    assert (block.token1.weight.grad - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize(
    ("heads", "output", "ratio"), [(1, True, 1.0), (4, True, 4.0), (4, False, 0.5), (8, True, 1.0)]
)
def test_transformer_is_equation_3(heads, output, ratio):
    block = random_block(block="transformer", heads=heads, attention_output=output, mlp_ratio=ratio)
    assert block.hidden.out_features == 8 * ratio
    assert_same(block, equation_3, heads, output)


# The causal forms: a block, and a copy of its equation in which every weight that looks ahead is zero


def looking_back(block):
    """The same block with zeros for what would carry a later position to an earlier one."""
    past = copy.deepcopy(block)
    for conv in (m for m in past.children() if isinstance(m, torch.nn.Conv2d)):
        centre = conv.weight.shape[2] // 2
        for i, j in np.ndindex(conv.weight.shape[2:]):
            if i > centre or (i == centre and j > centre):
                conv.weight[:, :, i, j] = 0
    for name in ("token1", "token2"):
        if hasattr(past, name):
            weight_OI = getattr(past, name).weight
            rows, columns = weight_OI.shape
            for row, column in np.ndindex(rows, columns):
                if row / rows < column / columns:  # where in the image, from 0 to 1
                    weight_OI[row, column] = 0
    return past


@pytest.mark.parametrize(
    ("settings", "equation", "arguments"),
    [
        ({"block": "conv"}, equation_1, ()),
        ({"block": "conv", "kernel_size": 5}, equation_1, ()),
        ({"block": "mixer"}, equation_2, ()),
        ({"block": "mixer", "token_ratio": 0.5}, equation_2, ()),
        ({"block": "mixer", "token_ratio": 2.0}, equation_2, ()),
        ({"block": "transformer"}, equation_3, (1, True, True)),
        ({"block": "transformer", "heads": 4}, equation_3, (4, True, True)),
    ],
)
def test_a_causal_block_is_its_equation_without_what_looks_ahead(settings, equation, arguments):
    block, x_BND = random_block(objective="autoregressive", **settings), random_tokens()
    past = looking_back(block)
    expected = np.stack([equation(x_ND.numpy(), past, *arguments) for x_ND in x_BND])
    np.testing.assert_allclose(block(x_BND).numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CAUSAL)
def test_a_causal_block_has_the_parameters_of_any_other(name):
    both = [random_block(block=name, objective=objective) for objective in ("bert", "autoregressive")]
    assert [p.shape for p in both[0].parameters()] == [p.shape for p in both[1].parameters()]


@pytest.mark.parametrize("heads", [1, 4])
def test_a_transformer_block_learns_under_autocast(monkeypatch, heads):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    block, x_BND = random_block(block="transformer", heads=heads).float().requires_grad_(True), random_tokens().float()
    block(x_BND).square().mean().backward()
    exact = {name: parameter.grad.clone() for name, parameter in block.named_parameters()}
    block.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y_BND = block(x_BND.bfloat16())
    y_BND.float().square().mean().backward()
    for name in ("query.weight", "key.weight", "value.weight"):
        assert (block.get_parameter(name).grad - exact[name]).norm() < 0.03 * exact[name].norm()


def test_the_configured_eps_reaches_every_layer_norm():
    for name in rows.BLOCKS:
        block = blocks.build_block(RunConfig(block=name, layer_norm_eps=0.07, **SMALL))
        norms = [module.eps for module in block.modules() if isinstance(module, torch.nn.LayerNorm | torch.nn.RMSNorm)]
        assert norms and set(norms) == {0.07}


@pytest.mark.parametrize("name", CAUSAL)
def test_a_causal_block_never_shows_a_position_what_comes_after_it(name):
    block, x_BND = random_block(block=name, objective="autoregressive"), random_tokens()
    for position in (0, 1, 7, 8, 30, 63):
        moved_BND = x_BND.clone()
        moved_BND[:, position] += 1.0
        change_N = (block(moved_BND) - block(x_BND)).abs().amax((0, 2))
        assert change_N[:position].max() == 0 if position else True
        assert change_N[position:].max() > 1e-3


# What a block costs

N, D = 1024, 128
COSTS = [  # settings, multiply-accumulates of one image, parameters: from the equations, term by term
    ({"block": "conv"}, 2 * (N * 9 * D * D), 2 * (9 * D * D + D) + 2 * 2 * D),
    ({"block": "mixer"}, 2 * (N * N * D) + 2 * (N * D * D), 2 * (N * N + N) + 2 * (D * D + D) + 2 * 2 * D),
    ({"block": "transformer"}, 4 * (N * D * D) + 2 * (N * N * D) + 2 * (N * D * D), 6 * (D * D + D) + 2 * 2 * D),
    (
        {"block": "transformer", "heads": 4},
        4 * (N * D * D) + 2 * (4 * N * N * D // 4) + 2 * (N * D * D),
        6 * (D * D + D) + 2 * 2 * D,
    ),
    ({"block": "conv", "kernel_size": 5}, 2 * (N * 25 * D * D), 2 * (25 * D * D + D) + 2 * 2 * D),
    (
        {"block": "mixer", "token_ratio": 0.5, "channel_ratio": 4},
        2 * (N * N // 2 * D) + 2 * (N * D * 4 * D),
        (N * N // 2 + N // 2) + (N // 2 * N + N) + (D * 4 * D + 4 * D) + (4 * D * D + D) + 2 * 2 * D,
    ),
    (
        {"block": "transformer", "mlp_ratio": 4, "attention_output": False},
        3 * (N * D * D) + 2 * (N * N * D) + 2 * (N * D * 4 * D),
        3 * (D * D + D) + (D * 4 * D + 4 * D) + (4 * D * D + D) + 2 * 2 * D,
    ),
]


@pytest.mark.parametrize(("settings", "products", "numbers"), COSTS)
def test_the_exact_cost_of_a_block(settings, products, numbers):
    config = RunConfig(**settings)
    assert (config.image_size**2, config.width) == (N, D)
    with torch.device("meta"):
        block, x_BND = blocks.build_block(config), torch.empty(2, N, D)
    assert blocks.multiply_accumulates(config) == products
    assert parameters(block) == numbers
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        block(x_BND)
    assert counter.get_total_flops() == 2 * 2 * products  # two images, two operations each


def test_the_costs_the_study_states():
    stated = [(cost, numbers) for _, cost, numbers in COSTS[:3]]
    assert stated == [(301_989_888, 295_680), (301_989_888, 2_132_736), (369_098_752, 99_584)]


def test_the_widths_at_which_blocks_have_equal_parameters():
    conv, transformer = (2 * (9 * D * D + D) + 4 * D, 6 * (D * D + D) + 4 * D)
    widths = {"conv": studies.WIDTH_AS_TRANSFORMER, "transformer": studies.WIDTH_AS_CONV}
    with torch.device("meta"):
        numbers = {b: parameters(blocks.build_block(RunConfig(block=b, width=width))) for b, width in widths.items()}
    assert 0.95 * transformer < numbers["conv"] <= transformer
    assert conv <= numbers["transformer"] < 1.05 * conv


@pytest.mark.parametrize("name", rows.BLOCKS)
def test_a_blocks_count_is_what_it_performs(name):
    config, block = RunConfig(block=name, **SMALL), random_block(block=name).float()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        block(random_tokens().float())
    assert counter.get_total_flops() == 2 * 2 * blocks.multiply_accumulates(config)  # two images, two operations each


@pytest.mark.parametrize("name", PAPERS)
def test_every_block_of_the_paper_has_the_same_activations(name):
    block, x_BND = random_block(block=name), random_tokens()
    seen = []
    hooks = [module.register_forward_hook(lambda m, i, y: seen.append(y.numel())) for module in block.children()]
    assert block(x_BND).shape == x_BND.shape
    assert hooks and set(seen) == {x_BND.numel()}


# The bias each block has


def change_under(block, move, x_BND=None):
    """How far block(move(x)) is from move(block(x))."""
    x_BND = random_tokens() if x_BND is None else x_BND
    return (block(move(x_BND)) - move(block(x_BND))).abs().max().item()


def permute(x_BND):
    return x_BND[:, torch.randperm(64, generator=torch.Generator().manual_seed(3))]


def translate(x_BND):
    return x_BND.unflatten(1, (8, 8)).roll((2, 3), (1, 2)).flatten(1, 2)


@pytest.mark.parametrize("heads", [1, 4])
def test_a_transformer_block_knows_no_positions(heads):
    block = random_block(block="transformer", heads=heads)
    assert change_under(block, permute) < 1e-12
    assert change_under(block, translate) < 1e-12


def test_a_mixer_block_tells_every_position_apart():
    block = random_block(block="mixer")
    assert change_under(block, permute) > 0.1
    assert change_under(block, translate) > 0.1


def test_a_conv_block_follows_translation_and_nothing_else():
    circular = random_block(block="conv", padding="circular")
    assert change_under(circular, translate) < 1e-12
    assert change_under(circular, permute) > 0.1
    assert change_under(random_block(block="conv"), translate) > 0.1  # zeros at the border mark it


@pytest.mark.parametrize(("name", "kernel_size", "reach"), [("conv", 3, 2), ("conv", 5, 4), ("mixer", 3, 7)])
def test_how_far_one_pixel_reaches(name, kernel_size, reach):
    block, x_BND = random_block(block=name, kernel_size=kernel_size), random_tokens()
    changed_BND = x_BND.clone()
    changed_BND[:, 0] += torch.randn(8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    moved_HW = (block(changed_BND) - block(x_BND)).abs().amax((0, 2)).unflatten(0, (8, 8)) > 0
    row, column = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    assert torch.equal(moved_HW, torch.maximum(row, column) <= reach)
