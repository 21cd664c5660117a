"""What a restore may leave as it is: objects that hold just what they held at a snapshot that the live state has this moment been
compared with and found exact.

From one snapshot to the next nearly all nodes stay the same, and two recorded graphs are compared in C. So a restore need not ask the
live objects. Only kinds count that a comparison looks at in full; all others are restored in the ordinary way.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Mapping
from itertools import repeat
from operator import eq
from typing import Any, NamedTuple

from .graph import Cell, Graph, Node

# Whose whole content stands in the node and its buffer, and which the comparison passes over in no part.
_KINDS = frozenset({"tensor", "ndarray", "memory", "tuple", "list", "dict", "object"})
_VIEWS = frozenset({"tensor", "ndarray"})
# The same objects can be given other references in place.
IN_PLACE = frozenset({"list", "dict", "object"})
_GRAD_FN = 6  # in a tensor's payload: what is done about autograd graphs is decided for each restore


class Base(NamedTuple):
    """The recorded graph that the live state has been found to be exactly, and the recorded tokens that stand for several live
    objects each (equal values, whose identity carries no meaning)."""

    graph: Graph
    several: frozenset[int]


def settled(base: Base, target: Graph, matching: Mapping[int, Any]) -> set[int]:
    """The tokens of `target` whose live objects hold the recorded content already, if what they refer to stays where it is (see
    `disturbed`)."""
    before, buffers, others = base.graph.nodes, base.graph.buffers, target.buffers
    tokens = [token for token in target.nodes if token in before and token in matching]
    old, new = list(map(before.__getitem__, tokens)), list(map(target.nodes.__getitem__, tokens))
    equal = list(map(eq, old, new))
    found = {
        token for token, node, same in zip(tokens, new, _strictly(old, new, equal), strict=True)
        if same and node[0] in _KINDS and _is_plain(node) and (token not in others or buffers.get(token) == others[token])
    }  # fmt: skip
    # how a tensor is restored depends on what becomes of its memory
    nodes = target.nodes
    return found - {token for token in found if nodes[token][0] in _VIEWS and not _rests(nodes[token][3][0], found)}


def disturbed(base: Base, target: Graph, kept: set[int], built: Mapping[int, Any], matching: Mapping[int, Any]) -> set[int]:
    """Those of the settled tokens that refer to what another object will stand for, or what may be several objects by now."""
    moved: set[Cell] = {
        (token,) for token in target.nodes
        if token not in kept and (token in base.several or built[token] is not matching.get(token, _NOTHING))
    }  # fmt: skip
    moved.update(base.graph.idrefs, target.idrefs)
    if not moved:
        return set()
    nodes = target.nodes
    return {token for token in kept if not moved.isdisjoint(_references(nodes[token]))}


_NOTHING = object()


def _rests(home: Cell, found: set[int]) -> bool:
    return home is None or home[0] in found


def _references(node: Node) -> Iterable[Cell]:
    cells = node[3] if node[1] is None else (node[1], *node[3])
    return cells if node[4] is None else (*cells, node[4][0], *node[4][2])


def _is_plain(node: Node) -> bool:
    if node[0] == "tensor":
        return node[2][_GRAD_FN] is None
    # a dict some of whose keys are not compared
    return node[0] != "dict" or type(node[2]) is not tuple


def _strictly(old: list[Node], new: list[Node], equal: list[bool]) -> list[bool]:
    """`1`, `1.0` and `True` are equal, and so are `0.0` and `-0.0`: compared as bytes, all that are equal at once if possible."""
    pairs = [(a, b) for a, b, same in zip(old, new, equal, strict=True) if same]
    if marshal.dumps([a for a, _ in pairs], 2) == marshal.dumps([b for _, b in pairs], 2):
        return equal
    return list(map(eq, map(marshal.dumps, old, repeat(2)), map(marshal.dumps, new, repeat(2))))
