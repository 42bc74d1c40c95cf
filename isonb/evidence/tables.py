"""The book's tables: what a study has and lacks, what each arm changes, and what a cell reads and costs.

Book: chapters "Smoke results" and "Results".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from isonb import config, records, schema, studies
from isonb.evidence import DAMAGED, NOT_RUN, markup, metrics, picture, selection, statistics
from isonb.evidence.picture import name_of

RESULTS = ("validation loss", "test loss", "within 8 levels", "best layer", "accuracy", "95 % interval")
SPLITS = ("train", "validation", "test")


def study(name: str) -> pd.DataFrame:
    """One row for each cell of a study, in its order; cells without a record say "not run" or "damaged".

    Those that stand beside its grid have tables of their own.

    Losses are in nats per masked sub-pixel, accuracies in per cent. Where cells have read different images, a column
    says which; where records that come with the project stand in for one's own, a column says whose each row is.
    """
    cells = [cell for cell in studies.cells(name) if not cell.is_beside_grid]
    images = _images(name)
    shown = pd.DataFrame([_study_row(cell, images) for cell in cells])
    if any(map(_is_ours, cells)):
        shown.insert(3, "whose", list(map(_whose, cells)))  # before the results, where a phone shows it
    return shown


def _is_ours(cell: config.Cell) -> bool:
    """Whether the record that comes with the project stands in for one's own."""
    return not records.record_path(cell).exists() and records.reference(cell) is not None


def _whose(cell: config.Cell) -> str:
    return "ours" if _is_ours(cell) else "yours" if records.record_path(cell).exists() else ""


def _study_row(cell: config.Cell, images: dict[str, str]) -> dict[str, str | markup.Link]:
    row = {"block": name_of(cell.run.block), "encoding": name_of(cell.run.encoding), "size": str(cell.run.depth)}
    columns = RESULTS + (("images",) if images else ())
    try:
        record = records.reference(cell) if _is_ours(cell) else records.finished(cell)
    except records.RecordError:
        return row | dict.fromkeys(columns, DAMAGED)
    if record is None:
        return row | dict.fromkeys(columns, NOT_RUN)
    low, high = statistics.wilson(record.probe.test_accuracy, record.probed_on.test)
    address = selection.address(study=record.cell.study, run=record.run_id)
    results = (
        f"{record.training.validation_loss:.3f}",
        f"{record.training.test_loss:.3f}",
        f"{record.reconstruction.share_within_8:.1%}",
        str(record.probe.best_layer),
        f"{record.probe.test_accuracy:.1%}",
        f"{low:.1%} to {high:.1%}",
    )
    linked = (markup.Link(text, address) for text in results)
    return row | dict(zip(RESULTS, linked, strict=True)) | _named(record, images)


def _images(study: str) -> dict[str, str]:
    """What each set of images is called, by `data_id`, where a study has read several; otherwise empty."""
    sets = metrics.by_images(record for record in shown(study) if not record.cell.selects_images)
    return {metrics.images_id(runs[0]): metrics.images_read(runs) for runs in sets} if len(sets) > 1 else {}


def _named(record: schema.Record, images: dict[str, str]) -> dict[str, str]:
    return {"images": images[metrics.images_id(record)]} if images else {}


def finished(study: str) -> list[schema.Record]:
    """The records of a study that are there and readable, in the study's order, on whatever images."""
    return [record for cell in studies.cells(study) if (record := records.readable(cell))]


def shown(study: str) -> list[schema.Record]:
    """The same, and the project's own record of each cell of the study that has yet to run."""
    return [shown[0] for cell in studies.cells(study) if (shown := records.shown(cell))]


def at_hand() -> pd.DataFrame:
    """What each study consists of, and how many of its networks have a record."""
    return pd.DataFrame([_at_hand_row(name, studies.cells(name)) for name in config.STUDIES])


