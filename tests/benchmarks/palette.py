"""image-GPT's palette, its faithfulness and what a step with it costs; and the symmetries of untrained blocks."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import memory
import numpy as np
import steps
import torch
from timing import alternate, speed_up

from isonb import disk, places
from isonb.config import RunConfig
from isonb.models import network as networks
from isonb.training import data
from isonb.training import palette as palettes

KINDS = {"palette": {"encoding": "palette", "target": "palette"}, "pix2vec": {"encoding": "pix2vec"}}


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


def training_steps(rounds: int, repeats: int) -> Iterator[dict[str, Any]]:
    """The trainer's step of transformers with the palette in and out against pix2vec and 256 values: time and memory.

    Every peak is of a process of its own. Linux only, as `memory`.
    """
    for is_causal in (False, True):
        runs = {name: _run(name, is_causal) for name in KINDS}
        contestants = [steps.trainer(run, data.load(run), name) for name, run in runs.items()]
        alternate(contestants, rounds, repeats)
        run = runs["palette"]
        yield {
            "block": run.block,
            "depth": run.depth,
            "batch": run.batch_size,
            "is_causal": is_causal,
            "steps": rounds * repeats,
            "images_per_second": {one.name: one.images_per_second() for one in contestants},
            "speed_up": speed_up(*contestants),
            "peak_bytes": {name: _peak(name, is_causal) for name in KINDS},
        }


def _run(kind: str, is_causal: bool) -> RunConfig:
    objective = "autoregressive" if is_causal else "bert"
    return RunConfig(block="transformer", depth=3, batch_size=32, objective=objective, **KINDS[kind])


def _peak(kind: str, is_causal: bool) -> int:
    command = [sys.executable, __file__, kind, *(["causal"] if is_causal else [])]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


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


if __name__ == "__main__":
    print(json.dumps(memory.peak_bytes(_run(sys.argv[1], len(sys.argv) > 2), sys.argv[1])))
