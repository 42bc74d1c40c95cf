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
    NETWORKS,
    SETTING,
    TRANSFORMERS,
    Answers,
    array,
    chosen_correct_B,
    complete_seeds,
    gap,
    grid,
    image_differences,
    needed,
    over_seeds_and_images,
    tuned_correct_B,
)
from isonb.evidence.metrics import MAIN, Tables

OTHERS = tuple(name for name in NETWORKS if name not in TRANSFORMERS)
CHECKPOINTS = 6  # the fewest along training that give a run a correlation of its own
FAITHFUL = 25.0  # dB


def c29(t: Tables) -> Finding:
    """Spearman's correlation of loss and probe accuracy along training: mean over settings of transformers."""
    runs = grid(t)
    curves = t.curves[t.curves["run_id"].isin(runs["run_id"])].dropna(subset=["probe_accuracy", "validation_loss"])
    within = {
        run_id: statistics.spearman(path["validation_loss"].to_numpy(), path["probe_accuracy"].to_numpy())
        for run_id, path in curves.groupby("run_id")
        if len(path) >= CHECKPOINTS
    }
    runs = runs.assign(within=runs["run_id"].map(within)).dropna(subset=["within"])
    others = runs[~runs["network"].isin(TRANSFORMERS)].groupby(SETTING)["within"].mean()
    runs = runs[runs["network"].isin(TRANSFORMERS)]
    needed(runs, f"transformer runs that were probed after {CHECKPOINTS} epochs or more (probe_along=true)")
    settings = runs.groupby(SETTING)["within"].mean()
    value, interval = float(settings.mean()), statistics.student_interval(settings.to_numpy())
    verdict = Verdict.UNDETERMINED
    if interval[1] < 0:
        verdict = Verdict.SUPPORTED if value <= -0.8 else Verdict.PARTLY
    elif interval[0] > 0:
        verdict = Verdict.CONTRADICTED
    return Finding(
        verdict=verdict,
        value=value,
        unit="Spearman, mean over settings",
        interval=interval,
        n=len(settings),
        of="settings",
        seeds=len(complete_seeds(runs)),
        note=_of_other_blocks(others.groupby("network").mean().to_dict(), ".2f"),
    )


def _of_other_blocks(values: Mapping[str, float], spec: str) -> str:
    """The same statistic of the networks that image-GPT's claims are not about, as a sentence; empty without any."""
    return f"Other blocks: {', '.join(f'{name} {value:{spec}}' for name, value in values.items())}." if values else ""


def c30(t: Tables) -> Finding:
    """Sign test over settings: is the next larger size better at equal loss along training?"""
    steps = _size_steps(t, TRANSFORMERS)
    if not steps:
        raise NotRun(
            "Needs two sizes of one transformer that passed through a common loss, probed along training "
            "(probe_along=true)."
        )
    gains = [gap(step) for step in steps]
    settings = np.concatenate([gain.settings.to_numpy() for gain in gains])
    p = statistics.sign_test(settings)
    interval = statistics.bootstrap_mean(settings)
    verdict = by_sign(interval) if p < ALPHA else Verdict.UNDETERMINED
    others = {name: [gap(step).settings for step in _size_steps(t, (name,))] for name in OTHERS}
    of_others = {name: float(np.concatenate(steps).mean()) for name, steps in others.items() if steps}
    share = f"{np.mean(settings > 0):.0%} of the settings favour the larger size."
    return Finding(
        verdict=verdict,
        value=float(settings.mean()),
        unit="accuracy at equal loss, larger minus smaller",
        interval=interval,
        n=len(settings),
        of="settings",
        p=p,
        seeds=min(len(gain.by_seed) for gain in gains),
        note=f"{share} {_of_other_blocks(of_others, '+.3f')}".strip(),
    )


def _size_steps(t: Tables, networks: tuple[str, ...]) -> list[pd.Series]:
    """What the next larger size gains in accuracy at equal loss, by setting and seed, for each size that has one."""
    runs = grid(t, network=networks)
    sizes = sorted(runs["depth"].unique())
    steps = [matched_loss(t, runs, "depth", large, small) for small, large in itertools.pairwise(sizes)]
    return [step for step in steps if len(step)]


def _by_objective(t: Tables, of: Answers, column: str) -> pd.Series:
    runs = grid(t, (MAIN, AUTOREGRESSIVE), network=TRANSFORMERS)
    return image_differences(t, runs, "objective", "autoregressive", "bert", of, column)


