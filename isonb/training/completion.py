"""What later versions measure beside what an older one did, added to a record that is there: nothing is trained.

The untrained twin of a network needs nothing but its settings and the images. What has to be read from the trained
network needs its final weights, where they were kept.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from isonb import records
from isonb.config import VERSION, Cell, Execution, RunConfig
from isonb.models import network as networks
from isonb.training import checkpoint, data, evaluate, launch, outcome, probe, probes

# What neither the initial weights nor the images depend on.
OPTIMISER = {"learning_rate", "batch_size", "epochs", "warmup_epochs", "adam_beta1", "adam_beta2", "adam_eps"}
CPU = torch.device("cpu")
OPTIMISER |= {"weight_decay", "augmentation", "evaluation_masks", "mask_rate"}


class Completed(NamedTuple):
    """A record with what it lacked, its arrays, and what was added, in words; empty where it lacked nothing."""

    record: records.Record
    arrays: dict[str, np.ndarray]
    added: list[str]


class Completion:
    """Completes the records of a study one after another; what several records share is computed once."""

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.twins: dict[str, dict[str, probe.Judged]] = {}
        self.filters: dict[str, float | None] = {}

    def complete(self, record: records.Record, arrays: Mapping[str, np.ndarray]) -> Completed:
        """Add the untrained twin, the linear filter's loss and, where weights were kept, the second pooling's probes.

        Raises `DataError` where the images at hand are not those of the record, and `CheckpointError` for weights that
        are not the record's.
        """
        lacks = _lacks(record)
        if not lacks:
            return Completed(record, dict(arrays), [])
        images = data.load(record.cell.run, self.execution.data_path)
        if images.sha256 != record.data.sha256:
            raise data.DataError(
                f"The images of {record.run_id} are not those at hand: set ISONB_DATA to the folder that it read."
            )
        changes: dict[str, object] = {"schema_version": VERSION}
        if "untrained twin" in lacks or "second pooling" in lacks:
            probed = self._probed(record, images)
            changes |= {"probe": probed.record, "other_probes": probed.others}
            arrays = {**arrays, **probed.arrays}
        if "linear filter" in lacks:
            filtered = self._filter(record.cell.run, images)
            changes["baselines"] = record.baselines.model_copy(update={"linear_filter": filtered})
        changes["completed"] = outcome.environment(self.execution, CPU, record.environment.precision)
        return Completed(record.model_copy(update=changes), dict(arrays), lacks)

    def _probed(self, record: records.Record, images: data.Images) -> probes.Probed:
        cell, precision = record.cell, record.environment.precision
        protocols = probes.protocols_of(cell.probe, cell.run, images)
        twin = self._twin(cell, images, precision)
        finished: dict[str, probe.Judged] = {}
        if (weights := kept_weights(record, images)) is not None:
            network = networks.build_network(cell.run).eval()
            network.load_state_dict(weights)
            finished = probes.by_each(network, images, protocols, precision)
            finished.pop("")  # the record's own stay as they are
        return probes.together(protocols, record.probe, finished, twin)

    def _twin(self, cell: Cell, images: data.Images, precision: str) -> dict[str, probe.Judged]:
        key = json.dumps([cell.run.model_dump(exclude=OPTIMISER), cell.probe.model_dump(), precision], sort_keys=True)
        if key not in self.twins:
            network = networks.build_network(cell.run).eval()
            protocols = probes.protocols_of(cell.probe, cell.run, images)
            self.twins[key] = probes.by_each(network, images, protocols, precision)
        return self.twins[key]

    def _filter(self, run: RunConfig, images: data.Images) -> float | None:
        names = ("objective", "mask_rate", "mask_unit", "evaluation_masks", "seed", "image_size", "data_fraction")
        key = json.dumps([*(getattr(run, name) for name in names), images.name])
        if key not in self.filters:
            self.filters[key] = evaluate.baselines(run, images).linear_filter
        return self.filters[key]


def _lacks(record: records.Record) -> list[str]:
    """What could be added to a record, in words."""
    lacks = []
    if record.probe.untrained is None:
        lacks.append("untrained twin")
    if record.baselines.linear_filter is None:
        lacks.append("linear filter")
    if any(other.trained is None for other in record.other_probes) and record.weights:
        lacks.append("second pooling")
    return lacks


def kept_weights(record: records.Record, images: data.Images) -> dict | None:
    """The final weights of a record's network by name, None where they were not kept or are no longer there."""
    if record.weights is None:
        return None
    path = launch.checkpoints_folder(record.cell, images) / record.weights.file
    return checkpoint.read_final(path, record) if path.exists() else None
