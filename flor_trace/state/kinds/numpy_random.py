"""NumPy's generators of random numbers. Apart from the arrays, for `numpy.random` is imported only when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import NotRestorable
from ..graph import Node
from . import Handler, Kind, Registry

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker


def freeze(value: Any) -> Any:
    """A state dict of plain values and arrays as nested tuples."""
    if isinstance(value, dict):
        return ("d", *((str(key), freeze(item)) for key, item in value.items()))
    if isinstance(value, np.ndarray):
        return ("a", value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, (np.integer, np.bool_)):
        return int(value)
    if isinstance(value, np.floating):
        return float(value)
    if isinstance(value, (tuple, list)):
        return ("t", *(freeze(item) for item in value))
    return value


def thaw(value: Any) -> Any:
    """What `freeze` was given."""
    if type(value) is not tuple:
        return value
    if value[0] == "d":
        return {key: thaw(item) for key, item in value[1:]}
    if value[0] == "a":
        return np.frombuffer(value[3], np.dtype(value[1])).reshape(value[2]).copy()
    return tuple(thaw(item) for item in value[1:])


def _emit_bits(w: Walker, obj: Any, token: int) -> Node:
    seeds = getattr(obj, "seed_seq", None)
    seed = None
    if isinstance(seeds, np.random.SeedSequence):
        seed = freeze(seeds.state)
    return ("bits", w.type_cell(type(obj)), (freeze(obj.state), seed), (), None)


class BitsKind(Kind):
    name = "bits"

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        cls = r.resolve(node[1])
        if node[2][1] is None:
            return cls(0)
        return cls(np.random.SeedSequence(**{k: _seed(v) for k, v in thaw(node[2][1]).items()}))

    def check(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        seeds = getattr(obj, "seed_seq", None)
        if isinstance(seeds, np.random.SeedSequence) and freeze(seeds.state) != node[2][1]:
            raise NotRestorable(r.path(token), "its seed sequence has spawned another number of children")

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        obj.state = thaw(node[2][0])


def _seed(value: Any) -> Any:
    return tuple(value) if isinstance(value, tuple) else value


def _emit_generator(w: Walker, obj: Any, token: int) -> Node:
    return ("np.generator", w.type_cell(type(obj)), None, (w.cell(obj.bit_generator),), None)


class GeneratorKind(Kind):
    name = "np.generator"
    construct = True

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        return live.bit_generator is r.resolve(node[3][0])

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return r.resolve(node[1])(r.resolve(node[3][0]))


def _emit_random_state(w: Walker, obj: Any, token: int) -> Node:
    return ("np.randomstate", w.type_cell(type(obj)), freeze(obj.get_state(legacy=False)), (), None)


class RandomStateKind(Kind):
    name = "np.randomstate"

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return r.resolve(node[1])(0)

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        obj.set_state(thaw(node[2]))


def register(reg: Registry) -> None:
    """Make these kinds known."""
    reg.base(np.random.BitGenerator, Handler(_emit_bits))
    reg.base(np.random.Generator, Handler(_emit_generator))
    reg.base(np.random.RandomState, Handler(_emit_random_state))
    for kind in (BitsKind(), GeneratorKind(), RandomStateKind()):
        reg.kind(kind)
