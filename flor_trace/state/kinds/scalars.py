"""Byte arrays, long strings and bytes, and subclasses of these and of int, float, complex."""

from __future__ import annotations

import marshal
from typing import TYPE_CHECKING, Any

from ..graph import Node
from . import Handler, Kind, Registry
from .containers import ends

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker


_ALL = slice(None)  # by index: a subclass may have a `__buffer__` of its own, which the buffer protocol would call


def _emit_bytearray(w: Walker, obj: bytearray, token: int) -> Node:
    cls, attrs = ends(w, obj, bytearray)
    w.data_buffer(token, lambda: bytes(bytearray.__getitem__(obj, _ALL)))
    return ("bytearray", cls, None, (), attrs)


def _emit_bytes(w: Walker, obj: bytes, token: int) -> Node:
    cls, attrs = ends(w, obj, bytes)
    w.data_buffer(token, lambda: memoryview(bytes.__getitem__(obj, _ALL)))
    return ("bytes", cls, None, (), attrs)


def _emit_str(w: Walker, obj: str, token: int) -> Node:
    cls, attrs = ends(w, obj, str)
    w.data_buffer(token, lambda: str.encode(obj, "utf-8", "surrogatepass"))
    return ("str", cls, None, (), attrs)


def _emit_number(plain: type) -> Any:
    copies: dict[type, Any] = {
        int: lambda obj: int.__index__(obj),
        float: lambda obj: float.__pos__(obj),
        complex: lambda obj: complex.__pos__(obj),
    }
    copy = copies[plain]

    def emit(w: Walker, obj: Any, token: int) -> Node:
        value = copy(obj)
        cls, attrs = ends(w, obj, plain)
        return ("number", cls, (plain.__name__, value), (), attrs)

    return emit


class ByteArrayKind(Kind):
    name = "bytearray"

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return bytearray.__new__(r.type_of(node, bytearray))

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        if not r.unchanged(token):
            bytearray.__setitem__(obj, slice(None), r.blob(token))


class BytesKind(Kind):
    name = "bytes"
    construct = True
    value = True

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        return r.unchanged(token)

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return bytes.__new__(r.type_of(node, bytes), bytes(r.blob(token)))


class StrKind(BytesKind):
    name = "str"

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return str.__new__(r.type_of(node, str), bytes(r.blob(token)).decode("utf-8", "surrogatepass"))


class NumberKind(Kind):
    name = "number"
    construct = True
    value = True

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        known = r.live.graph.nodes.get(r.live_token(live))
        return known is not None and marshal.dumps(known[2], 2) == marshal.dumps(node[2], 2)

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        plain: Any = {"int": int, "float": float, "complex": complex}[node[2][0]]
        return plain.__new__(r.resolve(node[1]), node[2][1])


def register(reg: Registry) -> None:
    """Make these kinds known."""
    emits: list[tuple[type, Any]] = [
        (bytearray, _emit_bytearray), (bytes, _emit_bytes), (str, _emit_str), (int, _emit_number(int)),
        (float, _emit_number(float)), (complex, _emit_number(complex)),
    ]  # fmt: skip
    for cls, emit in emits:
        reg.add(cls, Handler(emit), subclasses=True)
    for kind in (ByteArrayKind(), BytesKind(), StrKind(), NumberKind()):
        reg.kind(kind)
