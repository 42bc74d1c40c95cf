"""Claims of image-GPT, as summarised: probes along training, autoregression against BERT, fine-tuning, the palette.

The rules know no encoding: `with_palette` gives them image-GPT's own input and output to judge.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd

from isonb.evidence import statistics
from isonb.evidence.ledger.finding import Finding, NotRun, Setting, Verdict, by_setting, by_sign, combine, parts_note
from isonb.evidence.ledger.loss import matched_loss
from isonb.evidence.ledger.select import (
    AUTOREGRESSIVE,
    NETWORKS,
    SETTING,
    TRANSFORMERS,
    Answers,
    array,
    chosen_correct_B,
    gain_B,
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
LONG = 10  # epochs of fine-tuning below which its outcome says how long it takes rather than where it leads
FAITHFUL = 25.0  # dB
PALETTE = {"target=palette": MAIN, f"{AUTOREGRESSIVE} target=palette": AUTOREGRESSIVE}  # arms, without the palette
IN_WORDS = {MAIN: "BERT", AUTOREGRESSIVE: "autoregression"}


def c29(t: Tables) -> Finding:
    """Spearman's correlation of loss and probe accuracy along training: mean over settings of transformers, by seed."""
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
    of_runs = gap(runs.set_index([*SETTING, "seed"])["within"])
    value, interval = of_runs.value, statistics.of_correlation(of_runs.over_seeds)
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
        n=len(of_runs.settings),
        of="settings",
        seeds=len(of_runs.by_seed),
        by_seed=of_runs.by_seed,
        note=_of_other_blocks(others.groupby("network").mean().to_dict(), ".2f"),
    )


def _of_other_blocks(values: Mapping[str, float], spec: str) -> str:
    """The same statistic of the networks that image-GPT's claims are not about, as a sentence; empty without any."""
    return (
        f"The other blocks: {', '.join(f'{name} {value:{spec}}' for name, value in values.items())}." if values else ""
    )


def c30(t: Tables) -> Finding:
    """Is the next larger size better at equal loss along training, setting by setting?"""
    steps = _size_steps(t, TRANSFORMERS)
    if not steps:
        raise NotRun(
            "Needs two sizes of one transformer that passed through a common loss, probed along training "
            "(probe_along=true)."
        )
    finding = by_setting(steps, "accuracy at equal loss, larger minus smaller")
    others = {name: [step_S.mean() for step_S in _size_steps(t, (name,)).values()] for name in OTHERS}
    of_others = {name: float(np.mean(steps)) for name, steps in others.items() if steps}
    note = f"A setting is named by the larger size. {finding.note} {_of_other_blocks(of_others, '+.3f')}".strip()
    return dataclasses.replace(finding, note=note)


def _size_steps(t: Tables, networks: tuple[str, ...]) -> dict[Setting, np.ndarray]:
    """What the next larger size gains in accuracy at equal loss, by seed, for each setting of the larger one."""
    steps = {}
    for network in networks:
        runs = grid(t, network=network)
        for small, large in itertools.pairwise(sorted(runs["depth"].unique())):
            matched = matched_loss(t, runs, "depth", large, small)
            for encoding, of_seed in matched.groupby(level="encoding"):
                steps[Setting(network, encoding, int(large))] = of_seed.to_numpy()
    return steps


def _by_objective(t: Tables, of: Answers, column: str) -> pd.Series:
    runs = grid(t, (MAIN, AUTOREGRESSIVE), network=TRANSFORMERS)
    return image_differences(t, runs, "objective", "autoregressive", "bert", of, column)


def c31(t: Tables) -> Finding:
    """Probe accuracy of autoregressive minus BERT networks, of the same setting, seed and test images."""
    level = over_seeds_and_images(_by_objective(t, chosen_correct_B, "test_accuracy"))
    try:
        gain = over_seeds_and_images(_by_objective(t, gain_B, "gain"), "gain in accuracy")
    except NotRun:
        return level
    return dataclasses.replace(level, gain=gain)


def c32(t: Tables) -> Finding:
    """Half the probe gap minus the gap after fine-tuning, of the same setting, seed and test images."""
    before_B = _by_objective(t, chosen_correct_B, "test_accuracy")
    if over_seeds_and_images(before_B).verdict != Verdict.SUPPORTED:
        raise NotRun("There is no certain probe gap between autoregression and BERT that could be caught up (C31).")
    after_B = _by_objective(_long_tuned(t), tuned_correct_B, "finetune_accuracy")
    both_B = pd.Series([before_B[key] / 2 - after_B[key] for key in after_B.index], after_B.index)
    return over_seeds_and_images(both_B, "accuracy, half the gap before minus the gap after")


def _long_tuned(t: Tables) -> Tables:
    """The tables with runs that were fine-tuned for at least `LONG` epochs alone. Raises `NotRun` without any."""
    tuned = needed(t.runs.dropna(subset=["finetune_accuracy"]), "fine-tuned networks (finetune_epochs)")
    is_long = tuned["finetune_epochs"] >= LONG
    if not is_long.any():
        epochs = " and ".join(map(str, sorted(set(tuned["finetune_epochs"].astype(int)))))
        raise NotRun(
            f"Needs networks that were fine-tuned for {LONG} epochs or more (finetune_epochs): after {epochs} they are "
            "not done, so a comparison would say how long that takes."
        )
    return dataclasses.replace(t, runs=tuned[is_long])


