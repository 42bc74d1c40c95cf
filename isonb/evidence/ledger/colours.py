"""Are the right colours predicted, and are they in the right places? The masked pixels of the kept test images.

Book: chapter "Verdict".
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from isonb.features import CHANNELS


class ColourErrors(NamedTuple):
    """Mean Euclidean distance in RGB, in levels of 0 to 255, over masked pixels and then over images.

    palette: between the predicted and the true colours of an image, wherever they stand (Wasserstein's distance);
    place: between the colours predicted and true of the same pixel. What is between the two is misplacement.
    """

    palette: float
    place: float

    @property
    def misplacement(self) -> float:
        """How much further from the truth the colours are for standing where they stand; never negative."""
        return self.place - self.palette


def palette_distance(predicted_NC: np.ndarray, true_NC: np.ndarray) -> float:
    """Wasserstein's distance of two sets of N colours: the least mean distance of any pairing, by exact assignment."""
    return _least_mean(*(np.asarray(colours_NC, np.float64).tobytes() for colours_NC in (predicted_NC, true_NC)))


@functools.lru_cache(maxsize=1024)  # an assignment takes a tenth of a second, and one study is judged again and again
def _least_mean(predicted: bytes, true: bytes) -> float:
    predicted_NC, true_NC = (np.frombuffer(colours, np.float64).reshape(-1, CHANNELS) for colours in (predicted, true))
    distance_NN = cdist(predicted_NC, true_NC)
    return float(distance_NN[linear_sum_assignment(distance_NN)].mean())


def colour_errors(arrays: Mapping[str, np.ndarray]) -> ColourErrors:
    """Both errors of the kept images of a run: `original_BHWC`, `is_masked_BHWC` and `filled_S`.

    Only pixels of which every channel is masked; raises `ValueError` where no image has any.
    """
    original_BHWC, is_masked_BHWC = arrays["original_BHWC"], arrays["is_masked_BHWC"]
    filled_BHWC = original_BHWC.copy()
    filled_BHWC[is_masked_BHWC] = arrays["filled_S"]
    errors = []
    for original_HWC, filled_HWC, is_masked_HWC in zip(original_BHWC, filled_BHWC, is_masked_BHWC, strict=True):
        is_masked_HW = is_masked_HWC.all(axis=-1)
        if is_masked_HW.any():
            predicted_NC, true_NC = filled_HWC[is_masked_HW].astype(float), original_HWC[is_masked_HW].astype(float)
            place = np.linalg.norm(predicted_NC - true_NC, axis=1).mean()
            errors.append((palette_distance(predicted_NC, true_NC), float(place)))
    if not errors:
        raise ValueError("No kept image has a masked pixel: keep images with masks.")
    return ColourErrors(*map(float, np.mean(errors, axis=0)))
