"""The fixed features of an 8-bit pixel value that the encodings start from, and what they keep of its distances.

Each function returns one row per pixel value, so a picture of the rows' similarities is the paper's Figure 2 or 3.

Paper: section 3.2, equation 4, Figures 2 and 3. Book: chapter "Encodings".
"""

from __future__ import annotations

import numpy as np

from isonb import draws

VALUES = 256  # of one 8-bit sub-pixel
CHANNELS = 3  # red, green, blue
COLOURS = 512  # of a palette, as image-GPT has it
OFF_BAND = 9  # levels: beyond the paper's "very narrow local band just off the main diagonal"
SHADES = 64  # steps from -1 to 1 in which a similarity is kept for a picture
MAPPED = 5  # rows, and columns, of positions whose similarity with all others is kept for a picture


def scaled_values(value_range: str = "symmetric") -> np.ndarray:
    """The 256 pixel values mapped to [-1, 1] ('symmetric', the paper's continuous input) or [0, 1] ('unit').

    Shape V.
    """
    unit_V = np.arange(VALUES) / (VALUES - 1)
    return 2.0 * unit_V - 1.0 if value_range == "symmetric" else unit_V


def one_hot() -> np.ndarray:
    """The identity: every value is as far from every other. Shape V, V."""
    return np.eye(VALUES)


def continuous() -> np.ndarray:
    """`p = (value - 127.5) / 127.5`. Shape V, 1."""
    return scaled_values()[:, None]


def draw_frequencies(sigma: float, k: int, seed: int) -> np.ndarray:
    """`beta_i ~ N(0, sigma^2)`, i = 0..k-1, one fixed draw by seed. Shape k. Paper: equation 4."""
    return sigma * draws.normal(seed, "random Fourier frequencies", np.arange(k))


def random_fourier(beta_k: np.ndarray, value_range: str = "symmetric") -> np.ndarray:
    """`gamma(p) = (sin 2 pi beta p, cos 2 pi beta p)`: all sines, then all cosines. Shape V, 2k. Paper: equation 4."""
    phase_Vk = 2.0 * np.pi * scaled_values(value_range)[:, None] * beta_k
    return np.concatenate([np.sin(phase_Vk), np.cos(phase_Vk)], axis=1)


def cosine_similarity(features_VF: np.ndarray) -> np.ndarray:
    """The cosine of the angle between every two rows. Shape V, V. Raises ValueError for a row of zeros."""
    norm_V = np.linalg.norm(features_VF, axis=1)
    if not norm_V.all():
        raise ValueError("A row of zeros has no direction: every value needs features that are not all zero.")
    unit_VF = features_VF / norm_V[:, None]
    return unit_VF @ unit_VF.T


def rank_at_energy(features_VF: np.ndarray, energy: float = 0.99) -> int:
    """How many singular directions hold the given share of the squared singular values."""
    power = np.linalg.svd(features_VF, compute_uv=False) ** 2
    return int(np.searchsorted(np.cumsum(power) / power.sum(), energy) + 1)


def similarity_profile(similarity_VV: np.ndarray) -> np.ndarray:
    """The mean similarity of all pairs of values that lie 0, 1, ... V - 1 levels apart. Shape V."""
    return np.array([similarity_VV.diagonal(distance).mean() for distance in range(len(similarity_VV))])


def expected_profile(sigma: float, value_range: str = "symmetric") -> np.ndarray:
    """The profile that random Fourier features have on average: `exp(-2 pi^2 sigma^2 delta^2)`. Shape V.

    delta is the distance of the scaled values; the draw of finitely many frequencies scatters around this.
    """
    delta_V = scaled_values(value_range) - scaled_values(value_range)[0]
    return np.exp(-2.0 * (np.pi * sigma * delta_V) ** 2)


def even_colours() -> np.ndarray:
    """A palette that no image has fitted: 8 evenly spaced levels of each channel. Shape K, C; uint8."""
    level = np.rint(np.linspace(0, VALUES - 1, round(COLOURS ** (1 / CHANNELS))))
    return np.stack(np.meshgrid(*[level] * CHANNELS, indexing="ij"), -1).reshape(-1, CHANNELS).astype(np.uint8)


