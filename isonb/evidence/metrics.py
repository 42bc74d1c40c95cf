"""Records to tidy tables: one row per run, per layer, per epoch, and the arrays beside them.

Every column is documented where it is named. Runs that read different images are never compared: each set of images
has tables of its own. A damaged or foreign result file is named, skipped and reported, so that one bad file neither
hides nor stops the rest.

Book: chapter "Results".
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from isonb import config, disk, places, records, rows, schema
from isonb.config import MODELS, PREFIXES, Cell
from isonb.numerics import NUMERICS

OTHER_PROBES = {
    "grid4": "features pooled over a 4x4 grid",
    "l2": "with the L2 penalty of each layer chosen on validation",
    "grid4_l2": "features pooled over a 4x4 grid, with the L2 penalty of each layer chosen on validation",
}
IDENTITY = ("block", "heads", "encoding", "depth", "seed", "data", "collection")
MAIN = "main"
ERRORS = tuple(schema.Reconstruction.model_fields)


def _settings(model: type, prefix: str = "") -> dict[str, str]:
    """A documentation line per setting, from the configuration's own description of it."""
    return {
        prefix + name: f"Setting ({field.json_schema_extra['point']}). Default {field.default}: {field.description}."
        for name, field in model.model_fields.items()
    }


RUN_COLUMNS: dict[str, str] = {
    "run_id": "Name of the run, unique to its configuration.",
    "study": "Study the run belongs to.",
    "network": "Kind of network: its block, with the number of heads where the block has any.",
    "arm": "'main' for the study's own grid; otherwise the settings in which the run departs from it.",
    "data_id": "Digest of the images read (names, checksums, test count): only runs with the same one are compared.",
    **{name: text for part, prefix in PREFIXES.items() for name, text in _settings(MODELS[part], prefix).items()},
    "images": "Name of the images read, and of those that probes and fine-tuning are on where these are others.",
    "data_train": "Number of training images read.",
    "data_test": "Number of test images read.",
    "probe_test": "Number of test images that accuracies of probes are on.",
    "parameters": "Number of parameters of the whole network.",
    "parameters_per_block": "Number of parameters of one block.",
    "multiply_accumulates": "Multiply-accumulates of one forward pass, per image.",
    "multiply_accumulates_per_block": "Multiply-accumulates of one block, per image.",
    "baseline_uniform": "Loss per masked sub-pixel of a uniform guess over the 256 values, in the run's own unit; with "
    "target=palette per masked pixel, over 512 colours.",
    "baseline_channel_marginal": "The same of the channel's value frequencies, or of the palette's.",
    "baseline_neighbour_mean": "The same of a guess around the mean of the unmasked neighbours.",
    "baseline_linear_filter": "The same of a linear map from the 5x5 window around it; missing where none was fitted.",
    "validation_loss": "Loss on the validation images after training, a mean over masked sub-pixels in nats; squared "
    "errors for objective=mse, over all sub-pixels for objective=autoregressive, and over pixels for target=palette.",
    "test_loss": "The same on the test images.",
    "steps": "Optimiser steps taken.",
    "mean_absolute_error": "Predicted value against truth at masked test sub-pixels, in 8-bit levels.",
    "share_within_8": "Share of masked test sub-pixels whose predicted value is within 8 levels of the truth.",
    **{
        f"nearest_{name}": "The same where every pixel is filled with the palette's colour nearest to the true one; "
        "missing without a palette."
        for name in ERRORS
    },
    "colour_error": "Mean Euclidean distance in RGB of masked test pixels from the truth, in 8-bit levels.",
    "best_layer": "Layer chosen by the probes on the configured split; 0 is the encoding.",
    "test_accuracy": "Test accuracy of the probe of the chosen layer, a share.",
    "untrained_best_layer": "Layer chosen for the untrained twin, the same network with its initial weights; missing "
    "where that was not probed, as in all of the twin's columns.",
    "untrained_accuracy": "Test accuracy of the probe of that layer of the untrained twin.",
    "gain": "test_accuracy minus untrained_accuracy: what pre-training adds.",
    **{
        f"{name}_{twin}accuracy": f"Test accuracy of the {of}probe of the layer chosen by it, {how}."
        for name, how in OTHER_PROBES.items()
        for twin, of in (("", ""), ("untrained_", "untrained twin's "))
    },
    "finetune_accuracy": "Test accuracy of the fine-tuned network after its best epoch; missing where none was.",
    "finetune_best_epoch": "That epoch, of those of fine-tuning.",
    "scratch_accuracy": "The same of the network that was trained alike from its initial weights.",
    "chance": "Accuracy of always guessing the most frequent class, a share.",
    "peak_memory_bytes": "Largest memory of the process that trained, in bytes; missing where it is unknown.",
    "training_seconds": "Seconds of pre-training.",
    "probe_seconds": "Seconds of feature extraction and of training all probes.",
    "finetune_seconds": "Seconds of fine-tuning and of training from scratch together; missing where neither was.",
}
KEYS: dict[str, str] = {
    name: RUN_COLUMNS[name] for name in ("run_id", "network", "encoding", "depth", "seed", "arm", "data_id")
}
LAYER_COLUMNS: dict[str, str] = {
    **KEYS,
    "layer": "Layer that is probed; 0 is the encoding, `depth` the last block's output.",
    "train_accuracy": "Share of training images that the layer's probe classifies correctly.",
    "validation_accuracy": "The same on the validation images.",
    "test_accuracy": "The same on the test images.",
    "untrained_validation_accuracy": "The share on the validation images of the untrained twin's layer.",
    "untrained_test_accuracy": "The same on the test images.",
    "pixel_accuracy": "Share of scored test sub-pixels that a linear map from the layer hits within 8 levels; missing "
    "where none was fitted.",
}
CURVE_COLUMNS: dict[str, str] = {
    **KEYS,
    "epoch": "Epochs completed; 0 is before the first step.",
    "learning_rate": "Learning rate at the end of the epoch.",
    "train_loss": "Mean training loss over the epoch, in the run's own unit; missing at epoch 0.",
    "validation_loss": "Loss on the validation images, in the same unit.",
    "seconds": "Seconds of the epoch's training.",
    "images": "Images seen in the epoch.",
    "probe_accuracy": "Test accuracy of the probe of the layer chosen then, a share; missing where none was trained.",
}
LEARNED_COLUMNS: dict[str, str] = {
    **KEYS,
    "stage": "'before' or 'after' training.",
    "channel": "Colour channel: 0 is red.",
    "kept": "Rank correlation of the similarity of two values' rows and their -distance, over all pairs of values.",
    "kept_off_band": "The same over pairs more than 8 levels apart.",
    "half_width": "Levels at which the mean similarity is below 1/2; missing where it never is.",
    "rank": "Singular directions that hold 99 % of the energy of the 256 rows.",
}


