"""Which handlers and filters hang on loggers that no variable need lead to: the root logger above all."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

_PREFIX = "logging:"  # of the names under which they are roots
_INSTALLED_FOLDERS = ("site-packages", "dist-packages")


def capture(is_user: Callable[[str], bool]) -> dict[str, Any]:
    """Handlers and filters of the root logger and of each other that has any, by its name; a library's own loggers are its business."""
    return {
        _PREFIX + name: (tuple(logger.handlers), tuple(logger.filters))
        for name, logger in _loggers().items()
        if not name or ((logger.handlers or logger.filters) and not _is_of_library(name, is_user))
    }


def root_of(name: str) -> str:
    """The name of the root that a logger's handlers and filters are."""
    return _PREFIX + name


def apply(extra: Mapping[str, Any], is_user: Callable[[str], bool]) -> None:
    """Set what `capture` returned, for all loggers, in place; nothing where it was not asked."""
    if _PREFIX not in extra:
        return
    present = _loggers()
    wanted = {name[len(_PREFIX) :]: parts for name, parts in extra.items() if name.startswith(_PREFIX)}
    for name in wanted:
        present.setdefault(name, logging.getLogger(name))
    for name, logger in present.items():
        if not _is_of_library(name, is_user):
            handlers, filters = wanted.get(name, ((), ()))
            _put(logger.handlers, handlers)
            _put(logger.filters, filters)


def _put(present: list[Any], wanted: tuple[Any, ...]) -> None:
    if list(map(id, present)) != list(map(id, wanted)):
        present[:] = wanted


def _loggers() -> dict[str, logging.Logger]:
    known = list(logging.Logger.manager.loggerDict.items())
    return {"": logging.root, **{name: logger for name, logger in known if isinstance(logger, logging.Logger)}}


def _is_of_library(name: str, is_user: Callable[[str], bool]) -> bool:
    package = name.partition(".")[0]
    return not is_user(package) if package in sys.modules else _is_installed(package)


@cache
def _is_installed(package: str) -> bool:
    """Whether a package that nobody has imported is a library: others see to its logger sooner than it is imported, or instead of that."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    return spec is not None and any(folder in (spec.origin or "") for folder in _INSTALLED_FOLDERS)
