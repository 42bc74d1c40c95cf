"""Tables that need no run: what the fixed encodings keep of distance, how vectors pack, what blocks compute.

Book: chapters "Encodings" and "Blocks".
"""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd

from isonb import features

SIGMAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
FREQUENCIES = 128
DRAWS = 5
LOCAL, FAR = 25, 100  # levels: the half-width of sigma = 1, and four times it


@functools.cache
def pairs(values: int = features.VALUES) -> tuple[np.ndarray, np.ndarray]:
    """The indices i < j of every pair of pixel values."""
    return np.triu_indices(values, 1)


def _encoding_row(name: str, similarity_VV: np.ndarray, features_VF: np.ndarray, **labels: float) -> dict[str, object]:
    profile_V = features.similarity_profile(similarity_VV)
    half_width = features.half_width(profile_V)
    return {
        "encoding": name,
        **labels,
        "kept": features.distance_kept(similarity_VV),
        "kept_near": features.distance_kept(similarity_VV, furthest=LOCAL),
        "kept_far": features.distance_kept(similarity_VV, nearest=FAR),
        "far_similarity": float(np.abs(profile_V[FAR:]).mean()),
        "half_width": features.VALUES if half_width is None else half_width,
        "rank": features.rank_at_energy(features_VF),
    }


def _features_behind(kernel_VV: np.ndarray) -> np.ndarray:
    """Features whose inner products are a positive semi-definite kernel: `U sqrt(lambda)`."""
    power, directions = np.linalg.eigh(kernel_VV)
    return directions * np.sqrt(np.clip(power, 0, None))


@functools.cache
def encodings() -> pd.DataFrame:
    """One row per fixed encoding; of random Fourier features, one per sigma and draw.

    kept, kept_near, kept_far: rank correlation of similarity and -distance over all pairs, up to 25 and from 100
    levels. far_similarity: mean size of the similarity profile from 100 levels on. half_width: levels at which the
    profile is below 1/2, 256 where it never is. rank: singular directions that hold 99 % of the energy.
    `continuous` takes the paper literally, as a cosine: sign(p q). `continuous, distance` takes similarity to be
    1 - |p - q| / 2; its rank is that of the features of which this would be the inner product.
    """
    p_V1 = features.continuous()
    one_hot_VV = features.one_hot()
    nearness_VV = np.round(1 - np.abs(p_V1 - p_V1.T) / 2, 12)  # equal distances give equal ranks
    rows = [
        _encoding_row("one-hot", one_hot_VV, one_hot_VV),
        _encoding_row("continuous", features.cosine_similarity(p_V1), p_V1),
        _encoding_row("continuous, distance", nearness_VV, _features_behind(nearness_VV)),
    ]
    for sigma in SIGMAS:
        for draw in range(DRAWS):
            features_VF = features.random_fourier(features.draw_frequencies(sigma, FREQUENCIES, draw))
            similarity_VV = features.cosine_similarity(features_VF)
            rows.append(_encoding_row("rff", similarity_VV, features_VF, sigma=sigma, draw=draw))
    return pd.DataFrame(rows)


def welch_bound(vectors: int, dimensions: int) -> float:
    """The least that the largest |cosine| of m vectors in d dimensions can be, `sqrt((m - d) / (d (m - 1)))`, or 0."""
    return float(np.sqrt(max(0, vectors - dimensions) / (dimensions * (vectors - 1))))


@functools.cache
def packing(vectors: int = features.VALUES, dimensions: int = 128) -> pd.DataFrame:
    """One row per table of random vectors: the Welch bound, the largest |cosine|, and the distance that it keeps."""
    rows = []
    for draw in range(20):
        table_VD = np.random.default_rng(draw).uniform(-0.05, 0.05, (vectors, dimensions))
        similarity_VV = features.cosine_similarity(table_VD)
        largest = float(np.abs(similarity_VV[pairs(vectors)]).max())
        bound = welch_bound(vectors, dimensions)
        rows.append({"draw": draw, "bound": bound, "largest": largest, "kept": features.distance_kept(similarity_VV)})
    return pd.DataFrame(rows)


def blocks(positions: int = 1024, width: int = 128, heads: int = 1, kernel: int = 3) -> pd.DataFrame:
    """Counts per block at the study's sizes: non-linearities, the largest activation, multiply-accumulates per image.

    The softmax over attention weights counts as a non-linearity. Hidden layers are as wide as the block (ratio 1).
    Counted by hand from the paper's equations, as this half knows no network; a test compares these
    multiply-accumulates with those that the program counts.
    """
    n, d = positions, width
    projections = 4 * n * d**2 + 2 * n * d**2  # queries, keys, values, output; then two channel maps
    return pd.DataFrame(
        [
            {"block": "conv", "nonlinearities": 2, "largest_activation": n * d, "macs": 2 * n * kernel**2 * d**2},
            {"block": "mixer", "nonlinearities": 2, "largest_activation": n * d, "macs": 2 * d * n**2 + 2 * n * d**2},
            {
                "block": "transformer",
                "nonlinearities": 2,
                "largest_activation": max(n * d, heads * n**2),
                "macs": projections + 2 * n**2 * d,
            },
        ]
    )
