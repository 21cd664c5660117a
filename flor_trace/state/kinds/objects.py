"""Ordinary objects (a dict and slots), exceptions, and classes of the user's modules."""

from __future__ import annotations

import enum
import types
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ...errors import NotRestorable
from ..graph import Cell, Node
from ..layout import class_dict, derives, module_of, qualname_of, type_name
from . import Emit, Handler, Kind, Registry

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..scope import Ignore
    from ..walk import Walker

# Driven by the clock or the process's number, not by the program: neither compared nor restored.
_TQDM = frozenset(
    {"start_t", "last_print_t", "last_print_n", "_ema_dn", "_ema_dt", "_ema_miniters", "avg_time", "miniters",
     "dynamic_miniters", "pos", "sp", "_time", "ncols"}
)  # fmt: skip
VOLATILE = {
    "tqdm.std.tqdm": _TQDM,
    "fsspec.implementations.local.LocalFileSystem": frozenset({"_fs_token_"}),
}


def emit_object(w: Walker, obj: Any, token: int) -> Node:
    """An object of a dict and slots."""
    cls = type(obj)
    return ("object", w.type_cell(cls), None, (), w.attrs(obj, cls, keep_empty=True))


def emit_passing(volatile: frozenset[str]) -> Emit:
    """Emits objects without these attributes, which are neither compared nor restored."""

    def emit(w: Walker, obj: Any, token: int) -> Node:
        cls = type(obj)
        namespace = w.layout(cls).instance_dict(obj)
        if namespace is not None:
            w.volatile[id(namespace)] = volatile
        return ("object", w.type_cell(cls), None, (), w.attrs(obj, cls, keep_empty=True))

    return emit


# What a class works out from the rest when it is first asked (a sparse matrix of SciPy, whether its indices are sorted; a series of
# pandas, its block), as a hindsight statement may: not compared, and worked out again after a restore.
_DERIVED = {
    "scipy.sparse._compressed._cs_matrix": frozenset({"_has_canonical_format", "_has_sorted_indices"}),
    "pandas.core.internals.managers.SingleBlockManager": frozenset({"_cache"}),
}


def _emit_deriving(derived: frozenset[str]) -> Emit:
    def emit(w: Walker, obj: Any, token: int) -> Node:
        cls = type(obj)
        namespace = w.layout(cls).instance_dict(obj)
        if namespace is not None:
            w.volatile[id(namespace)] = derived
        return ("deriving object", w.type_cell(cls), tuple(sorted(derived)), (), w.attrs(obj, cls, keep_empty=True))

    return emit


def forget(r: Restorer, node: Node, derived: Iterable[str]) -> None:
    """Leave out of an object's dict what it had derived from what it held before."""
    if node[4] is not None and node[4][0] is not None:
        r.fill_early(node[4][0])
        namespace = r.resolve(node[4][0])
        for name in derived:
            namespace.pop(name, None)


class DerivingKind(Kind):
    name = "deriving object"
    late = True

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return r.layout(r.resolve(node[1])).make()

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        forget(r, node, node[2])


class ObjectKind(Kind):
    name = "object"

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return r.layout(r.resolve(node[1])).make()


_CAUSE = BaseException.__dict__["__cause__"]
_CONTEXT = BaseException.__dict__["__context__"]
_ARGS = BaseException.__dict__["args"]


def _emit_exception(w: Walker, obj: BaseException, token: int) -> Node:
    cells = [w.cell(_ARGS.__get__(obj))]
    cells.extend(w.cell(part.__get__(obj)) for part in (_CAUSE, _CONTEXT))
    return ("exception", w.type_cell(type(obj)), None, tuple(cells), w.attrs(obj, type(obj)))


class ExceptionKind(Kind):
    """Tracebacks hold frames and are not kept."""

    name = "exception"

    def deps(self, node: Node) -> tuple[Cell, ...]:
        return node[3][:1]

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        r.fill_early(node[3][0])  # a group of exceptions looks at its arguments
        try:
            return r.layout(r.resolve(node[1])).make(*r.resolve(node[3][0]))
        except (TypeError, ValueError) as error:
            raise NotRestorable(r.path(token), f"this exception cannot be made again ({error})") from error

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        for part, cell in zip((_ARGS, _CAUSE, _CONTEXT), node[3], strict=True):
            value = r.resolve(cell)
            if part.__get__(obj) is not value:
                part.__set__(obj, value)


def _class_atom(w: Walker, cls: type) -> Cell:
    module, qualname = module_of(cls), qualname_of(cls)
    return None if w.is_user(module) else w.by_name(cls, module, qualname)


