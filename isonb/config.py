"""What a run is: frozen, validated configurations, and the profiles that give them useful defaults.

The paper leaves many details open. Each such point is a field here, with its number in the book's table of
departures (A1 to A26) and the reason for its default on the same line. Nothing in this module computes.

Book: chapter "Departures from the paper".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pydantic

from isonb.protocols import FinetuneConfig, ProbeConfig
from isonb.validation import ConfigError, Frozen, choice, unknown_name

Block = Literal["conv", "mixer", "transformer"]
Encoding = Literal["continuous", "rff", "pix2vec"]
BLOCKS: tuple[Block, ...] = ("conv", "mixer", "transformer")
ENCODINGS: tuple[Encoding, ...] = ("continuous", "rff", "pix2vec")
Objective = Literal["bert", "mse", "autoregressive"]


class RunConfig(Frozen):
    """Everything that decides the weights of one pre-trained network. Equal configurations give equal networks.

    Raises `ConfigError` with one sentence for each unknown, ill-typed, out-of-range or ineffective field.
    Paper: sections 3 and 4. Book: chapter "Departures from the paper".
    """

    # The network
    block: Block = choice("conv", "3.1", "the three block types of the paper")
    depth: int = choice(1, "4.3", "the paper's sizes are 1, 3, 6 and, in its supplement, 12", ge=1, le=48)
    width: int = choice(128, "4.3", "the paper's latent channel dimension", ge=4, le=4096)
    heads: int = choice(1, "4.3", "the paper trains 1 and 4 heads", {"block": "transformer"}, ge=1, le=64)
    positions: Literal["none", "learned", "sincos"] = choice(
        "none", "A3", "learned for transformers as in image-GPT (the paper names none), none for conv and mixer"
    )
    kernel_size: Literal[3, 5] = choice(3, "A10", "3x3 makes conv and mixer cost the same", {"block": "conv"})
    padding: Literal["zeros", "reflect", "circular"] = choice("zeros", "A10", "Keras 'same'", {"block": "conv"})
    token_ratio: float = choice(
        1.0, "A8", "token-mixing hidden units per position; 1 matches conv's cost", {"block": "mixer"}, gt=0, le=8
    )
    channel_ratio: float = choice(
        1.0, "A8", "channel-mixing hidden units per channel, as for tokens", {"block": "mixer"}, gt=0, le=8
    )
    mlp_ratio: float = choice(
        1.0, "A9", "hidden units per channel; isotropic like the other blocks", {"block": "transformer"}, gt=0, le=8
    )
    attention_output: bool = choice(True, "A9", "the usual output projection after the heads", {"block": "transformer"})
    layer_norm_eps: float = choice(1e-3, "A11", "Keras default; the paper used Keras", gt=0, le=0.1)
    initialisation: Literal["keras", "torch"] = choice(
        "keras",
        "A12",
        "as the paper's framework: maps Glorot uniform, tables U(-0.05, 0.05); torch has tables N(0, 1)",
    )
    head_norm: bool = choice(True, "A17", "a LayerNorm before the head, as in image-GPT")

    # The encoding
    encoding: Encoding = choice("continuous", "3.2", "the three encodings of the paper")
    channel_merge: Literal["sum", "concat"] = choice(
        "sum", "A4", "sum of one map per colour channel: 'separately for each channel' (section 3.2)"
    )
    sigma: float = choice(
        1.0, "A5", "standard deviation of the frequencies; the paper's middle value", {"encoding": "rff"}, gt=0, le=1000
    )
    frequencies: int = choice(128, "A5", "k of equation 4: 2k features", {"encoding": "rff"}, ge=1, le=4096)
    rff_range: Literal["symmetric", "unit"] = choice(
        "symmetric", "A5", "p in [-1, 1] like the continuous input; 'unit' is [0, 1]", {"encoding": "rff"}
    )
    rff_trainable: bool = choice(False, "A5", "the paper draws beta once", {"encoding": "rff"})

    # The objective
    objective: Objective = choice(
        "bert",
        "3.3",
        "cross-entropy on 256 values, as the paper; 'mse' is squared error on one value (claim C20), 'autoregressive' "
        "predicts every pixel from those before it (image-GPT)",
    )
    mask_rate: float = choice(0.15, "3.3", "the paper's 15 %", gt=0, lt=1)
    mask_unit: Literal["pixel", "subpixel"] = choice("pixel", "A1", "the paper masks pixels: all three channels")
    mask_fill: Literal["zero", "learned"] = choice("zero", "A2", "zero content before positions, as image-GPT")
    evaluation_masks: int = choice(4, "A19", "fixed masks per image, the same for every network", ge=1, le=64)

    # The data
    data: Literal["photos", "cifar10"] = choice("photos", "4.1", "CIFAR-10 in the paper; photos needs no download")
    image_size: int = choice(32, "4.1", "1024 positions, one token per pixel", ge=8, le=64)
    data_fraction: float = choice(1.0, "C24", "share of the training images that is used", gt=0, le=1)
    validation_fraction: float = choice(0.1, "A20", "part of CIFAR-10's training file kept for validation", gt=0, lt=1)
    augmentation: Literal["none", "flip-crop"] = choice("none", "A25", "the paper names none")
    seed: int = choice(0, "A26", "decides weights, order and masks together", ge=0, le=2**31 - 1)

    # The optimiser
    learning_rate: float = choice(0.01, "A14", "the paper's peak", gt=0, le=1)
    batch_size: int = choice(128, "A15", "the paper's; attention that is linear in memory lifts its 4-head limit", ge=1)
    epochs: int = choice(51, "A16", "1 epoch of warm-up and 50 of cosine decay", ge=1, le=100_000)
    warmup_epochs: float = choice(1.0, "A16", "linear from 0, per step", ge=0)
    adam_beta1: float = choice(0.9, "A13", "Keras default", ge=0, lt=1)
    adam_beta2: float = choice(0.999, "A13", "Keras default; image-GPT used 0.95", ge=0, lt=1)
    adam_eps: float = choice(1e-7, "A13", "Keras default", gt=0, le=0.1)
    weight_decay: float = choice(0.0, "A25", "the paper names none", ge=0, le=1)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _positions_by_block(cls, values: dict[str, Any]) -> dict[str, Any]:
        if isinstance(values, dict) and "positions" not in values and values.get("block") == "transformer":
            values = {**values, "positions": "learned"}
        return values

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads} does not divide width={self.width}: choose a divisor.")
        if self.positions == "sincos" and self.width % 4:
            raise ValueError(f"width={self.width} is not allowed with positions='sincos': it must be divisible by 4.")
        if self.is_causal and self.padding != "zeros":
            raise ValueError(
                f"padding={self.padding!r} is not allowed with objective='autoregressive': at the border it would show "
                "pixels that are yet to be predicted; choose 'zeros'."
            )
        if self.is_causal and self.mask_fill != "zero":
            raise ValueError(
                "mask_fill='learned' has no effect with objective='autoregressive', which hides nothing: choose 'zero'."
            )
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs={self.warmup_epochs} is longer than epochs={self.epochs}: shorten it.")
        if self.data == "cifar10" and self.image_size != 32:
            raise ValueError(f"image_size={self.image_size} is not allowed with data='cifar10': its images are 32x32.")
        if self.data == "photos" and self.validation_fraction != 0.1:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} has no effect with data='photos': "
                "its validation crops come from regions of their own."
            )
        return self

    @property
    def is_causal(self) -> bool:
        """True where a position must not see those after it in raster order."""
        return self.objective == "autoregressive"

    @property
    def run_id(self) -> str:
        """A readable name that is unique to this configuration: block, encoding, depth, seed and a digest of all."""
        block = f"{self.block}{self.heads}" if self.block == "transformer" else self.block
        return f"{block}-{self.encoding}-L{self.depth}-s{self.seed}-{self.digest[:8]}"

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the configuration's canonical JSON."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()


class Execution(Frozen):
    """Where and how a run computes. Changes its speed and its rounding, never what it is."""

    device: Literal["auto", "cpu", "cuda"] = choice("auto", "-", "all local GPUs if there are any, else the CPU")
    processes: int = choice(0, "-", "0 means one per GPU, or one on a CPU", ge=0, le=1024)
    threads: int = choice(0, "-", "CPU threads per process; 0 shares the cores among the processes", ge=0, le=1024)
    micro_batch: int = choice(0, "-", "images per forward pass; 0 means a rank's whole share of the batch", ge=0)
    precision: Literal["auto", "float32", "bfloat16", "float64"] = choice(
        "auto", "-", "bfloat16 autocast where the hardware multiplies it faster, else float32"
    )
    compile: bool = choice(False, "-", "torch.compile: faster steps after a slow start, needs a C++ compiler on a CPU")
    data_folder: str = choice("", "-", "holds cifar-10-batches-bin; empty means ISONB_DATA, else a download")
    checkpoint_seconds: float = choice(60.0, "-", "how often the state of a run is saved", ge=0)

    @property
    def data_path(self) -> Path | None:
        """The data folder as a path, or None where it is left to ISONB_DATA."""
        return Path(self.data_folder) if self.data_folder else None


class Cell(Frozen):
    """One experiment cell: a network to pre-train and the ways to judge it, under the profile that lists it."""

    profile: Literal["smoke", "cpu", "paper"] = choice("smoke", "-", "names the results folder and the defaults")
    run: RunConfig = choice(RunConfig(), "-", "the pre-training run")
    probe: ProbeConfig = choice(ProbeConfig(), "-", "the probes of its layers")
    finetune: FinetuneConfig = choice(FinetuneConfig(), "-", "the fine-tuning of the whole network")

    def with_extras(self, other: Cell) -> Cell:
        """This cell, judged in every further way that the other is, too: that adds to a record and changes nothing."""
        finetune = self.finetune if self.finetune.epochs else other.finetune
        return self.model_copy(update={"probe": self.probe.with_extras(other.probe), "finetune": finetune})


PREFIXES = {"run": "", "probe": "probe_", "finetune": "finetune_"}  # of the settings' names, by part of a cell
PROBE_PREFIX = PREFIXES["probe"]
MODELS: dict[str, type[Frozen]] = {name: Cell.model_fields[name].annotation for name in PREFIXES}
IN_WORDS = {"probe": "the probe's", "finetune": "the fine-tuning's"}


def _cell(profile: str, defaults: Mapping[str, Any], changes: Mapping[str, Any]) -> Cell:
    values = {**defaults, **{name: value for name, value in changes.items() if value is not None}}
    if unknown := set(values) - set(_part_names()):
        if elsewhere := unknown & {*Execution.model_fields}:
            raise ConfigError(f"{min(elsewhere)!r} says how a cell is computed, not what it is: leave it out here.")
        raise ConfigError(unknown_name(min(unknown), setting_names()))
    parts = {}
    for part, prefix in PREFIXES.items():
        mine = {name: values[prefix + name] for name in MODELS[part].model_fields if prefix + name in values}
        try:
            parts[part] = MODELS[part](**mine)
        except ConfigError as error:
            raise ConfigError(f"Of {IN_WORDS[part]} settings, {error}" if prefix else str(error)) from None
    return Cell(profile=profile, **parts)


def _part_names() -> list[str]:
    return [prefix + name for part, prefix in PREFIXES.items() for name in MODELS[part].model_fields]


def setting_names() -> list[str]:
    """Every name that a cell's parameters may set: run, `probe_`, `finetune_` and execution settings."""
    return [*_part_names(), *Execution.model_fields]


