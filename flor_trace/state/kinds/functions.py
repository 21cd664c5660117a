"""Functions with their defaults and closures, cells, bound methods, partials, and C callables by name."""

from __future__ import annotations

import functools
import sys
import types
from typing import TYPE_CHECKING, Any

from ...errors import NotRestorable
from ..graph import UNSET, Cell, Node
from ..layout import class_dict, derives, module_of, mro, qualname_of
from ..names import find
from ..scope import SKIPPED_NAMES
from . import Handler, Kind, Registry
from .containers import all_identical

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..walk import Walker

_DEFAULTS = types.FunctionType.__dict__["__defaults__"]
_KWDEFAULTS = types.FunctionType.__dict__["__kwdefaults__"]


def _function_atom(w: Walker, obj: types.FunctionType) -> Cell:
    """A library's function is a value if its name leads to it; closures made by libraries are nodes."""
    if w.is_user(obj.__globals__.get("__name__")) or w.is_user(obj.__module__):
        return None
    return w.by_name(obj, obj.__module__, obj.__qualname__)


def _emit_function(w: Walker, obj: types.FunctionType, token: int) -> Node:
    code = obj.__code__
    space = obj.__globals__
    module = space.get("__name__")
    own = None
    loaded = sys.modules.get(module) if type(module) is str else None
    if id(space) not in w.root_dicts and w.is_user(module) and (loaded is None or space is not loaded.__dict__):
        w.volatile[id(space)] = SKIPPED_NAMES  # a namespace given to exec: no module's, so no root
        own = w.cell(space)
    cells = [w.cell(_DEFAULTS.__get__(obj)), w.cell(_KWDEFAULTS.__get__(obj)), own]
    cells.extend([w.cell(cell) for cell in obj.__closure__ or ()])
    payload = (
        module if type(module) is str else None, code.co_qualname, obj.__name__, code.co_freevars,
        (code.co_argcount, code.co_kwonlyargcount, code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]), *_told(obj),
    )  # fmt: skip
    return ("function", None, payload, tuple(cells), w.attrs(obj, types.FunctionType))


_HAS_DOC = 0x4000000  # a flag of code objects from 3.13 on; before, the first constant is the docstring if it is a string


def _own(obj: types.FunctionType) -> tuple[str, str | None, Any]:
    """The qualified name, docstring and module with which a function begins."""
    code = obj.__code__
    doc = code.co_consts[0] if code.co_consts and (sys.version_info < (3, 13) or code.co_flags & _HAS_DOC) else None
    return code.co_qualname, doc if type(doc) is str else None, obj.__globals__.get("__name__")


def _told(obj: types.FunctionType) -> tuple[tuple[Any, ...], ...]:
    """The same, where it has been told otherwise (by `functools.wraps`)."""
    told = (obj.__qualname__, obj.__doc__, obj.__module__)
    if not all(type(part) is str or part is None for part in told):
        return ()  # an object of the script's, which is not to be asked for equality
    return () if told == _own(obj) else (told,)


class FunctionKind(Kind):
    name = "function"

    def deps(self, node: Node) -> tuple[Cell, ...]:
        return node[3][2:]

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        if live.__code__.co_qualname != node[2][1]:
            return False
        mine = dict(zip(node[2][3], (r.resolve(cell) for cell in node[3][3:]), strict=True))
        theirs = dict(zip(live.__code__.co_freevars, live.__closure__ or (), strict=True))
        if mine.keys() != theirs.keys() and node[2][0] not in r.ignore.edited:
            return False
        common = mine.keys() & theirs.keys()
        return all_identical([mine[name] for name in common], [theirs[name] for name in common])

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        module, qualname, name, freevars, signature = node[2][:5]
        known = r.by_name(module, qualname, types.FunctionType)
        if known is not None and known.__code__.co_freevars == freevars == ():
            return known
        code = r.code(token, qualname, freevars, signature, module in r.ignore.edited, module)
        space = r.resolve(node[3][2]) if node[3][2] is not None else r.namespace(token, module)
        cells = dict(zip(freevars, (r.resolve(cell) for cell in node[3][3:]), strict=True))
        closure = tuple(cells[n] if n in cells else r.new_free_variable(token, code, n, cells) for n in code.co_freevars)
        return types.FunctionType(code, space, name, None, closure)

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        if obj.__name__ != node[2][2]:
            obj.__name__ = node[2][2]
        if _told(obj) != node[2][5:]:
            obj.__qualname__, obj.__doc__, obj.__module__ = node[2][5] if node[2][5:] else _own(obj)
        for part, cell in ((_DEFAULTS, node[3][0]), (_KWDEFAULTS, node[3][1])):
            value = r.resolve(cell)
            if part.__get__(obj) is not value:
                part.__set__(obj, value)


_CONTENTS = types.CellType.__dict__["cell_contents"]


