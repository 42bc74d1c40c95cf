"""What the study is made of: one frozen row per block, encoding, objective and source of images.

Everything else reads these rows: settings their names, networks and losses their implementation, figures their look,
records their units. A row names its implementation as `module:name` in the package, and `load` imports it, so that
reading a row needs no torch.

Book: chapter "Add your own".
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from isonb.validation import ConfigError


@dataclass(frozen=True)
class Row:
    """A name as settings spell it, and where its implementation is: `module` or `module:name` in the package."""

    name: str
    implementation: str

    def load(self) -> Any:
        """Import the implementation. Raises `ConfigError` where there is none of that name."""
        module, _, name = self.implementation.partition(":")
        try:
            implementation = importlib.import_module(f"isonb.{module}")
            return getattr(implementation, name) if name else implementation
        except (AttributeError, ModuleNotFoundError) as error:
            raise ConfigError(
                f"The row {self.name!r} in isonb/rows.py names {self.implementation!r}, which is not there ({error}): "
                "correct it."
            ) from error


@dataclass(frozen=True)
class Network:
    """A kind of network that tables and figures tell apart, with its look: a block, with its number of heads if any.

    `in_paper` says that the paper's claims are about it.
    """

    name: str
    title: str
    colour: str
    marker: str
    heads: int = 1
    in_paper: bool = False


@dataclass(frozen=True)
class Block(Row):
    """A block: `implementation` is its class, x_BND -> x_BND, which also counts its `multiply_accumulates`.

    Its networks stand in the order of every legend, those of the first in the colour of the block itself. A block
    without a causal form would see pixels that it is to predict autoregressively.
    """

    title: str
    networks: tuple[Network, ...]
    has_heads: bool = False
    has_causal_form: bool = False
    default_positions: str = "none"


@dataclass(frozen=True)
class Encoding(Row):
    """An encoding: `implementation` is its class, a `models.encodings.Encoding`.

    `is_learned` says that it is a table of vectors that training changes, whose similarities are worth a picture,
    `in_paper` that the paper's claims are about it.
    """

    title: str
    colour: str
    marker: str
    is_learned: bool = False
    in_paper: bool = False


@dataclass(frozen=True)
class Objective(Row):
    """An objective: `implementation` is its class, a `models.objectives.Loss`.

    `unit` is that of its loss, and of the losses of guesses without a network; `outputs` is how many numbers the head
    gives for one sub-pixel; an objective that `is_causal` needs a block with a causal form.
    """

    unit: str
    outputs: int
    is_causal: bool = False


@dataclass(frozen=True)
class Source(Row):
    """A source of images: `implementation` has the functions `load` and `checksums` of `training.sources.Source`.

    `size` is the only image size that it has, None where it has any; `published` the number of its training and test
    images, where the whole is known. One that `has_own_validation` images cuts none off its training images; one that
    does not `reads_folder` comes with the program.
    """

    title: str
    size: int | None = None
    published: tuple[int, int] | None = None
    has_own_validation: bool = False
    reads_folder: bool = True


AnyRow = TypeVar("AnyRow", bound=Row)


def _by_name(*rows: AnyRow) -> dict[str, AnyRow]:
    names = [row.name for row in rows]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"Two rows in isonb/rows.py are called {min(twice)!r}: rename one of them.")
    return dict(zip(names, rows, strict=True))


BLOCKS = _by_name(
    Block(
        "conv",
        "models.blocks:ConvBlock",
        "convolution",
        (Network("conv", "convolution", "#0072B2", "o", in_paper=True),),
        has_causal_form=True,
    ),
    Block(
        "mixer",
        "models.blocks:MixerBlock",
        "mixer",
        (Network("mixer", "mixer", "#C44E00", "s", in_paper=True),),
        has_causal_form=True,
    ),
    Block(
        "transformer",
        "models.blocks:TransformerBlock",
        "transformer",
        (
            Network("transformer-1", "transformer (1 head)", "#007A59", "^", in_paper=True),
            Network("transformer-4", "transformer (4 heads)", "#003D2E", "v", heads=4, in_paper=True),
        ),
        has_heads=True,
        has_causal_form=True,
        default_positions="learned",
    ),
)

ENCODINGS = _by_name(
    Encoding("continuous", "models.encodings:Continuous", "continuous", "#222222", "D", in_paper=True),
    Encoding("rff", "models.encodings:RandomFourier", "random Fourier", "#B0469C", "P", in_paper=True),
    Encoding("pix2vec", "models.encodings:Pix2vec", "pix2vec", "#8C6D00", "X", is_learned=True, in_paper=True),
)

OBJECTIVES = _by_name(
    Objective("bert", "models.objectives:CrossEntropy", "nats per masked sub-pixel", outputs=256),
    Objective("mse", "models.objectives:SquaredError", "squared error per masked sub-pixel", outputs=1),  # on [-1, 1]
    Objective("autoregressive", "models.objectives:CrossEntropy", "nats per sub-pixel", outputs=256, is_causal=True),
)

SOURCES = _by_name(
    Source("photos", "training.sources.photos", "photographs", has_own_validation=True, reads_folder=False),
    Source("cifar10", "training.sources.cifar:CIFAR10", "CIFAR-10", size=32, published=(50_000, 10_000)),
    Source("cifar100", "training.sources.cifar:CIFAR100", "CIFAR-100", size=32, published=(50_000, 10_000)),
    Source("folder", "training.sources.folder", "a folder of pictures"),
)


def networks(blocks: Sequence[Block] = tuple(BLOCKS.values())) -> tuple[Network, ...]:
    """Every network of the figures, in the order of their legends."""
    return tuple(network for block in blocks for network in block.networks)


def network(block: str, heads: int) -> str:
    """The name of a network: its block's, with the number of heads where the block has any."""
    return f"{block}-{heads}" if BLOCKS[block].has_heads else block


def in_words(text: str) -> str:
    """The text with what a reader calls each block, network and encoding in the place of its name.

    A setting such as `encoding=rff` stays as it is typed.
    """
    titles = {row.name: row.title for row in (*BLOCKS.values(), *networks(), *ENCODINGS.values())}
    return re.sub(r"(?<![\w=-])[\w-]+", lambda match: titles.get(match[0], match[0]), text)