def smoke(**changes: Any) -> Cell:
    """Minutes on two cores and no download: the embedded photographs, small steps in small batches, fewer masks."""
    optimiser = {"epochs": 3, "batch_size": 4, "warmup_epochs": 0.2, "adam_beta2": 0.95}
    return _cell("smoke", {"data": "photos", "evaluation_masks": 2} | optimiser, changes)


def cpu(**changes: Any) -> Cell:
    """Hours on two cores: CIFAR-10, or the part of it that is at hand, in batches of 32."""
    return _cell("cpu", {"data": "cifar10", "epochs": 6, "batch_size": 32}, changes)


def paper(**changes: Any) -> Cell:
    """The paper's own numbers, for GPUs: the whole of CIFAR-10, 51 epochs, batches of 128."""
    return _cell("paper", {"data": "cifar10"}, changes)


PROFILES = {"smoke": smoke, "cpu": cpu, "paper": paper}


def profile(name: str, /, **changes: Any) -> Cell:
    """The profile's cell with some settings changed; `None` keeps the profile's value.

    Raises `ConfigError` for an unknown profile, an unknown setting or a value that is not allowed.
    """
    if not isinstance(name, str) or name not in PROFILES:
        raise ConfigError(f"profile={name!r} is not allowed: choose {', '.join(PROFILES)}.")
    return PROFILES[name](**changes)


def from_parameters(namespace: Mapping[str, Any]) -> tuple[Cell, Execution]:
    """Read a notebook's parameters out of its namespace, so that a name nobody knows is refused.

    Names that begin with an underscore are no parameters, nor are unknown names of anything but a truth value, a number
    or a word: what the notebook has imported, and what it made when it ran before.
    Raises `ConfigError` for an unknown name or a value that is not allowed.
    """
    known = {"profile", *setting_names()}
    values = {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_") and value is not None
        if name in known or isinstance(value, bool | int | float | str)
    }
    name = values.pop("profile", "smoke")
    execution = Execution(**{key: values.pop(key) for key in list(values) if key in Execution.model_fields})
    return profile(name, **values), execution
