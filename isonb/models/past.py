"""What a causal block keeps of the positions that it has seen, so that the next one costs no pass over all of them.

Book: chapter "image-GPT".
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor


class Past:
    """The memory of one block while images are drawn pixel by pixel; empty before the first position.

    What a block puts there is its own affair: keys and values, rows of features, hidden units.
    """

    def __init__(self) -> None:
        self._rows: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._kept: dict[str, Tensor] = {}

    def add(self, name: str, x_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B S D"]:
        """Put T more rows behind those that are kept under a name; returns all S of them, the new ones last.

        Room doubles when it is used up, so that each row is copied twice at the most on average.
        """
        first = self._counts.get(name, 0)
        last = self._counts[name] = first + x_BTD.shape[1]
        room_BRD = self._rows.get(name)
        if room_BRD is None or room_BRD.shape[1] < last:
            larger_BRD = x_BTD.new_empty(len(x_BTD), max(last, 2 * first), x_BTD.shape[2])
            if room_BRD is not None:
                larger_BRD[:, :first] = room_BRD[:, :first]
            room_BRD = self._rows[name] = larger_BRD
        room_BRD[:, first:last] = x_BTD
        return room_BRD[:, :last]

    def once(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """What `compute` returns, which is asked once: what depends on the weights alone."""
        if name not in self._kept:
            self._kept[name] = compute()
        return self._kept[name]
