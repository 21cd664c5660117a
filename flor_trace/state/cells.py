"""Cells as values: which are the same, which are numbers, and how they look in a message."""

from __future__ import annotations

import marshal
from typing import Any

from .graph import Buffer, Cell


def is_ref(cell: Cell) -> bool:
    """Whether a cell refers to a node."""
    return type(cell) is tuple and len(cell) == 1


def is_fast(cell: Cell) -> bool:
    """Whether equal cells of this type are the same atom."""
    return type(cell) is str or cell is None


def same_atom(a: Cell, b: Cell) -> bool:
    """Bitwise equality of two atoms' cells; floats by their bits, so that nan equals itself and -0.0 is not 0.0."""
    cls = type(a)
    if cls is not type(b):
        return False
    if cls is float or cls is complex:
        return marshal.dumps(a, 2) == marshal.dumps(b, 2)
    if cls is tuple:
        if len(a) == 1 or len(b) == 1:
            return False
        if a[0] == "pickle" and b[0] == "pickle":
            return bool(a[:3] == b[:3])
    return bool(a == b)


def key_of(cell: Cell) -> Any:
    """What two cells that are the same key have in common."""
    return (type(cell).__name__, marshal.dumps(cell, 0 if type(cell) is not float else 2))


def number_of(cell: Cell) -> complex | None:
    """The floating-point number that a cell is, if it is one."""
    if type(cell) in (float, complex):
        return complex(cell)
    if type(cell) is tuple and cell and cell[0] == "np":
        import numpy as np

        value = np.frombuffer(cell[2], np.dtype(cell[1]))[0] if type(cell[1]) is str else None
        if value is not None and value.dtype.kind in "fc":
            return complex(value)
    return None


def short(value: Any) -> str:
    """A value for a message."""
    if isinstance(value, (bytes, tuple, dict, list)) and len(value) > 20:
        return f"<{type(value).__name__} of {len(value)}>"
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def extent(buffer: Buffer) -> str:
    """A buffer's size for a message."""
    if buffer.whole in (0, buffer.nbytes):
        return f"{buffer.nbytes} bytes"
    return f"{buffer.nbytes} of {buffer.whole} bytes from {buffer.start}"
