"""Every layer of a network that was kept, probed: `python -m isonb probe`.

The images pass through it once. What that needs is said before it starts: a published network has 24 layers and more,
and their features, as well as the hours, may be more than a machine has.

Book: chapter "image-GPT".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from isonb import schema
from isonb.config import MODELS, PREFIXES, Cell, ConfigError, Execution, ProbeConfig
from isonb.models import network as networks
from isonb.running import estimate
from isonb.training import data, evaluate, keeping, launch, progress, room, world
from isonb.training import probe as probes

GIBIBYTE = 2**30
OF_A_RUN = ("along", "pixels")  # settings of a probe that belong to a run's record
HEEDED = ("device", "threads", "precision", "data_folder")  # what of an execution has an effect here


def probe(kept: str, settings: Mapping[str, Any], say: Callable[[str], None], shown: bool = False) -> str:
    """Probe the network that is kept and return a table of its layers; `say` is told what it will need.

    `shown` is whether there is a progress bar. Raises `ConfigError` for a setting that is not the probe's own and for
    what there is no room for, `CheckpointError` where no network is kept, and `DataError` for the images.
    """
    config, execution = asked(settings, "probe", HEEDED, OF_A_RUN)
    network, device, precision = ready(kept, execution)
    cell = Cell(run=network.config, probe=config)
    images = data.load(cell.run.read_by(cell.probe), execution.data_path)
    network = network.to(device)
    say(needs(network, images, cell.probe, precision))
    views = probes.VOTES if cell.probe.inputs == "vote5" else 1
    counted = views * (len(images.train) + len(images.validation) + len(images.test))
    try:
        with progress.probing_bar(network, counted, shown):
            judged = probes.judge(network, images, [cell.probe], precision)[0]
    except (probes.ProbeError, room.NoRoomError) as error:
        raise ConfigError(str(error)) from None
    return _table(judged.probes, images, cell.probe)


def ready(kept: str, execution: Execution) -> tuple[networks.IsotropicNetwork, torch.device, str]:
    """The network that is kept, the device that it is for, and in which precision it computes there."""
    launch.require_device(execution)
    network = keeping.load(kept)
    with world.join_world(execution) as here:  # which takes its threads
        is_double = next(network.parameters()).dtype == torch.float64
        return network, here.device, "float64" if is_double else evaluate.resolve_precision(execution, here.device)


def needs(network: networks.IsotropicNetwork, images: data.Images, config: ProbeConfig, precision: str) -> str:
    """How many features of how many images, the room that they take and where, and how long one pass takes here."""
    run, counts = network.config, (len(images.train), len(images.validation), len(images.test))
    views = probes.VOTES if config.inputs == "vote5" else 1
    sizes = [probes.feature_bytes(run, config, count) for count in counts]
    in_file = sum(size for size in sizes if size > room.MEMORY) * views
    in_memory = sum(size for size in sizes if size <= room.MEMORY) * views
    groups = room.groups(run.depth + 1, sizes[0] // (run.depth + 1))
    held = in_memory + (sizes[0] // len(groups) if in_file else 0)
    weights = sum(x.nbytes for x in network.state_dict().values())
    hours = views * estimate.seconds_of_a_pass(network, counts, precision) / 3600
    where = f", and {in_file / GIBIBYTE:.1f} GiB on the disk, read in {len(groups)} parts" if in_file else ""
    what = f"{run.depth + 1} layers of {probes.pooled_width(run, config):,} features of {images.name}"
    of = " and ".join((f"{counts[0]:,} training, {counts[1]:,} validation", f"{counts[2]:,} test images"))
    return (
        f"{what}, of {of}: {weights / GIBIBYTE:.2f} GiB of weights and {held / GIBIBYTE:.2f} GiB of features in "
        f"memory{where}; one pass over the images takes {duration(hours)}."
    )


def duration(hours: float) -> str:
    """Hours in words, as of a thing that is yet to be."""
    return f"about {hours:.1f} hours" if hours >= 1 else f"about {max(60 * hours, 0.1):.1f} minutes"


def asked(
    settings: Mapping[str, Any], part: str, heeded: Sequence[str], without: Sequence[str] = ()
) -> tuple[Any, Execution]:
    """The settings of a part of a cell, such as its probe, and where it is computed, of which some are `heeded`.

    Raises `ConfigError` for any other setting: a network that is kept has its own.
    """
    prefix, model = PREFIXES[part], MODELS[part]
    own = {name: prefix + name for name in model.model_fields if name not in without}
    for name in settings:
        if name in Execution.model_fields and name not in heeded:
            raise ConfigError(f"{name!r} has no effect here: leave it out, or choose among {', '.join(heeded)}.")
        if name not in (*own.values(), *heeded):
            raise ConfigError(
                f"{name!r} says how a network is trained, and this one is: leave it out, or set what begins with "
                f"{prefix!r}."
            )
    config = model(**{name: settings[full] for name, full in own.items() if full in settings})
    return config, Execution(**{name: settings[name] for name in heeded if name in settings})


def _table(judged: schema.Probes, images: data.Images, config: ProbeConfig) -> str:
    """A line for each layer, the chosen one marked."""
    lines = [f"{'layer':>5}{'train':>9}{'validation':>12}{'test':>9}"]
    for layer in judged.layers:
        shares = (layer.train_accuracy, layer.validation_accuracy, layer.test_accuracy)
        numbers = "".join(f"{share:>{width}.2%}" for share, width in zip(shares, (9, 12, 9), strict=True))
        lines.append(f"{layer.layer:>5}{numbers}{'  chosen' if layer.layer == judged.best_layer else ''}")
    lines.append(
        f"Layer {judged.best_layer} reads {judged.test_accuracy:.2%} of the test images of {images.name} "
        f"({probes.describe(config)})."
    )
    return "\n".join(lines)
