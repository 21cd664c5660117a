"""Values without identity that are written in place: ranges, slices, singletons, enum members."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from ..graph import Cell, Node
from ..layout import module_of, qualname_of
from ..names import find, lookup, singleton
from . import Handler, Kind, Registry

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker

_PLAIN = frozenset(map(id, (int, float, str, bytes, bool, type(None))))


def _range(w: Walker, obj: range) -> Cell:
    return ("range", obj.start, obj.stop, obj.step)


def _slice(w: Walker, obj: slice) -> Cell:
    parts = (obj.start, obj.stop, obj.step)
    return ("slice", *parts) if all(id(type(part)) in _PLAIN for part in parts) else None


def _emit_slice(w: Walker, obj: slice, token: int) -> Node:
    return ("slice", None, None, (w.cell(obj.start), w.cell(obj.stop), w.cell(obj.step)), None)


class SliceKind(Kind):
    name = "slice"
    construct = True
    value = True

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return slice(*map(r.resolve, node[3]))


def _singleton(name: str) -> Any:
    def atom(w: Walker, obj: Any) -> Cell:
        return ("singleton", name)

    return atom


def _enum(w: Walker, obj: enum.Enum) -> Cell:
    cls = type(obj)
    if w.scope.user_modules(module_of(cls)) or lookup(module_of(cls), qualname_of(cls)) is not cls:
        return None
    return ("enum", module_of(cls), qualname_of(cls), object.__getattribute__(obj, "_name_"), _enum_value(obj))


def _enum_value(obj: enum.Enum) -> Any:
    value = object.__getattribute__(obj, "_value_")
    return value if id(type(value)) in _PLAIN else None


def _emit_enum(w: Walker, obj: enum.Enum, token: int) -> Node:
    payload = (object.__getattribute__(obj, "_name_"), _enum_value(obj))
    return ("enum", w.type_cell(type(obj)), payload, (), w.attrs(obj, type(obj)))


def _member(cls: type, name: str | None, value: Any) -> Any:
    members = type.__getattribute__(cls, "_member_map_")
    return members[name] if name in members else cls(value)  # a combination of flags has no name


class EnumKind(Kind):
    name = "enum"
    value = True
    construct = True

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return _member(r.resolve(node[1]), *node[2])


def register(reg: Registry) -> None:
    """Make these kinds known."""
    reg.add(range, Handler(None, _range))
    reg.add(slice, Handler(_emit_slice, _slice))
    reg.add(type(Ellipsis), Handler(None, _singleton("builtins.Ellipsis")))
    reg.add(type(NotImplemented), Handler(None, _singleton("builtins.NotImplemented")))
    reg.base(enum.Enum, Handler(_emit_enum, _enum))
    reg.kind(SliceKind())
    reg.kind(EnumKind())
    reg.decoders["range"] = lambda cell: range(*cell[1:])
    reg.decoders["slice"] = lambda cell: slice(*cell[1:])
    reg.decoders["singleton"] = lambda cell: singleton(cell[1])
    reg.decoders["global"] = lambda cell: find(cell[1], cell[2])
    reg.decoders["enum"] = lambda cell: _member(find(cell[1], cell[2]), cell[3], cell[4])
