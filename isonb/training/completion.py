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

from isonb import rows, schema
from isonb.config import Cell, Execution, RunConfig
from isonb.models import network as networks
from isonb.numerics import NUMERICS
from isonb.training import checkpoint, data, guesses, launch, outcome, probe, probes, sampling, sources

# What neither the initial weights nor the images depend on.
OPTIMISER = {"learning_rate", "batch_size", "epochs", "warmup_epochs", "adam_beta1", "adam_beta2", "adam_eps"}
CPU = torch.device("cpu")
OPTIMISER |= {"weight_decay", "augmentation", "evaluation_masks"}


class Completed(NamedTuple):
    """A record with what it lacked, its arrays, and what was added, in words; empty where it lacked nothing."""

    record: schema.Record
    arrays: dict[str, np.ndarray]
    added: list[str]


class Completion:
    """Completes the records of a study one after another; what several records share is computed once."""

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.twins: dict[str, dict[str, probe.Judged]] = {}

    def complete(self, record: schema.Record, arrays: Mapping[str, np.ndarray]) -> Completed:
        """Add the untrained twin, the linear filter's loss and, where weights were kept, the second pooling's probes.

        Of networks whose weights were kept, also what an autoregressive one makes of lower halves, and how alike
        learned positions are.

        A record of earlier numerics stays as it is: today's twin would not be its own.

        Raises `DataError` where the images at hand are not those of the record, and `CheckpointError` for weights that
        are not the record's.
        """
        weights = kept_weights(record)
        lacks = _lacks(record, arrays, weights is not None)
        if not lacks or record.numerics != NUMERICS:
            return Completed(record, dict(arrays), [])
        folder = self.execution.data_path
        for own, read in record.read():  # nothing is downloaded for this
            if rows.SOURCES[own.data].reads_folder and sources.checksums(own, folder) != read.sha256:
                raise _elsewhere(record)
        images, probed_on, _ = data.load_all(record.cell, folder)
        if (images.sha256, probed_on.sha256) != (record.data.sha256, record.probed_on.sha256):
            raise _elsewhere(record)
        changes: dict[str, object] = {}
        if "untrained twin" in lacks or "second pooling" in lacks:
            probed = self._probed(record, probed_on, weights, arrays.get("palette_KC"))
            changes |= {"probe": probed.record, "other_probes": probed.others}
            arrays = {**arrays, **probed.arrays}
        if "linear filter" in lacks:
            filtered = guesses.of(record.cell.run, images).linear_filter
            changes["baselines"] = record.baselines.model_copy(update={"linear_filter": filtered})
        if "learned positions" in lacks:
            arrays = {**arrays, **outcome.positions(_finished(record, weights, arrays.get("palette_KC")))}
        if "completions" in lacks:
            arrays = {**arrays, **sampling.kept(_finished(record, weights, arrays.get("palette_KC")), images)}
        changes["completed"] = outcome.environment(self.execution, CPU, record.environment.precision)
        return Completed(record.model_copy(update=changes), dict(arrays), lacks)

    def _probed(
        self,
        record: schema.Record,
        images: data.Images,
        weights: dict[str, torch.Tensor] | None,
        palette_KC: np.ndarray | None,
    ) -> probes.Probed:
        cell, precision = record.cell, record.environment.precision
        protocols = probes.protocols_of(cell.probe, cell.run, images)
        twin = self._twin(cell, images, precision, palette_KC)
        finished: dict[str, probe.Judged] = {}
        if weights is not None:
            network = _finished(record, weights, palette_KC)
            finished = probes.by_each(network, images, protocols, precision)
            finished.pop("")  # the record's own stay as they are
        return probes.together(protocols, record.probe, finished, twin)

    def _twin(
        self, cell: Cell, images: data.Images, precision: str, palette_KC: np.ndarray | None
    ) -> dict[str, probe.Judged]:
        colours = None if palette_KC is None else palette_KC.tolist()
        same = [cell.run.model_dump(exclude=OPTIMISER), cell.probe.model_dump(), precision, colours]
        key = json.dumps(same, sort_keys=True)
        if key not in self.twins:
            protocols = probes.protocols_of(cell.probe, cell.run, images)
            self.twins[key] = probes.by_each(_built(cell.run, precision, palette_KC), images, protocols, precision)
        return self.twins[key]


def _elsewhere(record: schema.Record) -> data.DataError:
    return data.DataError(
        f"The images of {record.run_id} are not those at hand: set ISONB_DATA to the folder that it read."
    )


def _built(run: RunConfig, precision: str, palette_KC: np.ndarray | None = None) -> networks.IsotropicNetwork:
    network = networks.build_network(run, palette_KC).eval()
    return network.double() if precision == "float64" else network


def _finished(
    record: schema.Record, weights: dict[str, torch.Tensor], palette_KC: np.ndarray | None
) -> networks.IsotropicNetwork:
    network = _built(record.cell.run, record.environment.precision, palette_KC)
    network.load_state_dict(weights)
    return network


def _lacks(record: schema.Record, arrays: Mapping[str, np.ndarray], has_weights: bool) -> list[str]:
    """What could be added to a record, in words."""
    lacks = []
    if record.probe.untrained is None:
        lacks.append("untrained twin")
    if record.baselines.linear_filter is None:
        lacks.append("linear filter")
    if has_weights and any(other.trained is None for other in record.other_probes):
        lacks.append("second pooling")
    if has_weights and record.cell.run.is_causal and "completed_BSHWC" not in arrays:
        lacks.append("completions")
    if has_weights and record.cell.run.positions == "learned" and "positions_QN" not in arrays:
        lacks.append("learned positions")
    return lacks


def kept_weights(record: schema.Record) -> dict[str, torch.Tensor] | None:
    """The final weights of a record's network by name, None where they were not kept or are no longer there.

    Raises `CheckpointError` for weights that are not the record's.
    """
    if record.weights is None:
        return None
    path = launch.checkpoints_folder(record.cell, record.data) / record.weights.file
    return checkpoint.read_final(path, record) if path.exists() else None
