"""Read and write the locals of live frames without leaving a trace in them."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Set
from types import FrameType
from typing import NamedTuple

_WRITE_THROUGH = sys.version_info >= (3, 13)
_UNBINDS = sys.version_info < (3, 12)


class LiveFrame(NamedTuple):
    """A function frame of user code on the stack, and a name for it that is the same in every execution."""

    name: str
    frame: FrameType


def user_frames(frame: FrameType | None, user_files: set[str]) -> list[LiveFrame]:
    """The function frames of user code from the outermost to `frame`; module and class bodies are left out
    because their locals are namespaces that exist as objects."""
    found: list[FrameType] = []
    while frame is not None:
        code = frame.f_code
        if code.co_filename in user_files and code.co_flags & 0x2:  # CO_NEWLOCALS: a function
            found.append(frame)
        frame = frame.f_back
    found.reverse()
    return [LiveFrame(f"{depth}:{f.f_code.co_qualname}", f) for depth, f in enumerate(found)]


def read_locals(frame: FrameType) -> dict[str, object]:
    """The bound locals of a function frame, as a fresh dict.

    Before 3.13 `f_locals` fills one dict per frame that stays alive (it would keep rebound tensors) and that
    `locals()` in the frame returns as well (a script's `config = locals()` must not change): so its content
    from before is put back.
    """
    if _WRITE_THROUGH:
        values = dict(frame.f_locals)
    else:
        before = _kept_locals(frame)
        kept = frame.f_locals
        values = dict(kept)
        kept.clear()
        kept.update(before)
    return {name: value for name, value in values.items() if not name.startswith(".")}


def write_locals(frame: FrameType, values: dict[str, object]) -> None:
    """Make `values` the bound locals of a live function frame; names absent from `values` become unbound.

    Raises:
        RuntimeError: a bound local would have to be unbound, which CPython cannot do from outside from 3.12 on.
    """
    surplus = surplus_locals(frame, values.keys())
    if surplus:
        raise RuntimeError(f"cannot unbind {', '.join(surplus)} in {frame.f_code.co_qualname}()")
    if _WRITE_THROUGH:
        present = frame.f_locals
        for name, value in values.items():
            present[name] = value
        return
    before = _kept_locals(frame)
    kept = frame.f_locals
    hidden = {name: value for name, value in kept.items() if name.startswith(".")}
    kept.clear()
    kept.update(hidden)
    kept.update(values)
    ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(1))
    kept.clear()
    kept.update(before)


def surplus_locals(frame: FrameType, names: Set[str]) -> list[str]:
    """Locals that are bound now, are not among `names`, and could not be unbound by `write_locals`."""
    # From 3.12 on `PyFrame_LocalsToFast` gives such a name the value None instead, with a warning.
    return [] if _UNBINDS else [name for name in read_locals(frame) if name not in names]


def _kept_locals(frame: FrameType) -> dict[str, object]:
    """A copy of the frame's kept `f_locals` as it is now, which `frame.f_locals` itself would refresh."""
    if _KEPT_OFFSET is None:
        return {}
    interpreter_frame = ctypes.c_void_p.from_address(id(frame) + _INTERPRETER_FRAME).value
    assert interpreter_frame is not None
    kept = ctypes.c_void_p.from_address(interpreter_frame + _KEPT_OFFSET).value
    return dict(ctypes.cast(kept, ctypes.py_object).value) if kept else {}


# Where a PyFrameObject of 3.11 and 3.12 has its interpreter frame: behind the object's head and `f_back`.
_INTERPRETER_FRAME = 24


def _find_kept_offset() -> int | None:
    """Where an interpreter frame has its kept `f_locals`: looked for, since it moved between versions."""
    if _WRITE_THROUGH:
        return None
    frame = sys._getframe()
    kept = frame.f_locals
    interpreter_frame = ctypes.c_void_p.from_address(id(frame) + _INTERPRETER_FRAME).value
    assert interpreter_frame is not None
    for offset in range(0, 64, 8):
        if ctypes.c_void_p.from_address(interpreter_frame + offset).value == id(kept):
            return offset
    return None


_KEPT_OFFSET = _find_kept_offset()
