"""Streams in memory, whose content and position are state, and files open for reading, whose position is."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from ...errors import NotRestorable
from ..graph import Node
from ..layout import type_name
from . import Handler, Kind, Registry
from .files import emit_file, layers_of

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker

_CLOSED = -1
_MEMORY: dict[str, Any] = {"text": io.StringIO, "bytes": io.BytesIO}


def _form(obj: Any) -> str:
    return "text" if isinstance(obj, io.StringIO) else "bytes"


def _state(obj: Any) -> tuple[bytes, str | None, int]:
    """Content, newline and position; the C methods are called, whatever a subclass defines."""
    form = _form(obj)
    state: tuple[Any, ...] = _MEMORY[form].__getstate__(obj)
    if form == "bytes":
        return bytes(state[0]), None, state[1]
    text, newline, position, _ = state
    return text.encode("utf-8", "surrogatepass"), newline, position


def _emit_memory(w: Walker, obj: Any, token: int) -> Node:
    cls, form = type(obj), _form(obj)
    kind = None if cls is _MEMORY[form] else w.type_cell(cls)
    attrs = None if kind is None else w.attrs(obj, cls)
    if _MEMORY[form].closed.__get__(obj):
        return ("memory stream", kind, (form, None, _CLOSED), (), attrs)
    data, newline, position = _state(obj)
    w.data_buffer(token, lambda: data)
    return ("memory stream", kind, (form, newline, position), (), attrs)


class MemoryStreamKind(Kind):
    name = "memory stream"

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        closed = _MEMORY[node[2][0]].closed.__get__(live)
        return _form(live) == node[2][0] and (node[2][2] == _CLOSED or not closed)

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        plain = _MEMORY[node[2][0]]
        made = plain.__new__(r.type_of(node, plain))
        plain.__init__(made)
        return made

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        form, newline, position = node[2]
        plain = _MEMORY[form]
        if position == _CLOSED:
            plain.close(obj)
            return
        data = bytes(r.blob(token))
        if _state(obj) == (data, newline, position):
            return
        if form == "text":
            plain.__setstate__(obj, (data.decode("utf-8", "surrogatepass"), newline, position, None))
        else:
            plain.__setstate__(obj, (data, position, None))


_READERS = (io.TextIOWrapper, io.BufferedReader, io.FileIO)


def _emit_file(w: Walker, obj: Any, token: int) -> Node:
    """What writes is put at its place with its file's content (see the replay's view of files)."""
    cls = type(obj)
    raw = layers_of(obj)[2]
    if type(raw) is not io.FileIO or raw.closed or raw.writable() or not raw.seekable():
        return emit_file(w, obj, token)
    try:
        position = obj.tell()
    except OSError:  # a text file that is being iterated over does not tell
        position = None
    return ("reader", None, (type_name(cls), position), (w.cell(obj.name),), None)


class ReaderKind(Kind):
    name = "reader"

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        raise NotRestorable(r.path(token), "this file was not open yet at the point restored from")

    def check(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        if node[2][1] is None:
            raise NotRestorable(r.path(token), "a text file that is being iterated over does not tell where it stands")

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        known = r.live.graph.nodes.get(r.live_token(obj))
        # one that is being iterated over does not tell, but can be moved
        if known is None or known[2][1] is None or obj.tell() != node[2][1]:
            obj.seek(node[2][1])


def register(reg: Registry) -> None:
    """Make these kinds known."""
    for cls in _MEMORY.values():
        reg.add(cls, Handler(_emit_memory), subclasses=True)
    for cls in _READERS:
        reg.add(cls, Handler(_emit_file, serial=True))
    reg.kind(MemoryStreamKind())
    reg.kind(ReaderKind())
