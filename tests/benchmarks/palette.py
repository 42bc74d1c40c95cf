"""What is computed once and needs no training: image-GPT's palette, and the symmetries of untrained blocks."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from isonb import disk, places
from isonb.config import RunConfig
from isonb.models import network as networks
from isonb.training import data
from isonb.training import palette as palettes


def run() -> Iterator[dict[str, Any]]:
    """One row, of the embedded photographs; the arrays are kept beside it."""
    run = RunConfig()
    found = palettes.measure(data.load(run))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **found)
    disk.write_atomically(places.results_folder("benchmarks") / "palette.npz", buffer.getvalue())
    yield {
        "data": run.data,
        "colours": len(found["palette_KC"]),
        "test_images": len(found["psnr_B"]),
        "psnr": float(found["psnr_B"].mean()),
        "colour_error": float(found["colour_error_B"].mean()),
        "tokens": run.image_size**2,
        "sub_pixels": 3 * run.image_size**2,
    }


def equivariance(size: int = 16) -> Iterator[dict[str, Any]]:
    """How far one untrained block of random input is from commuting with a shift, and with a permutation.

    The convolution pads circularly, because a zero at the border does not shift; the transformer has no positions.
    """
    generator = torch.Generator().manual_seed(0)
    order_N = torch.randperm(size**2, generator=generator)
    shifted_N = torch.arange(size**2).view(size, size).roll((3, 5), (0, 1)).flatten()
    x_BND = torch.randn(4, size**2, 128, generator=generator, dtype=torch.float64)
    for block, settings in (("conv", {"padding": "circular"}), ("mixer", {}), ("transformer", {"positions": "none"})):
        run = RunConfig(block=block, image_size=size, **settings)
        layer = networks.build_network(run).double().blocks[0]
        for change, index_N in (("shift", shifted_N), ("permutation", order_N)):
            with torch.no_grad():
                before_BND, after_BND = layer(x_BND[:, index_N]), layer(x_BND)[:, index_N]
            error = (before_BND - after_BND).norm() / (after_BND - x_BND[:, index_N]).norm()
            yield {"block": block, "change": change, "error": float(error)}
