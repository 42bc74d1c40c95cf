"""A simulated study of the gap between conv and transformers, for claim C24 and the chapter about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import pandas as pd
from simulated_study import noise, study

from isonb.evidence import metrics

ARMS = {  # one for each change that C24 asks about; its change of encoding is among the main runs
    "positions": "positions=sincos",
    "learning rate": "learning_rate=0.001",
    "batch size": "batch_size=128",
    "length": "epochs=24",
    "length and rate": "epochs=24 learning_rate=0.003",
    "capacity": "mlp_ratio=4.0",
    "data": "data_fraction=0.5 epochs=12 warmup_epochs=2.0",
}
TRANSFORMERS = ("transformer-1", "transformer-4")
Loss = float | Callable[[int], float]  # of every seed, or by seed


def gap_study(
    transformer: Mapping[str, Loss],
    conv: Mapping[str, Loss] | None = None,
    *,
    arms: Iterable[str] = (),
    networks: Iterable[str] = ("conv", *TRANSFORMERS),
    overfits: float = 0.0,
    **options: object,
) -> metrics.Tables:
    """Transformers lose 1 nat to conv (3.5 nats); in the arms that are named the losses are those given.

    `arms` adds arms in which nothing changes. In every arm the validation loss exceeds the training loss by `overfits`.
    """
    losses = {"conv": (3.5, conv or {}), **dict.fromkeys(TRANSFORMERS, (4.5, transformer))}

    def loss(**c: object) -> float:
        unchanged, changed = losses[c["network"]]
        of_arm = changed.get(c["arm"], unchanged)
        value = of_arm(c["seed"]) if callable(of_arm) else of_arm
        return value + 0.001 * noise("gap", *c.values())

    t = study(networks=networks, arms=dict.fromkeys(("main", *transformer, *(conv or {}), *arms)), loss=loss, **options)
    curves = t.runs.assign(epoch=6, train_loss=t.runs["validation_loss"] - overfits)
    return dataclasses.replace(t, curves=curves.reindex(columns=list(metrics.CURVE_COLUMNS)))


def every_change(transformer: Mapping[str, Loss] | None = None, **options: object) -> metrics.Tables:
    """The same with all changes, by the names that C24 gives them: those that are not named leave the gap as it is."""
    named = {ARMS[name]: loss for name, loss in (transformer or {}).items()}
    return gap_study(named, arms=ARMS.values(), **options)


def without(t: metrics.Tables, arm: str, seeds: Iterable[int] = ()) -> metrics.Tables:
    """The study without an arm, but for some of its seeds."""
    is_kept = (t.runs["arm"] != arm) | t.runs["seed"].isin(tuple(seeds))
    return dataclasses.replace(t, runs=pd.DataFrame(t.runs[is_kept]))
