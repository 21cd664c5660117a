"""Small immutable values of the standard library, weak references, and generators of random numbers."""

from __future__ import annotations

import datetime
import decimal
import fractions
import pathlib
import pickle
import random
import re
import uuid
import weakref
from typing import TYPE_CHECKING, Any

from ..graph import Cell, Node
from ..layout import type_name
from . import Handler, Kind, Registry
from .objects import emit_object

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker

_PICKLED: tuple[type, ...] = (
    datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone, decimal.Decimal,
    fractions.Fraction, pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath,
    uuid.UUID, re.Pattern,
)  # fmt: skip


def _pickled(w: Walker, obj: Any) -> Cell:
    # The rendering is compared, the pickle restored: a path's pickle differs with its cached parts' identity.
    return ("pickle", type_name(type(obj)), repr(obj), pickle.dumps(obj, 4))


_CALLBACK: Any = weakref.ref.__dict__["__callback__"]


class WeakRefKind(Kind):
    name = "weakref"
    construct = True

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        return weakref.ref.__call__(live) is r.resolve(node[3][0]) and _CALLBACK.__get__(live) is r.resolve(node[3][1])

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        target, callback = r.resolve(node[3][0]), r.resolve(node[3][1])
        cls = r.type_of(node, weakref.ref)
        # Subclasses have constructors of their own (`WeakMethod` takes a bound method); their attributes are restored after.
        make = weakref.ref.__new__
        if target is None:
            return make(cls, _Dead())
        return make(cls, target, callback) if callback is not None else make(cls, target)


class _Dead:
    """Its only instance is gone at once, which makes a reference to it a dead one."""


def _emit_weakref(w: Walker, obj: Any, token: int) -> Node:
    cls = type(obj)
    target = weakref.ref.__call__(obj)
    return (
        "weakref", None if cls is weakref.ref else w.type_cell(cls), None,
        (w.cell(target), w.cell(_CALLBACK.__get__(obj))), None if cls is weakref.ref else w.attrs(obj, cls),
    )  # fmt: skip


_GUARDED = ("weakref.WeakKeyDictionary", "weakref.WeakValueDictionary", "_weakrefset.WeakSet")


def _emit_guarded(w: Walker, obj: Any, token: int) -> Node:
    """A weak container. While it is iterated over it holds a guard in a set, and even when that is gone the set's table tells
    that it was there: a hindsight statement that looks at the container would seem to have changed it."""
    namespace = w.layout(type(obj)).instance_dict(obj)
    guards = namespace.get("_iterating") if namespace is not None else None
    if type(guards) is set and not guards:
        guards.clear()
    return emit_object(w, obj, token)


_core: Any = random.Random.__mro__[1]


def _emit_random(w: Walker, obj: random.Random, token: int) -> Node:
    cls = type(obj)
    return ("random", w.type_cell(cls), _core.getstate(obj), (), w.attrs(obj, cls, keep_empty=True))


class RandomKind(Kind):
    name = "random"

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return _core.__new__(r.resolve(node[1]))

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        _core.setstate(obj, node[2])


def register(reg: Registry) -> None:
    """Make these kinds known."""
    for cls in _PICKLED:
        reg.add(cls, Handler(None, _pickled))
    reg.decoders["pickle"] = lambda cell: pickle.loads(cell[3])
    reg.add(weakref.ref, Handler(_emit_weakref), subclasses=True)
    for name in _GUARDED:
        reg.named[name] = Handler(_emit_guarded)
    reg.add(random.Random, Handler(_emit_random), subclasses=True)
    reg.kind(WeakRefKind())
    reg.kind(RandomKind())