@dataclasses.dataclass(frozen=True)
class Tables:
    """What a claim or a figure may look at: tidy frames of one set of images, and the arrays of each run.

    `arrays[run_id]` holds at least `test_correct_LB` (bool) and `test_loss_B` (mean loss per masked sub-pixel), in the
    same order of test images for every run. `more` holds further named frames, and `faults` names the files that were
    skipped. `images` is the name of the set, and `remarks` say what makes numbers on it doubtful. `encodings` are those
    that claims are about: the paper's, unless they are asked about others.
    """

    runs: pd.DataFrame
    layers: pd.DataFrame
    curves: pd.DataFrame
    arrays: Mapping[str, Mapping[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    more: Mapping[str, pd.DataFrame] = dataclasses.field(default_factory=dict)
    faults: tuple[str, ...] = ()
    learned: pd.DataFrame = dataclasses.field(default_factory=lambda: pd.DataFrame(columns=list(LEARNED_COLUMNS)))
    images: str = ""
    remarks: tuple[str, ...] = ()
    encodings: tuple[str, ...] = tuple(name for name, row in rows.ENCODINGS.items() if row.in_paper)

    def frame(self, name: str) -> pd.DataFrame:
        """The frame called `runs`, `layers`, `curves`, `learned` or one of `more`; empty when there is none."""
        named = {"runs": self.runs, "layers": self.layers, "curves": self.curves, "learned": self.learned, **self.more}
        return named.get(name, pd.DataFrame())


def departures(cell: Cell) -> dict[str, Any]:
    """The settings that differ from the study's own cell of this block, encoding, size, seed and source.

    Probes along the training or of pixels, and fine-tuning, do not count: they add to a run and change nothing in it.
    """
    identity = {name: getattr(cell.run, name) for name in IDENTITY}
    grid = config.cell(cell.study, **identity).with_extras(cell)
    return {
        prefix + name: value
        for part, prefix in PREFIXES.items()
        for name, value in getattr(cell, part).model_dump().items()
        if value != getattr(getattr(grid, part), name)
    }


def arm(cell: Cell) -> str:
    """`main`, or the settings in which a cell departs from its study's grid."""
    return " ".join(f"{name}={value}" for name, value in departures(cell).items()) or MAIN


def data_id(data: schema.Data) -> str:
    """Eight hexadecimal digits that are equal when the same files and the same number of test images were read."""
    content = json.dumps([data.name, data.classes, data.test, sorted(data.sha256.items())])
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def images_id(record: schema.Record) -> str:
    """The `data_id` of all images of a record: another one where probes or fine-tuning are on images of their own."""
    ids = [data_id(data) for data in (record.data, record.probed_on, record.tuned_on)]
    return ids[0] if len({*ids}) == 1 else hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:8]


def images_name(record: schema.Record) -> str:
    """What the images of a record are called: "cifar10, classes 0-4, probed on cifar10, classes 5-9"."""
    others = {"probed": record.probe.data, "fine-tuned": record.finetune and record.finetune.data}
    return record.data.name + "".join(f", {how} on {data.name}" for how, data in others.items() if data)


def by_images(runs: Iterable[schema.Record]) -> list[list[schema.Record]]:
    """The records in sets that may be compared: of the same images (equal `data_id`), made under the same numerics.

    Sets of the study's own source come before others, and of these that with the most main runs.
    """
    sets: dict[tuple[str, int], list[schema.Record]] = {}
    for run in runs:
        sets.setdefault((images_id(run), run.numerics), []).append(run)

    def rank(key: tuple[str, int]) -> tuple[bool, int, int, tuple[str, int]]:
        cells = [run.cell for run in sets[key]]
        is_foreign = cells[0].run.data != config.cell(cells[0].study).run.data
        return is_foreign, -sum(arm(cell) == MAIN for cell in cells), -len(cells), key

    return [sets[key] for key in sorted(sets, key=rank)]


def images_read(runs: Sequence[schema.Record]) -> str:
    """What a set of images is called: "cifar10, 3600/400/1000 images" for training, validation and test.

    The counts are those of a run that was given the most; records of earlier numerics say so.
    """
    most = max((run.data for run in runs), key=lambda data: (data.train + data.validation, data.train))
    others = images_name(runs[0]).removeprefix(runs[0].data.name)
    earlier = f", numerics {runs[0].numerics}" if runs[0].numerics != NUMERICS else ""
    return f"{most.name}, {most.train}/{most.validation}/{most.test} images{others}{earlier}"


def run_row(record: schema.Record) -> dict[str, Any]:
    """One record as a flat row of the table of runs: settings, counts, losses and the chosen layer's accuracy."""
    tuned = record.finetune
    return {
        "run_id": record.run_id,
        "study": record.cell.study,
        "network": record.cell.run.network,
        "arm": arm(record.cell),
        "data_id": images_id(record),
        **_setting_values(record.cell),
        "images": images_name(record),
        "data_test": record.data.test,
        "probe_test": record.probed_on.test,
        "data_train": record.data.train,
        **record.counts.model_dump(),
        **{f"baseline_{name}": value for name, value in record.baselines.model_dump().items()},
        **record.reconstruction.model_dump(),
        **{f"nearest_{name}": getattr(record.palette and record.palette.nearest, name, np.nan) for name in ERRORS},
        "validation_loss": record.training.validation_loss,
        "test_loss": record.training.test_loss,
        "steps": record.training.steps,
        "best_layer": record.probe.best_layer,
        "test_accuracy": record.probe.test_accuracy,
        **_probes(record),
        "finetune_accuracy": tuned.accuracy if tuned else np.nan,
        "finetune_best_epoch": tuned.epoch if tuned else np.nan,
        "scratch_accuracy": tuned.scratch_accuracy if tuned else np.nan,
        "chance": record.probe.chance,
        "peak_memory_bytes": record.training.peak_memory_bytes,
        "training_seconds": record.training.seconds,
        "probe_seconds": record.probe.seconds,
        "finetune_seconds": tuned.seconds if tuned else np.nan,
    }


def _probes(record: schema.Record) -> dict[str, float]:
    """What the untrained twin's probes and those of further protocols read, where they are there."""
    twin = record.probe.untrained
    accuracies = {
        "untrained_best_layer": twin.best_layer if twin else np.nan,
        "untrained_accuracy": twin.test_accuracy if twin else np.nan,
        "gain": record.probe.test_accuracy - twin.test_accuracy if twin else np.nan,
    }
    others = {other.name.replace(" ", "_"): other for other in record.other_probes}
    for name in OTHER_PROBES:
        other = others.get(name)
        for twin, probes in (("", other and other.trained), ("untrained_", other and other.untrained)):
            accuracies[f"{name}_{twin}accuracy"] = probes.test_accuracy if probes else np.nan
    return accuracies


def _layers(record: schema.Record) -> Iterator[dict[str, Any]]:
    """The probes of each layer, with what the same layer of the untrained twin reads."""
    twin = record.probe.untrained
    for place, layer in enumerate(record.probe.layers):
        same = twin.layers[place] if twin else None
        yield layer.model_dump() | {
            "untrained_validation_accuracy": same.validation_accuracy if same else np.nan,
            "untrained_test_accuracy": same.test_accuracy if same else np.nan,
        }


def _setting_values(cell: Cell) -> dict[str, Any]:
    parts = {prefix: getattr(cell, part).model_dump() for part, prefix in PREFIXES.items()}
    return {prefix + name: value for prefix, values in parts.items() for name, value in values.items()}


def tables(by_id: Mapping[str, schema.Record], **rest: Any) -> Tables:
    """The frames of some records, by run_id. Raises `ValueError` where they must not be compared."""
    runs = list(by_id.values())
    if len({(images_id(run), run.numerics) for run in runs}) > 1:
        raise ValueError("These records must not be compared: make tables of each set that `by_images` gives.")
    rows = {run_id: run_row(record) for run_id, record in by_id.items()}
    keys = {run_id: {name: row[name] for name in KEYS} for run_id, row in rows.items()}
    layers = [keys[i] | row for i, record in by_id.items() for row in _layers(record)]
    curves = [keys[i] | row for i, record in by_id.items() for row in _curve(record)]
    learned = [
        keys[i] | {"stage": stage, "channel": channel} | similarity.model_dump()
        for i, record in by_id.items()
        for stage, channels in record.encoding or ()
        for channel, similarity in enumerate(channels)
    ]
    about = {
        "images": images_read(runs) if runs else "",
        "remarks": tuple(dict.fromkeys(remark for run in runs for _, data in run.read() for remark in data.remarks)),
    }
    return Tables(
        pd.DataFrame(list(rows.values()), columns=list(RUN_COLUMNS)),
        pd.DataFrame(layers, columns=list(LAYER_COLUMNS)),
        pd.DataFrame(curves, columns=list(CURVE_COLUMNS)),
        learned=pd.DataFrame(learned, columns=list(LEARNED_COLUMNS)),
        **about | rest,
    )


def _curve(record: schema.Record) -> Iterator[dict[str, Any]]:
    """The learning curve, with the accuracy of the probes of those epochs that were probed."""
    accuracy = {probed.epoch: probed.test_accuracy for probed in record.probe.along}
    for row in record.training.curve:
        yield row.model_dump() | {"probe_accuracy": accuracy.get(row.epoch, np.nan)}


def read_sets(study: str) -> list[Tables]:
    """The tables of every set of images that a study has read, in the order of `by_images`; without a run, empty ones.

    Runs that select images, as for a transfer, have no grid beside them that they could be compared with: not these.
    What could not be read is named in the first one's `faults`, one sentence each.
    """
    runs, arrays, faults = _read(study)
    sets = by_images(run for run in runs if not run.cell.selects_images) or [[]]
    names = Counter(images_read(of_set) for of_set in sets if of_set)
    read = []
    for of_set in sets:
        by_id = {run.run_id: run for run in of_set}
        t = tables(by_id, arrays={run_id: arrays[run_id] for run_id in by_id})
        if names[t.images] > 1:
            t = dataclasses.replace(t, images=f"{t.images} ({images_id(of_set[0])})")
        read.append(t)
    return [dataclasses.replace(read[0], faults=tuple(faults)), *read[1:]]


def read(study: str) -> Tables:
    """A study's readable records on the images that most of its main runs read; `read_sets` has the others, too."""
    return read_sets(study)[0]


def _read(study: str) -> tuple[list[schema.Record], dict[str, Mapping[str, np.ndarray]], list[str]]:
    """Every readable record of a study by run_id, its arrays, and a sentence for each file that cannot be read."""
    runs, arrays, faults = [], {}, []
    for path in records.record_paths(study):
        try:
            run, arrays[path.stem] = records.read(path)
            if run.cell.study != study:
                raise records.RecordError(
                    f"{path} is a record of the study {run.cell.study}: move it where it belongs."
                )
            runs.append(run)
        except records.RecordError as error:
            faults.append(str(error))
    return runs, arrays, faults


def _frame(study: str, name: str) -> pd.DataFrame:
    t = read(study)
    for fault in t.faults:
        warnings.warn(fault, stacklevel=3)
    return t.frame(name)


def runs(study: str) -> pd.DataFrame:
    """One row per run of `read`, columns as in `RUN_COLUMNS`. Warns of every file that was skipped."""
    return _frame(study, "runs")


def layers(study: str) -> pd.DataFrame:
    """One row per run and layer, columns as in `LAYER_COLUMNS`. Warns of every file that was skipped."""
    return _frame(study, "layers")


def curves(study: str) -> pd.DataFrame:
    """One row per run and epoch, columns as in `CURVE_COLUMNS`. Warns of every file that was skipped."""
    return _frame(study, "curves")


def write_table(study: str) -> tuple[Path, tuple[str, ...]]:
    """Write one row per run, on whatever images, to `<results>/<study>/table.csv`; returns its path and the faults."""
    runs, _, faults = _read(study)
    table = pd.DataFrame(list(map(run_row, runs)), columns=list(RUN_COLUMNS))
    path = places.results_folder(study) / "table.csv"
    disk.write_atomically(path, table.to_csv(index=False).encode())
    return path, tuple(faults)
