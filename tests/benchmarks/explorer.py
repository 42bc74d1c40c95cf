"""A step of the explorer's slider in a kernel, with its figure kept and with its figure made anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from timing import Contestant, alternate, speed_up

from isonb.pages import explorer

SMALLEST, STEP, STEPS = -2, 0.05, 80  # of the slider, in powers of ten


def run(rounds: int = 5, repeats: int = 4) -> Iterator[dict[str, Any]]:
    """One row: milliseconds from the slider's value to the finished pictures, in the best round, and their ratio."""
    shown = explorer.sigma_explorer()

    def kept(number: int) -> float:
        shown.sigma.value = 10 ** (SMALLEST + STEP * (number % STEPS))
        return 0.0

    def anew(number: int) -> float:
        shown.drawing = explorer.Drawing()
        return kept(number)

    contestants = [Contestant("kept", 1, kept), Contestant("anew", 1, anew)]
    alternate(contestants, rounds, repeats)
    yield {
        "milliseconds": {contestant.name: 1000 * min(contestant.wall) for contestant in contestants},
        "processor_milliseconds": {contestant.name: 1000 * min(contestant.cpu) for contestant in contestants},
        "speed_up": speed_up(*contestants),
    }
