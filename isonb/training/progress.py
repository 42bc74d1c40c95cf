"""A progress bar that reads the same in a terminal, a notebook and an executed page."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tqdm import tqdm

from isonb.training.train import OnStep


@contextlib.contextmanager
def bar(name: str, shown: bool = True) -> Iterator[OnStep]:
    """A bar over the steps of a run, with the last step's loss; a resumed run starts where it stands."""
    with tqdm(desc=name, unit="step", mininterval=1.0, dynamic_ncols=False, ncols=100, disable=not shown) as line:

        def on_step(step: int, steps: int, loss: float) -> None:
            line.total = steps
            if not line.n:
                line.initial = line.n = line.last_print_n = step - 1  # the rate counts only the steps taken here
            line.set_postfix(loss=f"{loss:.2f}", refresh=False)
            line.update(step - line.n)

        yield on_step
