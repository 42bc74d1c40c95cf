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
    without a causal form would see pixels that it is to predict autoregressively. One that is `in_grid` is crossed with
    every encoding in the studies, and has its place in their tables and figures whether or not it has been run.

    A block that `has_heads` has networks that are told apart by their number. One that is `like` another has the
    settings of that one, too; `defaults` are those of its settings that are not everybody's.
    """

    title: str
    networks: tuple[Network, ...]
    has_heads: bool = False
    has_causal_form: bool = False
    default_positions: str = "none"
    in_grid: bool = True
    like: str = ""
    has_head_bias: bool = True
    defaults: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Encoding(Row):
    """An encoding: `implementation` is its class, a `models.encodings.Encoding`.

    `is_learned` says that it is a table of vectors that training changes, whose similarities are worth a picture,
    `in_paper` that the paper's claims are about it, `in_grid` that studies cross it with every block (`Block`),
    `reads_palette` that it is given the numbers of a palette's colours in the place of pixels.
    """

    title: str
    colour: str
    marker: str
    is_learned: bool = False
    in_paper: bool = False
    in_grid: bool = True
    reads_palette: bool = False


@dataclass(frozen=True)
class Objective(Row):
    """An objective: `implementation` is its class, a `models.objectives.Loss`.

    `unit` is that of its loss, and of the losses of guesses without a network; `outputs` is how many numbers the head
    gives for one sub-pixel; an objective that `is_causal` needs a block with a causal form. `palette_unit` is the unit
    where a palette's colours are predicted, empty for an objective that cannot.
    """

    unit: str
    outputs: int
    is_causal: bool = False
    palette_unit: str = ""


@dataclass(frozen=True)
class Source(Row):
    """A source of images: `implementation` has the functions `load` and `checksums` of `training.sources.Source`.

    `size` is the only image size that it has, None where it has any; `published` the number of its training and test
    images, where the whole is known, and `classes` of its classes. One that `has_own_validation` images cuts none off
    its training images; one that does not `reads_folder` comes with the program. Of its training images, `folds` parts
    of `fold_size` images may be chosen, where it has any, and `unlabelled` is how many it has without a class.
    `has_equal_classes` says that every class has as many images as any other.
    """

    title: str
    size: int | None = None
    published: tuple[int, int] | None = None
    classes: int | None = None
    folds: int = 0
    fold_size: int = 0
    unlabelled: int = 0
    has_equal_classes: bool = False
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
    Block(
        "image-gpt",
        "models.imagegpt:ImageGPTBlock",
        "image-GPT's transformer",
        (Network("image-gpt", "image-GPT's transformer", "#5B3A8C", "p"),),
        in_grid=False,
        like="transformer",
        has_head_bias=False,
        defaults=(("mlp_ratio", 4.0), ("layer_norm_eps", 1e-5)),
        has_causal_form=True,
        default_positions="learned",
    ),
)

ENCODINGS = _by_name(
    Encoding("continuous", "models.encodings:Continuous", "continuous", "#222222", "D", in_paper=True),
    Encoding("rff", "models.encodings:RandomFourier", "random Fourier", "#B0469C", "P", in_paper=True),
    Encoding("pix2vec", "models.encodings:Pix2vec", "pix2vec", "#8C6D00", "X", is_learned=True, in_paper=True),
    Encoding("palette", "models.encodings:Palette", "palette", "#7A0019", "*", in_grid=False, reads_palette=True),
)

OBJECTIVES = _by_name(
    Objective(
        "bert",
        "models.objectives:CrossEntropy",
        "nats per masked sub-pixel",
        outputs=256,
        palette_unit="nats per masked palette pixel",
    ),
    Objective("mse", "models.objectives:SquaredError", "squared error per masked sub-pixel", outputs=1),  # on [-1, 1]
    Objective(
        "autoregressive",
        "models.objectives:CrossEntropy",
        "nats per sub-pixel",
        outputs=256,
        is_causal=True,
        palette_unit="nats per palette pixel",
    ),
)

SOURCES = _by_name(
    Source("photos", "training.sources.photos", "photographs", classes=10, has_own_validation=True, reads_folder=False),
    Source(
        "cifar10",
        "training.sources.cifar:CIFAR10",
        "CIFAR-10",
        size=32,
        published=(50_000, 10_000),
        classes=10,
        has_equal_classes=True,
    ),
    Source(
        "cifar100",
        "training.sources.cifar:CIFAR100",
        "CIFAR-100",
        size=32,
        published=(50_000, 10_000),
        classes=100,
        has_equal_classes=True,
    ),
    Source(
        "stl10",
        "training.sources.stl10",
        "STL-10",
        published=(5_000, 8_000),
        classes=10,
        has_equal_classes=True,
        folds=10,
        fold_size=1_000,
        unlabelled=100_000,
    ),
    Source(
        "imagenet32",
        "training.sources.imagenet32",
        "ImageNet 32x32",
        size=32,
        published=(1_281_167, 50_000),
        classes=1_000,
    ),
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