_FIXED = frozenset(
    map(id, (types.GetSetDescriptorType, types.MemberDescriptorType, types.WrapperDescriptorType, types.MethodDescriptorType,
             types.ClassMethodDescriptorType))
)  # fmt: skip


def _parts(cls: type, user: bool, ignore: Ignore | None) -> tuple[list[Any], list[str], list[Any]]:
    """What hangs on a class for good (bases, methods), and the attributes that the program may set."""
    passed = ignore.classes.get((module_of(cls), qualname_of(cls)), set()) if ignore is not None else set()
    names: list[str] = []
    values: list[Any] = []
    fixed: list[Any] = [*type.__dict__["__bases__"].__get__(cls)]
    if not user:
        return fixed, names, values
    members = class_dict(cls).get("_member_map_", {}) if derives(type(cls), enum.EnumType) else {}
    fixed.extend(members.values())  # these may have attributes of their own
    for name, value in list(class_dict(cls).items()):
        kind = type(value)
        if name in passed:
            continue
        if id(kind) in _FIXED or name == "_abc_impl" or name in members or (members and name[0] == name[-1] == "_" != name[1:2]):
            continue
        if kind is staticmethod or kind is classmethod:
            fixed.append(value.__func__)
        elif kind is property:
            fixed.extend((value.fget, value.fset, value.fdel))
        elif name.startswith("__") and name.endswith("__"):
            if kind is types.FunctionType:
                fixed.append(value)
        else:
            names.append(name)
            values.append(value)
    return fixed, names, values


def _emit_class(w: Walker, cls: type, token: int) -> Node:
    fixed, names, values = _parts(cls, w.is_user(module_of(cls)), w.ignore)
    cells = tuple([w.cell(value) for value in values])
    meta = w.type_cell(type(cls)) if type(cls) is not type else None
    payload: tuple[Any, ...] = (module_of(cls), qualname_of(cls))
    made = w.registry.made.get(module_of(cls))
    if made is not None:
        payload = (*payload, made.parts(cls))
    return ("class", meta, payload, tuple([w.cell(part) for part in fixed]), (None, tuple(names), cells))


class ClassKind(Kind):
    name = "class"

    def deps(self, node: Node) -> Iterable[Cell]:
        return node[3] if len(node[2]) > 2 else ()

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        if len(node[2]) > 2 and (new := r.registry.made[node[2][0]].make([r.resolve(c) for c in node[3]], node[2][2])) is not None:
            return new
        known = r.by_name(node[2][0], node[2][1], type)
        if known is None:
            raise NotRestorable(r.path(token), f"the class {node[2][0]}.{node[2][1]} does not exist yet")
        # the class was there all the time, only not reachable: so were its methods
        assert node[4] is not None
        fixed, names, values = _parts(known, r.scope.user_modules(module_of(known)), r.ignore)
        here = dict(zip(names, values, strict=True))
        pairs = list(zip(node[3], fixed, strict=False)) if len(node[3]) == len(fixed) else []
        pairs.extend((cell, here.get(name)) for name, cell in zip(node[4][1], node[4][2], strict=True))
        for cell, value in pairs:
            r.stand_in(cell, value)
        return known

    def check(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        if (module_of(obj), qualname_of(obj)) != node[2][:2]:
            raise NotRestorable(r.path(token), f"the class here is {type_name(obj)}")

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        assert node[4] is not None
        if len(node[2]) > 2:
            r.registry.made[node[2][0]].change(obj, node[2][2])
        wanted = dict(zip(node[4][1], node[4][2], strict=True))
        before = r.live.graph.nodes.get(r.live_token(obj))
        present = set(before[4][1]) if before is not None and before[4] is not None else set()
        for name, cell in wanted.items():
            value = r.resolve(cell)
            if name not in present or class_dict(obj).get(name) is not value:
                type.__setattr__(obj, name, value)
        for name in present - set(wanted):
            type.__delattr__(obj, name)


def register(reg: Registry) -> None:
    """Make these kinds known."""
    reg.add(object, Handler(emit_object), subclasses=True)
    reg.compiled[emit_object] = "OBJECT"
    reg.base(BaseException, Handler(_emit_exception))
    reg.add(type, Handler(_emit_class, _class_atom, serial=True), subclasses=True)
    for name, volatile in VOLATILE.items():
        reg.named[name] = Handler(emit_passing(volatile))
    for name, derived in _DERIVED.items():
        reg.named[name] = Handler(_emit_deriving(derived))
    for kind in (ObjectKind(), DerivingKind(), ExceptionKind(), ClassKind()):
        reg.kind(kind)
