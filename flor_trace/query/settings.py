"""The command `config`: every setting's value, and where it came from."""

from __future__ import annotations

from typing import Any

from flor_trace.config import (
    SETTINGS,
    CleanupOptions,
    Options,
    RecordOptions,
    ReplayOptions,
    automatic,
    configurable,
    variable,
)

_COMMANDS: tuple[tuple[str, type[Options]], ...] = (("record", RecordOptions), ("replay", ReplayOptions), ("gc", CleanupOptions))


def settings() -> list[dict[str, Any]]:
    """For each setting that can be configured: name, value, origin, the commands that heed it, its environment variable.

    Raises:
        UsageError: a configured value cannot be used.
    """
    told = [(command, options()) for command, options in _COMMANDS]
    found = []
    for name in SETTINGS:
        users = [(command, options) for command, options in told if name in options.origin]
        if not configurable(name) or not users:
            continue
        options = users[0][1]
        value = getattr(options, name)
        found.append(
            {
                "name": name.replace("_", "-"),
                "value": "auto" if value is None and automatic(name) else value,
                "origin": options.origin[name],
                "commands": ["all"] if name in Options().origin else [command for command, _ in users],
                "variable": variable(name),
            }
        )
    return found


def shown(value: Any) -> str:
    """A value as a person would write it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ",".join(f"{key}={word}" for key, word in value.items()) or "-"
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "-"
    return str(value)
