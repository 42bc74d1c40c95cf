"""All the probes of a record: two poolings, with and without a penalty, of the network and of its untrained twin.

The twin is the same network with its initial weights. What a probe reads from it is owed to the architecture and the
encoding alone; the difference is what pre-training adds.

Book: chapter "Probing".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from isonb import schema
from isonb.config import ProbeConfig, RunConfig
from isonb.models import network as networks
from isonb.training import data, probe, room

PENALTIES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)  # the L2 ladder, beside none: a factor of about 3 each
OTHER = {"mean": "grid4", "grid4": "mean", "flatten": "mean"}  # the pooling of the second protocol


@dataclasses.dataclass(frozen=True)
class Probed:
    """The record's parts, and what stands beside it: which test images each layer gets right, by name of the array."""

    record: schema.Probe
    others: list[schema.OtherProbe]
    arrays: dict[str, np.ndarray]


def of_network(
    network: networks.IsotropicNetwork,
    images: data.Images,
    config: ProbeConfig,
    precision: str = "float32",
    kept: Sequence[Path] = (),
) -> Probed:
    """Probe every layer of a finished network and of its untrained twin by each protocol.

    The second pooling is left out where its features would not fit into memory.
    Raises what `probe.probe_layers` raises.
    """
    protocols = protocols_of(config, network.config, images)
    finished = by_each(network, images, protocols, precision)
    record = probe.probe_layers(network, images, config, precision, kept, finished[""]).record
    return together(protocols, record, finished, by_each(untrained(network), images, protocols, precision))


def untrained(network: networks.IsotropicNetwork) -> networks.IsotropicNetwork:
    """The same network with its initial weights, on the same device and in the same number format."""
    like = next(network.parameters())
    return networks.untrained(network).to(like.device, like.dtype).eval()


def protocols_of(config: ProbeConfig, run: RunConfig, images: data.Images) -> dict[str, ProbeConfig]:
    """The cell's own protocol, without a name, and the one with the other pooling, scaled as is usual for it."""
    pooling = OTHER[config.pooling]
    other = ProbeConfig(**config.model_dump(exclude={"scaling", "along", "pixels"}) | {"pooling": pooling})
    views = probe.VOTES if config.inputs == "vote5" else 1
    needed = probe.feature_bytes(run, other, views * max(len(images.train), len(images.test)))
    return {"": config} | ({pooling: other} if needed <= room.MEMORY else {})


def by_each(
    network: networks.IsotropicNetwork, images: data.Images, protocols: Mapping[str, ProbeConfig], precision: str
) -> dict[str, probe.Judged]:
    """A network's probes by each protocol, and again with the penalties that are chosen on validation, by name."""
    judged = probe.judge(network, images, list(protocols.values()), precision, PENALTIES)
    return dict(zip([*protocols, *map(_penalised, protocols)], judged, strict=True))


def together(
    protocols: Mapping[str, ProbeConfig],
    record: schema.Probe,
    finished: Mapping[str, probe.Judged],
    twin: Mapping[str, probe.Judged],
) -> Probed:
    """The parts of a record from the probes of the finished network, where they are there, and those of its twin."""
    described = {name: probe.describe(config) for name, config in protocols.items()}
    described |= {
        _penalised(name): f"{text}, L2 penalty of each layer chosen on validation" for name, text in described.items()
    }
    others = [
        schema.OtherProbe(
            name=name,
            protocol=described[name],
            trained=finished[name].probes if name in finished else None,
            untrained=judged.probes,
        )
        for name, judged in twin.items()
        if name
    ]
    arrays = {}
    for name in protocols:
        prefix = f"{name}_" if name else ""
        arrays[f"{prefix}untrained_correct_LB"] = twin[name].test_correct_LB
        if name in finished:
            arrays[f"{prefix or 'test_'}correct_LB"] = finished[name].test_correct_LB
    return Probed(record.model_copy(update={"untrained": twin[""].probes}), others, arrays)


def _penalised(name: str) -> str:
    return f"{name} l2".strip()
