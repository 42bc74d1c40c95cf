"""The study: cells -> records and executed notebooks -> table, verdicts -> book.

    python -m isonb sweep              the smoke study, as `make study` does
    python -m isonb sweep study=cpu    another study, or the cells that a TOML file lists
    python -m isonb sweep -n           what would run, and why

minutes=12 stops after so many minutes with everything saved; cells_per_gpu=auto|N lets cells share a GPU.
Further settings: only=missing takes records of other numerics and data as they are; threads=N and
placement=auto|cpu|gpu-each|gpu-all|given say where a cell computes; execution={...} is handed to every cell, as in
'execution={precision: float32}'; template=another.ipynb runs another notebook; book=no leaves the book as it is.

What has to run is decided in `isonb.running.sweep` by content; `isonb.running.driver` says what the rules below are
made of. Each sweep has marker files of its own, so that neither the times of files nor what an earlier sweep left
count.
"""

import os
import sys

from snakemake.logging import logger

from isonb.running import driver as drivers

driver = drivers.begin(config, workflow.is_main_process, logger)


onstart:
    driver.start()


onerror:
    driver.fail()


onsuccess:
    driver.end()


localrules: all, report, book


rule all:
    input: driver.targets()


for cell in driver.cells:

    rule:
        name: f"cell_{cell.run.run_id}"
        output: driver.marker(cell.run.run_id)
        message: driver.message(cell)
        priority: driver.priorities[cell.run.run_id]
        threads: driver.slots(workflow.cores)
        resources:
            nodes=1,
            mem_mb=driver.megabytes(cell),
        params:
            command=lambda wildcards, cell=cell: driver.command(cell),
            log=lambda wildcards, output: output[0].removesuffix("done") + "log",
            failed=lambda wildcards, output: output[0].removesuffix("done") + "failed",
        shell: "{params.command} > {params.log:q} 2>&1 || {{ echo $? > {params.failed:q}; exit 1; }}; touch {output:q}"


rule report:
    input: [driver.marker(run_id) for run_id in driver.reasons]
    output: driver.marker("report")
    message: "table, verdicts and summary"
    params:
        python=lambda wildcards: sys.executable,
        folder=lambda wildcards, output: os.path.abspath(os.path.dirname(output[0])),
    shell: "{params.python:q} -m isonb report {params.folder:q} || test -e {output:q}"


rule book:
    input: [driver.marker("report")] if driver.reasons else []
    output: driver.marker("book")
    message: "the book"
    params: python=lambda wildcards: sys.executable
    shell: "{params.python:q} -m isonb book && touch {output:q}"
