"""The three isotropic blocks, each x_BND -> x_BND with the same width, positions and number of non-linearities.

Each forward is the paper's equation in the paper's letters. The paper calls its tokens column-stacked; its equations
mix what its text says they mix if each token is a row, as here. For the autoregressive objective each block has a
causal form, in which no position sees one after it in raster order: attention looks back, and the other two multiply
with a part of their weights.

A block with a causal form may also have a method `extend(x_BTD, past) -> x_BTD`: its output at the next T positions, as
`forward` would give it there, of which `past`, a `models.past.Past` of its own that is empty at position 0, keeps what
later positions need. With it an image is drawn pixel by pixel at the cost of a few passes; `extend` below does without.

Paper: section 3.1, equations 1 to 3. Book: chapters "Blocks" and "image-GPT".
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from isonb import rows
from isonb.config import RunConfig
from isonb.models import kernels
from isonb.models.past import Past

Tokens = Float[Tensor, "B N D"]
Next = Float[Tensor, "B T D"]


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

    def extend(self, x: Next, past: Past) -> Next:
        """The next T positions of the causal form; of those before, both convolutions' inputs are kept."""
        u = x + F.gelu(self._on_windows("conv1", self.norm1(x), past))
        return u + F.gelu(self._on_windows("conv2", self.norm2(u), past))

    def _on_windows(self, name: str, x_BTD: Next, past: Past) -> Next:
        """A causal convolution at the next T positions, as one product with the K taps that lead to each of them."""
        conv, taps = getattr(self, name), self.conv1.kernel_size[0] ** 2 // 2 + 1
        weight_DF = past.once(f"{name} weight", lambda: conv.weight.flatten(2)[:, :, :taps].mT.flatten(1))
        place_NK = past.once("places", lambda: kernels.places_before(self.size, conv.kernel_size[0], x_BTD.device))
        seen_BSD = past.add(name, x_BTD)
        place_TK = place_NK[seen_BSD.shape[1] - x_BTD.shape[1] : seen_BSD.shape[1]]
        window_BTKD = seen_BSD[:, place_TK.clamp_min(0)] * (place_TK >= 0)[..., None]
        return F.linear(window_BTKD.flatten(2), weight_DF, conv.bias)

    @staticmethod
    def multiply_accumulates(config: RunConfig) -> int:
        """Those of one block and one image, borders counted like the inside."""
        return 2 * config.kernel_size**2 * config.image_size**2 * config.width**2


