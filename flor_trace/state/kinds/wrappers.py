"""Objects in C that are nothing but a few references: views of dicts and of memory, descriptors, matches, proxies."""

from __future__ import annotations

import ctypes
import functools
import gc
import operator
import re
import struct
import types
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from ...errors import NotRestorable
from ..graph import Node
from ..scope import SKIPPED_NAMES
from . import Handler, Kind, Registry

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker

_ordered: Any = OrderedDict
_VIEWS: dict[str, tuple[type, Any]] = {
    type(method(plain())).__name__: (type(method(plain())), method)
    for plain, methods in ((dict, (dict.keys, dict.values, dict.items)),
                           (_ordered, (_ordered.keys, _ordered.values, _ordered.items)))
    for method in methods
}  # fmt: skip
# Immutable ones, as (what makes them, the attributes that it takes).
_MADE_FROM: dict[str, tuple[type, tuple[str, ...]]] = {
    "Struct": (struct.Struct, ("format",)),
    "staticmethod": (staticmethod, ("__func__",)),
    "classmethod": (classmethod, ("__func__",)),
    "property": (property, ("fget", "fset", "fdel", "__doc__")),
}


def _emit_dict_view(w: Walker, obj: Any, token: int) -> Node:
    return ("dict view", None, type(obj).__name__, tuple([w.cell(inner) for inner in gc.get_referents(obj)]), None)


class DictViewKind(Kind):
    name = "dict view"
    construct = True
    value = True

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        return gc.get_referents(live)[0] is r.resolve(node[3][0]) and type(live).__name__ == node[2]

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return _VIEWS[node[2]][1](r.resolve(node[3][0]))


def _emit_made(w: Walker, obj: Any, token: int) -> Node:
    name = type(obj).__name__
    make, attributes = _MADE_FROM[name]
    cells = [w.cell(make.__dict__[part].__get__(obj)) for part in attributes]
    return ("made from", None, name, tuple(cells), None)


class MadeFromKind(Kind):
    name = "made from"
    construct = True
    value = True

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        known = r.live.graph.nodes.get(r.live_token(live))
        return known is not None and known[0] == node[0] and r.same_cells(known, node)

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return _MADE_FROM[node[2]][0](*map(r.resolve, node[3]))


def _emit_union(w: Walker, obj: types.UnionType, token: int) -> Node:
    return ("union", None, None, tuple([w.cell(part) for part in obj.__args__]), None)


class UnionKind(Kind):
    """A union of types, as in `int | None`."""

    name = "union"
    construct = True
    value = True

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return functools.reduce(operator.or_, map(r.resolve, node[3]))


def _emit_match(w: Walker, obj: re.Match[Any], token: int) -> Node:
    return ("match", None, (obj.regs, obj.pos, obj.endpos), (w.cell(obj.re), w.cell(obj.string)), None)


class MatchKind(Kind):
    """Found again: a match has no constructor."""

    name = "match"
    construct = True
    value = True

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        known = r.live.graph.nodes.get(r.live_token(live))
        return known is not None and known[0] == node[0] and r.same_cells(known, node)

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        regs, pos, endpos = node[2]
        pattern, text = r.resolve(node[3][0]), r.resolve(node[3][1])
        for find in (pattern.match, pattern.fullmatch, pattern.search):
            found = find(text, pos, endpos)
            if found is not None and found.regs == regs:
                return found
        for found in pattern.finditer(text, pos, endpos):
            if found.regs == regs:
                return found
        raise NotRestorable(r.path(token), "this match is not found again")


_borrowed = ctypes.pythonapi.PyWeakref_GetObject
_borrowed.restype, _borrowed.argtypes = ctypes.c_void_p, (ctypes.py_object,)


def _target(proxy: Any) -> Any:
    """What a proxy stands for, None if it is gone."""
    return ctypes.cast(_borrowed(proxy), ctypes.py_object).value


def _emit_proxy(w: Walker, obj: Any, token: int) -> Node:
    # every attribute of a proxy is its target's
    callback = [inner for inner in gc.get_referents(obj) if inner is not None]
    return ("weak proxy", None, None, (w.cell(_target(obj)), w.cell(callback[0] if callback else None)), None)


