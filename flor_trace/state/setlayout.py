"""What a set hides: the slots of its table.

Which slot an element takes depends on what stood there before it: slots of discarded elements are not free until the
table is made anew, and `pop` begins to search where it last stopped. Two sets with equal elements in equal order of iteration
may therefore differ in the order after the next `add`, or in what `pop` returns. The table is read from memory
(Include/cpython/setobject.h, the same from 3.11 to 3.13); the offsets are tried out on a known set first, and an interpreter
that lays its sets out otherwise has none that we know.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Callable
from itertools import starmap
from operator import attrgetter
from struct import Struct
from typing import Any

FREE, USED, DUMMY = 0, 1, 2
# Where `pop` begins to search, and for each slot of the table whether it is free, in use, or that of a discarded element.
Layout = tuple[int, bytes]

_SMALLEST = 8  # slots of the table within the object itself
_ENTRY = 16  # a key and its hash
# The object behind its head: fill, used, mask, table, hash, finger, the smallest table.
_FILL, _USED, _MASK, _TABLE, _FINGER, _SMALL_TABLE = 0, 8, 16, 24, 40, 48
_EMPTY = bytes(_SMALLEST)
_FIELDS = Struct("=QQQQqQ" + _SMALLEST * "Q8x")


def layout_of(items: Any) -> Layout | None:
    """The layout of a set or frozenset; None where the interpreter's sets are not laid out as we know them."""
    reader = _reader()
    return None if reader is None else reader.layout(items)


def search_from(items: set[Any], slot: int) -> None:
    """Let the next `pop` of a set begin at this slot. Only for a set that `layout_of` can read."""
    reader = _reader()
    if reader is not None:
        reader.field(items, _FINGER).value = slot


class _Reader:
    def __init__(self) -> None:
        import ctypes

        self._word: Any = ctypes.c_size_t
        # In C, and with the interpreter's lock held; `ctypes.string_at` itself is Python code.
        self._copy: Callable[[int, int], bytes] = ctypes._string_at  # type: ignore[attr-defined]
        self._head = object.__basicsize__
        self._dummy = 0

    def field(self, items: Any, offset: int) -> Any:
        return self._word.from_address(id(items) + self._head + offset)

    def layout(self, items: Any) -> Layout:
        fill, used, mask, _, _, finger, *keys = _FIELDS.unpack(self._copy(id(items) + self._head, _FIELDS.size))
        if mask != _SMALLEST - 1:
            keys = self._large_table(items)
        elif not fill:
            return finger, _EMPTY
        pattern = bytes(map(bool, keys))
        if pattern.count(USED) != used:
            dummy = self._dummy
            pattern = bytes([DUMMY if key == dummy else USED if key else FREE for key in keys])
        return finger, pattern

    def _large_table(self, items: Any) -> list[int]:
        # Address and size of the table are read, and the table copied, within one call into C: no other thread of the script
        # can change the set in between.
        value = attrgetter("value")
        size = map(_ENTRY.__mul__, map((1).__add__, map(value, (self.field(items, _MASK),))))
        table = next(starmap(self._copy, zip(map(value, (self.field(items, _TABLE),)), size, strict=False)))
        return array("Q", table)[::2].tolist()

    def fits(self) -> bool:
        """Whether sets are laid out so; learns the address of the mark in slots of discarded elements."""
        known = {8, 17, 2, 3}
        known.pop()  # 8, in slot 0
        known.discard(2)
        read = [self.field(known, offset).value for offset in (_FILL, _USED, _MASK, _FINGER)]
        if read != [4, 2, _SMALLEST - 1, 1] or self.field(known, _TABLE).value != id(known) + self._head + _SMALL_TABLE:
            return False
        self._dummy = self.field(known, _SMALL_TABLE).value
        if self.layout(known) != (1, bytes([DUMMY, USED, DUMMY, USED, FREE, FREE, FREE, FREE])):
            return False
        grown = set(range(5))
        grown.discard(3)
        return self.layout(grown) == (0, bytes([USED, USED, USED, DUMMY, USED] + 27 * [FREE]))


@functools.cache
def _reader() -> _Reader | None:
    import sys

    if sys.implementation.name != "cpython" or set.__basicsize__ < object.__basicsize__ + _FIELDS.size:
        return None
    try:
        reader = _Reader()
    except AttributeError:
        return None
    return reader if reader.fits() else None
