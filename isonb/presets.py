"""Networks that are known by a name: `preset=image-gpt-s` stands for several settings.

It is written out before anything else looks at it, so a network has one identity, however it was asked for, and those
that nobody trains take no place in a table or a legend.

Book: chapter "image-GPT".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isonb.validation import ConfigError

NAME = "preset"
PALETTE = {"block": "image-gpt", "encoding": "palette", "target": "palette"}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "image-gpt-xs": PALETTE | {"depth": 3, "width": 128, "heads": 4},  # ours: the size of this study's networks
    "image-gpt-s": PALETTE | {"depth": 24, "width": 512, "heads": 8},  # these three by the published code's README
    "image-gpt-m": PALETTE | {"depth": 36, "width": 1024, "heads": 8},
    "image-gpt-l": PALETTE | {"depth": 48, "width": 1536, "heads": 16},
}


def written_out(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with those that a preset stands for in its place.

    Raises `ConfigError` for an unknown preset, and for a setting beside it that says otherwise.
    """
    if NAME not in settings:
        return dict(settings)
    rest = {name: value for name, value in settings.items() if name != NAME}
    preset = PRESETS.get(settings[NAME]) if isinstance(settings[NAME], str) else None
    if preset is None:
        raise ConfigError(f"{NAME}={settings[NAME]!r} is not allowed: choose {', '.join(PRESETS)}.")
    for name in preset:
        if rest.get(name, preset[name]) != preset[name]:
            raise ConfigError(
                f"{NAME}={settings[NAME]!r} stands for {name}={preset[name]!r} and {name}={rest[name]!r} is given: "
                f"leave out {NAME}, and give the settings that you mean, or leave out {name}."
            )
    return {**preset, **rest}
