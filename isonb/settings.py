"""Every setting: of a network and its pre-training, of its probes and fine-tuning, and of how they are computed.

The paper leaves many details open. Each such point is a field here, with its number in the book's table of
departures (A1 to A26) and the reason for its default on the same line. Nothing in this module computes.

A setting may be added at any time: with `since=VERSION`, after VERSION has been raised by one, it is a part of a run's
name only where it is not at its default, so that every earlier result keeps its name.

Paper: section 4.2. Book: chapters "Departures from the paper" and "From pixels to probes".
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import pydantic

from isonb import rows, subsets
from isonb.validation import Frozen, choice

VERSION = 5  # of settings and records together: raised when either grows, so that older programs refuse in a sentence
BLOCKS = tuple(rows.BLOCKS)
ENCODINGS = tuple(rows.ENCODINGS)
GRID_BLOCKS = tuple(name for name, row in rows.BLOCKS.items() if row.in_grid)  # those that the studies cross
GRID_ENCODINGS = tuple(name for name, row in rows.ENCODINGS.items() if row.in_grid)
Block = Literal[BLOCKS]
Encoding = Literal[ENCODINGS]
Objective = Literal[tuple(rows.OBJECTIVES)]
Data = Literal[tuple(rows.SOURCES)]
IMAGES = (  # what images are read by
    "data", "classes", "fold", "unlabelled", "image_size", "data_fraction", "validation_fraction", "test_fraction",
    "collection", "image_fit",
)  # fmt: skip


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
    positions_base: float = choice(
        10_000.0,
        "A3",
        "angular frequencies fall from 1 to about 1/base; that of Vaswani et al. (2017), whose sequences are longer",
        {"positions": "sincos"},
        since=3,
        ge=2,
        le=1_000_000,
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
    initialisation: Literal["keras", "keras-mha", "torch"] = choice(
        "keras",
        "A12",
        "as the paper's framework: maps Glorot uniform, tables U(-0.05, 0.05); keras-mha scales attention as the "
        "framework's own MultiHeadAttention layer of that time; torch has tables N(0, 1)",
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
    target: Literal["values", "palette"] = choice(
        "values",
        "C35",
        "three of 256 values a pixel, as the paper; 'palette' is one of 512 colours a pixel, as image-GPT",
        since=5,
    )
    mask_rate: float = choice(0.15, "3.3", "the paper's 15 %", gt=0, lt=1)
    mask_unit: Literal["pixel", "subpixel"] = choice("pixel", "A1", "the paper masks pixels: all three channels")
    mask_fill: Literal["zero", "learned"] = choice("zero", "A2", "zero content before positions, as image-GPT")
    evaluation_masks: int = choice(4, "A19", "fixed masks per image, the same for every network", ge=1, le=64)

    # The data
    data: Data = choice("photos", "4.1", "CIFAR-10 in the paper; photos needs no download")
    image_size: int = choice(32, "4.1", "1024 positions, one token per pixel", ge=8, le=64)
    data_fraction: float = choice(1.0, "C24", "share of the training images that is used", gt=0, le=1)
    validation_fraction: float = choice(0.1, "A20", "share of the training images kept for validation", gt=0, lt=1)
    test_fraction: float = choice(
        0.2,
        "4.1",
        "share kept for the test of a folder that has no train/ and test/",
        {"data": "folder"},
        since=2,
        gt=0,
        lt=1,
    )
    collection: str = choice(
        "",
        "4.1",
        "a name for the pictures, so that runs on two folders stand side by side; empty means the folder's own name",
        {"data": "folder"},
        since=2,
        pattern=r"^([\w][\w .-]*)?$",
        max_length=40,
    )
    image_fit: Literal["resize", "crop"] = choice(
        "resize",
        "4.1",
        "the central square, shrunk by area averaging; 'crop' cuts a piece out",
        {"data": "folder"},
        since=2,
    )
    classes: str = choice("", "4.1", "which classes, from 0, as in 0-4,7; empty is all of them", since=5)
    fold: int = choice(
        0, "4.1", "which of STL-10's ten folds; 0 is all of its training images", {"data": "stl10"}, since=5, ge=0
    )
    unlabelled: bool = choice(False, "4.1", "train on the images without a label", {"data": "stl10"}, since=5)
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
    def _defaults_by_block(cls, values: dict[str, Any]) -> dict[str, Any]:
        if isinstance(values, dict) and (row := rows.BLOCKS.get(str(values.get("block")))):
            values = {"positions": row.default_positions, **dict(row.defaults), **values}
        return values

    @pydantic.field_validator("classes")
    @classmethod
    def _spelt_in_one_way(cls, text: str) -> str:
        return subsets.spelt(text)

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads} does not divide width={self.width}: choose a divisor.")
        if self.positions == "sincos" and self.width % 4:
            raise ValueError(f"width={self.width} is not allowed with positions='sincos': it must be divisible by 4.")
        if self.initialisation == "keras-mha" and not self._is("block", "transformer"):
            raise ValueError(
                f"initialisation='keras-mha' has no effect with block={self.block!r}: choose 'keras', the same "
                "without attention, or set block='transformer'."
            )
        if self.is_causal and not rows.BLOCKS[self.block].has_causal_form:
            raise ValueError(
                f"objective={self.objective!r} is not allowed with block={self.block!r}, which has no causal form: it "
                "would see the pixels that it is to predict; choose another objective or block."
            )
        if self.is_causal and self.padding != "zeros":
            raise ValueError(
                f"padding={self.padding!r} is not allowed with objective='autoregressive': at the border it would show "
                "pixels that are yet to be predicted; choose 'zeros'."
            )
        if self.is_causal and self.mask_fill != "zero":
            raise ValueError(
                "mask_fill='learned' has no effect with objective='autoregressive', which hides nothing: choose 'zero'."
            )
        self._require_a_palette_to_make_sense()
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs={self.warmup_epochs} is longer than epochs={self.epochs}: shorten it.")
        source = rows.SOURCES[self.data]
        if source.size not in (None, self.image_size):
            raise ValueError(
                f"image_size={self.image_size} is not allowed with data={self.data!r}: "
                f"its images are {source.size}x{source.size}."
            )
        if source.has_own_validation and self.validation_fraction != 0.1:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} has no effect with data={self.data!r}: "
                "it has validation images of its own."
            )
        subsets.require(self.data, self.classes, self.fold, self.unlabelled)
        return self

    def _require_a_palette_to_make_sense(self) -> None:
        if self.predicts_palette and not rows.OBJECTIVES[self.objective].palette_unit:
            raise ValueError(
                f"target='palette' is not allowed with objective={self.objective!r}: the number of a colour has no "
                "scale to be near on; choose another objective or target='values'."
            )
        if self.has_palette and self.mask_unit != "pixel":
            raise ValueError(
                f"mask_unit={self.mask_unit!r} is not allowed with a palette, whose colours are whole pixels: choose "
                "'pixel'."
            )
        if rows.ENCODINGS[self.encoding].reads_palette and self.channel_merge != "sum":
            raise ValueError(
                f"channel_merge={self.channel_merge!r} has no effect with encoding={self.encoding!r}, which has one "
                "table for whole pixels: choose 'sum'."
            )

    @property
    def predicts_palette(self) -> bool:
        """True where one of a palette's colours is predicted for each pixel."""
        return self.target == "palette"

    @property
    def has_palette(self) -> bool:
        """True where a palette's colours are read or predicted, so that the network holds one."""
        return self.predicts_palette or rows.ENCODINGS[self.encoding].reads_palette

    @property
    def unit(self) -> str:
        """The unit of the loss: that of the objective, which is another one where a palette's colours are predicted."""
        objective = rows.OBJECTIVES[self.objective]
        return objective.palette_unit if self.predicts_palette else objective.unit

    def _is(self, name: str, value: Any) -> bool:
        """A block has the settings of the one that it is like, too."""
        return super()._is(name, value) or (name == "block" and rows.BLOCKS[self.block].like == value)

    @property
    def is_causal(self) -> bool:
        """True where a position must not see those after it in raster order."""
        return rows.OBJECTIVES[self.objective].is_causal

    def read_by(self, part: subsets.OwnImages) -> RunConfig:
        """The settings by which the images of probes or fine-tuning are read: these, unless the part names others.

        Images without labels teach no class: in their place come the labelled ones of their source.
        """
        if not (part.names_images or self.unlabelled):
            return self
        data = part.data or self.data
        kept = {"image_size"} | (set() if rows.SOURCES[data].has_own_validation else {"validation_fraction"})
        kept |= {"test_fraction", "collection", "image_fit"} if data == self.data else set()
        settings = {name: getattr(self, name) for name in kept}
        return RunConfig(data=data, classes=part.classes, fold=part.fold, **settings)

    @property
    def published(self) -> tuple[int, int] | None:
        """How many training and test images the whole source has for this run; None where that is not known."""
        return subsets.published(self.data, self.classes, self.fold, self.unlabelled)

    @property
    def network(self) -> str:
        """The name of this kind of network: its block's, with the number of heads where the block has any."""
        return rows.network(self.block, self.heads)

    @property
    def run_id(self) -> str:
        """A readable name that is unique to this configuration: block, encoding, depth, seed and a digest of all."""
        block = self.network.replace("-", "")
        return f"{block}-{self.encoding}-L{self.depth}-s{self.seed}-{self.digest[:8]}"

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the canonical JSON of the settings that make its identity."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()


