"""`functools.lru_cache`: its entries in their order, and its counters.

Both lie in a C structure that Python can fill but not set, so it is read and written at the places that CPython 3.11 to
3.13 give it, after a check on a cache whose content is known; elsewhere a cache stays opaque.
"""

from __future__ import annotations

import ctypes
import functools
import gc
from typing import TYPE_CHECKING, Any

from ...errors import NotRestorable
from ..graph import Cell, Node
from . import Handler, Kind, Registry
from .containers import all_identical, needs_hash

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker

_Cache: Any = functools._lru_cache_wrapper
_NEXT, _KEY, _RESULT = 24, 40, 48  # of `lru_list_elem`, with which a cache begins
_TYPED, _ENTRIES, _HITS, _FUNCTION, _MISSES = 64, 72, 80, 88, 104


def _word(address: int) -> int:
    return ctypes.c_size_t.from_address(address).value


def _object(address: int) -> Any:
    return ctypes.cast(_word(address), ctypes.py_object).value


def _entries(cache: Any) -> list[tuple[Any, Any]]:
    """Keys and results, the next to be dropped first."""
    if _Cache.cache_info(cache).maxsize is None:
        return list(_object(id(cache) + _ENTRIES).items())
    found = []
    link = _word(id(cache) + _NEXT)
    while link != id(cache):
        found.append((_object(link + _KEY), _object(link + _RESULT)))
        link = _word(link + _NEXT)
    return found


@functools.cache
def usable() -> bool:
    """Whether caches lie in memory as expected."""

    def double(x: int, y: int = 0) -> int:
        return x * 2

    tried: Any = functools.lru_cache(maxsize=3)(double)
    for x in (1001, 1002, 1003, 1004, 1002):
        tried(x)
    at = id(tried)
    if _Cache.__basicsize__ < 120 or (_word(at + _HITS), _word(at + _MISSES), _word(at + _FUNCTION)) != (1, 4, id(double)):
        return False
    entries = next((x for x in gc.get_referents(tried) if type(x) is dict and 1004 in x), None)
    return id(entries) == _word(at + _ENTRIES) and _entries(tried) == [(1003, 2006), (1004, 2008), (1002, 2004)]


@functools.cache
def mark() -> Any:
    """What separates positional arguments from named ones in a key."""
    tried: Any = functools.lru_cache(maxsize=None)(dict)
    tried(a=1)
    return next(iter(_object(id(tried) + _ENTRIES)))[0]


def _emit(w: Walker, obj: Any, token: int) -> Node:
    info = _Cache.cache_info(obj)
    w.singletons[id(mark())] = ("lru mark", "")
    typed = bool(ctypes.c_int.from_address(id(obj) + _TYPED).value)
    cells = [w.cell(part) for entry in _entries(obj) for part in entry]
    payload = (info.maxsize, typed, info.hits, info.misses)
    return ("lru cache", None, payload, (w.cell(_object(id(obj) + _FUNCTION)), *cells), w.attrs(obj, type(obj), keep_empty=True))


class LruKind(Kind):
    name = "lru cache"
    late = True

    def deps(self, node: Node) -> tuple[Cell, ...]:
        return node[3][:1]

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        known = r.live.graph.nodes.get(r.live_token(live))
        return known is not None and known[2][:2] == node[2][:2] and r.resolve_live(known[3][0]) is r.resolve(node[3][0])

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return functools.lru_cache(node[2][0], node[2][1])(r.resolve(node[3][0]))

    def check(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        if any(needs_hash(r.resolve(cell)) for cell in node[3][1::2]):
            raise NotRestorable(r.path(token), "hashing the arguments that this cache knows would run user code")

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        parts = [r.resolve(cell) for cell in node[3][1:]]
        if not all_identical(parts, [part for entry in _entries(obj) for part in entry]):
            for cell in node[3][1::2]:
                r.fill_early(cell)
            self._refill(obj, list(zip(parts[::2], parts[1::2], strict=True)), node[2][1])
        ctypes.c_size_t.from_address(id(obj) + _HITS).value = node[2][2]
        ctypes.c_size_t.from_address(id(obj) + _MISSES).value = node[2][3]

    def _refill(self, obj: Any, entries: list[tuple[Any, Any]], typed: bool) -> None:
        """Call the cache with each key's arguments, while a function that knows the results stands in for its own."""
        _Cache.cache_clear(obj)
        results = iter([result for _, result in entries])

        def known(*args: Any, **named: Any) -> Any:
            return next(results)

        place = ctypes.c_size_t.from_address(id(obj) + _FUNCTION)
        own = place.value
        place.value = id(known)
        try:
            for key, _ in entries:
                args, named = _arguments(key, typed)
                _Cache.__call__(obj, *args, **named)
        finally:
            place.value = own


def _arguments(key: Any, typed: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if type(key) is not tuple:
        return (key,), {}
    at = next((i for i, part in enumerate(key) if part is mark()), None)
    if at is None:
        return (key[: len(key) // 2] if typed else key), {}
    rest = key[at + 1 :]
    if typed:  # the types of all values follow: two words a named argument, one type for each value
        rest = rest[: 2 * ((len(rest) - at) // 3)]
    return key[:at], dict(zip(rest[::2], rest[1::2], strict=True))


def register(reg: Registry) -> None:
    """Make these kinds known."""
    if usable():
        reg.add(_Cache, Handler(_emit, serial=True))
    reg.decoders["lru mark"] = lambda cell: mark()
    reg.kind(LruKind())