def _finetune_gain(t: Tables, against: str, of: Answers) -> tuple[pd.Series, pd.DataFrame]:
    """What fine-tuned networks get right minus what `of` gives, by test image, setting and seed; and their runs."""
    runs = grid(_long_tuned(t)).dropna(subset=[against])
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
        note=f"Fine-tuning is ahead in {is_better.mean():.0%} of {len(runs)} runs, with a mean accuracy of "
        f"{runs['finetune_accuracy'].mean():.1%} after {epochs} epochs against {runs['test_accuracy'].mean():.1%} of "
        f"the probes. Best after the last epoch, so perhaps not done: {is_unfinished.sum()} of {len(runs)}.",
    )


def c34(t: Tables) -> Finding:
    """Fine-tuned accuracy of the pre-trained network minus that of the same network trained from scratch."""
    difference_B, _ = _finetune_gain(
        t, "scratch_accuracy", lambda t, run: array(t, run["run_id"], "scratch_correct_B").astype(float)
    )
    return over_seeds_and_images(difference_B)


def with_palette(t: Tables) -> Tables:
    """The tables in which networks that read and predict a palette stand for the grid and its autoregressive arm."""
    frames = {}
    for name in ("runs", "layers", "curves"):
        frame = t.frame(name)
        frame = frame[(frame["encoding"] == "palette") & frame["arm"].isin(PALETTE)]
        frames[name] = frame.assign(arm=frame["arm"].map(PALETTE))
    return dataclasses.replace(t, **frames, learned=t.learned[:0], encodings=("palette",))


def beside_pix2vec(t: Tables) -> dict[str, pd.DataFrame]:
    """By objective, runs with a palette and, `_x` and `_y`, what the same network, size and seed has with pix2vec.

    The counterpart reads learned tables of 256 values and predicts such values. All else is the same.
    """
    pairs = {}
    for arm, other in PALETTE.items():
        of_palette = t.runs[(t.runs["arm"] == arm) & (t.runs["encoding"] == "palette")]
        of_values = t.runs[(t.runs["arm"] == other) & (t.runs["encoding"] == "pix2vec")]
        pairs[IN_WORDS[other]] = of_palette.merge(of_values, on=["network", "depth", "seed"])
    return pairs


def probe_difference_SB(t: Tables, pairs: pd.DataFrame) -> np.ndarray:
    """What the probes of the palette's networks get right minus what those of their counterparts do."""
    correct = [
        [
            array(t, run[f"run_id_{which}"], "test_correct_LB")[int(run[f"best_layer_{which}"])].astype(float)
            for which in "xy"
        ]
        for run in pairs.to_dict("records")
    ]
    return np.stack([own_B - other_B for own_B, other_B in correct])


def _what_it_does(t: Tables) -> str:
    """What the palette does to probes and to reconstructions beside pix2vec, in a sentence for each objective."""
    sentences, by_objective = [], beside_pix2vec(t)
    if all(pairs.empty for pairs in by_objective.values()):
        return "What it does to probes and reconstructions, beside pix2vec: not run."
    for objective, pairs in by_objective.items():
        if pairs.empty:
            sentences.append(f"Trained by {objective}: not run.")
            continue
        points_SB = 100 * probe_difference_SB(t, pairs)
        low, high = statistics.crossed_interval(points_SB)
        own, other, least = (
            pairs[name].mean()
            for name in ("mean_absolute_error_x", "mean_absolute_error_y", "nearest_mean_absolute_error_x")
        )
        seeds = f"{len(pairs)} seed{'s' * (len(pairs) > 1)}"
        interval = f" ({low:+.1f} to {high:+.1f})" if len(pairs) > 1 else ""
        sentences.append(
            f"Trained by {objective}, the probe of a network with it reads {points_SB.mean():+.1f} points{interval} "
            f"beside pix2vec over {seeds}, and hidden pixels are off by {own:.1f} levels instead of {other:.1f}, of "
            f"which the palette alone makes {least:.1f}."
        )
    return " ".join(sentences)


def c35(t: Tables) -> Finding:
    """Peak signal-to-noise ratio over the test images, and whether a third of the tokens is left.

    Beside it, what networks that read and predict the palette do to probes and reconstructions.
    """
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
        parts=verdicts,
        note=f"{parts_note(verdicts)} Colours are off by {rows['colour_error'].mean():.1f} of 255 levels, "
        f"on test images of {', '.join(sorted(set(rows['data'])))}. {_what_it_does(t)}",
    )


def c41(t: Tables) -> Finding:
    """Never run: what a sequence transformer of image-GPT's scale does is beyond networks as small as these."""
    raise NotRun(
        "Needs transformers of image-GPT's size, 74 million parameters and more, trained on the 1.2 million images of "
        "ImageNet, beside convolutional networks that learned from them without labels: not testable here, where "
        "networks are small and all have one objective."
    )


RULES = {"C29": c29, "C30": c30, "C31": c31, "C32": c32, "C33": c33, "C34": c34, "C35": c35, "C41": c41}
