"""The book's tables: what a study has and lacks, and the executed cells.

Book: chapters "Smoke results" and "Every cell".
"""

from __future__ import annotations

import contextlib
import itertools

import numpy as np
import pandas as pd

from isonb import config, records, studies
from isonb.evidence import metrics, picture, statistics

NOT_RUN, DAMAGED = "not run", "damaged"
RESULTS = ("validation loss", "test loss", "within 8 levels", "best layer", "accuracy", "95 % interval")


def study(profile: str) -> pd.DataFrame:
    """One row for each cell of a profile's study, in its order; cells that have yet to run say "not run" or "damaged".

    Losses are in nats per masked sub-pixel, accuracies in per cent.
    """
    return pd.DataFrame([_study_row(cell) for cell in studies.cells(profile)])


def _study_row(cell: config.Cell) -> dict[str, str]:
    row = {"block": cell.run.block, "encoding": cell.run.encoding, "size": str(cell.run.depth)}
    try:
        record = records.finished(cell)
    except records.RecordError:
        return row | dict.fromkeys(RESULTS, DAMAGED)
    if record is None:
        return row | dict.fromkeys(RESULTS, NOT_RUN)
    low, high = statistics.wilson(record.probe.test_accuracy, record.data.test)
    results = (
        f"{record.training.validation_loss:.3f}",
        f"{record.training.test_loss:.3f}",
        f"{record.reconstruction.share_within_8:.1%}",
        str(record.probe.best_layer),
        f"{record.probe.test_accuracy:.1%}",
        f"{low:.1%} to {high:.1%}",
    )
    return row | dict(zip(RESULTS, results, strict=True))


def finished(profile: str) -> list[records.Record]:
    """The records of a profile's study that are there and readable, in the study's order."""
    return [record for cell in studies.cells(profile) if (record := records.readable(cell))]


def at_hand() -> pd.DataFrame:
    """What each profile's study consists of, and how many of its networks have a record."""
    return pd.DataFrame([_profile_row(name, studies.cells(name)) for name in config.PROFILES])


def _profile_row(name: str, cells: list[config.Cell]) -> dict[str, str | int]:
    settings = {
        title: ", ".join(str(value) for value in dict.fromkeys(getattr(cell.run, field) for cell in cells))
        for title, field in (("data", "data"), ("sizes", "depth"), ("seeds", "seed"))
    }
    settings["epochs"] = str(config.profile(name).run.epochs)
    return {"profile": name, "networks": len(cells), "run": len(finished(name)) or NOT_RUN, **settings}


def arms(profile: str) -> pd.DataFrame:
    """One row for each arm of a profile's study: what changes when one setting of one cell of the grid does.

    Losses are validation losses in nats per masked sub-pixel, accuracies of the chosen probe in points; a change is the
    mean over the seeds that have both networks, with Student's interval over them where there are several. A loss in
    another unit is named with it and has no change.
    """
    study = studies.cells(profile)
    grid = {_identity(cell): records.readable(cell) for cell in study if metrics.arm(cell) == metrics.MAIN}
    rows: dict[tuple[str, ...], list[tuple[records.Record | None, records.Record | None]]] = {}
    for cell in study:
        if (arm := metrics.arm(cell)) != metrics.MAIN:
            of = (arm, f"{metrics.network(cell.run)}, {cell.run.encoding}, size {cell.run.depth}")
            rows.setdefault(of, []).append((records.readable(cell), grid[_identity(cell)]))
    return pd.DataFrame([{"setting": of[0], "network": of[1]} | _arm_row(pairs) for of, pairs in rows.items()])


def _identity(cell: config.Cell) -> tuple[object, ...]:
    return tuple(getattr(cell.run, name) for name in metrics.IDENTITY)


