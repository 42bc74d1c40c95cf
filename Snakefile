"""The study: cells -> records and executed notebooks -> table, verdicts -> book.

    snakemake                       the smoke study, as `make study` does
    snakemake --config study=cpu    another profile's, or that of a TOML file
    snakemake -n                    what would run, and why

Further settings: only=missing takes records of other code and data as they are; placement=auto|cpu|gpu-each|gpu-all|given
and threads=N say where a cell computes; execution={...} is handed to every cell, as in 'execution={precision: float32}';
template=another.ipynb runs another notebook; book=no leaves the book as it is.
What has to run is decided in `isonb.running.sweep` by content. Snakemake runs it, each time with marker files of its own, so that
the times of files and what an earlier sweep left do not count.
"""

import logging
import os
import shlex
import signal
import sys
import time

from snakemake.logging import logger

from isonb import config as settings
from isonb import disk, records
from isonb.running import placement, predictions, sweep, watch

STUDY = str(config.get("study", "smoke"))
PYTHON = shlex.quote(sys.executable)
os.environ["ISONB_DRIVER"] = str(os.getpid())  # whose end ends the runners
IS_DRY = bool({"-n", "--dry-run", "--dryrun"} & set(sys.argv))

try:
    sweep.check_settings(config)
    CELLS = sweep.cells(STUDY)
    PLACE = placement.resolve(config.get("placement", "auto"))
    FOLDER = settings.Execution(**dict(config.get("execution", {}))).data_path
    TODO = sweep.reasons(CELLS, config.get("only") == "missing", FOLDER)
    sweep.require_same_data(STUDY, CELLS, TODO, FOLDER)
    KNOWN = predictions.read()
    RUNS = records.runs_folder(CELLS[0].profile)
    if TODO and not IS_DRY:
        disk.require_writable(RUNS, records.results_folder(CELLS[0].profile))
    IS_BUILT = not TODO and sweep.is_built()
except Exception as error:  # Snakemake is told to be quiet, of errors, too
    sys.exit(sweep.in_a_sentence(error))

PROFILE = CELLS[0].profile
PRIORITIES = sweep.priorities(STUDY, CELLS)
SWEEP = RUNS / "sweep" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
TOGETHER = PLACE == "cpu" and predictions.is_faster_together(KNOWN, TODO, placement.cores())
ON_GPU = "cpu" not in (PLACE, dict(config.get("execution", {})).get("device"))  # 'given' is taken to be one
LARGEST = predictions.largest_megabytes(KNOWN, TODO, ON_GPU)
THREADS = int(config.get("threads", 0)) or placement.threads(PLACE, len(TODO), TOGETHER, LARGEST)
EXECUTION = {"threads": THREADS} | ({"device": "cpu"} if PLACE == "cpu" else {}) | dict(config.get("execution", {}))
REPORT = f"{PYTHON} -m isonb report {{}}"
BOOK = f"{PYTHON} -m isonb book"
WITH_BOOK = str(config.get("book", "yes")) == "yes"
stopped, holding, shown = [], [], []


def stop(*_):
    """Ctrl-C or SIGINT: ask the runners to save and end, then let Snakemake end."""
    stopped.append(time.time())
    watch.interrupt_runners()
    raise KeyboardInterrupt


class Refusals(logging.Handler):
    """Show what Snakemake, though told to be quiet, refuses before a sweep starts, as a target that is not there."""

    def emit(self, entry):
        words = entry.getMessage().strip()
        last = words.splitlines()[-1]
        print(last if words.startswith("Traceback") else " ".join(words.split()), file=sys.stderr)


refusals = Refusals(logging.ERROR)

if workflow.is_main_process:
    if not IS_DRY:
        logger.addHandler(refusals)
    signal.signal(signal.SIGINT, stop)
    left = [cell for cell in CELLS if cell.run.run_id in TODO]
    if left and IS_DRY:
        print(f"Study {STUDY}: {len(left)} of {len(CELLS)} cells have to run. {predictions.in_all(KNOWN, left)}")
    if not TODO:
        print(f"Study {STUDY}: all of its {len(CELLS)} cells are there.", file=sys.stderr)
        if IS_BUILT:
            print(f"The book is built: open {sweep.PAGE.as_uri()}", file=sys.stderr)


onstart:
    logger.removeHandler(refusals)
    plan = sweep.Plan(study=STUDY, profile=PROFILE, started=time.time(), reasons=TODO, reused=len(CELLS) - len(TODO))
    try:
        holding.append(sweep.hold(PROFILE, STUDY))
        plan.write(SWEEP)
        shown.append(watch.start(SWEEP))
    except Exception as error:
        print(sweep.in_a_sentence(error), file=sys.stderr, flush=True)
        os._exit(1)


onerror:
    if shown:
        shown.pop().end()
    if stopped:
        print(f"Stopped; what was trained is saved. `{sweep.again(STUDY)}` goes on.", file=sys.stderr, flush=True)
    elif not (SWEEP / "report.done").exists():  # a cell failed: the others are worth a table and a book
        shell(f"{REPORT.format(shlex.quote(str(SWEEP)))} || true")
        if WITH_BOOK:
            shell(f"{BOOK} || true")


onsuccess:
    if shown:
        shown.pop().end()


localrules: all, report, book


rule all:
    input:
        [SWEEP / "report.done"] if TODO else [],
        [SWEEP / "book.done"] if WITH_BOOK and (TODO or not IS_BUILT) else [],


for cell in CELLS:
    run_id = cell.run.run_id

    rule:
        name: f"cell_{run_id}"
        output: RUNS / "sweep/{sweep}" / f"{run_id}.done"
        message: f"{run_id}: {TODO.get(run_id, 'asked for')}; {predictions.words(KNOWN.get(run_id), TOGETHER)}"
        priority: PRIORITIES[run_id]
        threads: THREADS
        resources:
            nodes=1,
            mem_mb=predictions.megabytes(KNOWN.get(run_id), ON_GPU),
        params:
            command=("ISONB_GPU=1 " if PLACE == "gpu-each" else "") + sweep.command(cell, EXECUTION, config.get("template")),
            log=lambda wildcards, output: output[0].removesuffix("done") + "log",
            failed=lambda wildcards, output: output[0].removesuffix("done") + "failed",
        shell: "{params.command} > {params.log:q} 2>&1 || {{ touch {params.failed:q}; exit 1; }}; touch {output:q}"


rule report:
    input: [RUNS / "sweep/{sweep}" / f"{run_id}.done" for run_id in TODO]
    output: RUNS / "sweep/{sweep}/report.done"
    message: "table, verdicts and summary"
    params: folder=lambda wildcards, output: os.path.dirname(output[0])
    shell: REPORT.format("{params.folder:q}") + " && touch {output:q}"


rule book:
    input: [RUNS / "sweep/{sweep}/report.done"] if TODO else []
    output: RUNS / "sweep/{sweep}/book.done"
    message: "the book"
    shell: BOOK + " && touch {output:q}"
