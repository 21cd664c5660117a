"""Modules that `torch.jit` has scripted, traced or loaded: their attributes live in C, and are read and set there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ...errors import NotRestorable
from ..graph import Node
from . import Handler, Kind, Registry
from .containers import identical

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker


def _emit(w: Walker, obj: Any, token: int) -> Node:
    """The attributes of one module; those within it have Python objects of their own."""
    describe: Any = torch._C.ConcreteModuleType.from_jit_type
    names = tuple(sorted(describe(obj._type()).get_attributes()))
    return ("script", None, (str(obj.qualified_name), names), tuple([w.cell(obj.getattr(name)) for name in names]), None)


class ScriptKind(Kind):
    name = "script"

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        before = r.live.graph.nodes.get(r.live_token(live))
        return before is not None and before[2] == node[2]

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        raise NotRestorable(r.path(token), "a module of torch.jit that did not exist at the point restored from cannot be built anew")

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        for name, cell in zip(node[2][1], node[3], strict=True):
            value = r.resolve(cell)
            if not identical(value, obj.getattr(name)):
                r.fill_early(cell)
                obj.setattr(name, value)


def _emit_python_side(w: Walker, obj: Any, token: int) -> Node:
    """Methods are found anew in C when they are next called; that some have been called already is no state."""
    cls = type(obj)
    namespace = w.layout(cls).instance_dict(obj) or {}
    inner = namespace.get("_c")
    if type(inner) is torch._C.ScriptModule:
        w.volatile[id(namespace)] = frozenset(inner._method_names())
    return ("object", w.type_cell(cls), None, (), w.attrs(obj, cls, keep_empty=True))


def register(reg: Registry) -> None:
    """Make these kinds known."""
    reg.add(torch._C.ScriptModule, Handler(_emit, serial=True))
    reg.named["torch.jit._script.RecursiveScriptModule"] = Handler(_emit_python_side)
    reg.kind(ScriptKind())
