"""The losses of guesses without a network, computed once for a set of images and its masks, and kept.

Book: chapter "Objective".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

import numpy as np

from isonb import disk, places, schema
from isonb.config import ConfigError, RunConfig
from isonb.numerics import NUMERICS
from isonb.training import data, evaluate

LARGEST = 2**12  # bytes of a file with four losses
SETTINGS = ("objective", "target", "mask_rate", "mask_unit", "evaluation_masks", "seed", "image_size")  # deciding them


def of(run: RunConfig, images: data.Images, palette_KC: np.ndarray | None = None) -> schema.Baselines:
    """`evaluate.baselines`, kept from an earlier run on these very images with these masks, else computed and kept.

    A file that is damaged or cannot be kept is no obstacle: the guesses are computed again.
    """
    path = kept(run, images, palette_KC)
    try:
        return schema.Baselines(**disk.read_json(path, LARGEST))
    except (disk.Unreadable, ConfigError, TypeError):
        pass
    losses = evaluate.baselines(run, images, palette_KC)
    with contextlib.suppress(OSError):
        disk.write_atomically(path, losses.model_dump_json().encode())
    return losses


def kept(run: RunConfig, images: data.Images, palette_KC: np.ndarray | None = None) -> Path:
    """Where the guesses for these images and masks lie; its name is a digest of all that decides them."""
    digest = hashlib.sha256(json.dumps([NUMERICS, *(getattr(run, name) for name in SETTINGS)]).encode())
    for split in (images.train, images.validation):
        digest.update(str(split.pixels_BNC.shape).encode())
        digest.update(np.ascontiguousarray(split.pixels_BNC.numpy()))
        digest.update(split.index_B.numpy().tobytes())
    colours = images.palette_KC if palette_KC is None else palette_KC
    if run.predicts_palette:
        digest.update(np.ascontiguousarray(colours))
    return places.runs_folder("guesses") / f"{digest.hexdigest()[:32]}.json"