def _at_hand_row(name: str, cells: list[config.Cell]) -> dict[str, str | int]:
    settings = {
        title: ", ".join(str(value) for value in dict.fromkeys(getattr(cell.run, field) for cell in cells))
        for title, field in (("data", "data"), ("sizes", "depth"), ("seeds", "seed"))
    }
    settings["epochs"] = str(config.cell(name).run.epochs)
    return {"study": name, "networks": len(cells), "run": len(finished(name)) or NOT_RUN, **settings}


def arms(study: str) -> pd.DataFrame:
    """One row for each arm of a study: what changes when one setting of one cell of the grid does.

    Losses are validation losses in nats per masked sub-pixel, accuracies of the chosen probe in points; a change is the
    mean over the seeds for which both networks have read the same images, with Student's interval over several such
    seeds. A loss in another unit is given with its unit and without a change. Where cells have read different images,
    an arm has a row for each set of them, and a column says which.
    """
    cells = [cell for cell in studies.cells(study) if not cell.is_beside_grid]
    images = _images(study)
    grid = {_identity(cell): records.readable(cell) for cell in cells if metrics.arm(cell) == metrics.MAIN}
    pairs: dict[tuple[str, str], list[tuple[schema.Record | None, schema.Record | None]]] = {}
    for cell in cells:
        if (arm := metrics.arm(cell)) != metrics.MAIN:
            network = f"{name_of(cell.run.network)}, {name_of(cell.run.encoding)}, size {cell.run.depth}"
            pairs.setdefault((arm, network), []).append((records.readable(cell), grid[_identity(cell)]))
    return pd.DataFrame([
        {"setting": arm, "network": network} | row
        for (arm, network), of_seeds in pairs.items()
        for row in _arm_rows(of_seeds, images)
    ])  # fmt: skip


def _identity(cell: config.Cell) -> tuple[object, ...]:
    return tuple(getattr(cell.run, name) for name in metrics.IDENTITY)


def _arm_rows(
    of_seeds: list[tuple[schema.Record | None, schema.Record | None]], images: dict[str, str]
) -> Iterator[dict[str, str | markup.Link]]:
    """A row for each set of images on which both networks of a pair have run, with the number of seeds on each."""
    by_images: dict[str, list[tuple[schema.Record, schema.Record]]] = {}
    for arm, main in of_seeds:
        if arm and main and (read := metrics.images_id(arm)) == metrics.images_id(main):
            by_images.setdefault(read, []).append((arm, main))
    if not by_images:
        columns = ("loss", "change of loss", "change of accuracy")
        yield dict.fromkeys(columns, NOT_RUN) | {"seeds": f"0 of {len(of_seeds)}"} | ({"images": "-"} if images else {})
    for pairs in by_images.values():
        yield _arm_row(pairs) | {"seeds": f"{len(pairs)} of {len(of_seeds)}"} | _named(pairs[0][0], images)


def _arm_row(pairs: list[tuple[schema.Record, schema.Record]]) -> dict[str, str | markup.Link]:
    losses, accuracies = (
        [(value(arm), value(main)) for arm, main in pairs]
        for value in (lambda run: run.training.validation_loss, lambda run: 100 * run.probe.test_accuracy)
    )
    loss = f"{sum(arm for arm, _ in losses) / len(losses):.3f}"
    (arm, main), changed = pairs[0], selection.frame(arm for arm, _ in pairs)
    both = selection.of(selection.frame(itertools.chain(*pairs)))
    unit, usual = (run.cell.run.unit for run in (arm, main))
    return {
        "loss": selection.link(loss if unit == usual else f"{loss} ({unit})", changed),
        "change of loss": markup.Link(_change(losses, ".3f"), both) if unit == usual else "another unit",
        "change of accuracy": markup.Link(_change(accuracies, ".1f"), both),
    }


def _change(pairs: list[tuple[float, float]], spec: str) -> str:
    changes = [arm - main for arm, main in pairs]
    mean = format(sum(changes) / len(changes), f"+{spec}")
    if len(changes) < 2:
        return mean
    low, high = statistics.student_interval(changes)
    return f"{mean} ({low:+{spec}} to {high:+{spec}})"


