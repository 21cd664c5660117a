"""Loggers: found by their names, with the handlers, filters and attributes that a script has given them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ..graph import Node
from . import Handler, Kind, Registry
from .objects import emit_object
from .opaque import emit_inert

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker

# Levels are library state (see `library`); the rest is the logger's place among the others.
_OWN = frozenset({"name", "level", "parent", "propagate", "disabled", "manager", "_cache", "root"})


def _emit(w: Walker, obj: logging.Logger, token: int) -> Node:
    namespace = object.__getattribute__(obj, "__dict__")
    name = namespace.get("name")
    if obj is logging.root:
        name = ""
    elif type(name) is not str or logging.Logger.manager.loggerDict.get(name) is not obj:
        return emit_object(w, obj, token)
    w.volatile[id(namespace)] = _OWN
    return ("logger", None, name, (), w.attrs(obj, type(obj), keep_empty=True))


# Set when logging shuts down as the interpreter ends, which may be before or after the last look at the state.
_CLOSED = frozenset({"_closed"})


def _emit_handler(w: Walker, obj: logging.Handler, token: int) -> Node:
    namespace = w.layout(type(obj)).instance_dict(obj)
    if namespace is not None:
        w.volatile[id(namespace)] = _CLOSED
    return emit_object(w, obj, token)


class LoggerKind(Kind):
    name = "logger"

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        return live is logging.getLogger(node[2] or None)

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return logging.getLogger(node[2] or None)


def register(reg: Registry) -> None:
    """Make these kinds known."""
    reg.base(logging.Logger, Handler(_emit))
    reg.base(logging.Handler, Handler(_emit_handler))
    # Closed together with its file at that time: kept as it is.
    reg.base(logging.FileHandler, Handler(emit_inert, serial=True))
    reg.kind(LoggerKind())
