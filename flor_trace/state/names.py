"""References to library objects as values: by module and qualified name."""

from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Callable
from typing import Any

from ..errors import NotRestorable
from .layout import derives

_MISSING = object()
_namespace: Callable[[Any], dict[str, Any]] = types.ModuleType.__dict__["__dict__"].__get__  # type: ignore[index]
# Where replay leaves the functions of files as they are, and where it has put those that stand in for them: a name restored
# must lead to the latter, or the script's real files would be changed.
_PUBLIC = {"posix": "os", "_io": "io", "_sqlite3": "sqlite3"}


# Classes of the interpreter's own objects say that they live in `builtins`, where they have no name.
_UNNAMED = {cls.__qualname__: cls for cls in vars(types).values() if isinstance(cls, type) and cls.__module__ == "builtins"}


def lookup(module: str, qualname: str) -> Any:
    """The object that an imported module holds under a qualified name, or a private sentinel; runs no user code."""
    found: Any = sys.modules.get(module, _MISSING)
    for part in qualname.split("."):
        if found is _MISSING:
            return _MISSING
        if derives(type(found), type):
            for base in type.__dict__["__mro__"].__get__(found):
                inner = type.__dict__["__dict__"].__get__(base).get(part, _MISSING)
                if inner is not _MISSING:
                    break
            if derives(type(inner), staticmethod):
                inner = inner.__func__
        else:
            space = _namespace(found) if derives(type(found), types.ModuleType) else {}
            inner = space.get(part, _MISSING)
        found = inner
    if found is _MISSING and module == "builtins":
        return _UNNAMED.get(qualname, _MISSING)
    if type(found) is types.BuiltinFunctionType and module in _PUBLIC:
        stand_in = getattr(sys.modules.get(_PUBLIC[module]), "__dict__", {}).get(qualname)
        if getattr(stand_in, "__wrapped__", None) is found:
            return stand_in
    return found


def find(module: str, qualname: str) -> Any:
    """The object of that name, its module imported if need be; NotRestorable where it is gone."""
    if module not in sys.modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise NotRestorable(f"{module}.{qualname}", f"its module cannot be imported ({error})") from error
    found = lookup(module, qualname)
    if found is _MISSING:
        try:
            found = importlib.import_module(module)
            for part in qualname.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError) as error:
            raise NotRestorable(f"{module}.{qualname}", "no object of this name is found") from error
    return found


_STREAMS = ("stdout", "stderr", "stdin", "__stdout__", "__stderr__", "__stdin__", "flags", "version_info", "modules")


def singletons() -> dict[int, tuple[str, str]]:
    """Well-known single objects, by id: a reference to one is written as its name."""
    table: dict[int, tuple[str, str]] = {}
    for name in reversed(_STREAMS):
        obj = getattr(sys, name, None)
        if obj is not None:
            table[id(obj)] = ("singleton", f"sys.{name}")
    for name in ("stdout", "stderr"):
        # What stands in for a stream's `write` (see runtime.output), which a progress bar keeps.
        stand_in = getattr(getattr(sys, name, None), "__dict__", {}).get("write")
        if stand_in is not None:
            table[id(stand_in)] = ("singleton", f"sys.{name}.write")
    table[id(os.environ)] = ("singleton", "os.environ")
    table[id(Ellipsis)] = ("singleton", "builtins.Ellipsis")
    table[id(NotImplemented)] = ("singleton", "builtins.NotImplemented")
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "default_generator"):
        table[id(torch.default_generator)] = ("singleton", "torch.default_generator")
    # the compiler's own account: what replay compiles again is counted again
    counters = getattr(sys.modules.get("torch._dynamo.utils"), "counters", None)
    if counters is not None:
        table[id(counters)] = ("singleton", "torch._dynamo.utils.counters")
    return table


def singleton(name: str) -> Any:
    """The object that `singletons` wrote down under this name."""
    module, _, attribute = name.partition(".")
    return find(module, attribute)
