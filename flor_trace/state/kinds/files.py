"""Files that have been closed: `with open(…) as file:` leaves such a name behind, and open ones.

Also what replay puts in the place of the functions that open and change files: state says what it stands for."""

from __future__ import annotations

import gc
import io
import os
import stat
import types
from typing import TYPE_CHECKING, Any

from ...errors import NotRestorable
from ...store.device_paths import is_device
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


def standing(obj: Any) -> tuple[int, int] | None:
    """Where an open file that is written to stands, and how much was written that it does not hold yet; None for any other."""
    text, buffered, raw = layers_of(obj)
    if type(raw) is not io.FileIO or raw.closed:
        return None
    node = _open_node(obj, text, buffered, raw)
    return (node[2][1], node[2][2]) if node[0] == "open file" else None


def _open_node(obj: Any, text: Any, buffered: Any, raw: Any) -> Node:
    """An open file: for one that is written to, how much the script has written that the file itself does not hold yet."""
    name = vars(raw).get("name")
    if type(name) is not str or is_device(name) or not raw.writable():
        return file_node(obj)
    try:
        if not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
            return file_node(obj)
        at = raw.tell()
        waiting = abs(buffered.tell() - at) if buffered is not None else 0
    except (OSError, ValueError, RuntimeError):  # closed behind its back, or in the middle of a write
        return file_node(obj)
    if text is not None:
        waiting += _waiting_text(text)
    return ("open file", None, (type(obj).__name__, at, waiting), (), None)


def _waiting_text(text: Any) -> int:
    """The length of what a text file has not passed on yet; it has no name, but the collector is shown it.

    A `newline` given to `open` cannot be told from waiting text, unless it is empty.
    """
    known = (id(text.encoding), id(text.errors))
    found = 0
    for part in gc.get_referents(text):
        if (type(part) is str or type(part) is bytes) and id(part) not in known:
            found += len(part)
        elif type(part) is list:
            found += sum(len(piece) for piece in part)
    return found


def layers_of(obj: Any) -> tuple[Any, Any, Any]:
    """The text wrapper, the buffer and the raw file; raw is None where one of them is not the interpreter's own."""
    text = buffered = None
    try:
        if type(obj) is io.TextIOWrapper:
            text, obj = obj, obj.buffer
        if any(type(obj) is cls for cls in _BUFFERED.values()):
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


class OpenFileKind(Kind):
    """The live file is kept. Replay puts the recorded content under it and moves it to the end of that, but what had not
    reached the file is in no snapshot."""

    name = "open file"

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        return type(live).__name__ == node[2][0] and not layers_of(live)[2].closed

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        raise NotRestorable(r.path(token), "this file was not open at the point restored from")

    def check(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        known = r.live.graph.nodes.get(r.live_token(obj))
        if node[2][2] and (known is None or known[2] != node[2]):
            raise NotRestorable(r.path(token), f"{node[2][2]} bytes had been written to it that were not in the file yet")


def register(reg: Registry) -> None:
    """Make these kinds known."""
    for cls in (io.FileIO, io.TextIOWrapper, *_BUFFERED.values()):
        reg.add(cls, Handler(emit_file, serial=True))
    reg.kind(ClosedFileKind())
    reg.kind(OpenFileKind())
    # In replay these stand where `open` and the functions of `os` stood.
    reg.named["flor_trace.runtime.guarded.Guarded"] = reg.exact[id(types.BuiltinFunctionType)]
