"""How instances of a type are laid out: reached through type slots and descriptors, so that no user method runs."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

_class_dict: Callable[[type], Any] = type.__dict__["__dict__"].__get__
_class_mro: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
_flags: Callable[[type], int] = type.__dict__["__flags__"].__get__
_basicsize: Callable[[type], int] = type.__dict__["__basicsize__"].__get__
_itemsize: Callable[[type], int] = type.__dict__["__itemsize__"].__get__
_dictoffset: Callable[[type], int] = type.__dict__["__dictoffset__"].__get__
_weakrefoffset: Callable[[type], int] = type.__dict__["__weakrefoffset__"].__get__

_MANAGED_WEAKREF = 1 << 3 if sys.version_info >= (3, 12) else 0
_MANAGED_DICT = 1 << 4
_HEAP_TYPE = 1 << 9
_POINTER = 8
# by id: the value of a class attribute may be of a class that defines how it hashes
_PLACES = frozenset(map(id, (types.GetSetDescriptorType, types.MemberDescriptorType)))
_IN_C = frozenset(
    map(id, (types.WrapperDescriptorType, types.MethodDescriptorType, types.BuiltinMethodType, types.ClassMethodDescriptorType))
)


def class_dict(cls: type) -> Any:
    """The class's own namespace, past any metaclass."""
    return _class_dict(cls)


def mro(cls: type) -> tuple[type, ...]:
    """The class's method resolution order, past any metaclass."""
    return _class_mro(cls)


def derives(cls: type, base: type) -> bool:
    """Whether `cls` is `base` or a subclass of it, past any metaclass (`base in mro(cls)` and `isinstance` would ask the user's)."""
    return type.__subclasscheck__(base, cls)


def type_name(cls: type) -> str:
    """`module.qualname` of a class, past any metaclass."""
    return f"{module_of(cls)}.{type.__dict__['__qualname__'].__get__(cls)}"


def module_of(cls: type) -> str:
    """The module that a class says it belongs to, past any metaclass."""
    name = type.__dict__["__module__"].__get__(cls)
    return name if type(name) is str else "?"


def qualname_of(cls: type) -> str:
    """The qualified name of a class, past any metaclass."""
    name: str = type.__dict__["__qualname__"].__get__(cls)
    return name


class Layout:
    """Where a type's instances keep attributes, and how to make an instance without running user code."""

    __slots__ = ("cls", "dict_descriptor", "keeps_dict", "plain", "slots")

    def __init__(self, cls: type) -> None:
        self.cls = cls
        self.dict_descriptor: Any = None
        slots: list[tuple[str, Any]] = []
        seen: set[str] = set()
        for base in mro(cls):
            namespace = class_dict(base)
            found = namespace.get("__dict__")
            if self.dict_descriptor is None and id(type(found)) in _PLACES:
                self.dict_descriptor = found
            if "__slots__" not in namespace:
                continue
            for name, value in namespace.items():
                if type(value) is types.MemberDescriptorType and value.__objclass__ is base:
                    slots.append((name if name not in seen else f"{type_name(base)}.{name}", value))
                    seen.add(name)
        # an instance's dict may be read as a member of the C structure, and then not be exchanged for another
        self.keeps_dict = type(self.dict_descriptor) is types.MemberDescriptorType
        self.slots = tuple(slots)
        self.plain = self._is_plain()

    def _is_plain(self) -> bool:
        """Whether an instance holds nothing but its dict and slots (the test that `object.__reduce_ex__` makes)."""
        cls = self.cls
        if _itemsize(cls):
            return False
        size = _basicsize(object) + _POINTER * len(self.slots)
        if _dictoffset(cls) and not _flags(cls) & _MANAGED_DICT:
            size += _POINTER
        if _weakrefoffset(cls) and not _flags(cls) & _MANAGED_WEAKREF:
            size += _POINTER
        return _basicsize(cls) <= size

    def instance_dict(self, obj: object) -> dict[str, Any] | None:
        """The instance's `__dict__`, or None."""
        if self.dict_descriptor is None:
            return None
        found = self.dict_descriptor.__get__(obj)
        return found if type(found) is dict or derives(type(found), dict) else None

    def make(self, *args: Any) -> Any:
        """A bare instance from the nearest `__new__` that is written in C."""
        for base in mro(self.cls):
            new = class_dict(base).get("__new__")
            if type(new) is types.BuiltinMethodType:
                return new(self.cls, *args)
        return object.__new__(self.cls)


def has_python_method(cls: type, name: str) -> bool:
    """Whether looking up `name` on the class finds something that is not written in C."""
    for base in mro(cls):
        found = class_dict(base).get(name)
        if found is not None:
            return id(type(found)) not in _IN_C
    return False


def hash_runs_user_code(cls: type) -> bool:
    """Whether hashing an instance would run a method that somebody wrote (a dataclass's generated one is none)."""
    for base in mro(cls):
        found = class_dict(base).get("__hash__")
        if found is not None:
            if type(found) is types.FunctionType:
                code = found.__code__
                return not (code.co_filename == "<string>" or found.__module__ in _SAFE_HASH_MODULES)
            return type(found) is not types.WrapperDescriptorType
    return False


_SAFE_HASH_MODULES = frozenset(
    {"torch", "torch._tensor", "torch.nn.parameter", "enum", "fractions", "pathlib", "uuid", "datetime", "_pydatetime",
     "functools", "weakref", "_weakrefset", "collections", "ipaddress"}
)  # fmt: skip