class WeakProxyKind(Kind):
    name = "weak proxy"
    construct = True

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        known = r.live.graph.nodes.get(r.live_token(live))
        return known is not None and known[0] == node[0] and r.same_cells(known, node)

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        target, callback = r.resolve(node[3][0]), r.resolve(node[3][1])
        if target is None:
            raise NotRestorable(r.path(token), "a proxy whose target is gone cannot be made")
        return weakref.proxy(target, callback) if callback is not None else weakref.proxy(target)



class _Buffer(ctypes.Structure):
    """CPython's `Py_buffer`."""

    _fields_ = [
        ("buf", ctypes.c_void_p), ("obj", ctypes.c_void_p), ("len", ctypes.c_ssize_t), ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int), ("ndim", ctypes.c_int), ("format", ctypes.c_char_p), ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p), ("suboffsets", ctypes.c_void_p), ("internal", ctypes.c_void_p),
    ]  # fmt: skip


def _address(obj: Any) -> int:
    """Where the bytes begin that an object offers."""
    view = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(obj), ctypes.byref(view), 0x18)  # PyBUF_STRIDES
    address = view.buf or 0
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(view))
    return address


def _emit_memoryview(w: Walker, obj: memoryview, token: int) -> Node:
    try:
        owner = obj.obj
        if not obj.c_contiguous:
            return ("opaque", None, ("memoryview with strides", "hidden"), (w.cell(owner),), None)
        offset = _address(obj) - _address(owner)
    except (ValueError, BufferError):  # released
        return ("memory view", None, None, (), None)
    return ("memory view", None, (offset, obj.nbytes, obj.format, obj.shape, obj.readonly), (w.cell(owner),), None)


class MemoryViewKind(Kind):
    name = "memory view"
    construct = True

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        known = r.live.graph.nodes.get(r.live_token(live))
        return known is not None and known[0] == node[0] and r.same_cells(known, node)

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        if node[2] is None:
            made = memoryview(b"")
            made.release()
            return made
        offset, nbytes, form, shape, readonly = node[2]
        owner = r.resolve(node[3][0])
        if type(owner) is bytearray and len(owner) < offset + nbytes:
            r.fill_early(node[3][0])  # a new one; one that lives is filled later, and cannot grow under a view
        try:
            view = memoryview(owner).cast("B")[offset : offset + nbytes]
            view = view.cast(form, shape) if form != "B" or len(shape) != 1 else view
        except (TypeError, ValueError, BufferError) as error:
            raise NotRestorable(r.path(token), f"this view of memory cannot be made again ({error})") from error
        if view.nbytes != nbytes:
            raise NotRestorable(r.path(token), "what it looks at has another size now")
        return view.toreadonly() if readonly else view


def _emit_module(w: Walker, obj: types.ModuleType, token: int) -> Node:
    """A module that is not to be imported by a name: its namespace is all that it is."""
    namespace = types.ModuleType.__getattribute__(obj, "__dict__")
    w.volatile[id(namespace)] = SKIPPED_NAMES
    return ("loose module", None, namespace.get("__name__"), (w.cell(namespace),), None)


class LooseModuleKind(Kind):
    name = "loose module"

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return types.ModuleType(str(node[2]))

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        present, wanted = types.ModuleType.__getattribute__(obj, "__dict__"), r.resolve(node[3][0])
        if present is not wanted:
            r.fill_early(node[3][0])
            present.update(wanted)


def register(reg: Registry) -> None:
    """Make these kinds known."""
    for cls, _ in _VIEWS.values():
        reg.add(cls, Handler(_emit_dict_view))
    for cls, _ in _MADE_FROM.values():
        reg.add(cls, Handler(_emit_made))
    reg.add(types.UnionType, Handler(_emit_union))
    reg.add(re.Match, Handler(_emit_match))
    for cls in (weakref.ProxyType, weakref.CallableProxyType):
        reg.add(cls, Handler(_emit_proxy, serial=True))
    reg.add(memoryview, Handler(_emit_memoryview))
    for kind in (DictViewKind(), MadeFromKind(), UnionKind(), MatchKind(), WeakProxyKind(), MemoryViewKind(), LooseModuleKind()):
        reg.kind(kind)