def _arm_row(pairs: list[tuple[records.Record | None, records.Record | None]]) -> dict[str, str]:
    both = [(arm, main) for arm, main in pairs if arm and main]
    seeds = {"seeds": f"{len(both)} of {len(pairs)}"}
    if not both:
        return dict.fromkeys(("loss", "change of loss", "change of accuracy"), NOT_RUN) | seeds
    losses, accuracies = (
        [(value(arm), value(main)) for arm, main in both]
        for value in (lambda run: run.training.validation_loss, lambda run: 100 * run.probe.test_accuracy)
    )
    loss = f"{sum(arm for arm, _ in losses) / len(losses):.3f}"
    unit, other = ({records.UNITS[run.cell.run.objective] for run in runs} for runs in zip(*both, strict=True))
    return {
        "loss": loss if unit == other else f"{loss} ({', '.join(unit)})",
        "change of loss": _change(losses, ".3f") if unit == other else "another unit",
        "change of accuracy": _change(accuracies, ".1f"),
        **seeds,
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

    Means over the sizes and seeds of which every encoding has run, and over the colour channels. Losses are validation
    losses in nats per masked sub-pixel.
    """
    runs = t.runs[t.runs["arm"] == metrics.MAIN]
    whole = runs.groupby(["network", "depth", "seed"])["encoding"].transform("nunique") == len(config.ENCODINGS)
    runs = runs[whole.astype(bool)].set_index("run_id")
    learned = t.learned.groupby(["run_id", "stage"])[["rank", "kept"]].mean().unstack("stage")
    losses = t.curves.pivot(index="run_id", columns="epoch", values="validation_loss")
    rows = []
    for network, encoding in itertools.product(dict.fromkeys(runs["network"].sort_values()), config.ENCODINGS):
        ids = runs.index[(runs["network"] == network) & (runs["encoding"] == encoding)]
        of = learned.loc[ids].mean()
        rows.append({
            "network": network,
            "encoding": encoding,
            "runs": len(ids),
            "rank before": f"{of['rank', 'before']:.0f}",
            "rank after": f"{of['rank', 'after']:.0f}",
            "distance kept before": f"{of['kept', 'before']:.2f}",
            "distance kept after": f"{of['kept', 'after']:.2f}",
            "loss after one epoch": f"{losses.loc[ids, 1].mean():.3f}",
            "loss at the end": f"{runs.loc[ids, 'validation_loss'].mean():.3f}",
        })  # fmt: skip
    return pd.DataFrame(rows or [{"network": NOT_RUN}])


def along_training(t: metrics.Tables) -> pd.DataFrame:
    """From the first to the last epoch's close: a row for each main cell that was probed after every epoch.

    Losses in nats per masked sub-pixel, accuracies on test images; means over the cell's seeds.
    """
    rows = []
    for (network, encoding, depth), cell in _paths(t).groupby(["network", "encoding", "depth"]):
        loss, accuracy = (cell.groupby("epoch")[name].mean() for name in ("validation_loss", "probe_accuracy"))
        rows.append({
            "network": network,
            "encoding": encoding,
            "size": depth,
            "seeds": cell["seed"].nunique(),
            "loss": f"{loss.iloc[0]:.3f} to {loss.iloc[-1]:.3f}",
            "accuracy": f"{accuracy.iloc[0]:.1%} to {accuracy.iloc[-1]:.1%}",
            "best after": f"epoch {accuracy.idxmax()} of {accuracy.index[-1]}",
        })  # fmt: skip
    return pd.DataFrame(rows or [{"network": NOT_RUN}])


def along_training_in_words(t: metrics.Tables) -> str:
    """What the same networks say together, each seed for itself, in Markdown."""
    paths = [path.set_index("epoch") for _, path in _paths(t).groupby("run_id")]
    if not paths:
        return "Networks that were probed after every epoch: not run."
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
    rows = t.curves[t.curves["arm"] == metrics.MAIN].dropna(subset=["probe_accuracy"])
    return rows.sort_values(["run_id", "epoch"]).astype({"probe_accuracy": float, "validation_loss": float})


def arm_commands(profile: str) -> list[str]:
    """For each arm of which no seed has run, the command that runs its first."""
    first: dict[tuple[str, ...], config.Cell] = {}
    is_run: set[tuple[str, ...]] = set()
    for cell in studies.cells(profile):
        of = (metrics.arm(cell), metrics.network(cell.run), cell.run.encoding, str(cell.run.depth))
        first.setdefault(of, cell)
        if records.readable(cell):
            is_run.add(of)
    return [
        f"python -m isonb run-cell --profile {profile} block={cell.run.block}"
        + (f" heads={cell.run.heads}" if cell.run.heads > 1 else "")
        + f" encoding={cell.run.encoding} depth={cell.run.depth} seed={cell.run.seed} {of[0]}"
        for of, cell in first.items()
        if of[0] != metrics.MAIN and of not in is_run
    ]


def settings(cell: config.Cell) -> pd.DataFrame:
    """What names a cell, and every setting in which it departs from the defaults; its record holds all of them."""
    named = ("block", "encoding", "depth", "seed", "data")
    rows = [{"setting": "profile", "value": cell.profile}]
    for part, prefix in config.PREFIXES.items():
        chosen = getattr(cell, part)
        default = config.MODELS[part](**({"block": cell.run.block} if part == "run" else {}))
        rows += [
            {"setting": prefix + name, "value": str(value)}
            for name, value in chosen.model_dump().items()
            if name in named or value != getattr(default, name)
        ]
    return pd.DataFrame(rows).set_index("setting")


def particulars(record: records.Record) -> pd.DataFrame:
    """What a cell read, where it was computed, what it cost, and how well it fills in pixels and was fine-tuned."""
    parts = {
        "data": record.data.model_dump(include={"name", "train", "validation", "test"}),
        "environment": record.environment.model_dump(),
        "counts": record.counts.model_dump(),
        "training": record.training.model_dump(exclude={"curve"}),
        "reconstruction": record.reconstruction.model_dump(),
        "fine-tuning": record.finetune.model_dump(exclude={"curve", "scratch_curve"}) if record.finetune else {},
    }
    rows = [
        {"part": part, "entry": name, "value": f"{value:.4g}" if isinstance(value, float) else str(value)}
        for part, entries in parts.items()
        for name, value in entries.items()
    ]
    return pd.DataFrame(rows).set_index(["part", "entry"])


def data_read() -> pd.DataFrame:
    """The collections that finished cells have read, with the number of images in each split."""
    read = [
        {"profile": profile, **run.data.model_dump(include={"name", "train", "validation", "test"})}
        for profile in config.PROFILES
        for run in finished(profile)
    ]
    return pd.DataFrame(read or [{"profile": NOT_RUN}]).drop_duplicates().rename(columns={"name": "collection"})


def executed_cells() -> pd.DataFrame:
    """Every executed notebook beside the book's chapters, as a link, with what its record says, or "damaged"."""
    rows = []
    for profile in config.PROFILES:
        for path in sorted(records.results_folder(profile).glob("*.ipynb")):
            page = path.relative_to(records.PROJECT / "book") if path.is_relative_to(records.PROJECT / "book") else None
            row = {"profile": profile, "executed notebook": f"[{path.stem}]({page})" if page else path.stem}
            row |= dict.fromkeys(("validation loss", "accuracy", "seconds"), DAMAGED)
            with contextlib.suppress(records.RecordError):
                record = records.read_record(path.with_suffix(".json"))
                unit = records.UNITS[record.cell.run.objective]
                row["validation loss"] = f"{record.training.validation_loss:.3f} {unit}"
                row["accuracy"] = f"{record.probe.test_accuracy:.1%}"
                row["seconds"] = f"{record.training.seconds + record.probe.seconds:.0f}"
            rows.append(row)
    return pd.DataFrame(rows)
