"""From a finished run to what it leaves: the record and the arrays beside it.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import platform
from collections.abc import Sequence

import numpy as np
import torch

import isonb
from isonb import features, revision, rows, schema
from isonb.config import Cell, Execution
from isonb.models import blocks
from isonb.models import network as networks
from isonb.models.palette import Palette
from isonb.training import data, evaluate, guesses
from isonb.training.finetune import Finetuned
from isonb.training.probes import Probed
from isonb.training.train import Pretrained

SHOWN = 3  # test images whose reconstruction is kept, as many as in the paper's Figure 1
RED = 0  # the channel of the paper's Figure 5


def record(
    cell: Cell,
    images: data.Images,
    pretrained: Pretrained,
    probed: Probed,
    execution: Execution,
    tuned: Finetuned | None = None,
) -> tuple[schema.Record, dict[str, np.ndarray]]:
    """The record of a cell, and its arrays.

    `test_loss_B`: mean loss per masked sub-pixel of each test image; `test_correct_LB`: which test images each layer's
    probe gets right, `untrained_correct_LB` that of the untrained twin, `grid4_correct_LB` and
    `grid4_untrained_correct_LB` the same of the second pooling; `original_BHWC`, `is_masked_BHWC`, `filled_S`: three
    test images, which of their sub-pixels were masked, and the values filled in there (`records.pictures` puts them
    together); `similarity_P`, for learned encodings: how alike the rows of the red channel are
    (`features.unpack_similarity`); `positions_QN`, for learned positions: how alike some of them are to all others
    (`features.unpack_positions`); `palette_KC`, where the network reads or predicts a palette: its colours, uint8;
    `finetune_correct_B` and `scratch_correct_B`, where the network was fine-tuned:
    which test images it gets right, and its twin from scratch.
    """
    network, progress, run = pretrained.network, pretrained.progress, cell.run
    initial = networks.untrained(network)
    loss_B, count_B = evaluate.loss_per_image(network, run, images.test, progress.precision)
    everything_B = torch.arange(len(images.test))
    filled_BNC, is_masked_BNC = evaluate.reconstruct(network, run, images.test, progress.precision, everything_B)
    original_BNC = images.test.pixels_BNC
    arrays = {
        "test_loss_B": (loss_B / count_B).float().numpy(),
        **probed.arrays,
        "original_BHWC": _as_pictures(original_BNC),
        "is_masked_BHWC": _as_pictures(is_masked_BNC),
        "filled_S": filled_BNC[:SHOWN][is_masked_BNC[:SHOWN]].numpy(),
    }
    if rows.ENCODINGS[run.encoding].is_learned:
        arrays["similarity_P"] = features.pack_similarity(features.cosine_similarity(_table(network)[RED]))
    arrays |= positions(network)
    if network.palette:
        arrays["palette_KC"] = network.palette.palette_KC
    if tuned:
        arrays |= {"finetune_correct_B": tuned.correct_B, "scratch_correct_B": tuned.scratch_correct_B}
    return (
        schema.Record(
            run_id=run.run_id,
            cell=cell,
            data=data.describe(images),
            environment=environment(
                execution, pretrained.device, progress.precision, progress.processes, progress.threads
            ),
            counts=counts(initial),
            baselines=guesses.of(run, images, arrays.get("palette_KC")),
            training=schema.Training(
                curve=progress.curve,
                validation_loss=progress.curve[-1].validation_loss,
                test_loss=float(loss_B.sum() / count_B.sum()),
                steps=progress.step,
                seconds=progress.seconds,
                peak_memory_bytes=progress.peak_memory_bytes,
            ),
            reconstruction=evaluate.reconstruction_scores(filled_BNC, is_masked_BNC, original_BNC),
            encoding=None
            if network.reads_palette
            else schema.Learned(before=similarities(initial), after=similarities(network)),
            palette=_use_of_palette(initial, network, is_masked_BNC, original_BNC),
            probe=probed.record,
            other_probes=probed.others,
            finetune=tuned.record if tuned else None,
            weights=pretrained.weights,
        ),
        arrays,
    )


def _use_of_palette(
    initial: networks.IsotropicNetwork,
    network: networks.IsotropicNetwork,
    is_masked_BNC: torch.Tensor,
    original_BNC: torch.Tensor,
) -> schema.Palette | None:
    """What the palette of a network keeps of the masked test pixels, and what the table of its colours has learned."""
    if network.palette is None:
        return None
    palette = Palette(network.palette.palette_KC)  # where the images are
    nearest_BNC = torch.where(is_masked_BNC, palette.pixels(palette.tokens(original_BNC)), original_BNC)
    before, after = (_order_kept(one) for one in (initial, network)) if network.reads_palette else (None, None)
    return schema.Palette(
        nearest=evaluate.reconstruction_scores(nearest_BNC, is_masked_BNC, original_BNC), before=before, after=after
    )


def _order_kept(network: networks.IsotropicNetwork) -> float:
    """How far the vectors of a palette's colours are alike as the colours are near."""
    levels_KC = network.palette.palette_KC.astype(float)
    distance_KK = np.linalg.norm(levels_KC[:, None] - levels_KC, axis=2)
    return features.order_kept(features.cosine_similarity(_table(network)[0]).round(6), distance_KK)


