"""The command line, `python -m isonb`: run-cell, cells, estimate, pack and the others below."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from isonb import config, disk, records, studies, surroundings
from isonb.arguments import parse
from isonb.running import interruption, placement
from isonb.training import signals
from isonb.validation import unknown_name


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns 0; 1 when a cell or a training failed, or a file among the results could not be believed: it is named, and
    what there is beside it is printed or written all the same; 2 when the request cannot be met; 75 when it was asked
    to stop by SIGINT, SIGTERM or SIGHUP, has saved what there was to save, and can be run again.
    """
    chosen = parse(sys.argv[1:] if arguments is None else arguments)
    surroundings.provide()
    try:
        with signals.heeded(interruption.interrupt):
            return COMMANDS[chosen.command](chosen)
    except (config.ConfigError, records.RecordError) as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:  # as in `cells | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(disk.in_a_sentence(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        with signals.heeded(lambda *_: None):  # a second request changes nothing
            interruption.kill_children()
            _say("Interrupted: run the same command again to continue.")
        return interruption.STOPPED


def _say(words: object) -> None:
    """Print a message, unless the terminal is gone, as it is after SIGHUP."""
    with contextlib.suppress(OSError):
        print(words, file=sys.stderr, flush=True)


def _run_cell(chosen: argparse.Namespace) -> int:
    from isonb.running import runner

    settings = _settings(chosen)
    try:
        template = chosen.template or runner.TEMPLATE
        with placement.a_gpu():
            outcome = runner.run_cell(settings, template, progress=sys.stderr.isatty())
    except runner.CellError as error:
        _say(error)
        return interruption.STOPPED if isinstance(error, runner.Stopped) else 1
    again = f" again ({outcome.reason})" if outcome.reason not in ("", "no record") else ""
    print(f"{outcome.run_id} {outcome.status}{again}, {outcome.seconds:.0f} s")
    for remark in outcome.remarks:
        print(remark, file=sys.stderr)
    return 0


def _sweep(chosen: argparse.Namespace) -> int:
    from isonb.running import snakefile

    return snakefile.run(chosen.words)


def _pretrain(chosen: argparse.Namespace) -> int:
    cell, execution = config.from_parameters(_settings(chosen))
    from isonb.training import data, launch, progress, world  # here, as torch takes seconds to import

    shown = not chosen.worker and sys.stderr.isatty() and world.is_leading()
    try:
        if chosen.worker:
            launch.work(cell, execution)
        else:
            with progress.bar(cell.run, shown) as on_step:
                launch.pretrain(cell, data.load(cell.run, execution.data_path), execution, on_step)
    except signals.Preempted as stop:
        _say(stop)
        return signals.PREEMPTED
    except launch.FAULTS as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _study(chosen: argparse.Namespace, *among_settings: Any) -> Any:
    """The study that options and settings name. Raises `ConfigError` for an unknown one and for two different ones."""
    study = config.one_study(*(chosen.studies or []), *among_settings)
    config.cell(study)
    return study


def _settings(chosen: argparse.Namespace) -> dict[str, Any]:
    """The study and the settings by name. Raises `ConfigError` for a name that is unknown or given twice."""
    settings = _by_name(chosen.settings)
    study = _study(chosen, settings.pop("study", None), settings.pop("profile", None))
    return {"study": study, **settings}