class MixerBlock(nn.Module):
    """An MLP over positions, then one over channels: the positional bias. Paper: eq. (2)."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        positions = config.image_size**2
        self.is_causal = config.is_causal
        token_hidden = hidden_units(config.token_ratio, positions)
        channel_hidden = hidden_units(config.channel_ratio, config.width)
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
        hidden = F.gelu(kernels.apply_from_left(self.token1, columns, self.is_causal))
        mixed = kernels.apply_from_left(self.token2, hidden, self.is_causal)
        return mixed.unflatten(1, (batch, width)).transpose(0, 1)

    def extend(self, x: Next, past: Past) -> Next:
        """The next T positions of the causal form; the tokens before and the hidden units that they decide are kept."""
        u = x + self._over_next_positions(self.norm1(x), past)
        return u + self.channel2(F.gelu(self.channel1(self.norm2(u))))

    def _over_next_positions(self, x_BTD: Next, past: Past) -> Next:
        """The next rows of `W2 GELU(W1 x)`: a hidden unit is summed up when the first position needs it."""
        w1_HN = past.once("W1", lambda: kernels.causal(self.token1.weight))
        w2_NH = past.once("W2", lambda: kernels.causal(self.token2.weight))
        seen_BSD = past.add("tokens", x_BTD)
        last = seen_BSD.shape[1]
        first = last - x_BTD.shape[1]
        units = slice(*(_units_before(position, *w1_HN.shape) for position in (first, last)))
        sums_BUD = w1_HN[units, :last] @ seen_BSD + self.token1.bias[units, None]
        hidden_BHD = past.add("hidden", F.gelu(sums_BUD))
        return w2_NH[first:last, : units.stop] @ hidden_BHD + self.token2.bias[first:last, None]

    @staticmethod
    def multiply_accumulates(config: RunConfig) -> int:
        """Those of one block and one image: two products over the positions and two over the channels."""
        n, d = config.image_size**2, config.width
        return 2 * n * d * (hidden_units(config.token_ratio, n) + hidden_units(config.channel_ratio, d))


class TransformerBlock(nn.Module):
    """Self-attention, then an MLP over channels: no bias for position at all. Paper: eq. (3)."""

    norm, activation = nn.LayerNorm, staticmethod(F.gelu)

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        hidden = hidden_units(config.mlp_ratio, config.width)
        self.heads, self.is_causal = config.heads, config.is_causal
        self.norm1 = self.norm(config.width, config.layer_norm_eps)
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.output = nn.Linear(config.width, config.width) if config.attention_output else nn.Identity()
        self.norm2 = self.norm(config.width, config.layer_norm_eps)
        self.hidden = nn.Linear(config.width, hidden)
        self.project = nn.Linear(hidden, config.width)

    def forward(self, x: Tokens) -> Tokens:
        u = x + self.attention(self.norm1(x))
        return u + self.project(self.activation(self.hidden(self.norm2(u))))

    def attention(self, x: Tokens) -> Tokens:
        """softmax(Q K^T / sqrt(d_head)) V by head, then the projection of all heads together."""
        q, k, v = (
            linear(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for linear in (self.query, self.key, self.value)
        )
        y = kernels.attention(q, k, v, self.is_causal)
        return self.output(y.transpose(1, 2).flatten(2))

    def extend(self, x: Next, past: Past) -> Next:
        """The next T positions of the causal form; keys and values of those before are kept."""
        y = self.norm1(x)
        tokens = (self.query(y), past.add("keys", self.key(y)), past.add("values", self.value(y)))
        q, k, v = (token.unflatten(2, (self.heads, -1)).transpose(1, 2) for token in tokens)
        u = x + self.output(kernels.attention_of_last(q, k, v).transpose(1, 2).flatten(2))
        return u + self.project(self.activation(self.hidden(self.norm2(u))))

    @torch.no_grad()
    def scale_as_keras(self) -> None:
        """Scale the maps of attention from Glorot's limits to those of Keras's layer `MultiHeadAttention` before 3.15.

        Its kernels have an axis for the heads, and of three axes Keras took the first for the extent of a convolution,
        as it did in TensorFlow 2.4, from which the layer comes; 3.15 counts them as ours (its pull request 22789). With
        H heads of E channels, a kernel of queries, keys or values has the shape (D, H, E), hence the fans D H and D E,
        and that of the output (H, E, D), hence H E and H D. At D = 128 the limits are 0.019 with one head and 0.036
        with four instead of 0.153, those of the output 0.153 and 0.097.
        """
        width, heads = self.query.in_features, self.heads
        for linear in (self.query, self.key, self.value):
            linear.weight *= math.sqrt(2 * width / (width * heads + width * (width // heads)))
        if isinstance(self.output, nn.Linear):
            self.output.weight *= math.sqrt(2 * width / (width + heads * width))

    @staticmethod
    def multiply_accumulates(config: RunConfig) -> int:
        """Those of one block and one image: the projections, both products of attention, and the channel MLP."""
        n, d, hidden = config.image_size**2, config.width, hidden_units(config.mlp_ratio, config.width)
        return (3 + config.attention_output) * n * d * d + 2 * n * n * d + 2 * n * d * hidden


def _same_convolution(config: RunConfig) -> nn.Conv2d:
    convolution = kernels.CausalConvolution if config.is_causal else nn.Conv2d
    return convolution(
        config.width, config.width, config.kernel_size, padding=config.kernel_size // 2, padding_mode=config.padding
    )


def _units_before(position: int, hidden: int, positions: int) -> int:
    """How many of a causal mixer's hidden units reach the outputs before a position."""
    return max(0, (position - 1) * hidden // positions + 1)


def extend(block: nn.Module, x_BTD: Next, past: Past, positions: int) -> Next:
    """The block's output at the next T of so many positions; by a whole pass where it has no `extend` of its own."""
    if hasattr(block, "extend"):
        return block.extend(x_BTD, past)
    seen_BSD = past.add("tokens", x_BTD)
    last = seen_BSD.shape[1]
    return block(F.pad(seen_BSD, (0, 0, 0, positions - last)))[:, last - x_BTD.shape[1] : last]


def hidden_units(ratio: float, units: int) -> int:
    """How wide a hidden layer is: `ratio` times as many units as there are, at least one."""
    return max(1, round(ratio * units))


def build_norm(config: RunConfig) -> nn.Module:
    """The norm before the head: of the kind that the configured block names as its `norm`, else a LayerNorm."""
    kind = getattr(rows.BLOCKS[config.block].load(), "norm", nn.LayerNorm)
    return kind(config.width, config.layer_norm_eps)


def build_block(config: RunConfig) -> nn.Module:
    """One block of the configured type, with torch's initialisation; `network` then applies the configured one."""
    return rows.BLOCKS[config.block].load()(config)


def multiply_accumulates(config: RunConfig) -> int:
    """Multiply-accumulates of one block and one image, from the equations: matrix products only, no biases.

    A causal block is counted like any other, although it could do without the products of its zeros.
    """
    return rows.BLOCKS[config.block].load().multiply_accumulates(config)
