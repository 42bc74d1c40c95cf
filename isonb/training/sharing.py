"""Networks that come with the project: finished runs' weights in bfloat16, beside the book, for `isonb.load`.

So that a reader can ask a trained network without training one. A copy belongs to a run whose record is among the
results, says which file of weights it was rounded from, and with what loss.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from isonb import disk, places, records, schema, surroundings
from isonb.config import ConfigError
from isonb.training import checkpoint, data, evaluate, keeping


def share(run: str) -> Path:
    """Write a finished run's network among those that come with the project, and return the file.

    Raises `CheckpointError` where no network of that name is kept, `ConfigError` where there is no record of just these
    weights or the package is installed without its project, and `DataError` where the images that the run validated on
    are not at hand.
    """
    surroundings.require_project("its other files, to which networks are added")
    kept = keeping.find(run)
    network = keeping.load(kept)
    config = network.config
    digest = hashlib.sha256(disk.read_bytes(kept, kept.stat().st_size)).hexdigest()
    record = _record(config.run_id, digest)
    images = data.load(config)
    if data.describe(images).sha256 != record.data.sha256:
        raise ConfigError(f"{run} was trained on other images than those at hand: name their folder in ISONB_DATA.")
    network.bfloat16()
    loss_B, count_B = evaluate.loss_per_image(network.float(), config, images.validation, "float32")
    loss = float(loss_B.sum() / count_B.sum())
    path = places.NETWORKS / f"{config.run_id}.safetensors"
    shared = schema.Shared(study=record.cell.study, of=digest, validation_loss=loss)
    checkpoint.keep_at(path, config, network.bfloat16(), shared)
    return path


def _record(run_id: str, digest: str) -> schema.Record:
    """The record whose weights have this SHA-256. Raises `ConfigError` where there is none."""
    for path in sorted(places.all_results().glob(f"*/{run_id}.json")):
        record = records.read_record(path)
        if record.weights and record.weights.sha256 == digest:
            return record
    raise ConfigError(
        f"There is no record of these weights of {run_id} in {places.all_results()}: run the cell, then share it."
    )
