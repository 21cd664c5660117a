"""Files that have been closed: `with open(…) as file:` leaves such a name behind. Open ones are opaque.

Also what replay puts in the place of the functions that open and change files: state says what it stands for."""

from __future__ import annotations

import io
import os
import types
from typing import TYPE_CHECKING, Any

from ..graph import Node
from . import Handler, Kind, Registry
from .opaque import file_node

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker

_BUFFERED: dict[str, Any] = {t.__name__: t for t in (io.BufferedReader, io.BufferedWriter, io.BufferedRandom)}


def emit_file(w: Walker, obj: Any, token: int) -> Node:
    """A file that has been closed, or an opaque one."""
    text, buffered, raw = layers_of(obj)
    if type(raw) is not io.FileIO:
        return file_node(obj)
    if not raw.closed:
        return _open_node(obj, text, buffered, raw)
    namespace = vars(raw)
    name, mode = namespace.get("name"), raw.mode
    payload = (
        type(obj).__name__,
        type(buffered).__name__ if buffered is not None else None,
        mode,
        (text.encoding, text.errors, text.line_buffering, vars(text).get("mode")) if text is not None else None,
    )
    return ("closed file", None, payload, (w.cell(name),), None)


def layers_of(obj: Any) -> tuple[Any, Any, Any]:
    """The text wrapper, the buffer and the raw file; raw is None where one of them is not the interpreter's own."""
    text = buffered = None
    try:
        if type(obj) is io.TextIOWrapper:
            text, obj = obj, obj.buffer
        if type(obj) in _BUFFERED.values():
            buffered, obj = obj, obj.raw
    except ValueError:  # detached
        return text, buffered, None
    return text, buffered, obj


class ClosedFileKind(Kind):
    """Built anew over the null device, which nothing is written to: it is closed at once."""

    name = "closed file"
    construct = True

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        known = r.live.graph.nodes.get(r.live_token(live))
        return known is not None and known[0] == node[0] and r.same_cells(known, node)

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        _, buffered, mode, text = node[2]
        raw = io.FileIO(os.open(os.devnull, os.O_RDWR), mode)
        raw.name = r.resolve(node[3][0])
        made: Any = raw
        if buffered is not None:
            made = _BUFFERED[buffered](made)
        if text is not None:
            encoding, errors, line_buffering, text_mode = text
            made = io.TextIOWrapper(made, encoding, errors, None, line_buffering)
            if text_mode is not None:
                made.mode = text_mode
        made.close()
        return made


def register(reg: Registry) -> None:
    """Make these kinds known."""
    for cls in (io.FileIO, io.TextIOWrapper, *_BUFFERED.values()):
        reg.add(cls, Handler(emit_file, serial=True))
    reg.kind(ClosedFileKind())
    # In replay these stand where `open` and the functions of `os` stood.
    reg.named["flor_trace.runtime.guarded.Guarded"] = reg.exact[types.BuiltinFunctionType]
