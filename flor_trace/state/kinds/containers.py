"""Lists, tuples, dicts, sets, deques, and their subclasses."""

from __future__ import annotations

import marshal
import sys
import types
from collections import OrderedDict, defaultdict, deque
from itertools import chain
from typing import TYPE_CHECKING, Any

from ...errors import NotRestorable
from ..bulk import BULK
from ..graph import Node
from ..layout import derives, hash_runs_user_code
from ..setlayout import layout_of
from ..setorder import arrange, follow, rebuild, recipe
from . import Handler, Kind, Registry

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker

_BULK = ("bulk",)


def ends(w: Walker, obj: Any, plain: type) -> tuple[Any, Any]:
    """The type cell and attributes of an instance of a subclass of `plain`; none for `plain` itself."""
    cls = type(obj)
    if cls is plain:
        return None, None
    return w.type_cell(cls), w.attrs(obj, cls)


def _emit_list(w: Walker, obj: list[Any], token: int) -> Node:
    if type(obj) is list:
        if len(obj) > BULK and w.bulk(obj, token):
            return ("list", None, _BULK, (), None)
        cell = w.cell
        return ("list", None, None, tuple([cell(item) for item in obj]), None)
    cls, attrs = ends(w, obj, list)
    return ("list", cls, None, tuple([w.cell(item) for item in list.__iter__(obj)]), attrs)


def _emit_tuple(w: Walker, obj: tuple[Any, ...], token: int) -> Node:
    if type(obj) is tuple:
        if len(obj) > BULK and w.bulk(obj, token):
            return ("tuple", None, _BULK, (), None)
        cell = w.cell
        return ("tuple", None, None, tuple([cell(item) for item in obj]), None)
    cls, attrs = ends(w, obj, tuple)
    return ("tuple", cls, None, tuple([w.cell(item) for item in tuple.__iter__(obj)]), attrs)


_ordered: Any = OrderedDict


def _items(obj: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """The items, whatever a subclass says of them."""
    return list((_ordered if derives(type(obj), OrderedDict) else dict).items(obj))


def _emit_dict(w: Walker, obj: dict[Any, Any], token: int) -> Node:
    cell = w.cell
    if type(obj) is dict:
        items = list(obj.items())
        if len(items) > BULK and w.bulk(obj, token):
            return ("dict", None, _BULK, (), None)
        cls = attrs = None
        skip = w.volatile.get(token)
        if skip:
            items = [item for item in items if item[0] not in skip]
            cells = [cell(x) for item in items for x in item]
            return ("dict", None, ("volatile", *sorted(skip)), tuple(cells), None)
    else:
        items = _items(obj)
        cls, attrs = ends(w, obj, dict)
    cells = []
    for key, value in items:
        cells.append(key if type(key) is str and len(key) < 64 else cell(key))
        cells.append(cell(value))
    return ("dict", cls, None, tuple(cells), attrs)


_factory = defaultdict.__dict__["default_factory"]


def _emit_defaultdict(w: Walker, obj: defaultdict[Any, Any], token: int) -> Node:
    _, cls, payload, cells, attrs = _emit_dict(w, obj, token)
    return ("defaultdict", cls, payload, (w.cell(_factory.__get__(obj)), *cells), attrs)


def _emit_set(w: Walker, obj: Any, token: int) -> Node:
    plain: Any = set if derives(type(obj), set) else frozenset
    cls, attrs = ends(w, obj, plain)
    items = list(plain.__iter__(obj))
    layout = layout_of(obj) if plain is set and _steady(items) else None
    return (plain.__name__, cls, layout, tuple([w.cell(item) for item in items]), attrs)


# None hashes by its address before Python 3.12.
_STEADY = (str, int, bytes, float, bool, complex, *((type(None),) if sys.version_info >= (3, 12) else ()))
_STEADY_IDS = frozenset(map(id, _STEADY))  # classes are not hashed, which a metaclass may have its own way of


def _steady(items: list[Any]) -> bool:
    """Whether the hashes of these are the same in every process with the same hash seed."""
    todo = items
    while todo:
        kinds = set(map(id, map(type, todo)))
        nested = [item for item in todo if type(item) is tuple] if id(tuple) in kinds else []
        if not kinds <= _STEADY_IDS | {id(tuple)}:
            return False
        if id(float) in kinds and any(item != item for item in todo if type(item) is float):
            return False  # what is not a number hashes by its address
        todo = list(chain.from_iterable(nested))
    return True


def _emit_deque(w: Walker, obj: deque[Any], token: int) -> Node:
    cls, attrs = ends(w, obj, deque)
    maxlen = deque.__dict__["maxlen"].__get__(obj)
    return ("deque", cls, maxlen, tuple([w.cell(item) for item in list(deque.__iter__(obj))]), attrs)


def identical(a: Any, b: Any) -> bool:
    """Whether two references may stand for each other: the same object, or equal atoms."""
    if a is b:
        return True
    cls = type(a)
    if cls is not type(b):
        return False
    if cls is float or cls is complex:
        return marshal.dumps(a, 2) == marshal.dumps(b, 2)
    return (cls is int or cls is str or cls is bytes or cls is bool) and bool(a == b)


def all_identical(a: Any, b: Any) -> bool:
    """`identical` over two sequences."""
    return len(a) == len(b) and all(map(identical, a, b))


class _Bulky(Kind):
    def elements(self, r: Restorer, token: int, node: Node) -> Any:
        """The elements as objects, in order."""
        if node[2] == _BULK:
            return marshal.loads(r.blob(token))
        return [r.resolve(cell) for cell in node[3]]


class ListKind(_Bulky):
    name = "list"

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        cls = r.type_of(node, list)
        return [] if cls is list else list.__new__(cls)

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        if node[2] == _BULK and r.unchanged(token):
            return
        items = self.elements(r, token, node)
        if not all_identical(items, list(list.__iter__(obj))):
            list.__setitem__(obj, slice(None), items)


class TupleKind(_Bulky):
    name = "tuple"
    construct = True
    value = True

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        if node[2] == _BULK:
            return r.unchanged(token)
        return all_identical(self.elements(r, token, node), list(tuple.__iter__(live)))

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        cls = r.type_of(node, tuple)
        items = tuple(self.elements(r, token, node))
        return items if cls is tuple else r.layout(cls).make(items)


def needs_hash(value: Any) -> bool:
    """Whether hashing `value` would run user code."""
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) is tuple or type(item) is frozenset:
            stack.extend(item)
        elif hash_runs_user_code(type(item)):
            return True
    return False


