"""Built-in iterators, through what their own C `__reduce__` says of their position."""

from __future__ import annotations

import array
import ctypes
import gc
import itertools
import warnings
from typing import TYPE_CHECKING, Any

from ...errors import NotRestorable
from ..graph import Cell, Node
from ..layout import derives
from . import Handler, Kind, Registry
from .containers import all_identical

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker


class _Sequence:
    """What is iterated over by index alone."""

    def __getitem__(self, index: int) -> int:
        raise IndexError(index)


_TYPES: list[type] = [
    type(iter(_Sequence())),
    type(iter([])), type(iter(())), type(iter("")), type(iter("é")), type(iter(b"")), type(iter(bytearray())),
    type(iter(array.array('b'))), type(iter(range(0))), type(iter(range(1 << 70))), type(reversed([])),
    enumerate, zip, map, filter, reversed,
    type(iter(int, 1)), itertools.count, itertools.cycle, itertools.chain, itertools.islice, itertools.repeat,
    itertools.accumulate, itertools.product, itertools.permutations, itertools.combinations,
    itertools.combinations_with_replacement, itertools.compress, itertools.starmap, itertools.takewhile,
    itertools.dropwhile, itertools.zip_longest, itertools.filterfalse,
]  # fmt: skip
_IGNORED: list[tuple[Any, ...]] = [("ignore", None, Warning, None, 0)]
# Most have no name by which their type could be found.
_BY_NAME = {cls.__name__: cls for cls in _TYPES}


def reduced(obj: Any) -> tuple[Any, ...]:
    """What the C type's `__reduce__` says, as (callable, args, state)."""
    reduce: Any = type(obj).__reduce__
    # Those of itertools warn since 3.12. Not by `warnings.catch_warnings`, which makes the script's warnings appear again;
    # between the assignments nothing but C runs, which never lets go of the interpreter.
    kept = warnings.filters
    warnings.filters = _IGNORED
    try:
        parts = reduce(obj)
    finally:
        warnings.filters = kept
    return (parts[0], parts[1], parts[2] if len(parts) > 2 else None)


_EMPTY: Any = type(iter(()))


def _again(inner: Any, saved: list[Any]) -> Any:
    """Where a cycle stands in what it saved: one that was rebuilt stands at the end where another is at the start."""
    _, args, index = reduced(inner)
    made = iter(saved)
    made.__setstate__(index % len(saved) if index and args[0] is saved else 0)  # type: ignore[attr-defined]
    return made


# What `__reduce__` gives of these is an iterator over a list of what is left.
_KEYED: dict[str, tuple[type, Any]] = {
    type(made).__name__: (type(made), make)
    for made, make in (
        (iter({}), iter), (iter({}.values()), lambda d: iter(dict.values(d))), (iter({}.items()), lambda d: iter(dict.items(d))),
        (reversed({}), reversed), (reversed({}.values()), lambda d: reversed(dict.values(d))),
        (reversed({}.items()), lambda d: reversed(dict.items(d))), (iter(set()), iter),
    )
}  # fmt: skip


def _emit_keyed(w: Walker, obj: Any, token: int) -> Node:
    """An iterator over a dict or a set, which it lets go of when it has ended."""
    held = [inner for inner in gc.get_referents(obj) if any(derives(type(inner), base) for base in _LENGTHS)]
    left: Any = type(obj).__length_hint__
    return ("keyed iterator", None, (type(obj).__name__, left(obj) if held else 0), tuple([w.cell(x) for x in held[:1]]), None)


_LENGTHS: dict[type, Any] = {dict: dict.__len__, set: set.__len__, frozenset: frozenset.__len__}
# The words of CPython's `dictiterobject` and `setiterobject` that say where it stands; the owner comes before them.
_DICT_PLACE, _SET_PLACE = (24, 32, 48), (24, 32, 40)


def _put(obj: Any, like: Any) -> None:
    """Let an iterator stand where another over the same dict or set stands."""
    for at in _SET_PLACE if type(obj) is type(iter(set())) else _DICT_PLACE:
        ctypes.c_size_t.from_address(id(obj) + at).value = ctypes.c_size_t.from_address(id(like) + at).value


