"""Settings as a person would name them: "learning rate 0.001", "no positions", "25% of the training images".

Book: chapters "All runs" and "Why do the transformers fail?".
"""

from __future__ import annotations

from typing import Any

WORDS: dict[str, str | dict[Any, str]] = {  # of a setting's name and value, where "learning rate 0.001" will not do
    "kernel_size": "kernel {0} by {0}",
    "positions": {"none": "no positions", "learned": "learned positions", "sincos": "sine and cosine positions"},
    "objective": {"mse": "squared error", "autoregressive": "autoregressive", "bert": "masked pixels"},
    "target": {"palette": "palette predicted", "values": "values predicted"},
    "unlabelled": {True: "images without labels"},
    "probe_data": "probed on {}",
    "probe_classes": "probed on classes {}",
    "probe_fold": "probed on fold {}",
    "finetune_data": "fine-tuned on {}",
    "finetune_classes": "fine-tuned on classes {}",
    "finetune_fold": "fine-tuned on fold {}",
    "epochs": "{} epochs",
    "warmup_epochs": "{} epochs of warm-up",
    "batch_size": "batches of {}",
    "mlp_ratio": "MLP ratio {}",
    "rff_trainable": {True: "trained frequencies", False: "fixed frequencies"},
    "rff_range": "frequencies on the {} range",
}

SHARE = " of the training images"


def of_setting(setting: str, value: Any) -> str:
    """A setting and its value: "learning rate 0.001", "no positions"."""
    if setting == "data_fraction":
        return f"{100 * float(value):.6g}%{SHARE}"
    words = WORDS.get(setting)
    if isinstance(words, dict) and value in words:
        return words[value]
    name = setting.replace("_", " ")
    if isinstance(value, bool):
        return f"{'with' if value else 'without'} {name}"
    shown = str(value).removesuffix(".0")
    return words.format(shown) if isinstance(words, str) else f"{name} {shown}"


def of_arm(arm: str) -> str:
    """What an arm changes and to what: "24 epochs, learning rate 0.003".

    An arm with a part of the images is named by that alone: it passes over them more often, to take as many steps.
    """
    values = dict(setting.split("=") for setting in arm.split())
    share = {name: value for name, value in values.items() if name == "data_fraction"}
    return ", ".join(of_setting(name, value) for name, value in (share or values).items())
