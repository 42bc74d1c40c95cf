"""The learning rate of every step: a linear warm-up, then a half cosine.

Paper: section 4.2. Book: chapter "Training".
"""

from __future__ import annotations

import math

from isonb.config import RunConfig


def learning_rate(config: RunConfig, step: int, steps_per_epoch: int) -> float:
    """The rate of step `step`, counted from 0: linear to the peak over the warm-up, then a half cosine towards 0.

    No step is wasted on a rate of exactly 0: warm-up step t of W takes (t + 1) / W of the peak, and the cosine starts
    at the peak and would reach 0 one step after the last. Paper: section 4.2.
    """
    warmup, total = round(config.warmup_epochs * steps_per_epoch), config.epochs * steps_per_epoch
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (total - warmup)))
