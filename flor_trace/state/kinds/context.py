"""Context variables."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

from ...errors import NotRestorable
from ..graph import UNSET, Node
from . import Handler, Kind, Registry

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker


def _emit_variable(w: Walker, obj: contextvars.ContextVar[Any], token: int) -> Node:
    """A variable with its value in the context that the script runs in."""
    here = contextvars.copy_context()
    return ("contextvar", None, obj.name, (w.cell(here[obj]) if obj in here else UNSET,), None)


class ContextVarKind(Kind):
    name = "contextvar"

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        return bool(live.name == node[2])

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        raise NotRestorable(r.path(token), f"the context variable {node[2]} did not exist at the point restored from")

    def check(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        if node[3][0] == UNSET and obj in contextvars.copy_context():
            raise NotRestorable(r.path(token), "a context variable that has been set cannot be unset")

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        if node[3][0] == UNSET:
            return
        value, here = r.resolve(node[3][0]), contextvars.copy_context()
        if obj not in here or here[obj] is not value:
            obj.set(value)


def register(reg: Registry) -> None:
    """Make these kinds known."""
    reg.add(contextvars.ContextVar, Handler(_emit_variable))
    reg.kind(ContextVarKind())
