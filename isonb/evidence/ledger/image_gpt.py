"""Claims of image-GPT, as summarised: probes along training, autoregression against BERT, fine-tuning, the palette."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd

from isonb.evidence import statistics
from isonb.evidence.ledger.finding import ALPHA, Finding, NotRun, Verdict, by_sign, combine, parts_note
from isonb.evidence.ledger.loss import matched_loss
from isonb.evidence.ledger.select import (
    AUTOREGRESSIVE,
    CELL,
    complete_seeds,
    differences,
    gap,
    grid,
    needed,
    over_seeds,
    over_seeds_and_images,
)
from isonb.evidence.metrics import MAIN, Tables

TRANSFORMERS = ("transformer-1", "transformer-4")
OTHERS = ("conv", "mixer")
CHECKPOINTS = 6
FAITHFUL = 25.0  # dB


def c29(t: Tables) -> Finding:
    """Spearman of loss and probe accuracy along training: its mean over transformers, of their seeds' means."""
    runs = grid(t)
    curves = t.curves[t.curves["run_id"].isin(runs["run_id"])].dropna(subset=["probe_accuracy", "validation_loss"])
    within = {
        run_id: statistics.spearman(path["validation_loss"].to_numpy(), path["probe_accuracy"].to_numpy())
        for run_id, path in curves.groupby("run_id")
        if len(path) >= CHECKPOINTS
    }
    runs = runs.assign(within=runs["run_id"].map(within)).dropna(subset=["within"])
    others = runs[~runs["network"].isin(TRANSFORMERS)].groupby(CELL)["within"].mean()
    runs = runs[runs["network"].isin(TRANSFORMERS)]
    needed(runs, f"transformer runs that were probed after {CHECKPOINTS} epochs or more (probe_along=true)")
    cells = runs.groupby(CELL)["within"].mean()
    value, interval = float(cells.mean()), statistics.student_interval(cells.to_numpy())
    verdict = Verdict.UNDETERMINED
    if interval[1] < 0:
        verdict = Verdict.SUPPORTED if value <= -0.8 else Verdict.PARTLY
    elif interval[0] > 0:
        verdict = Verdict.CONTRADICTED
    return Finding(
        verdict,
        value,
        "Spearman, mean over cells",
        interval,
        len(cells),
        "cells",
        seeds=len(complete_seeds(runs)),
        note=_of_other_blocks(others.groupby("network").mean().to_dict(), ".2f"),
    )


def _of_other_blocks(values: Mapping[str, float], spec: str) -> str:
    """The same statistic of networks that image-GPT's claims are not about, as a sentence, or nothing."""
    return f"Other blocks: {', '.join(f'{name} {value:{spec}}' for name, value in values.items())}." if values else ""


def c30(t: Tables) -> Finding:
    """Sign test over cells: at equal loss along training, is the next larger size better?"""
    steps = _size_steps(t, TRANSFORMERS)
    if not steps:
        raise NotRun(
            "Needs two sizes of one transformer that passed through a common loss, probed along training "
            "(probe_along=true)."
        )
    found = [gap(step) for step in steps]
    cells = np.concatenate([one.cells.to_numpy() for one in found])
    p = statistics.sign_test(cells)
    interval = statistics.bootstrap_mean(cells)
    verdict = by_sign(interval) if p < ALPHA else Verdict.UNDETERMINED
    seeds = min(len(one.by_seed) for one in found)
    others = {name: [gap(step).cells for step in _size_steps(t, (name,))] for name in OTHERS}
    gained = {name: float(np.concatenate(cells_of).mean()) for name, cells_of in others.items() if cells_of}
    share = f"{np.mean(cells > 0):.0%} of the cells favour the larger size."
    return Finding(
        verdict,
        float(cells.mean()),
        "accuracy at equal loss, larger minus smaller",
        interval,
        len(cells),
        "cells",
        p,
        seeds,
        note=f"{share} {_of_other_blocks(gained, '+.3f')}".strip(),
    )


def _size_steps(t: Tables, networks: tuple[str, ...]) -> list[pd.Series]:
    """For each size and the next larger one: the accuracy that the larger gains at equal loss, by cell and seed."""
    runs = grid(t, network=networks)
    sizes = sorted(runs["depth"].unique())
    steps = [matched_loss(t, runs, "depth", large, small) for small, large in itertools.pairwise(sizes)]
    return [step for step in steps if len(step)]


def _both_objectives(t: Tables) -> pd.DataFrame:
    return grid(t, (MAIN, AUTOREGRESSIVE), network=TRANSFORMERS)


