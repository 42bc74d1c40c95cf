"""Kill a sweep's processes at random moments, again and again, and see that the study's table is the same in the end.

    python tests/chaos.py              twenty kills, with SIGKILL: of the driver, of runners, of kernels, of ranks
    python tests/chaos.py --kills 8    fewer; --seed chooses other moments

Two studies of tiny networks: nine cells of one process each, and two cells of two processes each, whose ranks are
killed. Each is run once undisturbed and once with kills, started again as often as it takes. Then tables, records and
arrays must be equal bit for bit, apart from times, memory and the description of the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

PROJECT = Path(__file__).resolve().parent.parent
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
TINY = "width = 8\nimage_size = 8\ndata_fraction = 0.1\nepochs = 4\nevaluation_masks = 1\nprobe_epochs = 3\n"
NINE = [(block, code) for block in ("conv", "mixer", "transformer") for code in ("continuous", "rff", "pix2vec")]
TWO = [("conv", "rff"), ("mixer", "pix2vec")]
TIMES = {"seconds", "training_seconds", "probe_seconds", "peak_memory_bytes"}
CHANGING = {*TIMES, "environment", "checksums"}  # what differs from one run of the same cell to the next
PATIENCE = 30  # seconds in which everything that a killed process started must be gone
LONGEST = 12.0  # seconds between two kills


class Sweep:
    """One study in folders of its own."""

    def __init__(self, folder: Path, networks: list[tuple[str, str]], processes: int) -> None:
        self.folder, self.processes = folder, processes
        folder.mkdir(parents=True)
        cells = [f'[[cell]]\nblock = "{block}"\nencoding = "{code}"\n{TINY}' for block, code in networks]
        (folder / "study.toml").write_text('study = "smoke"\n' + "\n".join(cells))
        places = {"ISONB_RESULTS": str(folder / "results"), "ISONB_RUNS": str(folder / "runs")}
        self.environment = os.environ | places | {"OMP_NUM_THREADS": "1"}

    def start(self) -> subprocess.Popen:
        """The driver, with its words in a log."""
        execution = (
            f"execution={{threads: 1, precision: float32, checkpoint_seconds: 0.5, processes: {self.processes}}}"
        )
        settings = [f"study={self.folder / 'study.toml'}", "placement=cpu", "book=no", execution]
        with (self.folder / "driver.log").open("a") as log:
            return subprocess.Popen(
                [SNAKEMAKE, "--config", *settings], cwd=PROJECT, env=self.environment, stdout=log, stderr=log
            )

    def results(self) -> dict[str, object]:
        """Everything that must be equal: the table, each record, each array."""
        folder = self.folder / "results/smoke"
        table = pd.read_csv(folder / "table.csv").sort_values("run_id").reset_index(drop=True)
        content: dict[str, object] = {"table": table.drop(columns=sorted(TIMES & set(table))).to_csv()}
        for path in sorted(folder.glob("*.json")):
            content[path.stem] = without_times(json.loads(path.read_text()))
            with np.load(path.with_suffix(".npz")) as arrays:
                content |= {f"{path.stem}/{name}": arrays[name].tobytes() for name in arrays.files}
        return content


def without_times(content: object) -> object:
    """A record without what may differ."""
    if isinstance(content, dict):
        return {key: without_times(value) for key, value in content.items() if key not in CHANGING}
    return [without_times(one) for one in content] if isinstance(content, list) else content


def victims(driver: psutil.Process, kind: str) -> list[psutil.Process]:
    """The processes of a kind that the driver has started; a kernel is a runner's child, a rank one of torchrun's."""
    if kind == "driver":
        return [driver]
    word = {"runner": "run-cell", "kernel": "isonb.kernel", "rank": "--worker"}[kind]
    chosen = []
    for process in driver.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            words = process.cmdline()
            if word in " ".join(words) and "bash" not in words[0] and "torch.distributed.run" not in " ".join(words):
                chosen.append(process)
    return chosen


def disturb(sweep: Sweep, kinds: list[str], kills: int, chance: random.Random) -> list[str]:
    """Run a study, killing as it goes, until it has ended well; returns what was killed."""
    killed: list[str] = []
    status = 1
    while status or len(killed) < kills:
        if not status:
            for path in chance.sample(sorted((sweep.folder / "results/smoke").glob("*.json")), 1):
                path.unlink()  # everything has run before enough was killed: let something run again
        driver = sweep.start()
        watched = psutil.Process(driver.pid)
        while driver.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                driver.wait(chance.uniform(1.0, LONGEST))
            if driver.poll() is not None or len(killed) >= kills:
                continue
            kind = kinds[len(killed) % len(kinds)]
            if possible := victims(watched, kind):
                family = watched.children(recursive=True) if kind == "driver" else []
                chance.choice(possible).send_signal(signal.SIGKILL)
                killed.append(kind)
                print(f"{time.strftime('%H:%M:%S')} kill {len(killed)}: {kind}", flush=True)
                left = psutil.wait_procs(family, timeout=PATIENCE)[1]
                assert not left, f"still there after the driver's end: {left}"
        status = driver.wait()
    return killed


def main() -> int:
    """Compare undisturbed runs with disturbed ones; 0 when they are equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    chance, is_equal, killed = random.Random(chosen.seed), True, []
    ranks = max(1, chosen.kills // 5)
    with tempfile.TemporaryDirectory(prefix="isonb-chaos-") as folder:
        for name, networks, processes, kinds, kills in (
            ("nine", NINE, 1, ["driver", "runner", "kernel"], chosen.kills - ranks),
            ("ranks", TWO, 2, ["rank"], ranks),
        ):
            quiet, wild = (Sweep(Path(folder) / name / which, networks, processes) for which in ("quiet", "wild"))
            status = quiet.start().wait()
            assert status == 0, (quiet.folder / "driver.log").read_text()
            killed += disturb(wild, kinds, kills, chance)
            expected, actual = quiet.results(), wild.results()
            different = [key for key in sorted({*expected, *actual}) if expected.get(key) != actual.get(key)]
            print(f"{name}: {len(expected)} tables, records and arrays compared, {len(different)} differ {different}")
            is_equal &= not different
    counts = ", ".join(f"{killed.count(kind)} {kind}" for kind in sorted(set(killed)))
    print(f"{len(killed)} kills ({counts}): the results are {'equal bit for bit' if is_equal else 'NOT equal'}.")
    return 0 if is_equal else 1


if __name__ == "__main__":
    sys.exit(main())