def positions(network: networks.IsotropicNetwork) -> dict[str, np.ndarray]:
    """What is kept of the positions that a network has learned: `positions_QN`; nothing of others."""
    if network.config.positions != "learned":
        return {}
    return {"positions_QN": features.pack_positions(network.position_ND.detach().double().cpu().numpy())}


def _as_pictures(pixels_BNC: torch.Tensor) -> np.ndarray:
    """The first images of a batch as height x width x channel."""
    size = round(pixels_BNC.shape[1] ** 0.5)
    return pixels_BNC[:SHOWN].unflatten(1, (size, size)).numpy()


def similarities(network: networks.IsotropicNetwork) -> list[schema.Similarity]:
    """What the rows that the encoding gives to the values of each colour channel keep of the values' distance."""
    return [_similarity(rows_VD) for rows_VD in _table(network)]


def _table(network: networks.IsotropicNetwork) -> np.ndarray:
    return network.encoding.table().detach().double().cpu().numpy()


def _similarity(rows_VD: np.ndarray) -> schema.Similarity:
    similarity_VV = features.cosine_similarity(rows_VD).round(6)  # single precision tells no more
    return schema.Similarity(
        kept=features.distance_kept(similarity_VV),
        kept_off_band=features.distance_kept(similarity_VV, nearest=features.OFF_BAND),
        half_width=features.half_width(features.similarity_profile(similarity_VV)),
        rank=features.rank_at_energy(rows_VD),
    )


def counts(network: networks.IsotropicNetwork) -> schema.Counts:
    """A network's parameters, and the operations of its equations."""
    run = network.config
    return schema.Counts(
        parameters=networks.parameters(network),
        parameters_per_block=networks.parameters(network.blocks[0]),
        multiply_accumulates=networks.multiply_accumulates(run),
        multiply_accumulates_per_block=blocks.multiply_accumulates(run),
    )


def environment(
    execution: Execution, device: torch.device, precision: str, processes: int = 1, threads: Sequence[int] = ()
) -> schema.Environment:
    """Versions, device and revision of this process's computation; `threads` are all numbers of them that it used."""
    commit = revision.commit()
    return schema.Environment(
        isonb=isonb.__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        platform=platform.platform(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        processes=processes,
        threads=torch.get_num_threads(),
        earlier_threads=[count for count in threads if count != torch.get_num_threads()],
        precision=precision,
        compiled=evaluate.compiles(execution, device),
        git_revision=commit,
        git_dirty=None if commit is None else revision.is_changed(),
    )


def _cpu_name() -> str:
    """The processor's model and the matrix instructions it offers to bfloat16."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            name = next(line for line in file if line.startswith("model name")).partition(":")[2].strip()
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name} (AMX)" if torch.cpu.get_capabilities().get("amx_tile") else name
