"""A palette of 512 colours, as image-GPT reads its pixels: how faithful it is, and how much shorter an image gets.

Book: chapters "image-GPT" and "Results".
"""

from __future__ import annotations

import numpy as np

from isonb import draws
from isonb.training import data

COLOURS = 512
PIXELS = 50_000  # of the training images, on which the palette is fitted
SHOWN = 3
SEED = 0


def measure(images: data.Images, colours: int = COLOURS) -> dict[str, np.ndarray]:
    """Fit a palette to training pixels by k-means and put every test pixel into its nearest colour.

    `palette_KC`: the colours, uint8; `psnr_B`: peak signal-to-noise ratio of each test image in dB; `colour_error_B`:
    its mean Euclidean distance in RGB, in 8-bit levels; `original_BHWC`, `quantised_BHWC`: the first test images.
    """
    from sklearn.cluster import MiniBatchKMeans  # imported here: nothing else waits for it
    from sklearn.metrics import pairwise_distances_argmin

    train_PC = images.train.pixels_BNC.flatten(0, 1).numpy()
    chosen_P = draws.permutation(SEED, "palette pixels", len(train_PC))[:PIXELS]
    means = MiniBatchKMeans(colours, batch_size=4096, n_init=1, random_state=SEED).fit(train_PC[chosen_P].astype(float))
    palette_KC = np.clip(np.rint(means.cluster_centers_), 0, 255).astype(np.uint8)
    original_BNC = images.test.pixels_BNC.numpy()
    token_P = pairwise_distances_argmin(original_BNC.reshape(-1, 3).astype(float), palette_KC.astype(float))
    quantised_BNC = palette_KC[token_P].reshape(original_BNC.shape)
    error_BNC = quantised_BNC.astype(float) - original_BNC
    size = images.size
    return {
        "palette_KC": palette_KC,
        "psnr_B": 10 * np.log10(255**2 / np.square(error_BNC).mean(axis=(1, 2))),
        "colour_error_B": np.linalg.norm(error_BNC, axis=2).mean(axis=1),
        "original_BHWC": original_BNC[:SHOWN].reshape(-1, size, size, 3),
        "quantised_BHWC": quantised_BNC[:SHOWN].reshape(-1, size, size, 3),
    }
