"""A small made study whose files are damaged at random, and everything that the reading half makes of it.

Whatever a file has come to, it reads as before or is named in one sentence, and the rest is shown: never a traceback.
"""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from made_records import made_arrays, made_record, papers_cells

from isonb import config, features, records, studies
from isonb.evidence import claims, figures, markup, metrics, tables
from isonb.evidence.ledger import select
from isonb.pages import chart, gap, glance, numbers, overview, runs, verdicts

STUDY = "smoke"
UNSEALED = 3  # the last version whose records carry no checksums: what stands in them has nothing to vouch for it
UNSEALING = {"value", "array"}  # ways of damage that take the checksums away, too
VALUES = [None, -1, 0, 1, 2, 7, 0.5, 2.5, -0.0, 1e300, 1e-300, 10**400, True, "", "x", "<script>7</script>", "a|b`c`",
          "\ud800", "../x", [], [1], [[]], {}, {"a": 1}]  # fmt: skip


def leave_study(folder: Path) -> list[Path]:
    """Records of the smoke study, every second of them of a version without checksums; their files."""
    os.environ["ISONB_RESULTS"] = str(folder)
    cells = [*papers_cells(STUDY), config.smoke(block="mixer", depth=3, encoding="rff"), config.smoke(seed=1)]
    paths = []
    for place, cell in enumerate(cells):
        record = made_record(cell, 3.5 + place / 8, (8 + place) / 40)
        path = records.write_record(record, with_few_masked(made_arrays(record)))
        if place % 2:
            unseal(path)
        paths += [path, path.with_suffix(".npz")]
    return paths


