"""Built-in iterators, through what their own C `__reduce__` says of their position."""

from __future__ import annotations

import itertools
import warnings
from typing import TYPE_CHECKING, Any

from ..graph import Cell, Node
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
    type(iter(range(0))), type(iter(range(1 << 70))), type(reversed([])), type(iter({})), type(iter({}.keys())),
    type(iter({}.values())), type(iter({}.items())), type(iter(set())), enumerate, zip, map, filter, reversed,
    type(iter(int, 1)), itertools.count, itertools.cycle, itertools.chain, itertools.islice, itertools.repeat,
    itertools.accumulate, itertools.product, itertools.permutations, itertools.combinations,
    itertools.combinations_with_replacement, itertools.compress, itertools.starmap, itertools.takewhile,
    itertools.dropwhile, itertools.zip_longest, itertools.filterfalse,
]  # fmt: skip
# Most have no name by which their type could be found.
_BY_NAME = {cls.__name__: cls for cls in _TYPES}


def reduced(obj: Any) -> tuple[Any, ...]:
    """What the C type's `__reduce__` says, as (callable, args, state)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # itertools, since 3.12
        reduce: Any = type(obj).__reduce__
        parts = reduce(obj)
    return (parts[0], parts[1], parts[2] if len(parts) > 2 else None)


def _again(inner: Any, saved: list[Any]) -> Any:
    """Where a cycle stands in what it saved: one that was rebuilt stands at the end where another is at the start."""
    _, args, index = reduced(inner)
    made = iter(saved)
    made.__setstate__(index % len(saved) if index and args[0] is saved else 0)  # type: ignore[attr-defined]
    return made


def _emit(w: Walker, obj: Any, token: int) -> Node:
    make, args, state = reduced(obj)
    if type(obj) is itertools.cycle and state[1] and type(state[0]) is list:
        args = (_again(args[0], state[0]),)
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
    reg.kind(IteratorKind())