def start_by_encoding(t: metrics.Tables) -> pd.DataFrame:
    """What an encoding's rows are before and after training, and how soon the loss falls, by network and encoding.

    Means over the colour channels and over those sizes and seeds for which every encoding has run. Losses are
    validation losses in nats per masked sub-pixel.
    """
    runs = t.runs[t.runs["arm"] == metrics.MAIN]
    whole = runs.groupby(["network", "depth", "seed"])["encoding"].transform("nunique") == len(config.GRID_ENCODINGS)
    runs = runs[whole.astype(bool)].set_index("run_id")
    learned = t.learned.groupby(["run_id", "stage"])[["rank", "kept"]].mean().unstack("stage")
    losses = t.curves.pivot(index="run_id", columns="epoch", values="validation_loss")
    shown = []
    for network, encoding in itertools.product(dict.fromkeys(runs["network"].sort_values()), config.GRID_ENCODINGS):
        ids = runs.index[(runs["network"] == network) & (runs["encoding"] == encoding)]
        of = learned.loc[ids].mean()
        numbers = {
            "runs": str(len(ids)),
            "rank before": f"{of['rank', 'before']:.0f}",
            "rank after": f"{of['rank', 'after']:.0f}",
            "distance kept before": f"{of['kept', 'before']:.2f}",
            "distance kept after": f"{of['kept', 'after']:.2f}",
            "loss after one epoch": f"{losses.loc[ids, 1].mean():.3f}",
            "loss at the end": f"{runs.loc[ids, 'validation_loss'].mean():.3f}",
        }
        shown.append({"network": name_of(network), "encoding": name_of(encoding)} | _linked(numbers, t, ids))
    return pd.DataFrame(shown or [{"network": NOT_RUN}])


def _linked(numbers: dict[str, str], t: metrics.Tables, ids: Iterable[str]) -> dict[str, str | markup.Link]:
    """Numbers as links to the runs that they are means over; without a run, as they are."""
    runs = t.runs[t.runs["run_id"].isin(list(ids))]
    if runs.empty:
        return dict(numbers)
    address = selection.of(runs, t.runs)
    return {name: markup.Link(text, address) for name, text in numbers.items()}


def along_training(t: metrics.Tables) -> pd.DataFrame:
    """Loss and accuracy after the first and the last epoch: a row for each main cell that was probed after every epoch.

    Losses in nats per masked sub-pixel, accuracies on test images; means over the cell's seeds.
    """
    shown = []
    for (network, encoding, depth), cell in _paths(t).groupby(["network", "encoding", "depth"]):
        loss, accuracy = (cell.groupby("epoch")[name].mean() for name in ("validation_loss", "probe_accuracy"))
        numbers = {
            "seeds": str(cell["seed"].nunique()),
            "loss": f"{loss.iloc[0]:.3f} to {loss.iloc[-1]:.3f}",
            "accuracy": f"{accuracy.iloc[0]:.1%} to {accuracy.iloc[-1]:.1%}",
            "best after": f"epoch {accuracy.idxmax()} of {accuracy.index[-1]}",
        }
        row = {"network": name_of(network), "encoding": name_of(encoding), "size": depth}
        shown.append(row | _linked(numbers, t, cell["run_id"]))
    return pd.DataFrame(shown or [{"network": NOT_RUN}])


def along_training_in_words(t: metrics.Tables) -> str:
    """What the same networks show together, each seed counted by itself, in Markdown."""
    paths = [path.set_index("epoch") for _, path in _paths(t).groupby("run_id")]
    if not paths:
        return f"Networks that were probed after every epoch: {NOT_RUN}."
    accuracies = [path["probe_accuracy"] for path in paths]
    rises = sum(accuracy.iloc[-1] > accuracy.iloc[0] for accuracy in accuracies)
    last = sum(accuracy.idxmax() == accuracy.index[-1] for accuracy in accuracies)
    rho = [statistics.spearman(path["validation_loss"], path["probe_accuracy"]) for path in paths]
    probed = picture.describe(t.runs[t.runs["run_id"].isin(_paths(t)["run_id"])])
    return (
        f"Of {probed}, probed after every epoch: in {rises} the features are better after the last epoch than after "
        f"the first, and in {last} they are best after it. Spearman's correlation of loss and accuracy along "
        f"training is {np.nanmedian(rho):.2f} in the median, between {np.nanmin(rho):.2f} and {np.nanmax(rho):.2f}."
    )


