"""Kernels behind the blocks: products, attention and convolution as processors like them, and their causal forms.

Paper: section 3.1. Book: chapters "Blocks" and "Training".
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

Tokens = Float[Tensor, "B N D"]
Heads = Float[Tensor, "B H N E"]


def attention(q_BHNE: Heads, k_BHNE: Heads, v_BHNE: Heads, is_causal: bool = False) -> Heads:
    """softmax(Q K^T / sqrt(E)) V by head, in memory linear in N; causal: over the keys up to the query's."""
    if is_causal:
        return F.scaled_dot_product_attention(q_BHNE, k_BHNE, v_BHNE, is_causal=True)
    kernel = Attention.apply if has_faster_gradients(q_BHNE) else F.scaled_dot_product_attention
    return kernel(q_BHNE, k_BHNE, v_BHNE)


def attention_of_last(
    q_BHTE: Float[Tensor, "B H T E"], k_BHSE: Float[Tensor, "B H S E"], v_BHSE: Float[Tensor, "B H S E"]
) -> Float[Tensor, "B H T E"]:
    """What `attention` gives the last T of S positions where it is causal."""
    queries, keys = q_BHTE.shape[2], k_BHSE.shape[2]
    sees_TS = torch.ones(queries, keys, dtype=torch.bool, device=q_BHTE.device).tril(keys - queries)
    return F.scaled_dot_product_attention(q_BHTE, k_BHSE, v_BHSE, attn_mask=None if queries == 1 else sees_TS)


def apply_from_left(linear: nn.Linear, x: Float[Tensor, "I K"], is_causal: bool = False) -> Float[Tensor, "O K"]:
    """W x + b, each column of x a sample; causal: W without what would carry a later row to an earlier one."""
    weight_OI = causal(linear.weight) if is_causal else linear.weight
    return LeftProduct.apply(weight_OI.to(x.dtype), x, linear.bias.to(x.dtype))


def causal(weight_OI: Float[Tensor, "O I"]) -> Float[Tensor, "O I"]:
    """W without what would carry a later row to an earlier one."""
    return weight_OI * earlier(*weight_OI.shape, weight_OI)


def earlier(rows: int, columns: int, like: Tensor) -> Float[Tensor, "R C"]:
    """1 where a row's position is that of the column or a later one, else 0: lower triangular for a square.

    Where there are more or fewer rows than columns, the positions are spread over them evenly.
    """
    row_R, column_C = torch.arange(rows, device=like.device), torch.arange(columns, device=like.device)
    return (row_R[:, None] * columns >= column_C * rows).to(like)


class LeftProduct(torch.autograd.Function):
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


def has_faster_gradients(q: Tensor) -> bool:
    """Whether `Attention` pays: with AMX, where its products are cheap, and on one thread, which waits for no other."""
    if torch.compiler.is_compiling():
        return False
    has_matrix_unit = q.device.type == "cpu" and q.dtype == torch.bfloat16 and torch.cpu._is_amx_tile_supported()
    return has_matrix_unit and torch.get_num_threads() == 1


class Attention(torch.autograd.Function):
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
        scale, n, keys = q.shape[3] ** -0.5, q.shape[2], Attention.KEYS
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


class CausalConvolution(nn.Conv2d):
    """A convolution that multiplies with the taps up to its centre in raster order, and not with those after it."""

    def forward(self, x_BDHW: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D H W"]:
        tap_HW = torch.arange(self.weight[0, 0].numel(), device=self.weight.device).view_as(self.weight[0, 0])
        return self._conv_forward(x_BDHW, self.weight * (tap_HW <= tap_HW.numel() // 2), self.bias)


def places_before(size: int, kernel_size: int, device: torch.device) -> Int[Tensor, "N K"]:
    """For each position of a square image, those under the K taps up to its kernel's centre; -1 outside the image."""
    reach, position_N1 = kernel_size // 2, torch.arange(size**2, device=device)[:, None]
    tap_K = torch.arange(kernel_size**2 // 2 + 1, device=device)
    row_NK = position_N1 // size + tap_K // kernel_size - reach
    column_NK = position_N1 % size + tap_K % kernel_size - reach
    is_inside_NK = (row_NK >= 0) & (column_NK >= 0) & (column_NK < size)
    return (row_NK * size + column_NK).where(is_inside_NK, -1)