def c31(t: Tables) -> Finding:
    """Probe accuracy of autoregressive minus BERT, same cell and seed, on the same test images."""
    return over_seeds_and_images(t, _both_objectives(t), "objective", "autoregressive", "bert")


def c32(t: Tables) -> Finding:
    """Half the probe gap minus the gap after fine-tuning, same cell and seed."""
    before = c31(t)
    if before.verdict != Verdict.SUPPORTED:
        raise NotRun("There is no certain probe gap between autoregression and BERT that could be caught up (C31).")
    probe, tuned = (
        differences(_both_objectives(t), column, "objective", "autoregressive", "bert")
        for column in ("test_accuracy", "finetune_accuracy")
    )
    left = (probe / 2 - tuned).dropna()
    return _on_these_images(over_seeds(left, "accuracy, half the gap before minus the gap after"))


def _on_these_images(finding: Finding) -> Finding:
    """The finding, which says that its interval is over seeds alone: fine-tuning leaves no answer for each image."""
    return dataclasses.replace(finding, note=f"{finding.note} For these test images: others might differ.".strip())


def _finetune_gain(t: Tables, against: str) -> tuple[pd.Series, pd.DataFrame]:
    runs = grid(t).dropna(subset=["finetune_accuracy", against])
    twins = " and the same trained from scratch" if against == "scratch_accuracy" else ""
    needed(runs, f"fine-tuned networks{twins} (finetune_epochs)")
    index = pd.MultiIndex.from_frame(runs[["network", "encoding", "depth", "seed"]])
    return pd.Series((runs["finetune_accuracy"] - runs[against]).to_numpy(float), index), runs


def c33(t: Tables) -> Finding:
    """Fine-tuned accuracy minus probe accuracy of the same network: positive every time?

    Networks that were still getting better when fine-tuning stopped cannot contradict it.
    """
    difference, runs = _finetune_gain(t, "test_accuracy")
    found = gap(difference)
    always = bool((difference > 0).all())
    epochs = " and ".join(map(str, sorted(set(runs["finetune_epochs"]))))
    verdict = by_sign(found.over_seeds)
    is_unfinished = runs["finetune_best_epoch"] == runs["finetune_epochs"]
    if verdict == Verdict.SUPPORTED and not always:
        verdict = Verdict.PARTLY
    elif verdict == Verdict.CONTRADICTED and is_unfinished.mean() > 0.5:
        verdict = Verdict.UNDETERMINED
    return _on_these_images(Finding(
        verdict,
        found.value,
        "accuracy",
        found.over_seeds,
        len(difference),
        "runs",
        seeds=len(found.by_seed),
        by_seed=found.by_seed,
        under=f"after fine-tuning for {epochs} epoch{'' if epochs == '1' else 's'}",
        note=f"Positive in {(difference > 0).mean():.0%} of the runs. Epochs of fine-tuning: {epochs}; accuracy "
        f"{runs['finetune_accuracy'].mean():.1%}, of the probes {runs['test_accuracy'].mean():.1%}. Best after the "
        f"last epoch, so perhaps not done: {is_unfinished.sum()} of {len(runs)}.",
    ))  # fmt: skip


def c34(t: Tables) -> Finding:
    """Fine-tuned accuracy of the pre-trained network minus that of one trained from scratch."""
    difference, _ = _finetune_gain(t, "scratch_accuracy")
    return _on_these_images(over_seeds(difference, "accuracy"))


def c35(t: Tables) -> Finding:
    """Peak signal-to-noise ratio over the test images, and the share of tokens that is left."""
    rows = needed(t.frame("palette"), "a palette (make bench)")
    psnr = rows["psnr"].to_numpy(float)
    interval = statistics.student_interval(psnr)
    is_third = bool((3 * rows["tokens"] == rows["sub_pixels"]).all())
    verdicts = {
        f"above {FAITHFUL} dB": by_sign(interval, FAITHFUL),
        "a third of the tokens": Verdict.SUPPORTED if is_third else Verdict.CONTRADICTED,
    }
    return Finding(
        combine(verdicts.values()),
        float(psnr.mean()),
        "dB, peak signal-to-noise ratio",
        interval,
        len(rows),
        "test images",
        threshold=FAITHFUL,
        note=f"{parts_note(verdicts)} Colours are off by {rows['colour_error'].mean():.1f} of 255 levels, "
        f"on test images of {', '.join(sorted(set(rows['data'])))}.",
    )


RULES = {"C29": c29, "C30": c30, "C31": c31, "C32": c32, "C33": c33, "C34": c34, "C35": c35}
