"""A progress bar that reads the same in a terminal, a notebook and an executed page."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tqdm import tqdm

from isonb.config import Cell, RunConfig
from isonb.models.network import IsotropicNetwork
from isonb.training.sampling import OnPixel
from isonb.training.train import OnStep

LOOK = {"mininterval": 1.0, "dynamic_ncols": False, "ncols": 120}


def bar(run: RunConfig, shown: bool = True) -> contextlib.AbstractContextManager[OnStep]:
    """A bar over the steps of a run, with the epoch and the last step's loss; a resumed run starts where it stands."""
    return _bar(run.run_id, run.epochs, shown)


def tuning_bar(cell: Cell) -> contextlib.AbstractContextManager[OnStep]:
    """The same over fine-tuning and its twin from scratch, one after the other; nothing where neither is asked for."""
    return _bar(f"{cell.run.run_id} fine-tuned", 2 * cell.finetune.epochs, cell.finetune.epochs > 0)


@contextlib.contextmanager
def probing_bar(network: IsotropicNetwork, images: int, shown: bool = True) -> Iterator[None]:
    """A bar over the images that pass through a network."""
    with tqdm(desc="features", total=images, unit="image", disable=not shown, **LOOK) as line:
        passed = network.blocks[-1].register_forward_hook(lambda _, __, x_BND: line.update(len(x_BND)) and None)
        try:
            yield
        finally:
            passed.remove()


@contextlib.contextmanager
def drawing_bar(run: RunConfig, shown: bool = True) -> Iterator[OnPixel]:
    """A bar over the pixels that are drawn; nothing where the network is not autoregressive."""
    with tqdm(desc=f"{run.run_id} completing", unit="pixel", disable=not (shown and run.is_causal), **LOOK) as line:

        def on_pixel(drawn: int, total: int) -> None:
            line.total = total
            line.update(drawn - line.n)

        yield on_pixel


@contextlib.contextmanager
def _bar(words: str, epochs: int, shown: bool) -> Iterator[OnStep]:
    with tqdm(desc=words, unit="step", disable=not shown, **LOOK) as line:

        def on_step(step: int, steps: int, loss: float) -> None:
            line.total = steps
            if not line.n:
                line.initial = line.n = line.last_print_n = step - 1  # the rate counts only the steps taken here
            epoch = -(-step * epochs // steps)
            line.set_postfix(epoch=f"{epoch}/{epochs}", loss=f"{loss:.2f}", refresh=False)
            line.update(step - line.n)

        yield on_step