def _put_works() -> bool:
    for owner in ({1: 2, 3: 4, 5: 6}, {1, 2, 3}):
        obj: Any = iter(owner)
        like: Any = iter(owner)
        if type(obj).__basicsize__ != (48 if type(owner) is set else 56):
            return False
        next(like)
        next(like)
        _put(obj, like)
        if obj.__length_hint__() != 1 or next(obj) != list(owner)[2]:
            return False
    return True


class KeyedIteratorKind(Kind):
    """Set in place after its container has been filled; taking items runs nothing of the user's."""

    name = "keyed iterator"
    late = True

    def deps(self, node: Node) -> tuple[Cell, ...]:
        return node[3]

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        known = r.live.graph.nodes.get(r.live_token(live))
        if known is None or known[0] != node[0] or known[2][0] != node[2][0] or len(known[3]) != len(node[3]):
            return False
        return not node[3] or r.resolve(node[3][0]) is r.resolve_live(known[3][0])

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        make = _KEYED[node[2][0]][1]
        if node[3]:
            return make(r.resolve(node[3][0]))
        ended = make(set() if node[2][0] == "set_iterator" else {})
        next(ended, None)
        return ended

    def check(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        if node[3] and not _put_works():
            raise NotRestorable(r.path(token), "this interpreter's iterators over dicts and sets cannot be set")

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        if not node[3]:
            return
        owner = r.resolve(node[3][0])
        r.fill_early(node[3][0])
        like = _KEYED[node[2][0]][1](owner)
        length = next(length for base, length in _LENGTHS.items() if derives(type(owner), base))
        for _ in range(length(owner) - node[2][1]):
            next(like)
        _put(obj, like)


def _emit(w: Walker, obj: Any, token: int) -> Node:
    make, args, state = reduced(obj)
    if type(obj) is itertools.cycle and state[1] and type(state[0]) is list:
        args = (_again(args[0], state[0]),)
    if type(obj) is itertools.zip_longest:  # one that has ended is written as what it was made from
        args = tuple(() if type(part) is _EMPTY and not _EMPTY.__length_hint__(part) else part for part in args)
    args_cells = [w.cell(part) for part in args]
    return (
        "iterator", ("iterator type", "builtins", type(obj).__name__), (len(args_cells), state is not None),
        (w.cell(make), *args_cells, w.cell(state)), None,
    )  # fmt: skip


class IteratorKind(Kind):
    """Rebuilt where the position differs; every reference in the graph then leads to the new one."""

    name = "iterator"
    late = True

    def deps(self, node: Node) -> tuple[Cell, ...]:
        return node[3][:-1]

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        known = r.live.graph.nodes.get(r.live_token(live))
        if known is None or known[0] != "iterator" or known[2] != node[2]:
            return False
        if type(node[3][-1]) is tuple and node[3][-1][0] not in r.built:
            return False
        return all_identical([r.resolve(c) for c in node[3]], [r.resolve_live(c) for c in known[3]])

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        make, *args = (r.resolve(cell) for cell in node[3][:-1])
        # One over a sequence that has ended; its `__reduce__` no longer tells which. (Over a range, from 3.12 on all are without a
        # state, and one that has ended is over an empty range.)
        if make is iter and node[2] == (1, False) and type(args[0]) is not range:
            ended = reversed([]) if r.resolve(node[1]) is type(reversed([])) else iter(args[0])
            next(ended, None)
            return ended
        return make(*args)

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        # the index of a list's iterator is cut at the length that the list has at the time
        if node[2][1] and id(obj) in r.fresh:
            type(obj).__setstate__(obj, r.resolve(node[3][-1]))


def register(reg: Registry) -> None:
    """Make these kinds known."""
    for cls in _TYPES:
        reg.add(cls, Handler(_emit))
    reg.decoders["iterator type"] = lambda cell: _BY_NAME[cell[2]]
    for name in _KEYED:
        reg.add(_KEYED[name][0], Handler(_emit_keyed))
    reg.kind(IteratorKind())
    reg.kind(KeyedIteratorKind())
