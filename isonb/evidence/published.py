"""image-GPT's published numbers beside this program's own, with the scale that lies between them.

The numbers are other people's: their losses are of ImageNet with a palette of its own, and nothing here is judged by
them. What our sources do not give as a number is left open.

Source: Chen et al., *Generative Pretraining from Pixels* (2020); losses are in the README of its code, too.
Book: chapter "image-GPT".
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from isonb import presets, rows
from isonb.evidence import NOT_RUN, metrics, selection
from isonb.evidence.ledger import image_gpt

IMAGES = 1_281_167  # ImageNet's training images
UNKNOWN = "not given"
OURS = rows.BLOCKS["transformer"].networks[0].name


@dataclass(frozen=True)
class Published:
    """A network of theirs: parameters, nats per palette pixel on ImageNet's test images, accuracies on CIFAR-10's."""

    title: str
    preset: str
    parameters: float
    test_loss: float
    probe: float | None = None
    finetuned: float | None = None


PUBLISHED = (
    Published("iGPT-S", "image-gpt-s", 76e6, 2.0895),
    Published("iGPT-M", "image-gpt-m", 455e6, 2.0614),
    Published("iGPT-L", "image-gpt-l", 1.362e9, 2.0466, probe=0.963, finetuned=0.990),
)


def beside_ours(t: metrics.Tables) -> pd.DataFrame:
    """A row for each published network, and one for ours with image-GPT's palette and objective: means over seeds."""
    shown = []
    for one in PUBLISHED:
        shape = presets.PRESETS[one.preset]
        shown.append({
            "network": one.title,
            "blocks": str(shape["depth"]),
            "width": str(shape["width"]),
            "parameters": _millions(one.parameters),
            "training images": f"{IMAGES:,}",
            "nats per palette pixel": f"{one.test_loss:.4f}",
            "probe, CIFAR-10": _share(one.probe),
            "fine-tuned, CIFAR-10": _share(one.finetuned),
        })  # fmt: skip
    return pd.DataFrame([*shown, _ours(t)])


def scale(t: metrics.Tables) -> str:
    """How many times as many parameters and images the largest published network has as ours, in Markdown."""
    runs = _runs(t)
    if runs.empty:
        return f"Ours: {NOT_RUN}."
    first, largest = runs.iloc[0], PUBLISHED[-1]
    return (
        f"From ours to {largest.title} it is a factor of {largest.parameters / first['parameters']:,.0f} in parameters "
        f"and of {IMAGES / first['data_train']:,.0f} in images; {largest.title} has "
        f"{presets.PRESETS[largest.preset]['depth'] / first['depth']:.0f} times as many blocks."
    )


def _runs(t: metrics.Tables) -> pd.DataFrame:
    """Our autoregressive transformers with the palette in and out, of the largest size that has been run."""
    runs = image_gpt.with_palette(t).runs
    runs = runs[(runs["objective"] == "autoregressive") & (runs["network"] == OURS)]
    return runs[runs["depth"] == runs["depth"].max()]


def _ours(t: metrics.Tables) -> dict[str, str]:
    runs = _runs(t)
    if runs.empty:
        return {"network": "ours", **dict.fromkeys(("blocks", "width", "parameters", "training images"), NOT_RUN)} | {
            name: NOT_RUN for name in ("nats per palette pixel", "probe, CIFAR-10", "fine-tuned, CIFAR-10")
        }
    first, mean = runs.iloc[0], runs.mean(numeric_only=True)
    numbers = {
        "blocks": str(first["depth"]),
        "width": str(first["width"]),
        "parameters": _millions(first["parameters"]),
        "training images": f"{first['data_train']:,}",
        "nats per palette pixel": f"{mean['test_loss']:.4f}",
        "probe, CIFAR-10": _share(mean["test_accuracy"]),
        "fine-tuned, CIFAR-10": _share(runs["finetune_accuracy"].astype(float).mean(), NOT_RUN),
    }
    linked = {name: selection.link(text, runs, t.runs) for name, text in numbers.items()}
    return {"network": f"ours, {first['network']}, seeds: {len(runs)}", **linked}


def _millions(parameters: float) -> str:
    return f"{parameters / 1e6:,.0f} million" if parameters >= 1e7 else f"{parameters / 1e6:.2f} million"


def _share(share: float | None, absent: str = UNKNOWN) -> str:
    return absent if share is None or pd.isna(share) else f"{share:.1%}"
