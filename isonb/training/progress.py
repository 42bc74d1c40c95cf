"""A progress bar that reads the same in a terminal, a notebook and an executed page."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tqdm import tqdm

from isonb.config import RunConfig
from isonb.training.train import OnStep


@contextlib.contextmanager
def bar(run: RunConfig, shown: bool = True) -> Iterator[OnStep]:
    """A bar over the steps of a run, with the epoch and the last step's loss; a resumed run starts where it stands."""
    width = {"dynamic_ncols": False, "ncols": 120}
    with tqdm(desc=run.run_id, unit="step", mininterval=1.0, disable=not shown, **width) as line:

        def on_step(step: int, steps: int, loss: float) -> None:
            line.total = steps
            if not line.n:
                line.initial = line.n = line.last_print_n = step - 1  # the rate counts only the steps taken here
            epoch = -(-step * run.epochs // steps)
            line.set_postfix(epoch=f"{epoch}/{run.epochs}", loss=f"{loss:.2f}", refresh=False)
            line.update(step - line.n)

        yield on_step
