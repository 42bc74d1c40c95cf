"""How a pre-trained network is judged: by linear probes of its layers, and by fine-tuning it to name the classes.

Each setting has its open point or claim and its reason on the same line, as in `config`, which reads both.

Paper: section 4.2. Book: chapters "From pixels to probes" and "Departures from the paper".
"""

from __future__ import annotations

from typing import Any, Literal

import pydantic

from isonb.validation import Frozen, choice


class ProbeConfig(Frozen):
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


class FinetuneConfig(Frozen):
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
