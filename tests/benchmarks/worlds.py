"""What the ledger's rules say in made-up worlds of the study's size, and how often they see an effect where none is."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from isonb.evidence.benchmarks import NOISE

sys.path.append(str(Path(__file__).resolve().parent.parent))
import made_worlds

EACH = 20
STATES = {"under way": (made_worlds.NOW, 1000), "complete": (made_worlds.WHOLE, 200)}  # with the worlds of mere noise


def run() -> Iterator[dict[str, Any]]:
    """One row per number of seeds and world: by claim, how many worlds have each verdict."""
    for state, (seeds_of, of_noise) in STATES.items():
        for name in made_worlds.WORLDS:
            count = of_noise if name == NOISE else EACH
            verdicts = count_verdicts(state, name, range(count))
            seeds = {str(size): number for size, number in seeds_of.items()}
            yield {"state": state, "seeds": seeds, "world": name, "worlds": count, "verdicts": verdicts}


def count_verdicts(state: str, name: str, numbers: Iterable[int]) -> dict[str, dict[str, int]]:
    """By claim, how many of the worlds of these numbers have each verdict; a world is the same in every count."""
    noise, design = made_worlds.measured(), made_worlds.design(STATES[state][0])
    right = made_worlds.world(made_worlds.WORLDS["right"], design, noise, np.random.default_rng(0))
    ledger = made_worlds.judged_in(right)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for number in numbers:
        generator = np.random.default_rng([list(STATES).index(state), list(made_worlds.WORLDS).index(name), number])
        t = made_worlds.world(made_worlds.WORLDS[name], design, noise, generator)
        for claim, verdict in made_worlds.verdicts(t, ledger).items():
            counts[claim][str(verdict)] += 1
    return {claim: dict(of_claim) for claim, of_claim in counts.items()}
