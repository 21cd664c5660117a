"""Identity tokens: names for live objects that hold from one snapshot of a run to the next."""

from __future__ import annotations

import weakref
from typing import Any


class TokenTable:
    """Serial numbers for objects whose content is not wholly restored.

    Most objects are named by their `id`. Where an object is only *referred to* (opaque objects, functions,
    classes), reuse of an id would bind a reference to the wrong thing, so those carry a serial number that a weak
    reference guards. Serials are negative: they never collide with addresses.
    """

    __slots__ = ("_known", "_last", "_limit")

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._last = 0
        self._limit = 10_000

    def serial(self, obj: object) -> int:
        """The serial number of `obj`; one that cannot be weakly referenced gets a new one at every walk."""
        known = self._known.get(id(obj))
        if known is not None and known[0]() is obj:
            return known[1]
        self._last -= 1
        try:
            ref = weakref.ref(obj)
        except TypeError:
            return self._last
        self._known[id(obj)] = (ref, self._last)
        if len(self._known) > self._limit:
            self._known = {key: entry for key, entry in self._known.items() if entry[0]() is not None}
            self._limit = max(10_000, 2 * len(self._known))
        return self._last
