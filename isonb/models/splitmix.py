"""The numbers of `isonb.draws` on any device, bit for bit: SplitMix64 in 64-bit integers that wrap around.

torch has no unsigned 64-bit arithmetic, but sums and products that wrap give the same bits with a sign; only a shift to
the right has to be told that the highest bit is none. What is known beforehand, seed, purpose and first indices, comes
as one number, the key, so that a compiled graph serves every epoch.

Book: chapter "Training".
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from isonb import draws

LOWEST = -(2**63)  # flips the highest bit, so that numbers without a sign keep their order as numbers with one


def _signed(number: int) -> int:
    return (number + 2**63) % 2**64 - 2**63


_GAMMA, _FIRST, _SECOND = map(_signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def key(seed: int, purpose: str, *indices: int) -> int:
    """The 64 bits that `draws.bits` gives for these indices, as a signed number; more indices may follow."""
    return int(draws.bits(seed, purpose, *indices).view(np.int64))


def bits(key: Int64[Tensor, "..."], *indices: Int64[Tensor, "..."]) -> Int64[Tensor, "..."]:
    """The 64 bits of each combination of further indices, which broadcast against each other and the key."""
    for index in indices:
        key = _mix(key + (index + 1) * _GAMMA)
    return key


def is_below(share: float, bits: Int64[Tensor, "*S"]) -> Bool[Tensor, "*S"]:
    """Where `draws.uniform` is below the share: both are counted in its unit of 2^-53, without rounding."""
    return _shifted(bits, 11) < math.ceil(share * 2**53)


def uniform(bits: Int64[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """What `draws.uniform` makes of these bits, float64."""
    return _shifted(bits, 11).double() * 2.0**-53


def permutation(key: Int64[Tensor, ""], n: int) -> Int64[Tensor, "n"]:
    """The permutation of 0..n-1 that `draws.permutation` gives for the key's seed, purpose and indices."""
    order = torch.arange(n, device=key.device)
    return torch.argsort(bits(key, order) ^ LOWEST, stable=True)


def _mix(z: Int64[Tensor, "*S"]) -> Int64[Tensor, "*S"]:
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    return z ^ _shifted(z, 31)


def _shifted(z: Int64[Tensor, "*S"], places: int) -> Int64[Tensor, "*S"]:
    """The bits moved to the right, zeros behind them."""
    return (z >> places) & ((1 << (64 - places)) - 1)
