"""The three isotropic blocks, each x_BND -> x_BND with the same width, positions and number of non-linearities.

Each forward is the paper's equation in the paper's letters. The paper calls its tokens column-stacked; its equations
mix what its text says they mix if each token is a row, as here. For the autoregressive objective each block has a
causal form, in which no position sees one after it in raster order: attention looks back, and the other two multiply
with a part of their weights.

Paper: section 3.1, equations 1 to 3. Book: chapter "Blocks".
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from isonb.config import RunConfig

Tokens = Float[Tensor, "B N D"]
Heads = Float[Tensor, "B H N E"]


class ConvBlock(nn.Module):
    """Two residual convolutions over the image grid: the locality and translation bias. Paper: eq. (1)."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self.size = config.image_size
        self.norm1 = nn.LayerNorm(config.width, config.layer_norm_eps)
        self.conv1 = _same_convolution(config)
        self.norm2 = nn.LayerNorm(config.width, config.layer_norm_eps)
        self.conv2 = _same_convolution(config)

    def forward(self, x: Tokens) -> Tokens:
        u = x + F.gelu(self._on_grid(self.conv1, self.norm1(x)))
        return u + F.gelu(self._on_grid(self.conv2, self.norm2(u)))

    def _on_grid(self, conv: nn.Conv2d, x: Tokens) -> Tokens:
        """Tokens in raster order are a channels-last image already: both views move no memory."""
        grid_BDHW = x.unflatten(1, (self.size, self.size)).permute(0, 3, 1, 2)
        return conv(grid_BDHW).permute(0, 2, 3, 1).flatten(1, 2)


class MixerBlock(nn.Module):
    """An MLP over positions, then one over channels: the positional bias. Paper: eq. (2)."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        positions = config.image_size**2
        self.is_causal = config.is_causal
        token_hidden = max(1, round(config.token_ratio * positions))
        channel_hidden = max(1, round(config.channel_ratio * config.width))
        self.norm1 = nn.LayerNorm(config.width, config.layer_norm_eps)
        self.token1 = nn.Linear(positions, token_hidden)
        self.token2 = nn.Linear(token_hidden, positions)
        self.norm2 = nn.LayerNorm(config.width, config.layer_norm_eps)
        self.channel1 = nn.Linear(config.width, channel_hidden)
        self.channel2 = nn.Linear(channel_hidden, config.width)

    def forward(self, x: Tokens) -> Tokens:
        u = x + self._over_positions(self.norm1(x))
        return u + self.channel2(F.gelu(self.channel1(self.norm2(u))))

    def _over_positions(self, x: Tokens) -> Tokens:
        """`W2 GELU(W1 x)` with W acting on the rows of each x: one matrix product for the whole batch."""
        batch, _, width = x.shape
        columns = x.transpose(0, 1).reshape(-1, batch * width)
        hidden = F.gelu(_apply_from_left(self.token1, columns, self.is_causal))
        mixed = _apply_from_left(self.token2, hidden, self.is_causal)
        return mixed.unflatten(1, (batch, width)).transpose(0, 1)


class TransformerBlock(nn.Module):
    """Self-attention, then an MLP over channels: no bias for position at all. Paper: eq. (3)."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        hidden = max(1, round(config.mlp_ratio * config.width))
        self.heads, self.is_causal = config.heads, config.is_causal
        self.norm1 = nn.LayerNorm(config.width, config.layer_norm_eps)
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.output = nn.Linear(config.width, config.width) if config.attention_output else nn.Identity()
        self.norm2 = nn.LayerNorm(config.width, config.layer_norm_eps)
        self.hidden = nn.Linear(config.width, hidden)
        self.project = nn.Linear(hidden, config.width)

    def forward(self, x: Tokens) -> Tokens:
        u = x + self.attention(self.norm1(x))
        return u + self.project(F.gelu(self.hidden(self.norm2(u))))

    def attention(self, x: Tokens) -> Tokens:
        """softmax(Q K^T / sqrt(d_head)) V by head, in memory linear in N; causal: over the keys up to the query's."""
        q, k, v = (
            linear(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for linear in (self.query, self.key, self.value)
        )
        if self.is_causal:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            y = (_Attention.apply if _has_faster_gradients(q) else F.scaled_dot_product_attention)(q, k, v)
        return self.output(y.transpose(1, 2).flatten(2))


def _apply_from_left(linear: nn.Linear, x: Float[Tensor, "I K"], is_causal: bool = False) -> Float[Tensor, "O K"]:
    """W x + b, each column of x a sample; causal: W without what would carry a later row to an earlier one."""
    weight_OI = linear.weight * earlier(*linear.weight.shape, linear.weight) if is_causal else linear.weight
    return _LeftProduct.apply(weight_OI.to(x.dtype), x, linear.bias.to(x.dtype))


def earlier(rows: int, columns: int, like: Tensor) -> Float[Tensor, "R C"]:
    """1 where a row's position is that of the column or a later one, else 0: lower triangular for a square.

    Where there are more or fewer rows than columns, the positions are spread over them evenly.
    """
    row_R, column_C = torch.arange(rows, device=like.device), torch.arange(columns, device=like.device)
    return (row_R[:, None] * columns >= column_C * rows).to(like)


class _LeftProduct(torch.autograd.Function):
    """`addmm`, with W^T copied for the gradient: oneDNN takes twice as long for a transposed view on the left."""

    @staticmethod
    def forward(
        ctx, weight_OI: Float[Tensor, "O I"], x_IK: Float[Tensor, "I K"], bias_O: Float[Tensor, "O"]
    ) -> Float[Tensor, "O K"]:
        y_OK = torch.addmm(bias_O[:, None], weight_OI, x_IK)
        ctx.save_for_backward(weight_OI.to(y_OK.dtype), x_IK.to(y_OK.dtype))  # as autocast has multiplied them
        return y_OK

    @staticmethod
    def backward(ctx, gradient_OK: Float[Tensor, "O K"]) -> tuple[Tensor, Tensor, Tensor]:
        weight_OI, x_IK = ctx.saved_tensors
        return gradient_OK @ x_IK.T, weight_OI.T.contiguous() @ gradient_OK, gradient_OK.sum(1)


def _has_faster_gradients(q: Tensor) -> bool:
    """Whether `_Attention` pays: more threads than one would wait for each other after every product."""
    is_matrix_unit = q.device.type == "cpu" and q.dtype == torch.bfloat16
    return is_matrix_unit and torch.get_num_threads() == 1 and not torch.compiler.is_compiling()


class _Attention(torch.autograd.Function):
    """torch's attention, with gradients out of large products, one image and head at a time.

    As in FlashAttention (Dao et al., 2022) the weights P are not kept but computed anew, here for at most `KEYS` keys
    at once, from the log-sum-exp z of each query's scores. With s the row sums of dY * Y, * element by element:
    P = exp(Q K^T / sqrt(E) - z), dV = P^T dY, dA = P * (dY V^T - s) / sqrt(E), dQ = dA K, dK = dA^T Q.
    z and s enter as columns of their products, so that the difference is rounded to bfloat16, and not its terms.
    """

    KEYS = 1024

    @staticmethod
    def forward(ctx, q_BHNE: Heads, k_BHNE: Heads, v_BHNE: Heads) -> Heads:
        y_BHNE, z_BHN = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q_BHNE, k_BHNE, v_BHNE)
        ctx.save_for_backward(q_BHNE, k_BHNE, v_BHNE, y_BHNE, z_BHN)
        return y_BHNE

    @staticmethod
    def backward(ctx, dy_BHNE: Heads) -> tuple[Heads, Heads, Heads]:
        q, k, v, y, z_BHN = ctx.saved_tensors
        scale, n, keys = q.shape[3] ** -0.5, q.shape[2], _Attention.KEYS
        s_BHN = (dy_BHNE * y).sum(3, dtype=z_BHN.dtype)
        wide = (
            _minus(q, z_BHN / scale),
            F.pad(k, (0, 2), value=1.0),
            _minus(dy_BHNE, s_BHN),
            F.pad(v, (0, 2), value=1.0),
        )
        gradients = [torch.zeros_like(x, memory_format=torch.contiguous_format) for x in (q.mT, k, v)]
        p_KN, da_KN = q.new_empty(2, min(keys, n), n)
        for each in zip(*(x.flatten(0, 1) for x in (q, k.mT.contiguous(), dy_BHNE, *wide, *gradients)), strict=True):
            q_NE, k_EN, dy_NE, wide_q, wide_k, wide_dy, wide_v, dq_EN, dk_NE, dv_NE = each
            for part in (slice(first, first + keys) for first in range(0, n, keys)):
                p = p_KN[: n - part.start].addmm_(wide_k[part], wide_q.T, beta=0, alpha=scale).exp_()
                torch.mm(p, dy_NE, out=dv_NE[part])
                da = da_KN[: n - part.start].addmm_(wide_v[part], wide_dy.T, beta=0, alpha=scale).mul_(p)
                torch.mm(da, q_NE, out=dk_NE[part])
                dq_EN.addmm_(k_EN[:, part], da)
        return gradients[0].mT, gradients[1], gradients[2]


