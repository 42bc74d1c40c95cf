"""From 8-bit pixels to the network's width: continuous, random Fourier and learned pix2vec, and image-GPT's palette.

A colour channel has 256 values, so every encoding is a table with one row per channel and value; the encodings
differ only in how the table is made. A pixel is the sum of its three rows. Of a palette, a pixel is one of 512 colours:
one channel of 512 values.

Paper: section 3.2, equation 4. Book: chapter "Encodings".
"""

from __future__ import annotations

import abc
import math

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from isonb import features, rows
from isonb.config import RunConfig
from isonb.features import CHANNELS, COLOURS, VALUES


def reset_embedding(embedding: nn.Parameter, is_torch: bool) -> None:
    """A learned table as torch starts it, N(0, 1), or as Keras does, U(-0.05, 0.05)."""
    if is_torch:
        nn.init.normal_(embedding)
    else:
        nn.init.uniform_(embedding, -0.05, 0.05)


class Encoding(nn.Module, abc.ABC):
    """pixels_BNC -> x_BND. A masked sub-pixel contributes nothing, so a masked pixel has zero content.

    `table()` is the encoding itself: row [c, v] is what value v of channel c adds to its token. A subclass says by
    `features()` what the rows are made from, F numbers for each value, which maps of the width then project.

    `channels` and `values` are those of what it reads: of pixels, or of the numbers of a palette's colours.
    """

    channels, values = CHANNELS, VALUES

    def __init__(self, config: RunConfig, width_F: int, projects: bool = True) -> None:
        super().__init__()
        self.is_torch, self.projects = config.initialisation == "torch", projects
        if projects:
            self.weight_CFD = nn.Parameter(torch.empty(self.channels, width_F, config.width))
            self.bias_CD = nn.Parameter(torch.zeros(self.channels, config.width))
        # Glorot's fan-in: one map per channel sees F features, one map of the concatenated channels sees 3 F.
        self.fan_in = width_F * (self.channels if config.channel_merge == "concat" else 1)

    @abc.abstractmethod
    def features(self) -> Float[Tensor, "*C V F"]:
        """What the values are described by, the same in every channel or one table for each."""

    def reset_parameters(self) -> None:
        """Table A12. Keras: maps Glorot uniform, biases zero. torch: both U(-1/sqrt(F), 1/sqrt(F)) for F features."""
        if self.projects:
            bound = math.sqrt(1.0 / self.fan_in if self.is_torch else 6.0 / (self.fan_in + self.weight_CFD.shape[2]))
            nn.init.uniform_(self.weight_CFD, -bound, bound)
            if self.is_torch:
                nn.init.uniform_(self.bias_CD, -bound, bound)

    def table(self) -> Float[Tensor, "C V D"]:
        """What each value of each channel adds to its token."""
        return (
            torch.matmul(self.features(), self.weight_CFD) + self.bias_CD[:, None] if self.projects else self.features()
        )

    def forward(
        self, pixels_BNC: Integer[Tensor, "B N C"], is_masked_BNC: Bool[Tensor, "B N S"] | None
    ) -> Float[Tensor, "B N D"]:
        first_row_C = torch.arange(self.channels, device=pixels_BNC.device, dtype=torch.int32) * self.values
        row_BNC = pixels_BNC + first_row_C
        nothing = self.channels * self.values
        if is_masked_BNC is not None:
            if is_masked_BNC.shape[2] != self.channels:  # whole pixels are masked, whichever channels say so
                is_masked_BNC = is_masked_BNC.any(2, keepdim=True)
            row_BNC = row_BNC.masked_fill(is_masked_BNC, nothing)
        table_RD = F.pad(self.table().flatten(0, 1), (0, 0, 0, 1))  # one more row, of zeros, for what is masked
        return _SumOfRows.apply(table_RD, row_BNC.flatten(0, 1)).unflatten(0, pixels_BNC.shape[:2])