class ProbeConfig(subsets.OwnImages):
    """How the layers of a frozen network are judged by linear classifiers. Paper: section 4.2."""

    pooling: Literal["mean", "grid4", "flatten"] = choice("mean", "A21", "mean over positions, as image-GPT")
    feature: Literal["layernorm", "raw"] = choice("layernorm", "A22", "each token normalised, no learned scale")
    scaling: Literal["whiten", "standardise", "none"] = choice(
        "whiten", "A22", "the same classifiers, found by Adam within 100 epochs; only 'mean' has few enough features"
    )
    inputs: Literal["unmasked", "masked", "vote5"] = choice("unmasked", "A24", "the whole image, as image-GPT")
    solver: Literal["adam", "lbfgs"] = choice("adam", "A23", "the paper's optimiser; L-BFGS is the cross-check")
    learning_rate: float = choice(0.01, "A23", "the paper: the same as in pre-training", {"solver": "adam"}, gt=0, le=1)
    epochs: int = choice(100, "A23", "the paper decays over 100 epochs", {"solver": "adam"}, ge=1, le=10_000)
    batch_size: int = choice(128, "A23", "the same as in pre-training", {"solver": "adam"}, ge=1)
    select_on: Literal["validation", "test"] = choice("validation", "A20", "the best layer is chosen off the test set")
    along: bool = choice(False, "C29", "after each epoch too, as image-GPT; each costs as much again")
    pixels: bool = choice(False, "C36", "linear maps from each layer to the pixels, too: another pass over the images")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _scaling_by_pooling(cls, values: dict[str, Any]) -> dict[str, Any]:
        if isinstance(values, dict) and "scaling" not in values and values.get("pooling", "mean") != "mean":
            values = {**values, "scaling": "standardise"}
        return values

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> ProbeConfig:
        if self.scaling == "whiten" and self.pooling != "mean":
            raise ValueError(f"scaling='whiten' is not allowed with pooling={self.pooling!r}: choose 'standardise'.")
        return self

    def with_extras(self, other: ProbeConfig) -> ProbeConfig:
        """These probes and those that the other has besides: extras add numbers to a record and change none."""
        return self.model_copy(update={name: True for name in ("along", "pixels") if getattr(other, name)})


