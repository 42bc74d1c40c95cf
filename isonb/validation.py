"""Frozen, validated settings: unknown names, wrong types and out-of-range values are refused in one sentence each.

`config` says with these what a run is, and `records` what it leaves.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import pydantic

NOTHING = (None, "None", "null", "Null", "NULL", "~")  # what leaves a setting as it is: Python's, JSON's and YAML's
IN_WORDS = {"bool_": "True or False", "int_": "a whole number", "float_": "a number", "string_type": "text"}
LONG = 300  # letters of a cause that is shown in full


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
    def _read_alike(cls, value: Any, about: pydantic.ValidationInfo) -> Any:
        """The same value, however a file, a notebook or a command line writes it."""
        annotation = cls.model_fields[about.field_name].annotation
        kinds = _kinds(annotation)
        is_text = str in kinds and typing.get_origin(annotation) is not typing.Literal
        if isinstance(value, bool) and bool not in kinds:
            raise ValueError("it must be text, in quotes" if is_text else "it must not be True or False")
        if is_text and isinstance(value, int):
            return str(value)  # a name such as 2024
        if int in kinds and isinstance(value, str | float):
            with contextlib.suppress(ValueError):  # "1e3"; what is no number is refused by its type
                number = float(value)
                return int(number) if number.is_integer() else number
        return value

    @pydantic.model_validator(mode="after")
    def _refuse_settings_without_effect(self) -> Frozen:
        for name, field in type(self).model_fields.items():
            for other, needed in ((field.json_schema_extra or {}).get("only") or {}).items():
                if not self._is(other, needed) and getattr(self, name) != field.default:
                    raise ValueError(
                        f"{name}={getattr(self, name)!r} has no effect with {other}={getattr(self, other)!r}: "
                        f"leave {name} at {field.default!r} or set {other}={needed!r}."
                    )
        return self

    def _is(self, name: str, value: Any) -> bool:
        """Whether this field has the value, where `only` asks for it."""
        return getattr(self, name) == value


def given(values: Mapping[Any, Any]) -> dict[str, Any]:
    """These settings without those that are left as they are, which every kind of file writes in its own way."""
    is_left = {name: isinstance(value, str | None) and value in NOTHING for name, value in values.items()}
    return {str(name): value for name, value in values.items() if not is_left[name]}


def _kinds(annotation: Any) -> set[type]:
    """The types of single values that a field may hold."""
    if typing.get_origin(annotation) is typing.Literal:
        return {type(value) for value in typing.get_args(annotation)}
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return {kind for kind in (typing.get_args(annotation) if is_union else [annotation]) if isinstance(kind, type)}


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
    elif kind := next((kind for kind in IN_WORDS if fault["type"].startswith(kind)), None):
        allowed = f"it must be {IN_WORDS[kind]}"
    elif fault["type"] == "literal_error":
        allowed = "choose " + str(fault["ctx"]["expected"]).replace("'', ", "").replace("'", "")
    elif allowed.startswith("Input should be "):
        allowed = "it must be " + allowed.removeprefix("Input should be ")
    return f"{name}={value!r} is not allowed: {allowed}."


def unknown_name(name: str, known: Iterable[str]) -> str:
    """One sentence that says a name is unknown and which known one was probably meant."""
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"choose among {', '.join(sorted(known))}."
    return f"There is no setting called {name!r}: {hint}"


def in_brief(text: str) -> str:
    """A cause of several lines in one: in full where it is short, else its first line and its last.

    Colours and other codes of a terminal are left out.
    """
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    lines = ["".join(c if c.isprintable() else " " for c in line).strip() for line in plain.splitlines()]
    lines = [line for line in lines if line]
    if len(lines) > 1 and sum(map(len, lines)) > LONG:
        lines = [lines[0], "...", lines[-1]]
    return " ".join(line if len(line) <= LONG else f"{line[: LONG // 2]} ... {line[-LONG // 2 :]}" for line in lines)
