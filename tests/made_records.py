"""Records that a test makes up to see how results are read and shown. They exist in temporary folders only."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from isonb import config, features, records, rows, schema, studies

IMAGES = 3
DATA = schema.Data(name="photos", classes=["a", "b"], train=80, validation=20, test=40, sha256={})
KEEPS_NOTHING = schema.Similarity(kept=0.0, kept_off_band=0.0, half_width=1, rank=125)


def papers_cells(study: str) -> list[config.Cell]:
    """The cells of a study with the paper's networks and encodings, whatever else somebody has added."""
    networks = {network.name for network in rows.networks() if network.in_paper}
    encodings = {name for name, row in rows.ENCODINGS.items() if row.in_paper}
    return [cell for cell in studies.cells(study) if cell.run.network in networks and cell.run.encoding in encodings]


def made_record(
    cell: config.Cell, validation_loss: float = 4.0, test_accuracy: float = 0.25, data: schema.Data = DATA
) -> schema.Record:
    """A complete record with the given results, an accuracy in fortieths; everything else is arbitrary."""
    layers = [
        schema.Layer(layer=layer, train_accuracy=0.3, validation_accuracy=0.2, test_accuracy=accuracy)
        for layer, accuracy in enumerate([min(0.125, test_accuracy), *[test_accuracy] * cell.run.depth])
    ]
    curve = [schema.Epoch(epoch=0, learning_rate=0, train_loss=None, validation_loss=5.5, seconds=1, images=0)]
    curve += [
        schema.Epoch(
            epoch=epoch,
            learning_rate=0.01,
            train_loss=4.5,
            validation_loss=validation_loss,
            seconds=1,
            images=data.train,
        )
        for epoch in range(1, cell.run.epochs + 1)
    ]
    steps = cell.run.epochs * -(-data.train // cell.run.batch_size)
    return schema.Record(
        run_id=cell.run.run_id,
        cell=cell,
        data=data,
        environment=schema.Environment(
            isonb="0", python="3", torch="2", numpy="2", platform="test", device="cpu", processes=1, threads=1,
            precision="float32", compiled=False, git_revision=None, git_dirty=None,
        ),
        counts=schema.Counts(
            parameters=cell.run.depth + 1, parameters_per_block=1,
            multiply_accumulates=cell.run.depth + 1, multiply_accumulates_per_block=1,
        ),
        baselines=schema.Baselines(uniform=5.545, channel_marginal=5.25, neighbour_mean=3.875),
        training=schema.Training(
            curve=curve, validation_loss=validation_loss, test_loss=4.1, seconds=1, peak_memory_bytes=None, steps=steps,
        ),
        reconstruction=schema.Reconstruction(mean_absolute_error=9, share_within_8=0.5, colour_error=9),
        encoding=None
        if rows.ENCODINGS[cell.run.encoding].reads_palette
        else schema.Learned(before=[KEEPS_NOTHING] * 3, after=[KEEPS_NOTHING] * 3),
        palette=schema.Palette(
            nearest=schema.Reconstruction(mean_absolute_error=3, share_within_8=0.75, colour_error=6)
        ) if cell.run.has_palette else None,
        probe=schema.Probe(
            layers=layers, best_layer=1, test_accuracy=test_accuracy, chance=0.5, seconds=1, protocol="made by a test",
            data=None if cell.run.read_by(cell.probe) == cell.run else DATA.model_copy(update={"name": "others"}),
        ),
    )  # fmt: skip


def made_arrays(record: schema.Record | None = None, seed: int = 0) -> dict[str, np.ndarray]:
    """The arrays of a made record: the first test images are classified correctly, and all have the same loss.

    Three images of random pixels, of which every second row is masked and filled in with black.
    """
    record = record or made_record(config.smoke())
    images, size = record.data.test, record.cell.run.image_size
    probes = {"test": record.probe, "untrained": record.probe.untrained}
    for other in record.other_probes:
        if not other.name.endswith("l2"):
            probes |= {other.name: other.trained, f"{other.name}_untrained": other.untrained}
    arrays = {
        f"{name}_correct_LB": np.array([_first(layer.test_accuracy, images) for layer in one.layers])
        for name, one in probes.items()
        if one
    }
    if tuned := record.finetune:
        arrays["finetune_correct_B"] = _first(tuned.accuracy, images)
        arrays["scratch_correct_B"] = _first(tuned.scratch_accuracy, images)
    if record.cell.run.has_palette:
        arrays["palette_KC"] = features.even_colours()
    is_masked_BHWC = np.zeros((IMAGES, size, size, 3), bool)
    is_masked_BHWC[:, ::2] = True
    return arrays | {
        "test_loss_B": np.full(images, record.training.test_loss, np.float32),
        "original_BHWC": np.random.default_rng(seed).integers(0, 256, is_masked_BHWC.shape, np.uint8),
        "is_masked_BHWC": is_masked_BHWC,
        "filled_S": np.zeros(is_masked_BHWC.sum(), np.uint8),
    }


def _first(share: float, images: int) -> np.ndarray:
    return np.arange(images) < round(share * images)


def leave_record(record: schema.Record, notebook: bytes | None = None) -> Path:
    """Write a made record as a cell leaves it, with arrays that agree with it."""
    return records.write_record(record, made_arrays(record), notebook)
