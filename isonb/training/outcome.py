"""From a finished run to what it leaves: the record and the arrays beside it.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import platform
import subprocess

import numpy as np
import torch

import isonb
from isonb import records
from isonb.config import Cell, Execution, RunConfig
from isonb.models import blocks
from isonb.models import network as networks
from isonb.training import data, evaluate
from isonb.training.probe import Probed
from isonb.training.train import Pretrained

SHOWN = 3  # test images whose reconstruction is kept, as many as in the paper's Figure 1
HIDDEN_GREY = 128  # how a masked sub-pixel is drawn


def record(
    cell: Cell, images: data.Images, pretrained: Pretrained, probed: Probed, execution: Execution
) -> tuple[records.Record, dict[str, np.ndarray]]:
    """The record of a cell, and its arrays.

    `test_nats_B`: mean nats per masked sub-pixel of each test image; `test_correct_LB`: which test images each layer's
    probe gets right; `reconstruction_original`, `_masked`, `_filled`: three test images, uint8, 3 x H x W x 3;
    `embedding_CVD`, for pix2vec networks: the learned table, float16.
    """
    network, progress, run = pretrained.network, pretrained.progress, cell.run
    nats_B, count_B = evaluate.nats_per_image(network, run, images.test, progress.precision)
    everything_B = torch.arange(len(images.test))
    filled_BNC, is_masked_BNC = evaluate.reconstruct(network, run, images.test, progress.precision, everything_B)
    original_BNC = images.test.pixels_BNC
    arrays = {
        "test_nats_B": (nats_B / count_B).float().numpy(),
        "test_correct_LB": probed.test_correct_LB,
        "reconstruction_original": _as_pictures(original_BNC),
        "reconstruction_masked": _as_pictures(original_BNC.masked_fill(is_masked_BNC, HIDDEN_GREY)),
        "reconstruction_filled": _as_pictures(filled_BNC),
    }
    if run.encoding == "pix2vec":
        arrays["embedding_CVD"] = network.encoding.embedding_CVF.detach().cpu().half().numpy()
    return (
        records.Record(
            run_id=run.run_id,
            cell=cell,
            data=data.describe(images),
            environment=environment(pretrained, execution),
            counts=counts(run),
            baselines=evaluate.baselines(run, images),
            training=records.Training(
                curve=progress.curve,
                validation_loss=progress.curve[-1].validation_loss,
                test_loss=float(nats_B.sum() / count_B.sum()),
                steps=progress.step,
                seconds=progress.seconds,
                peak_memory_bytes=progress.peak_memory_bytes,
            ),
            reconstruction=evaluate.reconstruction_scores(filled_BNC, is_masked_BNC, original_BNC),
            probe=probed.record,
        ),
        arrays,
    )


def _as_pictures(pixels_BNC: torch.Tensor) -> np.ndarray:
    """The first images of a batch as height x width x channel."""
    size = round(pixels_BNC.shape[1] ** 0.5)
    return pixels_BNC[:SHOWN].unflatten(1, (size, size)).numpy()


def counts(run: RunConfig) -> records.Counts:
    """Parameters of a network that is built for it, and the operations of its equations."""
    network = networks.build_network(run)
    return records.Counts(
        parameters=networks.parameters(network),
        parameters_per_block=networks.parameters(network.blocks[0]),
        multiply_accumulates=networks.multiply_accumulates(run),
        multiply_accumulates_per_block=blocks.multiply_accumulates(run),
    )


def environment(pretrained: Pretrained, execution: Execution) -> records.Environment:
    """Versions, device and revision of this process's computation."""
    device = pretrained.device
    revision = _git("rev-parse", "HEAD")
    return records.Environment(
        isonb=isonb.__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        platform=platform.platform(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        processes=pretrained.progress.processes,
        threads=torch.get_num_threads(),
        precision=pretrained.progress.precision,
        compiled=execution.compile,
        git_revision=revision,
        git_dirty=None if revision is None else bool(_git("status", "--porcelain", "--", "isonb", "notebooks")),
    )


def _cpu_name() -> str:
    """The processor's model and the matrix instructions it offers to bfloat16."""
    try:
        with open("/proc/cpuinfo") as file:
            name = next(line for line in file if line.startswith("model name")).partition(":")[2].strip()
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name} (AMX)" if torch.cpu._is_amx_tile_supported() else name


def _git(*arguments: str) -> str | None:
    """One git command's output in the project's folder, or None outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(records.PROJECT), *arguments], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
