"""Every setting of a cell as a row of the book's table of departures from the paper.

Book: chapter "Departures from the paper".
"""

from __future__ import annotations

import typing
from collections.abc import Iterator

import pandas as pd
from pydantic.fields import FieldInfo

from isonb import config


def table() -> pd.DataFrame:
    """Every setting, the open point or section of the paper behind it, its default, the reason, and what is allowed."""
    rows = [row for part, prefix in config.PREFIXES.items() for row in _settings(config.MODELS[part], prefix)]
    rows.sort(key=lambda row: _reading_order(row["point"]))
    return pd.DataFrame(rows)


def _settings(model: type[config.Frozen], prefix: str) -> Iterator[dict[str, str]]:
    for name, field in model.model_fields.items():
        only = ", ".join(f"{other} = {value}" for other, value in field.json_schema_extra["only"].items())
        yield {
            "point": field.json_schema_extra["point"],
            "setting": prefix + name,
            "default": str(field.default),
            "reason": field.description,
            "allowed": _allowed(field) + (f"; for {only}" if only else ""),
        }


def _allowed(field: FieldInfo) -> str:
    if typing.get_origin(field.annotation) is typing.Literal:
        return ", ".join(str(value) for value in typing.get_args(field.annotation) if value != "")
    if field.annotation is bool:
        return "True, False"
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    bounds = [
        f"{signs[kind]} {getattr(bound, kind)}" for bound in field.metadata for kind in signs if hasattr(bound, kind)
    ]
    return " and ".join(bounds) or "any"


def _reading_order(point: str) -> tuple[bool, str, float]:
    """Open points A1, A2, ... by number, then the paper's sections, then claims."""
    letter, digits = (point[0], point[1:]) if point[0].isalpha() else ("", point)
    return letter != "A", letter, float(digits)