def _emit_cell(w: Walker, obj: types.CellType, token: int) -> Node:
    try:
        value = _CONTENTS.__get__(obj)
    except ValueError:
        return ("cell", None, None, (UNSET,), None)
    return ("cell", None, None, (w.cell(value),), None)


class CellKind(Kind):
    name = "cell"

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return types.CellType()

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        if node[3][0] == UNSET:
            _CONTENTS.__delete__(obj)
        else:
            _CONTENTS.__set__(obj, r.resolve(node[3][0]))


def _emit_method(w: Walker, obj: types.MethodType, token: int) -> Node:
    return ("method", None, None, (w.cell(obj.__func__), w.cell(obj.__self__)), None)


class MethodKind(Kind):
    name = "method"
    construct = True
    value = True

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        return live.__func__ is r.resolve(node[3][0]) and live.__self__ is r.resolve(node[3][1])

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return types.MethodType(r.resolve(node[3][0]), r.resolve(node[3][1]))


def _builtin_atom(w: Walker, obj: Any) -> Cell:
    owner = obj.__self__
    if owner is None or type(owner) is types.ModuleType:
        module = owner.__name__ if owner is not None else obj.__module__
        return w.by_name(obj, module, obj.__name__) or w.by_name(obj, obj.__module__, obj.__qualname__)
    # functions of modules made with pybind11 are bound to a record that says nothing
    return w.by_name(obj, obj.__module__, obj.__name__) if module_of(type(owner)).startswith("pybind11_") else None


def _emit_builtin(w: Walker, obj: Any, token: int) -> Node:
    return ("builtin", None, (obj.__name__, obj.__module__), (w.cell(obj.__self__),), None)


class BuiltinKind(Kind):
    name = "builtin"
    construct = True
    value = True

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        return live.__self__ is r.resolve(node[3][0]) and live.__name__ == node[2][0]

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        owner, name = r.resolve(node[3][0]), node[2][0]
        if owner is None:
            return find(node[2][1], name)
        if derives(type(owner), type) and name in class_dict(owner):
            return type.__getattribute__(owner, name)
        for base in mro(type(owner)):
            found = class_dict(base).get(name)
            if type(found) is types.MethodDescriptorType or type(found) is types.WrapperDescriptorType:
                return getattr(found, "__get__")(owner)  # noqa: B009 - typed as possibly absent
        raise NotRestorable(r.path(token), f"the bound method {name} cannot be found again")


def _descriptor_atom(w: Walker, obj: Any) -> Cell:
    owner = obj.__objclass__
    if w.by_name(owner, module_of(owner), qualname_of(owner)) is None:
        return None
    return ("descriptor", module_of(owner), qualname_of(owner), obj.__name__)


def _emit_partial(w: Walker, obj: functools.partial[Any], token: int) -> Node:
    reduce: Any = functools.partial.__reduce__
    func, args, keywords, _ = reduce(obj)[2]
    return (
        "partial", w.type_cell(type(obj)), None, (w.cell(func), w.cell(args), w.cell(keywords)),
        w.attrs(obj, type(obj)),
    )  # fmt: skip


class PartialKind(Kind):
    """A partial's keywords are a dict that it shares with nobody: content, not identity, is kept."""

    name = "partial"

    def deps(self, node: Node) -> tuple[Cell, ...]:
        return (node[3][0],)

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        return functools.partial.__new__(r.resolve(node[1]), r.resolve(node[3][0]))

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        func, args, keywords = (r.resolve(cell) for cell in node[3])
        layout = r.layout(type(obj))
        state = (func, args, keywords, layout.instance_dict(obj))
        functools.partial.__setstate__(obj, state)  # type: ignore[attr-defined]


def register(reg: Registry) -> None:
    """Make these kinds known."""
    reg.add(types.FunctionType, Handler(_emit_function, _function_atom, serial=True))
    reg.add(types.CellType, Handler(_emit_cell))
    reg.add(types.MethodType, Handler(_emit_method))
    reg.add(types.BuiltinFunctionType, Handler(_emit_builtin, _builtin_atom))
    reg.add(types.MethodWrapperType, Handler(_emit_wrapper))
    reg.add(functools.partial, Handler(_emit_partial), subclasses=True)
    for cls in (types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType,
                types.GetSetDescriptorType, types.MemberDescriptorType):  # fmt: skip
        reg.add(cls, Handler(reg_opaque, _descriptor_atom, serial=True))
    reg.decoders["descriptor"] = lambda cell: find(cell[1], cell[2]).__dict__[cell[3]]
    for kind in (FunctionKind(), CellKind(), MethodKind(), BuiltinKind(), PartialKind()):
        reg.kind(kind)


def _emit_wrapper(w: Walker, obj: Any, token: int) -> Node:
    return ("builtin", None, (obj.__name__, None), (w.cell(obj.__self__),), None)


def reg_opaque(w: Walker, obj: Any, token: int) -> Node:
    """A descriptor of a class that has no name to find it by."""
    return ("opaque", None, (f"descriptor {obj.__name__}", None), (), None)
