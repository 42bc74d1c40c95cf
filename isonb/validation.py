"""Frozen, validated settings: unknown names, wrong types and out-of-range values are refused in one sentence each.

`config` says with these what a run is, and `records` what it leaves.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import pydantic


class ConfigError(ValueError):
    """A configuration that cannot be run; its message is one sentence per fault."""


def choice(
    default: Any, point: str, why: str, only: Mapping[str, str] | None = None, since: int = 1, **bounds: Any
) -> Any:
    """A field with its open point (`A1` to `A26`, or the paper's section), its reason, and when it has an effect.

    `only={"block": "conv"}` says that the field means something for conv networks alone; setting it to something
    else than its default for another network is refused, so that one network never has two identities. `since` is the
    version of the settings that brought the field.
    """
    extra = {"point": point, "only": only or {}, "since": since}
    return pydantic.Field(default, description=why, json_schema_extra=extra, **bounds)


class Frozen(pydantic.BaseModel):
    """A frozen model that refuses unknown names, wrong types and out-of-range values, each in one sentence."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except pydantic.ValidationError as error:
            raise ConfigError(" ".join(_sentence(type(self), fault) for fault in error.errors())) from None

    def identity(self) -> dict[str, Any]:
        """The values that tell one from another: all of the first version's fields, later ones where not at default."""
        fields, values = type(self).model_fields, self.model_dump()
        return {
            name: value
            for name, value in values.items()
            if (fields[name].json_schema_extra or {}).get("since", 1) == 1 or value != fields[name].default
        }

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _refuse_what_only_resembles_a_truth_value(cls, value: Any, about: pydantic.ValidationInfo) -> Any:
        annotation = cls.model_fields[about.field_name].annotation
        if annotation is bool and not isinstance(value, bool):
            raise ValueError("it must be True or False")
        if isinstance(value, bool) and bool not in (annotation, *typing.get_args(annotation)):
            raise ValueError("it must not be True or False")
        return value

    @pydantic.model_validator(mode="after")
    def _refuse_settings_without_effect(self) -> Frozen:
        for name, field in type(self).model_fields.items():
            for other, needed in ((field.json_schema_extra or {}).get("only") or {}).items():
                if getattr(self, other) != needed and getattr(self, name) != field.default:
                    raise ValueError(
                        f"{name}={getattr(self, name)!r} has no effect with {other}={getattr(self, other)!r}: "
                        f"leave {name} at {field.default!r} or set {other}={needed!r}."
                    )
        return self


def _sentence(model: type[Frozen], fault: Mapping[str, Any]) -> str:
    """One sentence that names the field, the value, and what is allowed."""
    if not fault["loc"]:
        return str(fault["ctx"]["error"])
    name, value, allowed = str(fault["loc"][0]), fault["input"], fault["msg"]
    if fault["type"] == "extra_forbidden":
        return unknown_name(name, model.model_fields)
    if fault["type"] == "missing":
        return f"{name} is missing."
    if fault["type"] == "value_error" and isinstance(fault["ctx"]["error"], ConfigError):
        return str(fault["ctx"]["error"])  # of a part, which says it all
    if fault["type"] == "value_error":
        allowed = str(fault["ctx"]["error"])
    elif fault["type"] == "literal_error":
        allowed = "choose " + str(fault["ctx"]["expected"]).replace("'", "")
    elif allowed.startswith("Input should be "):
        allowed = "it must be " + allowed.removeprefix("Input should be ")
    return f"{name}={value!r} is not allowed: {allowed}."


def unknown_name(name: str, known: Iterable[str]) -> str:
    """One sentence that says a name is unknown and which known one was probably meant."""
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"choose among {', '.join(sorted(known))}."
    return f"There is no setting called {name!r}: {hint}"
