"""Pillow: the pixels of a loaded image, which live in C."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PIL import Image, _imaging

from ..graph import Node
from . import Handler, Kind, Registry

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker

_core_of: Any = _imaging
_Core: Any = type(_core_of.new("L", (1, 1)))


def _pixels(core: Any) -> bytes:
    raw = Image.Image()._new(core)
    raw._mode = core.mode  # a palette would be copied on the way
    return raw.tobytes()


def _palette(core: Any) -> tuple[str, bytes] | None:
    if core.mode not in ("P", "PA"):
        return None
    mode = core.getpalettemode()
    return mode, core.getpalette(mode, mode)


def _emit(w: Walker, obj: Any, token: int) -> Node:
    if 0 not in obj.size:
        w.data_buffer(token, lambda: _pixels(obj))
    return ("pil", None, (obj.mode, obj.size, _palette(obj)), (), None)


class PixelsKind(Kind):
    name = "pil"

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        return bool((live.mode, live.size) == node[2][:2])

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return _core_of.new(*node[2][:2])

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        mode, size, palette = node[2]
        if 0 not in size and not r.unchanged(token):
            other = Image.frombytes(mode, size, bytes(r.blob(token))).im
            obj.paste(other, (0, 0, *size))
        if palette is not None and _palette(obj) != palette:
            obj.putpalette(palette[0], palette[0], palette[1])


def register(reg: Registry) -> None:
    """Make these kinds known."""
    reg.add(_Core, Handler(_emit))
    reg.kind(PixelsKind())