def c31(t: Tables) -> Finding:
    """Probe accuracy of autoregressive minus BERT networks, of the same setting, seed and test images."""
    return over_seeds_and_images(_by_objective(t, chosen_correct_B, "test_accuracy"))


def c32(t: Tables) -> Finding:
    """Half the probe gap minus the gap after fine-tuning, of the same setting, seed and test images."""
    before_B = _by_objective(t, chosen_correct_B, "test_accuracy")
    if over_seeds_and_images(before_B).verdict != Verdict.SUPPORTED:
        raise NotRun("There is no certain probe gap between autoregression and BERT that could be caught up (C31).")
    after_B = _by_objective(t, tuned_correct_B, "finetune_accuracy")
    both_B = pd.Series([before_B[key] / 2 - after_B[key] for key in after_B.index], after_B.index)
    return over_seeds_and_images(both_B, "accuracy, half the gap before minus the gap after")


def _finetune_gain(t: Tables, against: str, of: Answers) -> tuple[pd.Series, pd.DataFrame]:
    """What fine-tuned networks get right minus what `of` gives, by test image, setting and seed; and their runs."""
    runs = grid(t).dropna(subset=["finetune_accuracy", against])
    twins = " and the same trained from scratch" if against == "scratch_accuracy" else ""
    needed(runs, f"fine-tuned networks{twins} (finetune_epochs)")
    gains = [tuned_correct_B(t, run) - of(t, run) for _, run in runs.iterrows()]
    return pd.Series(gains, pd.MultiIndex.from_frame(runs[[*SETTING, "seed"]])), runs


def c33(t: Tables) -> Finding:
    """Is fine-tuned accuracy minus probe accuracy of the same network positive every time?

    Networks that were still improving when fine-tuning stopped cannot contradict it.
    """
    difference_B, runs = _finetune_gain(t, "test_accuracy", chosen_correct_B)
    finding = over_seeds_and_images(difference_B, is_order=False)
    is_better = difference_B.map(np.mean) > 0
    epochs = " and ".join(map(str, sorted(set(runs["finetune_epochs"]))))
    verdict, is_unfinished = finding.verdict, runs["finetune_best_epoch"] == runs["finetune_epochs"]
    if verdict == Verdict.SUPPORTED and not is_better.all():
        verdict = Verdict.PARTLY
    elif verdict == Verdict.CONTRADICTED and is_unfinished.mean() > 0.5:
        verdict = Verdict.UNDETERMINED
    return dataclasses.replace(
        finding,
        verdict=verdict,
        under=f"after fine-tuning for {epochs} epoch{'' if epochs == '1' else 's'}, {finding.under}",
        note=f"Positive in {is_better.mean():.0%} of {len(runs)} runs. Epochs of fine-tuning: {epochs}; accuracy "
        f"{runs['finetune_accuracy'].mean():.1%}, of the probes {runs['test_accuracy'].mean():.1%}. Best after the "
        f"last epoch, so perhaps not done: {is_unfinished.sum()} of {len(runs)}.",
    )


def c34(t: Tables) -> Finding:
    """Fine-tuned accuracy of the pre-trained network minus that of the same network trained from scratch."""
    difference_B, _ = _finetune_gain(
        t, "scratch_accuracy", lambda t, run: array(t, run["run_id"], "scratch_correct_B").astype(float)
    )
    return over_seeds_and_images(difference_B)


def c35(t: Tables) -> Finding:
    """Peak signal-to-noise ratio over the test images, and whether a third of the tokens is left."""
    rows = needed(t.frame("palette"), "a palette (make bench)")
    psnr = rows["psnr"].to_numpy(float)
    interval = statistics.student_interval(psnr)
    is_third = bool((3 * rows["tokens"] == rows["sub_pixels"]).all())
    verdicts = {
        f"above {FAITHFUL} dB": by_sign(interval, FAITHFUL),
        "a third of the tokens": Verdict.SUPPORTED if is_third else Verdict.CONTRADICTED,
    }
    return Finding(
        verdict=combine(verdicts.values()),
        value=float(psnr.mean()),
        unit="dB, peak signal-to-noise ratio",
        interval=interval,
        n=len(rows),
        of="test images",
        threshold=FAITHFUL,
        note=f"{parts_note(verdicts)} Colours are off by {rows['colour_error'].mean():.1f} of 255 levels, "
        f"on test images of {', '.join(sorted(set(rows['data'])))}.",
    )


RULES = {"C29": c29, "C30": c30, "C31": c31, "C32": c32, "C33": c33, "C34": c34, "C35": c35}
