"""Test images completed by a network whose weights were kept, as one picture: `python -m isonb sample`.

Book: chapter "image-GPT".
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
from pathlib import Path

from isonb import disk
from isonb.config import ConfigError
from isonb.evidence.figures import completions
from isonb.evidence.picture import name_of
from isonb.models import network as networks
from isonb.training import checkpoint, data, keeping, progress, sampling

MOST_IMAGES = 64  # of which one picture has room
LARGEST_SEED = 2**31 - 1  # as of a run
DOTS = 200  # an inch
DRAWN = 4  # completions of an image that are drawn by chance


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is asked for. Raises `ConfigError` for what cannot be had of any network."""

    images: int = 8
    rows: int = 16
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.images <= MOST_IMAGES:
            raise ConfigError(f"images={self.images} is not allowed: choose 1 to {MOST_IMAGES}.")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ConfigError(
                f"temperature={self.temperature:g} is not allowed: choose a number from 0, which leaves nothing to "
                "chance, up."
            )
        if not 0 <= self.seed <= LARGEST_SEED:
            raise ConfigError(f"seed={self.seed} is not allowed: choose 0 to {LARGEST_SEED}.")

    @property
    def ways(self) -> tuple[sampling.Way, ...]:
        """One completion without chance and, unless the temperature leaves it none, some by chance."""
        by_chance = (sampling.Way(self.temperature, number) for number in range(DRAWN))
        return (sampling.Way(0.0), *(by_chance if self.temperature else ()))


def write(kept: str, out: Path, wanted: Wanted, shown: bool = False) -> str:
    """Complete test images by the network that is kept, write the picture, and return its caption.

    `shown` is whether there is a progress bar. Raises `ConfigError` for what cannot be had of this network or written
    there, and where its images cannot be read, and `CheckpointError` where no network is kept.
    """
    _require_picture(out)
    network = keeping.load(kept)
    run = network.config
    if not run.is_causal:
        raise ConfigError(
            f"{kept} was trained with objective={run.objective!r}, which predicts no pixel from those before it: name "
            "a run with objective=autoregressive."
        )
    if not 1 <= wanted.rows < run.image_size:
        raise ConfigError(
            f"rows={wanted.rows} is not allowed: so many rows are given, 1 to {run.image_size - 1} of images of "
            f"{run.image_size}."
        )
    try:
        images = data.load(run)
    except data.DataError as error:
        raise ConfigError(str(error)) from None
    if wanted.images > len(images.test):
        raise ConfigError(
            f"images={wanted.images} is not allowed: there are {len(images.test)} test images of {images.name}."
        )
    with progress.drawing_bar(run, shown) as on_pixel:
        arrays = sampling.kept(network, images, wanted.images, wanted.rows, wanted.ways, wanted.seed, on_pixel)
    original_BNC = images.test.pixels_BNC[: wanted.images]
    arrays["original_BHWC"] = original_BNC.unflatten(1, (run.image_size, run.image_size)).numpy()
    if twin := _masked_twin(network):
        arrays |= sampling.kept(twin, images, wanted.images, wanted.rows)
    whose = f"{name_of(run.network)}, {run.run_id}, seed {wanted.seed} of the draws"
    figure = completions.completions([completions.Panel("", arrays)], whose, wanted.temperature)
    buffer = io.BytesIO()
    figure.wide.savefig(buffer, format="png", dpi=DOTS, facecolor="white")
    disk.write_atomically(out, buffer.getvalue())
    return figure.caption


def _require_picture(out: Path) -> None:
    """Raise `ConfigError` where no picture can be written, before anything is drawn."""
    if out.suffix.lower() != ".png":
        raise ConfigError(f"{out} does not end in .png: name the picture so.")
    if out.is_dir():
        raise ConfigError(f"{out} is a folder: name the picture another way.")
    disk.require_writable(out.parent)


def _masked_twin(network: networks.IsotropicNetwork) -> networks.IsotropicNetwork | None:
    """The network of the same setting that was trained on masked pixels, where its weights were kept."""
    with contextlib.suppress(checkpoint.CheckpointError):
        return keeping.load(completions.masked_twin(network.config).run_id)
    return None
