"""A progress bar that reads the same in a terminal, a notebook and an executed page."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tqdm import tqdm

from isonb.training.train import OnStep


@contextlib.contextmanager
def bar(name: str) -> Iterator[OnStep]:
    """A bar over the steps of a run, with the last step's loss in nats; a resumed run starts where it stands."""
    with tqdm(desc=name, unit="step", mininterval=1.0, dynamic_ncols=False, ncols=100) as shown:

        def on_step(step: int, steps: int, loss: float) -> None:
            shown.total = steps
            if not shown.n:
                shown.initial = step - 1  # the rate counts only the steps taken here
            shown.set_postfix(nats=f"{loss:.2f}", refresh=False)
            shown.update(step - shown.n)

        yield on_step
