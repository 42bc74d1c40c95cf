"""The kernels behind the blocks: attention's own gradients against the naive form, and where they are used."""

from math import sqrt

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from isonb.config import RunConfig
from isonb.models import blocks, kernels

SMALL = {"width": 8, "image_size": 8}


def naive_attention(q, k, v):
    return torch.softmax(q @ k.mT / sqrt(q.shape[3]), dim=3) @ v


def random_heads(heads, number=3, width=8):
    """Queries, keys, values ... of 2 images with 64 positions, laid out as a block lays them out; float64."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(number)]
    tokens = [torch.randn(2, 64, width, generator=generator, dtype=torch.float64) for generator in generators]
    return [x_BND.unflatten(2, (heads, -1)).transpose(1, 2) for x_BND in tokens]


@pytest.mark.parametrize("keys", [1024, 64, 24])  # at once, of 64: one part, one, and three of unequal size
@pytest.mark.parametrize("heads", [1, 4])
def test_own_gradients_of_attention_are_those_of_the_naive_form(monkeypatch, heads, keys):
    monkeypatch.setattr(kernels.Attention, "KEYS", keys)
    *inputs, gradient = random_heads(heads, 4)
    inputs = [3 * x.requires_grad_() for x in inputs]  # far from even weights
    expected_y, y = naive_attention(*inputs), kernels.Attention.apply(*inputs)
    torch.testing.assert_close(y, expected_y, rtol=1e-12, atol=1e-12)
    expected = torch.autograd.grad(expected_y, inputs, gradient)
    torch.testing.assert_close(torch.autograd.grad(y, inputs, gradient), expected, rtol=1e-11, atol=1e-11)


def test_own_gradients_of_attention_agree_with_differences():
    inputs = [x.requires_grad_() for x in random_heads(2)]
    assert torch.autograd.gradcheck(kernels.Attention.apply, inputs, fast_mode=True)


def test_own_gradients_of_attention_hold_no_square_of_positions(monkeypatch):
    monkeypatch.setattr(kernels.Attention, "KEYS", 4)
    sizes = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), named=None):
            result = function(*arguments, **(named or {}))
            sizes.extend(part.numel() for part in tree_leaves(result) if isinstance(part, torch.Tensor))
            return result

    inputs = [x[:1].requires_grad_() for x in random_heads(1)]
    y = kernels.Attention.apply(*inputs)
    with Watch():
        torch.autograd.grad(y.sum(), inputs)
    assert 64 * 8 <= max(sizes) < 64 * 64


@pytest.mark.parametrize("common", [0, 300])  # added to every score of a row: it changes no weight
def test_own_gradients_of_attention_in_bfloat16(common):
    q, k, v, gradient = (x.bfloat16() for x in random_heads(1, 4, width=32))
    q[..., 0], k[..., 0] = 16.0, common * sqrt(32) / 16
    inputs = [x.requires_grad_() for x in (q, k, v)]
    exact = [x.detach().double().requires_grad_() for x in inputs]
    expected = torch.autograd.grad(naive_attention(*exact), exact, gradient.double())
    for mine, x in zip(torch.autograd.grad(kernels.Attention.apply(*inputs), inputs, gradient), expected, strict=True):
        assert (mine[..., 1:] - x[..., 1:]).norm() < 0.015 * x[..., 1:].norm()


@pytest.mark.parametrize(
    ("dtype", "threads", "device", "has_amx", "is_own"),
    [
        (torch.bfloat16, 1, "cpu", True, True),
        (torch.bfloat16, 1, "cpu", False, False),
        (torch.bfloat16, 2, "cpu", True, False),
        (torch.float32, 1, "cpu", True, False),
        (torch.float64, 1, "cpu", True, False),
        (torch.bfloat16, 1, "meta", True, False),
    ],
)
def test_where_attention_has_gradients_of_its_own(monkeypatch, dtype, threads, device, has_amx, is_own):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx)
    block = blocks.build_block(RunConfig(block="transformer", **SMALL)).to(device, dtype)
    with sdpa_kernel(SDPBackend.MATH):
        y_BND = block.attention(torch.empty(2, 64, 8, device=device, dtype=dtype))
    ours, nodes = False, [y_BND.grad_fn]
    while nodes:
        node = nodes.pop()
        ours |= node.name() == "AttentionBackward"
        nodes += [following for following, _ in node.next_functions if following]
    assert ours == is_own