class FinetuneConfig(subsets.OwnImages):
    """How the whole network is trained on to name the classes, beside the same network from its initial weights.

    Seed, Adam's constants and the shape of the schedule are those of pre-training. Book: chapter "image-GPT".
    """

    epochs: int = choice(
        0, "C33", "0 does not fine-tune; an epoch costs as much as two of pre-training", ge=0, le=10_000
    )
    learning_rate: float = choice(0.001, "C33", "peak; a tenth of pre-training's, to keep what was learned", gt=0, le=1)
    batch_size: int = choice(0, "C33", "0 is that of pre-training, as in image-GPT", ge=0)
    generative_weight: float = choice(1.0, "C33", "of pre-training's loss beside that of the classes", ge=0, le=100)
    augmentation: Literal["none", "flip-crop"] = choice("flip-crop", "C34", "labels are few; the same from scratch")

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> FinetuneConfig:
        for name, field in type(self).model_fields.items():
            if not self.epochs and getattr(self, name) != field.default:
                raise ValueError(f"{name}={getattr(self, name)!r} has no effect with epochs=0: set the epochs, too.")
        return self


class Execution(Frozen):
    """Where and how a run computes. Changes its speed and its rounding, never what it is."""

    device: Literal["auto", "cpu", "cuda"] = choice("auto", "-", "all local GPUs if there are any, else the CPU")
    processes: int = choice(0, "-", "0 means one per GPU, or one on a CPU", ge=0, le=1024)
    threads: int = choice(0, "-", "CPU threads per process; 0 shares the cores among the processes", ge=0, le=1024)
    micro_batch: int = choice(0, "-", "images per forward pass; 0 means a rank's whole share of the batch", ge=0)
    precision: Literal["auto", "float32", "bfloat16", "float64"] = choice(
        "auto", "-", "bfloat16 autocast where the hardware multiplies it faster, else float32"
    )
    compile: bool | None = choice(
        None,
        "-",
        "whole steps by torch.compile: on a GPU unless False, on a CPU, where it needs a C++ compiler, if True",
    )
    data_folder: str = choice(
        "", "-", "a source's files, or cifar10=/a,stl10=/b; empty means ISONB_DATA, else a download where there is one"
    )
    checkpoint_seconds: float = choice(60.0, "-", "how often the state of a run is saved", ge=0)

    @property
    def data_path(self) -> Path | None:
        """The data folder as a path, or None where it is left to ISONB_DATA; sources find their own in it."""
        return Path(self.data_folder) if self.data_folder else None
