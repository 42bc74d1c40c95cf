"""Stateless random numbers: pure functions of a seed, a purpose and indices, the same on every device and rank.

A stateful generator gives each process its own stream, so the masks of an image would depend on who computes them.
Here a number depends on what it is for: (seed, purpose, index, ...). The mixing function is SplitMix64 (Steele,
Lea & Flood, 2014); numpy and the page's JavaScript compute it bit for bit alike.
"""

from __future__ import annotations

import zlib

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def bits(seed: int, purpose: str, *indices: np.ndarray | int) -> np.ndarray:
    """64 random bits for each combination of the indices, which broadcast against each other.

    Returns a uint64 array of the broadcast shape. Different purposes give unrelated numbers from one seed.
    """
    with np.errstate(over="ignore"):
        key = _mix(np.asarray([seed], np.uint64) * _GAMMA + np.uint64(zlib.crc32(purpose.encode())))
        for index in indices:
            key = _mix(key + (np.asarray(index).astype(np.uint64) + np.uint64(1)) * _GAMMA)
    return key if np.broadcast(*indices).shape else key[0]


def uniform(seed: int, purpose: str, *indices: np.ndarray | int) -> np.ndarray:
    """Uniform numbers in [0, 1) with 53 bits, float64."""
    return (bits(seed, purpose, *indices) >> np.uint64(11)) * 2.0**-53


def normal(seed: int, purpose: str, *indices: np.ndarray | int) -> np.ndarray:
    """Standard normal numbers, float64, by the Box-Muller transform of two uniform ones."""
    radius = np.sqrt(-2.0 * np.log1p(-uniform(seed, purpose + "/radius", *indices)))
    return radius * np.cos(2.0 * np.pi * uniform(seed, purpose + "/angle", *indices))


def permutation(seed: int, purpose: str, n: int, *indices: int) -> np.ndarray:
    """A permutation of 0..n-1: the order of n random keys."""
    return np.argsort(bits(seed, purpose, *indices, np.arange(n)), kind="stable")
