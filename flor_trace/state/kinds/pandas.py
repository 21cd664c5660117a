"""pandas: the parts of its frames that are written in Cython, and indexes without what they have derived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from pandas._libs import internals
from pandas._libs.arrays import NDArrayBacked

from ..graph import Cell, Node
from . import Handler, Kind, Registry
from .objects import forget
from .opaque import emit_inert

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker

# Filled when first asked for, which a hindsight statement may do: neither compared nor restored.
_DERIVED = frozenset({"_cache"})
_MANAGER_CACHES = ("_blknos", "_blklocs", "_interleaved_dtype", "_dtypes_cache")
_BLOCK = getattr(internals, "Block", None) or internals.SharedBlock  # its name until pandas 3


def _emit_manager(w: Walker, obj: Any, token: int) -> Node:
    cls = type(obj)
    return ("pandas manager", w.type_cell(cls), None, (w.cell(obj.blocks), w.cell(obj.axes)), _attrs_without_cache(w, obj, cls))


def _attrs_without_cache(w: Walker, obj: Any, cls: type) -> Any:
    namespace = w.layout(cls).instance_dict(obj)
    if namespace is not None:
        w.volatile[id(namespace)] = _DERIVED
    return w.attrs(obj, cls, keep_empty=True)


class ManagerKind(Kind):
    """What holds the blocks of a frame or series."""

    name = "pandas manager"

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return r.layout(r.resolve(node[1])).make()

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        obj.blocks, obj.axes = r.resolve(node[3][0]), r.resolve(node[3][1])
        for name in _MANAGER_CACHES:
            try:
                setattr(obj, name, None)
            except AttributeError:  # another version's
                continue
        obj._known_consolidated = False
        forget(r, node, _DERIVED)


def _emit_block(w: Walker, obj: Any, token: int) -> Node:
    cells = (w.cell(obj.values), w.cell(obj._mgr_locs), w.cell(obj.refs))
    return ("pandas block", w.type_cell(type(obj)), obj.ndim, cells, None)


class BlockKind(Kind):
    """Which blocks look at the same memory (and must copy before they write) follows from the references that they share."""

    name = "pandas block"

    def deps(self, node: Node) -> tuple[Cell, ...]:
        return node[3]

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        return bool(live.ndim == node[2])

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        values, place, _ = map(r.resolve, node[3])
        return r.layout(r.resolve(node[1])).make(values, place, node[2], None)

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        values, place, refs = map(r.resolve, node[3])
        if obj.values is not values:
            obj.values = values
        if obj._mgr_locs is not place:
            obj._mgr_locs = place
        if obj.refs is not refs:
            obj.refs = refs
            refs.add_reference(obj)


def _emit_placement(w: Walker, obj: Any, token: int) -> Node:
    return ("pandas placement", None, None, (w.cell(obj.indexer),), None)


class PlacementKind(Kind):
    """Which columns a block holds."""

    name = "pandas placement"
    construct = True
    value = True

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        known = r.live.graph.nodes.get(r.live_token(live))
        return known is not None and known[0] == node[0] and r.same_value(node[3][0], known[3][0])

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        r.fill_early(node[3][0])
        return internals.BlockPlacement(r.resolve(node[3][0]))


def _emit_array(w: Walker, obj: Any, token: int) -> Node:
    cls = type(obj)
    return ("pandas array", w.type_cell(cls), None, (w.cell(obj._ndarray), w.cell(obj._dtype)), _attrs_without_cache(w, obj, cls))


class ArrayKind(Kind):
    """An array of categories, dates or strings: a NumPy array, what its numbers mean, and attributes."""

    name = "pandas array"

    def deps(self, node: Node) -> tuple[Cell, ...]:
        return node[3]

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        return live._ndarray is r.resolve(node[3][0]) and live._dtype is r.resolve(node[3][1])

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        made = NDArrayBacked.__new__(r.resolve(node[1]))
        NDArrayBacked.__init__(made, r.resolve(node[3][0]), r.resolve(node[3][1]))
        return made

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        forget(r, node, _DERIVED)


def _emit_refs(w: Walker, obj: Any, token: int) -> Node:
    return ("pandas references", None, None, (), None)


class RefsKind(Kind):
    """Weak references to those who share memory. Ones too many lead to a copy that nobody sees; a new object is filled by
    the blocks and indexes that refer to it."""

    name = "pandas references"

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return internals.BlockValuesRefs()


def _emit_index(w: Walker, obj: Any, token: int) -> Node:
    cls = type(obj)
    return ("pandas index", w.type_cell(cls), None, (), _attrs_without_cache(w, obj, cls))


class IndexKind(Kind):
    """Immutable to its users: a live one is kept only where it is the recorded one."""

    name = "pandas index"
    late = True

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return r.layout(r.resolve(node[1])).make()

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        namespace = r.layout(type(obj)).instance_dict(obj)
        assert namespace is not None and node[4] is not None
        before = namespace.get("_references")
        r.fill_early(node[4][0])
        wanted = r.resolve(node[4][0])
        wanted["_cache"] = {}  # not in the present dict, which may be about to become another object's
        refs = wanted.get("_references")
        if refs is not None and (refs is not before or id(obj) in r.fresh):
            refs.add_index_reference(obj)


def _named(name: str) -> Any:
    def atom(w: Walker, obj: Any) -> Cell:
        return ("global", "pandas", name)

    return atom


def register(reg: Registry) -> None:
    """Make these kinds known."""
    reg.base(internals.BlockManager, Handler(_emit_manager))
    reg.base(_BLOCK, Handler(_emit_block))
    reg.add(internals.BlockValuesRefs, Handler(_emit_refs))
    reg.add(internals.BlockPlacement, Handler(_emit_placement))
    reg.base(NDArrayBacked, Handler(_emit_array))
    reg.base(pd.Index, Handler(_emit_index))
    for single, name in ((pd.NaT, "NaT"), (pd.NA, "NA")):
        reg.add(type(single), Handler(None, _named(name)))
    # what an index looks keys up with, made from its values
    reg.named["pandas._libs.index.IndexEngine"] = Handler(emit_inert, serial=True)
    for kind in (ManagerKind(), BlockKind(), ArrayKind(), PlacementKind(), RefsKind(), IndexKind()):
        reg.kind(kind)
