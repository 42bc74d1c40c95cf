"""Records that a test makes up to see how results are read and shown. They exist in temporary folders only."""

from __future__ import annotations

import numpy as np

from isonb import config, records, rows, studies

IMAGES = 3
KEEPS_NOTHING = records.Similarity(kept=0.0, kept_off_band=0.0, half_width=1, rank=125)


def papers_cells(study: str) -> list[config.Cell]:
    """The cells of a study with the paper's networks and encodings, whatever else somebody has added."""
    networks = {network.name for network in rows.networks() if network.in_paper}
    encodings = {name for name, row in rows.ENCODINGS.items() if row.in_paper}
    return [cell for cell in studies.cells(study) if cell.run.network in networks and cell.run.encoding in encodings]


def made_record(cell: config.Cell, validation_loss: float = 4.0, test_accuracy: float = 0.25) -> records.Record:
    """A complete record with the given results; everything else is arbitrary."""
    layers = [
        records.Layer(layer=layer, train_accuracy=0.3, validation_accuracy=0.2, test_accuracy=accuracy)
        for layer, accuracy in ((0, 0.125), (1, test_accuracy))
    ]
    curve = [
        records.Epoch(epoch=0, learning_rate=0, train_loss=None, validation_loss=5.5, seconds=1, images=0),
        records.Epoch(
            epoch=1, learning_rate=0.01, train_loss=4.5, validation_loss=validation_loss, seconds=1, images=8
        ),
    ]
    return records.Record(
        run_id=cell.run.run_id,
        cell=cell,
        data=records.Data(name="photos", classes=["a", "b"], train=80, validation=20, test=40, sha256={}),
        environment=records.Environment(
            isonb="0", python="3", torch="2", numpy="2", platform="test", device="cpu", processes=1, threads=1,
            precision="float32", compiled=False, git_revision=None, git_dirty=None,
        ),
        counts=records.Counts(
            parameters=1, parameters_per_block=1, multiply_accumulates=1, multiply_accumulates_per_block=1
        ),
        baselines=records.Baselines(uniform=5.545, channel_marginal=5.25, neighbour_mean=3.875),
        training=records.Training(
            curve=curve, validation_loss=validation_loss, test_loss=4.1, steps=5, seconds=1, peak_memory_bytes=None
        ),
        reconstruction=records.Reconstruction(mean_absolute_error=9, share_within_8=0.5, colour_error=9),
        encoding=records.Learned(before=[KEEPS_NOTHING] * 3, after=[KEEPS_NOTHING] * 3),
        probe=records.Probe(
            layers=layers, best_layer=1, test_accuracy=test_accuracy, chance=0.1, seconds=1, protocol="made by a test"
        ),
    )  # fmt: skip


def made_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Test images of random pixels, of which every second row is masked and filled in with black."""
    generator = np.random.default_rng(seed)
    is_masked_BHWC = np.zeros((IMAGES, 32, 32, 3), bool)
    is_masked_BHWC[:, ::2] = True
    return {
        "original_BHWC": generator.integers(0, 256, is_masked_BHWC.shape, np.uint8),
        "is_masked_BHWC": is_masked_BHWC,
        "filled_S": np.zeros(is_masked_BHWC.sum(), np.uint8),
    }