def _by_name(words: Sequence[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, value in map(_setting, words):
        if name not in (known := ("study", "profile", *config.setting_names())):
            raise config.ConfigError(unknown_name(name, known))
        if name in settings:
            raise config.ConfigError(f"{name!r} is given twice: remove one of the two.")
        settings[name] = value
    return settings


def _setting(text: str) -> tuple[str, Any]:
    """A name and a value out of `name=value`; the value is JSON where it can be read so, else the text itself.

    What is a name or a folder stays as it is written, were it `true` or `2024`.
    """
    name, equals, word = text.partition("=")
    if not (name and equals):
        raise config.ConfigError(f"{text!r} is not a setting: write name=value, as in depth=3.")
    try:
        value = json.loads(word)
    except (ValueError, RecursionError):
        return name, word
    return name, word if name in config.TEXTS and not isinstance(value, str | None) else value


def _as_text(value: Any) -> str:
    """What `_setting` reads this value from."""
    return value if isinstance(value, str) else json.dumps(value)


def _cells(chosen: argparse.Namespace) -> int:
    from isonb.running import outdated, runner

    study, is_faulty = _study(chosen), False
    records.record_paths(study)  # refuses what is no folder of results
    for cell in studies.cells(study):
        try:
            state = outdated.why(cell) or "finished"
        except records.NewerRecordError:
            state = "newer than this isonb"
        is_faulty |= state in ("newer than this isonb", outdated.DAMAGED)
        settings = " ".join(f"{name}={_as_text(value)}" for name, value in runner.parameters(cell).items())
        print(f"{cell.run.run_id:<40} {state:<9} {settings}")
    return int(is_faulty)


def _estimate(chosen: argparse.Namespace) -> int:
    study = _study(chosen)
    if chosen.images_per_second is not None and not 0.001 <= chosen.images_per_second <= 1e9:
        raise config.ConfigError(
            f"images-per-second={chosen.images_per_second:g} is not allowed: it must be from 0.001 to 1e9."
        )
    from isonb.running import estimate, predictions, throughput
    from isonb.training import launch
    from isonb.training.sources import DataError

    execution = config.Execution(device=chosen.device)
    launch.require_device(execution)
    try:
        alone = estimate.study(study, execution, chosen.images_per_second)
    except DataError as error:
        raise config.ConfigError(str(error)) from None
    is_measured = chosen.images_per_second is None
    if is_measured:
        estimate.remember(alone)  # at once: what follows takes minutes, too
    print(estimate.as_text(alone))
    if is_measured:
        is_on_gpu = launch.is_on_gpu(execution)
        at_once = predictions.ON_A_GPU if is_on_gpu else placement.cores()
        if at_once > 1:
            shared = execution if is_on_gpu else config.Execution(device="cpu", threads=1)
            together = estimate.study(study, shared, at_once=at_once)
            estimate.remember(alone, together, at_once if is_on_gpu else None)
            hours = sum(one.hours for one in together) / at_once
            how = "on each GPU" if is_on_gpu else "a core each"
            print(f"That is one cell after another; {at_once} at once, {how}: {hours:.1f} hours in all.")
        print(f"Throughputs are measured once and kept in {throughput.cache(execution)}; delete it to measure again.")
    return 0


def _complete(chosen: argparse.Namespace) -> int:
    from isonb.evidence import metrics
    from isonb.running import completion  # here, as torch takes seconds to import
    from isonb.training import checkpoint

    study, status = _study(chosen), 0
    try:
        for run_id, what in completion.study(study, config.Execution()):
            print(f"{run_id}: {what}", flush=True)
    except (completion.IncompleteError, checkpoint.CheckpointError) as error:
        print(error, file=sys.stderr)
        status = 1
    metrics.write_table(study)
    return status


def _claims(chosen: argparse.Namespace) -> int:
    study = _study(chosen)
    from isonb.evidence import claims

    sets = claims.read_sets(study)
    print(claims.as_json(sets) if chosen.json else claims.as_text(sets))
    return int(bool(sets[0].faults))


def _report(chosen: argparse.Namespace) -> int:
    interruption.end_with_driver()
    from isonb.evidence import claims, metrics
    from isonb.running import sweep

    study = sweep.Plan.read(chosen.folder).base
    table, faults = metrics.write_table(study)
    verdicts = table.with_name("claims.txt")
    disk.write_atomically(verdicts, (claims.as_text(claims.read_sets(study)) + "\n").encode())
    print(f"One row for each finished cell: {table}; every claim's verdict: {verdicts}")
    if failures := sweep.write_failures(chosen.folder):
        print(f"What failed, and why: {failures}")
    print(sweep.summary(chosen.folder), flush=True)
    for fault in faults:
        print(fault, file=sys.stderr)
    (chosen.folder / "report.done").touch()  # the report is whole, whatever it had to leave out
    return int(bool(faults))


def _of_a_network(act: Callable[[], str]) -> int:
    """Do something with a network that is kept, and print what came of it.

    Returns 1 where there is no such network, its images cannot be read, or a training of it fails.
    """
    from isonb.training import checkpoint, finetune  # here, as torch takes seconds to import
    from isonb.training.sources import DataError

    try:
        print(act())
    except (checkpoint.CheckpointError, DataError, finetune.FinetuneError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _sample(chosen: argparse.Namespace) -> int:
    from isonb.running import samples

    wanted = samples.Wanted(chosen.images, chosen.rows, chosen.temperature, chosen.seed)
    is_shown = sys.stderr.isatty()
    return _of_a_network(lambda: f"{chosen.out}: {samples.write(chosen.run, chosen.out, wanted, is_shown)}")


def _probe(chosen: argparse.Namespace) -> int:
    from isonb.running import probing

    settings, is_shown = _by_name(chosen.settings), sys.stderr.isatty()
    return _of_a_network(lambda: probing.probe(chosen.network, settings, _say, is_shown))


def _finetune(chosen: argparse.Namespace) -> int:
    from isonb.running import tuning

    settings, is_shown = _by_name(chosen.settings), sys.stderr.isatty()
    return _of_a_network(lambda: tuning.tune(chosen.network, settings, _say, is_shown))


def _import_igpt(chosen: argparse.Namespace) -> int:
    out = chosen.out or Path(f"{chosen.folder.resolve().name}.safetensors")
    return _of_a_network(lambda: _imported(chosen.folder, out))


def _imported(folder: Path, out: Path) -> str:
    from isonb.models.network import parameters
    from isonb.training import hugging_face

    network = hugging_face.convert(folder, out)
    run = network.config
    size = f"{run.depth} blocks of width {run.width}, {parameters(network):,} parameters"
    return f"{out}: {size}. In Python, isonb.load({str(out)!r}) gives the network."


def _share(chosen: argparse.Namespace) -> int:
    from isonb.training import sharing

    return _of_a_network(lambda: f"{sharing.share(chosen.run)}: isonb.load({chosen.run!r}) gives the network.")


def _pack(chosen: argparse.Namespace) -> int:
    part_size = _bytes(chosen.part_size) if chosen.part_size else 0
    from isonb.running import packing  # here, as torch takes seconds to import

    packed = packing.pack(_study(chosen), chosen.file, part_size)
    for sentence in [*packed.remarks, *packed.faults, packed.summary]:
        print(sentence)
    return int(bool(packed.faults))


def _bytes(text: str) -> int:
    """A number of bytes, as people write them. Raises `ConfigError` for what is none, and for too few or too many."""
    from isonb.running import packs

    number, unit = text[:-1], text[-1:].upper()
    factor = {"K": 2**10, "M": 2**20, "G": 2**30}.get(unit)
    is_number = factor and number.isascii() and number.isdecimal() and len(number) < 10
    if not (is_number and packs.SMALLEST_PART <= int(number) * factor <= packs.FILE_LIMIT):
        raise config.ConfigError(f"part-size={text!r} is not allowed: write 500M or 2G, from 64K to 7G.")
    return int(number) * factor


def _unpack(chosen: argparse.Namespace) -> int:
    from isonb.running import unpacking  # here, as torch takes seconds to import

    for sentence in unpacking.unpack(chosen.file):
        print(sentence)
    return 0


def _book(chosen: argparse.Namespace) -> int:
    interruption.end_with_driver()
    from isonb.running import publishing

    return publishing.build_book()


def _pdf(chosen: argparse.Namespace) -> int:
    from isonb.pages import paper
    from isonb.running import publishing

    paper.browser()
    if not publishing.is_built() and (status := publishing.build_book()):
        return status
    print(f"The book is printed: open {paper.write(publishing.PAGE.parent).as_uri()}")
    return 0


def _links(chosen: argparse.Namespace) -> int:
    interruption.end_with_driver()
    from isonb.running import publishing

    return publishing.check_links()


COMMANDS = {  # by the names that `arguments` has for them
    "run-cell": _run_cell,
    "sweep": _sweep,
    "pretrain": _pretrain,
    "cells": _cells,
    "estimate": _estimate,
    "complete": _complete,
    "claims": _claims,
    "report": _report,
    "sample": _sample,
    "probe": _probe,
    "finetune": _finetune,
    "import-igpt": _import_igpt,
    "share": _share,
    "pack": _pack,
    "unpack": _unpack,
    "book": _book,
    "pdf": _pdf,
    "links": _links,
}


if __name__ == "__main__":
    surroundings.use_utf8()
    sys.exit(main())