def order_kept(similarity_KK: np.ndarray, distance_KK: np.ndarray) -> float:
    """Spearman's correlation of similarity with -distance over all pairs; a constant similarity keeps nothing: 0."""
    pairs = np.triu_indices(len(similarity_KK), 1)
    similarity, distance = similarity_KK[pairs], distance_KK[pairs]
    if min(np.ptp(similarity), np.ptp(distance)) < 1e-12:
        return 0.0
    return float(np.corrcoef(_ranks(similarity), _ranks(-distance))[0, 1])


def half_width(profile_V: np.ndarray) -> int | None:
    """The first distance, in levels, at which the profile is below 1/2; None where it never is."""
    below = np.flatnonzero(profile_V < 0.5)
    return int(below[0]) if below.size else None


def distance_kept(similarity_VV: np.ndarray, nearest: int = 1, furthest: int = VALUES) -> float:
    """Spearman's correlation of similarity with -|i - j| over pairs `nearest` to `furthest` levels apart.

    1 is a similarity that only ever falls with distance; a constant similarity keeps nothing: 0.
    """
    i, j = np.triu_indices(len(similarity_VV), 1)
    within = (j - i >= nearest) & (j - i <= furthest)
    similarity = similarity_VV[i, j][within]
    if np.ptp(similarity) < 1e-12:
        return 0.0
    return float(np.corrcoef(_ranks(similarity), _ranks((i - j)[within]))[0, 1])


def _ranks(x: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, count = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def pack_similarity(similarity_VV: np.ndarray) -> np.ndarray:
    """The upper triangle of a symmetric similarity in 64 steps, row by row, for a small file. Shape P, uint8."""
    return _in_steps(similarity_VV[np.triu_indices(len(similarity_VV))])


def _in_steps(similarity: np.ndarray) -> np.ndarray:
    return np.rint((np.clip(similarity, -1, 1) + 1) * SHADES / 2).astype(np.uint8)


def _of_steps(packed: np.ndarray) -> np.ndarray:
    return packed * (2 / SHADES) - 1


def unpack_similarity(packed_P: np.ndarray) -> np.ndarray:
    """The similarity that was packed, to 1/64. Shape V, V."""
    values = (int(np.sqrt(8 * len(packed_P) + 1)) - 1) // 2
    similarity_VV = np.zeros((values, values))
    similarity_VV[np.triu_indices(values)] = _of_steps(packed_P)
    return np.triu(similarity_VV) + np.triu(similarity_VV, 1).T


def mapped_places(side: int) -> np.ndarray:
    """The rows, and as well the columns, of the positions that `pack_positions` keeps."""
    return (2 * np.arange(MAPPED) + 1) * side // (2 * MAPPED)


def pack_positions(position_ND: np.ndarray) -> np.ndarray:
    """The cosine similarity of some positions' vectors with those of all N, in 64 steps. Shape Q, N, uint8.

    The Q positions lie in the rows and columns of `mapped_places`, in raster order. A vector of zeros is like none.
    """
    side = round(len(position_ND) ** 0.5)
    places = mapped_places(side)
    mapped_Q = (places[:, None] * side + places).ravel()
    length_N1 = np.linalg.norm(position_ND, axis=1, keepdims=True)
    unit_ND = position_ND / np.where(length_N1 > 0, length_N1, 1)
    return _in_steps(unit_ND[mapped_Q] @ unit_ND.T)


def unpack_positions(packed_QN: np.ndarray) -> np.ndarray:
    """The similarities that were packed, to 1/64, as maps of the picture. Shape Q, H, W."""
    side = round(packed_QN.shape[1] ** 0.5)
    return _of_steps(packed_QN).reshape(-1, side, side)


def near_and_apart(maps_QHW: np.ndarray) -> tuple[float, float]:
    """Of such maps, the mean similarity with the positions left, right, above and below, and that with all further."""
    side = maps_QHW.shape[1]
    row_H1, column_1W = np.ogrid[:side, :side]
    places = mapped_places(side)
    steps_QHW = np.array([abs(row_H1 - row) + abs(column_1W - column) for row in places for column in places])
    return float(maps_QHW[steps_QHW == 1].mean()), float(maps_QHW[steps_QHW > 1].mean())