class DictKind(_Bulky):
    name = "dict"
    hashes = True
    offset = 0

    def items(self, r: Restorer, token: int, node: Node) -> list[tuple[Any, Any]]:
        if node[2] == _BULK:
            return list(marshal.loads(r.blob(token)).items())
        cells = node[3][self.offset :]
        return [(r.resolve(cells[i]), r.resolve(cells[i + 1])) for i in range(0, len(cells), 2)]

    def present(self, obj: Any, node: Node) -> list[tuple[Any, Any]]:
        items = _items(obj)
        if node[2] and node[2][0] == "volatile":
            return [item for item in items if item[0] not in node[2]]
        return items

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        cls = r.type_of(node, dict)
        return {} if cls is dict else r.layout(cls).make()

    def check(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        if node[2] == _BULK:
            return
        keys = [r.resolve(cell) for cell in node[3][self.offset :: 2]]
        if all(id(type(key)) in _QUICK for key in keys):
            return
        if not all_identical(keys, [key for key, _ in self.present(obj, node)]):
            for key in keys:
                if needs_hash(key):
                    raise NotRestorable(r.path(token), f"hashing its key of {type(key)} would run user code")

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        if node[2] == _BULK and r.unchanged(token):
            return
        items, present = self.items(r, token, node), self.present(obj, node)
        base: Any = OrderedDict if derives(type(obj), OrderedDict) else dict
        if all_identical([key for key, _ in items], [key for key, _ in present]):
            for (key, value), (_, old) in zip(items, present, strict=True):
                if not identical(value, old):
                    base.__setitem__(obj, key, value)
            return
        kept = {}
        if node[2] and node[2][0] == "volatile":
            kept = {key: value for key, value in obj.items() if key in node[2]}
        base.clear(obj)
        for key, value in items:
            base.__setitem__(obj, key, value)
        dict.update(obj, kept)


_QUICK = frozenset(map(id, (str, int, float, bool, bytes, type(None), complex)))


class DefaultDictKind(DictKind):
    name = "defaultdict"
    offset = 1

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return defaultdict.__new__(r.type_of(node, defaultdict))

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        _factory.__set__(obj, r.resolve(node[3][0]))
        super().fill(r, obj, token, node)


class SetKind(Kind):
    name = "set"
    hashes = True

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return set.__new__(r.type_of(node, set))

    def check(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        items = [r.resolve(cell) for cell in node[3]]
        if _as_recorded(obj, items, node):
            return
        if any(needs_hash(item) for item in items):
            raise NotRestorable(r.path(token), "hashing its elements would run user code")
        if node[2] is not None:
            found = rebuild(set(), items, node[2])
        else:
            # objects cannot be hashed yet: they may be empty still
            found = any(type(cell) is tuple for cell in node[3]) or recipe(items) is not None
        if not found:
            raise NotRestorable(r.path(token), _NO_ORDER)

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        items = [r.resolve(cell) for cell in node[3]]
        if _as_recorded(obj, items, node) or (node[2] is not None and rebuild(obj, items, node[2])):
            return
        # objects that are only now complete may hash otherwise than when the plan was made
        plan = recipe(items)
        if plan is None:
            r.notes.append(f"{r.path(token)}: the set holds objects ordered by address; its order differs")
        follow(obj, plan or (items, []))


_NO_ORDER = "the set's order of iteration cannot be had again"


def _as_recorded(live: set[Any], items: list[Any], node: Node) -> bool:
    """Whether a set holds just these, in this order and, where that is known, in the recorded slots."""
    return all_identical(items, list(set.__iter__(live))) and (node[2] is None or layout_of(live) == node[2])


class FrozenSetKind(Kind):
    name = "frozenset"
    construct = True
    value = True

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        return all_identical([r.resolve(cell) for cell in node[3]], list(frozenset.__iter__(live)))

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        items = [r.resolve(cell) for cell in node[3]]
        if any(needs_hash(item) for item in items):
            raise NotRestorable(r.path(token), "hashing its elements would run user code")
        cls = r.type_of(node, frozenset)
        order = arrange(items)
        if order is not None:
            return frozenset.__new__(cls, order)
        plan = recipe(items)
        if plan is None and all(type(cell) is not tuple for cell in node[3]):
            raise NotRestorable(r.path(token), _NO_ORDER)
        # a frozenset made from a set takes its table over, but not the gaps: verified like any other
        best: set[Any] = set()
        follow(best, plan or (items, []))
        made = frozenset.__new__(cls, best)
        if plan is not None and not all_identical(list(frozenset.__iter__(made)), items):
            raise NotRestorable(r.path(token), _NO_ORDER)
        return made


class DequeKind(Kind):
    name = "deque"

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        return bool(deque.__dict__["maxlen"].__get__(live) == node[2])

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        made = deque.__new__(r.type_of(node, deque))
        deque.__init__(made, (), node[2])
        return made

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        items = [r.resolve(cell) for cell in node[3]]
        if not all_identical(items, list(deque.__iter__(obj))):
            deque.clear(obj)
            deque.extend(obj, items)


def _mapping_proxy(w: Walker, obj: Any, token: int) -> Node:
    import gc

    return ("proxy", None, None, tuple(w.cell(inner) for inner in gc.get_referents(obj)), None)


class ProxyKind(Kind):
    name = "proxy"
    construct = True
    value = True

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return types.MappingProxyType(r.resolve(node[3][0]))


def register(reg: Registry) -> None:
    """Make these kinds known."""
    emits: list[tuple[type, Any]] = [
        (list, _emit_list), (tuple, _emit_tuple), (dict, _emit_dict), (set, _emit_set), (frozenset, _emit_set),
        (deque, _emit_deque), (defaultdict, _emit_defaultdict),
    ]  # fmt: skip
    for cls, emit in emits:
        reg.add(cls, Handler(emit), subclasses=True)
    reg.compiled |= {_emit_list: "LIST", _emit_tuple: "TUPLE", _emit_dict: "DICT"}
    reg.add(types.MappingProxyType, Handler(_mapping_proxy))
    for kind in (
        ListKind(), TupleKind(), DictKind(), DefaultDictKind(), SetKind(), FrozenSetKind(), DequeKind(),
        ProxyKind(),
    ):  # fmt: skip
        reg.kind(kind)
