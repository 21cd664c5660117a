"""Free variables that only a hindsight statement reads: where a function that is built anew gets their cells from."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from types import CellType, CodeType, FrameType, FunctionType
from typing import Any

from .genframe import facts_of

# A PyFrameObject has its interpreter frame behind the object's head and `f_back`; that has its slots behind nine words
# (CPython 3.11 to 3.13; what is found there is checked).
_INTERPRETER_FRAME = 24
_SLOTS = 72


def frame_cells(frame: FrameType) -> dict[str, CellType]:
    """The cells of a live frame by the names of their variables; none where the layout is not the expected one."""
    code = frame.f_code
    shared = {*code.co_cellvars, *code.co_freevars}
    head = ctypes.c_size_t.from_address(id(frame) + _INTERPRETER_FRAME).value
    if not shared or not _laid_out_as_expected():
        return {}
    found = {}
    for i, name in enumerate(facts_of(code).names):
        address = ctypes.c_size_t.from_address(head + _SLOTS + 8 * i).value
        if name in shared and address:
            cell = ctypes.cast(address, ctypes.py_object).value
            if type(cell) is CellType:
                found[name] = cell
    return found


def _laid_out_as_expected() -> bool:
    import sys

    marker = object()
    frame = sys._getframe()
    head = ctypes.c_size_t.from_address(id(frame) + _INTERPRETER_FRAME).value
    at = facts_of(frame.f_code).names.index("marker")
    return ctypes.c_size_t.from_address(head + _SLOTS + 8 * at).value == id(marker)


class Enclosing:
    """Finds cells of variables of enclosing functions.

    Args:
        codes: all code at hand, with what it contains.
        stack: the live frames of user functions.
        functions: the live functions.
    """

    def __init__(self, codes: Iterable[CodeType], stack: list[FrameType], functions: list[FunctionType]) -> None:
        self._parents = {
            id(const): code for code in codes for const in code.co_consts if type(const) is CodeType
        }
        self._stack = stack
        self._functions = functions

    def owner(self, code: CodeType, name: str) -> CodeType | None:
        """The enclosing function whose variable `name` is."""
        parent = self._parents.get(id(code))
        while parent is not None and name not in parent.co_cellvars:
            parent = self._parents.get(id(parent))
        return parent

    def cell(self, code: CodeType, name: str, known: Mapping[str, Any]) -> CellType | None:
        """The cell of a free variable of `code`, in the activation of the owner that `known`, its other cells, belong
        to; None if that cannot be told for certain."""
        owner = self.owner(code, name)
        if owner is None:
            return None
        siblings = {other: cell for other, cell in known.items() if self.owner(code, other) is owner}
        frames = [frame_cells(frame) for frame in self._stack if frame.f_code is owner]
        matching = [cells for cells in frames if all(cells.get(n) is c for n, c in siblings.items())]
        # without another variable of the owner, a function that calls itself could have made it in any activation
        if len(matching) == 1 and name in matching[0] and (siblings or owner.co_name not in owner.co_names):
            return matching[0][name]
        for function in self._functions:
            theirs = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
            same = name in theirs and self.owner(function.__code__, name) is owner
            if same and any(theirs.get(n) is c for n, c in siblings.items()):
                return theirs[name]
        return None