class Continuous(Encoding):
    """One number for each value, from -1 to 1. Paper: section 3.2."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config, width_F=1)
        self.register_buffer("features_VF", torch.from_numpy(features.continuous()).float())

    def features(self) -> Float[Tensor, "V F"]:
        """The scaled values."""
        return self.features_VF


class RandomFourier(Encoding):
    """Sines and cosines of random frequencies. Paper: equation 4."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config, width_F=2 * config.frequencies)
        scaled_V = torch.from_numpy(features.scaled_values(config.rff_range))
        self.register_buffer("scaled_V", scaled_V, persistent=False)  # in double precision, until they are multiplied
        beta_k = features.draw_frequencies(config.sigma, config.frequencies, config.seed)
        self.beta_k = nn.Parameter(torch.from_numpy(beta_k).float(), requires_grad=config.rff_trainable)

    def features(self) -> Float[Tensor, "V F"]:
        """`(sin 2 pi beta p, cos 2 pi beta p)` of every value."""
        p_V = self.scaled_V.to(self.beta_k)
        phase_Vk = 2.0 * math.pi * p_V[:, None] * self.beta_k
        return torch.cat([phase_Vk.sin(), phase_Vk.cos()], dim=1)


class Pix2vec(Encoding):
    """A learned vector for each value of each channel. Paper: section 3.2."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config, width_F=config.width, projects=config.channel_merge == "concat")
        self.embedding_CVF = nn.Parameter(torch.empty(self.channels, self.values, config.width))

    def reset_parameters(self) -> None:
        """The table as Keras or torch starts it, then the maps, if any."""
        reset_embedding(self.embedding_CVF, self.is_torch)
        super().reset_parameters()

    def features(self) -> Float[Tensor, "C V F"]:
        """The table."""
        return self.embedding_CVF


class Palette(Pix2vec):
    """A learned vector for each colour of a palette, as image-GPT reads its pixels: one channel of 512 values."""

    channels, values = 1, COLOURS


def build_encoding(config: RunConfig) -> Encoding:
    """The configured encoding; `network` then initialises it."""
    return rows.ENCODINGS[config.encoding].load()(config)


class _SumOfRows(torch.autograd.Function):
    """`embedding_bag`, whose own gradient first sorts the rows; adding in the order of tokens reads memory in order.

    A compiler fuses the sum into what follows. On a GPU, whose many threads would wait for each other to add to one
    row, it multiplies by one-hot rows: in the products' precision, in which the gradient has come.
    """

    @staticmethod
    def forward(ctx, table_RD: Float[Tensor, "R D"], row_TC: Int[Tensor, "T C"]) -> Float[Tensor, "T D"]:
        ctx.save_for_backward(row_TC)
        ctx.rows, kind = len(table_RD), table_RD.device.type
        ctx.product = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else table_RD.dtype
        if torch.compiler.is_compiling():
            return sum(table_RD[row_T] for row_T in row_TC.unbind(1))
        return F.embedding_bag(row_TC, table_RD, mode="sum")

    @staticmethod
    def backward(ctx, gradient_TD: Float[Tensor, "T D"]) -> tuple[Float[Tensor, "R D"], None]:
        (row_TC,) = ctx.saved_tensors
        if torch.compiler.is_compiling() and multiplies(gradient_TD):
            gradient_RD = by_product(gradient_TD.to(ctx.product), row_TC, ctx.rows)
            return gradient_RD.to(gradient_TD.dtype), None
        return by_adding(gradient_TD, row_TC, ctx.rows), None


def multiplies(gradient_TD: Float[Tensor, "T D"]) -> bool:
    """Whether a table's gradient is a product here."""
    return gradient_TD.device.type == "cuda"


def by_adding(gradient_TD: Float[Tensor, "T D"], row_TC: Int[Tensor, "T C"], rows: int) -> Float[Tensor, "R D"]:
    """The sum of the gradients of all tokens that have used each row, token by token."""
    gradient_RD = gradient_TD.new_zeros(rows, gradient_TD.shape[1])
    for row_T in row_TC.unbind(1):
        gradient_RD.index_add_(0, row_T, gradient_TD)
    return gradient_RD


def by_product(gradient_TD: Float[Tensor, "T D"], row_TC: Int[Tensor, "T C"], rows: int) -> Float[Tensor, "R D"]:
    """The same as one product: how often each token has used each row, by the tokens' gradients."""
    row_R = torch.arange(rows, device=row_TC.device, dtype=row_TC.dtype)
    used_TR = sum((row_T[:, None] == row_R).to(gradient_TD.dtype) for row_T in row_TC.unbind(1))
    return used_TR.T @ gradient_TD
