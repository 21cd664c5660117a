"""Settings of the standard library and of pandas that change what a program computes or prints."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Plain = Any


class Setting(NamedTuple):
    """How a setting is read and written; its value is plain data."""

    read: Callable[[], Plain]
    write: Callable[[Plain], None]


def settings() -> Iterator[tuple[str, Setting]]:
    """Name and access of every setting whose library is imported."""
    yield "logging.disable", Setting(lambda: logging.root.manager.disable, logging.disable)
    yield "int_max_str_digits", Setting(sys.get_int_max_str_digits, sys.set_int_max_str_digits)
    yield "gc.threshold", Setting(gc.get_threshold, lambda value: gc.set_threshold(*value))
    if "decimal" in sys.modules:
        yield "decimal.signals", Setting(_decimal_signals, _set_decimal_signals)
    if "locale" in sys.modules:
        locale = sys.modules["locale"]
        yield "locale", Setting(lambda: locale.setlocale(locale.LC_ALL), lambda value: locale.setlocale(locale.LC_ALL, value))
    if hasattr(sys.modules.get("pandas._config.config"), "_global_config"):
        yield "pandas.options", Setting(_pandas_options, _set_pandas_options)


def capture() -> dict[str, Plain]:
    """The value of every setting."""
    return {name: setting.read() for name, setting in settings()}


def apply(values: dict[str, Plain]) -> None:
    """Write those values that differ."""
    for name, setting in settings():
        if name in values and values[name] != setting.read():
            setting.write(values[name])


def _decimal_signals() -> Plain:
    context = sys.modules["decimal"].getcontext()
    return tuple(tuple(sorted(signal.__name__ for signal, on in part.items() if on)) for part in (context.flags, context.traps))


def _set_decimal_signals(value: Plain) -> None:
    context = sys.modules["decimal"].getcontext()
    for part, names in zip((context.flags, context.traps), value, strict=True):
        for signal in list(part):
            part[signal] = signal.__name__ in names


def _pandas_options() -> Plain:
    found: dict[str, Plain] = {}

    def collect(prefix: str, level: dict[str, Any]) -> None:
        for key, value in level.items():
            if isinstance(value, dict):
                collect(f"{prefix}{key}.", value)
            elif isinstance(value, (int, float, str, type(None))):
                found[prefix + key] = value

    collect("", sys.modules["pandas._config.config"]._global_config)
    return found


def _set_pandas_options(value: Plain) -> None:
    present = _pandas_options()
    for key, wanted in value.items():
        if key in present and present[key] != wanted:
            sys.modules["pandas"].set_option(key, wanted)