def _minus(x_BHNE: Heads, number_BHN: Float[Tensor, "B H N"]) -> Float[Tensor, "B H N F"]:
    """x with two more columns, F = E + 2, which add up to minus the number: its rounding to x's type, and the rest."""
    rounded_BHN = number_BHN.to(x_BHNE.dtype)
    return torch.cat([x_BHNE, -torch.stack([rounded_BHN, number_BHN - rounded_BHN], 3).to(x_BHNE.dtype)], 3)


class _CausalConvolution(nn.Conv2d):
    """A convolution that multiplies with the taps up to its centre in raster order, and not with those after it."""

    def forward(self, x_BDHW: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D H W"]:
        tap_HW = torch.arange(self.weight[0, 0].numel(), device=self.weight.device).view_as(self.weight[0, 0])
        return self._conv_forward(x_BDHW, self.weight * (tap_HW <= tap_HW.numel() // 2), self.bias)


def _same_convolution(config: RunConfig) -> nn.Conv2d:
    convolution = _CausalConvolution if config.is_causal else nn.Conv2d
    return convolution(
        config.width, config.width, config.kernel_size, padding=config.kernel_size // 2, padding_mode=config.padding
    )


BLOCKS = {"conv": ConvBlock, "mixer": MixerBlock, "transformer": TransformerBlock}


def build_block(config: RunConfig) -> nn.Module:
    """One block of the configured type, with torch's initialisation; `network` then applies the configured one."""
    return BLOCKS[config.block](config)


def multiply_accumulates(config: RunConfig) -> int:
    """Multiply-accumulates of one block and one image, from the equations: matrix products only, no biases.

    A causal block is counted like any other, although it could do without the products of its zeros.
    """
    n, d = config.image_size**2, config.width
    hidden_tokens, hidden_channels, hidden = (
        max(1, round(units)) for units in (config.token_ratio * n, config.channel_ratio * d, config.mlp_ratio * d)
    )
    return {
        "conv": 2 * config.kernel_size**2 * n * d * d,
        "mixer": 2 * n * d * (hidden_tokens + hidden_channels),
        "transformer": (3 + config.attention_output) * n * d * d + 2 * n * n * d + 2 * n * d * hidden,
    }[config.block]