def _paths(t: metrics.Tables) -> pd.DataFrame:
    """The rows of the main runs' learning curves that have a probe, by run and epoch."""
    curves = t.curves[t.curves["arm"] == metrics.MAIN].dropna(subset=["probe_accuracy"])
    return curves.sort_values(["run_id", "epoch"]).astype({"probe_accuracy": float, "validation_loss": float})


def arm_commands(study: str) -> list[str]:
    """For each arm of which no seed has run, the command that runs its first one."""
    first: dict[tuple[str, ...], config.Cell] = {}
    is_run: set[tuple[str, ...]] = set()
    for cell in studies.cells(study):
        if cell.is_beside_grid:
            continue
        key = (metrics.arm(cell), cell.run.network, cell.run.encoding, str(cell.run.depth))
        first.setdefault(key, cell)
        if records.readable(cell):
            is_run.add(key)
    return [
        f"python -m isonb run-cell --study {study} block={cell.run.block}"
        + (f" heads={cell.run.heads}" if cell.run.heads > 1 else "")
        + f" encoding={cell.run.encoding} depth={cell.run.depth} seed={cell.run.seed} {arm}"
        for (arm, *rest), cell in first.items()
        if arm != metrics.MAIN and (arm, *rest) not in is_run
    ]


def settings(cell: config.Cell) -> pd.DataFrame:
    """What names a cell, and every setting in which it departs from the defaults; its record holds all of them."""
    named = ("block", "encoding", "depth", "seed", "data")
    shown = [{"setting": "study", "value": cell.study}]
    for part, prefix in config.PREFIXES.items():
        chosen = getattr(cell, part)
        default = config.MODELS[part](**({"block": cell.run.block} if part == "run" else {}))
        shown += [
            {"setting": prefix + name, "value": str(value)}
            for name, value in chosen.model_dump().items()
            if name in named or value != getattr(default, name)
        ]
    return pd.DataFrame(shown).set_index("setting")


def particulars(record: schema.Record) -> pd.DataFrame:
    """What a cell read, where it was computed, what it cost, and how well it fills in pixels and was fine-tuned."""
    parts = {
        "data": _data(record.data),
        **({"probed on": _data(record.probe.data)} if record.probe.data else {}),
        **({"fine-tuned on": _data(record.finetune.data)} if record.finetune and record.finetune.data else {}),
        "environment": record.environment.model_dump(exclude_defaults=True),
        "counts": record.counts.model_dump(),
        "training": record.training.model_dump(exclude={"curve"}),
        "reconstruction": record.reconstruction.model_dump(),
        "fine-tuning": record.finetune.model_dump(exclude={"curve", "scratch_curve"}) if record.finetune else {},
    }
    shown = [
        {"part": part, "entry": name, "value": f"{value:.4g}" if isinstance(value, float) else str(value)}
        for part, entries in parts.items()
        for name, value in entries.items()
    ]
    return pd.DataFrame(shown).set_index(["part", "entry"])


def _data(data: schema.Data) -> dict[str, object]:
    """The images of a run, whether they are the published ones where that is known, and what makes them doubtful."""
    is_known = {"official": "yes" if data.official else "no"} if data.official is not None else {}
    remarks = {"remarks": " ".join(data.remarks)} if data.remarks else {}
    return {"name": data.name, **{split: getattr(data, split) for split in SPLITS}, **is_known, **remarks}


def data_read() -> pd.DataFrame:
    """The collections that finished cells have read, with the number of images in each split."""
    read = [
        {"study": name, "collection": data.name, **{split: getattr(data, split) for split in SPLITS}}
        for name in config.STUDIES
        for run in finished(name)
        for _, data in run.read()
    ]
    return pd.DataFrame(read or [{"study": NOT_RUN}]).drop_duplicates()