def with_few_masked(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays with one masked row in each picture: palettes are matched pixel by pixel, which takes time."""
    is_masked_BHWC = np.zeros_like(arrays["is_masked_BHWC"])
    is_masked_BHWC[:, 0] = True
    return arrays | {"is_masked_BHWC": is_masked_BHWC, "filled_S": np.zeros(is_masked_BHWC.sum(), np.uint8)}


def unseal(path: Path, change: Callable[[dict[str, Any]], None] = lambda content: None) -> None:
    """Make a record one of an earlier version, which nothing vouches for, after a change of its content."""
    content = json.loads(path.read_text())
    content.pop("checksums", None)
    content["schema_version"] = UNSEALED
    change(content)
    path.write_text(json.dumps(content))


def everything() -> list[str]:
    """All that `claims`, `report` and the chapters show of the study, as text."""
    [study, *_] = every_study = verdicts.read_sets(STUDY)
    t, grid = study.tables, select.grid(study.tables)
    cells = studies.cells(STUDY)
    finished = tables.finished(STUDY)
    listed, unreadable = runs.every()
    frames = [
        tables.study(STUDY), tables.at_hand(), tables.start_by_encoding(t),
        tables.along_training(t), tables.data_read(), verdicts.summary(every_study),
        glance.leads(t), glance.twins(t), gap.by_length(t), gap.longer(t), gap.shares(study),
        gap.losses_by_positions(t), overview.beside_no_network(t), overview.what_size_changes(t),
        overview.after_an_epoch(t), glance.what_training_adds(t), gap.by_positions(t),
        gap.gap_shares(study), overview.by_size(t), overview.on_the_same_images(study), overview.undecided(study),
        *map(tables.particulars, finished[:1]), *map(tables.settings, cells[:1]),
    ]  # fmt: skip
    pictures = [
        figures.loss_accuracy(grid, "network", "encoding", "depth"), figures.gains(grid), glance.map_of_signs(study),
        figures.learning_curves(finished), figures.reconstruction_grid(cells), figures.reconstruction_by_block(t),
        figures.probes_by_layer(t, {"mixers": {"network": "mixer"}}), figures.learned_tables(t, depth=1),
        figures.probes_by_objective(t), figures.two_phases(t), figures.along_training(t), figures.fine_tuning(t),
        *map(figures.learning_curve, finished[:1]), *(figures.probe_curve(run.probe) for run in finished[:1]),
    ]  # fmt: skip
    table, faults = metrics.write_table(STUDY)
    return [
        claims.as_text([one.tables for one in every_study]),
        table.read_text(),
        *faults,
        *unreadable,
        chart.page(listed),
        *map(markup.table, frames),
        *(f"{picture.caption} {picture.alt}" for picture in pictures),
        *map(verdicts.sentence, every_study),
        verdicts.answers(study, *study.rows),
        verdicts.ledger(every_study, *study.rows),
        gap.missing_shares(study),
        overview.by_interval_alone(study),
        overview.cost_of_training(t),
        tables.along_training_in_words(t),
        numbers.number(f"{STUDY}::training.validation_loss:.3f"),
        numbers.number(f"{STUDY}::data.name"),
    ]


def damage(path: Path, others: list[Path], draw: random.Random) -> str:
    """Damage a file in one of many ways; which."""
    ways = {"flip": _flip, "cut": _cut, "hole": _hole, "insert": _insert, "swap": _swap, "kind": _kind}
    ways |= {"value": _value} if path.suffix == ".json" else {"array": _array}
    name = draw.choice([*ways, "value" if path.suffix == ".json" else "array"])  # twice as often as any other
    ways[name](path, others, draw)
    return name


def _flip(path: Path, others: list[Path], draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def _cut(path: Path, others: list[Path], draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])


def _hole(path: Path, others: list[Path], draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    start = draw.randrange(len(content))
    length = min(draw.randrange(1, 64), len(content) - start)
    content[start : start + length] = bytes(length)
    path.write_bytes(content)


def _insert(path: Path, others: list[Path], draw: random.Random) -> None:
    content = path.read_bytes()
    place = draw.randrange(len(content))
    path.write_bytes(content[:place] + draw.randbytes(draw.randrange(1, 9)) + content[place:])


def _swap(path: Path, others: list[Path], draw: random.Random) -> None:
    shutil.copyfile(draw.choice([other for other in others if other != path]), path)


def _kind(path: Path, others: list[Path], draw: random.Random) -> None:
    path.unlink()
    draw.choice([path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to(path), lambda: path.touch()])()


def _value(path: Path, others: list[Path], draw: random.Random) -> None:
    unseal(path, lambda content: change_a_value(content, draw))


def change_a_value(content: Any, draw: random.Random) -> None:
    """Replace, remove or repeat something in JSON."""
    place, places = content, []
    while isinstance(place, (dict, list)) and place:
        key = draw.choice([*place]) if isinstance(place, dict) else draw.randrange(len(place))
        places.append((place, key))
        place = place[key]
    place, key = draw.choice([*places, *places[-1:] * 2])
    way = draw.choice(("replace", "replace", "remove", "repeat"))
    if way == "remove":
        del place[key]
    elif way == "repeat" and isinstance(place, list):
        place.append(copy.deepcopy(place[key]))
    else:
        place[key] = draw.choice(VALUES)


def _array(path: Path, others: list[Path], draw: random.Random) -> None:
    """Replace an array by one of another shape, type or content, or leave it out; nothing vouches for the record."""
    unseal(path.with_suffix(".json"))
    with np.load(path) as file:
        arrays = dict(file)
    name = draw.choice([*arrays, "similarity_P"])
    array = arrays.get(name, features.pack_similarity(np.eye(256)))
    changes: list[Callable[[], Any]] = [
        lambda: array[:7],
        lambda: array[:0],
        lambda: array[None],
        lambda: array.astype(float),
        lambda: array.astype(str),
        lambda: np.full(array.shape, np.nan),
        lambda: np.zeros_like(array),
        lambda: np.array(7),
    ]
    arrays[name] = draw.choice(changes)()
    if draw.random() < 0.2:
        del arrays[name]
    np.savez(path, **arrays)


def survey(folder: Path, count: int, seed: int = 0) -> Iterator[tuple[str, bool, list[str], list[str]]]:
    """Damage the study `count` times: how, whether its checksums must tell, what was shown before, and what after."""
    draw = random.Random(seed)
    whole = folder / "whole"
    leave_study(whole)
    before = [text.replace(str(whole), "results") for text in everything()]
    (whole / STUDY / "table.csv").unlink()
    for number in range(count):
        results = folder / str(number)
        shutil.copytree(whole, results)
        os.environ["ISONB_RESULTS"] = str(results)
        files = sorted((results / STUDY).iterdir())
        path = draw.choice(files)
        is_sealed = "checksums" in json.loads(path.with_suffix(".json").read_text())
        way = damage(path, files, draw)
        after = [text.replace(str(results), "results") for text in everything()]
        yield f"{way} of {path.name}", is_sealed and way not in UNSEALING, before, after
        shutil.rmtree(results)
