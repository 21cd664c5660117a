"""The import hook: asks the other finders, and has user modules' code compiled with probes.

Only `get_code` of the loader that they found is overridden, and on that very object, so its type, `repr`, `get_source`,
`get_data` and resource readers are those of plain Python, ordinary `__pycache__` files are read and written as always, and
whatever plain Python would complain about is complained of by it.
"""

from __future__ import annotations

import sys
from _thread import get_ident
from importlib.machinery import SourceFileLoader
from types import CodeType, FunctionType, ModuleType
from zipimport import zipimporter

from .compiling import Compiler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from typing import Any, TypeVar

    _F = TypeVar("_F", bound=Callable[..., Any])

_IMPORTLIB = "<frozen importlib._bootstrap_external>"
_WATCHED = "_watched_exec_module.<locals>.exec_module"
DISGUISED = frozenset({"Importer.find_spec", "Importer._ask", "_GetCode.__call__", _WATCHED})
"""Qualified names of our functions that pass for importlib's."""


def _as_importlib(function: _F) -> _F:
    """The interpreter cuts importlib's frames out of the tracebacks of failed imports, told by this file name."""
    assert isinstance(function, FunctionType)
    function.__code__ = function.__code__.replace(co_filename=_IMPORTLIB)
    assert function.__code__.co_qualname in DISGUISED
    return function


class Importer:
    """A meta-path finder that finds nothing itself."""

    def __init__(self, compiler: Compiler) -> None:
        self._compiler = compiler
        self._callbacks: dict[str, list[Callable[[], None]]] = {}
        self._earlier: dict[str, list[Callable[[], None]]] = {}
        self._main: str | None = None
        self._asking: set[tuple[int, str]] = set()

    def install(self) -> None:
        """Stand before all other finders."""
        sys.meta_path.insert(0, self)

    def remove(self) -> None:
        """Let all further imports be plain."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def on_import(self, name: str, callback: Callable[[], None]) -> None:
        """Run `callback` right after the module `name` has been executed; at once if it has been already.

        To be called before an import of the module begins, or after it has ended.
        """
        if name in sys.modules:
            callback()
        else:
            self._callbacks.setdefault(name, []).append(callback)

    def before_import(self, name: str, callback: Callable[[], None]) -> None:
        """Run `callback` right before the module `name` is executed; never if it has been already."""
        self._earlier.setdefault(name, []).append(callback)

    def expect_main(self, name: str) -> None:
        """The next time that the code of module `name` is asked for, it is to run as `__main__`."""
        self._main = name

    @_as_importlib
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Ask the other finders; see to the loader they give."""
        question = (get_ident(), fullname)
        if question in self._asking:
            return None  # by a finder that asks all the others too, us included
        self._asking.add(question)
        try:
            spec = self._ask(fullname, path, target)
        finally:
            self._asking.discard(question)
        if spec is not None:
            if spec.has_location:
                self._adopt(spec)
            if fullname in self._callbacks or fullname in self._earlier:
                self._call_around(spec)
        return spec

    @_as_importlib
    def _ask(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec: ModuleSpec | None = find(fullname, path, target)
            if spec is not None:
                return spec
        return None

    def _adopt(self, spec: ModuleSpec) -> None:
        loader: Any = spec.loader
        origin = spec.origin
        if type(loader) not in (SourceFileLoader, zipimporter) or "get_code" in vars(loader) or origin is None:
            return
        # one importer serves a whole archive, so there `code` decides, module by module
        if type(loader) is zipimporter or self._compiler.policy.instruments(spec.name, origin):
            loader.get_code = _GetCode(self, loader)

    def compile_main(self, filename: str, source: bytes, plain: CodeType) -> CodeType:
        """The instrumented code of the script itself, which is the user's wherever it lies."""
        return self._compiler.compile(filename, source, "__main__", plain)

    def code(self, loader: Any, fullname: str, plain: CodeType | None) -> CodeType | None:
        """The instrumented code of a module whose plain code the loader gave."""
        filename: str = loader.get_filename(fullname)
        if plain is None or not filename.endswith(".py") or not self._compiler.policy.instruments(fullname, filename):
            return plain
        name = fullname
        if self._main == fullname:
            self._main, name = None, "__main__"
        return self._compiler.compile(plain.co_filename, loader.get_data(filename), name, plain)

    def _call_around(self, spec: ModuleSpec) -> None:
        loader: Any = spec.loader
        if isinstance(loader, type):  # built-in and frozen modules share one loader class
            raise ValueError(f"on_import cannot watch the built-in module {spec.name}")
        if getattr(vars(loader).get("exec_module"), "__qualname__", None) == _WATCHED:  # by a finder that gives a loader twice
            return
        # taken only when the module is executed, for `importlib.util.find_spec` asks without importing
        loader.exec_module = _watched_exec_module(
            loader, lambda: self._earlier.pop(spec.name, []), lambda: self._callbacks.pop(spec.name, [])
        )


class _GetCode:
    """Stands for a loader's `get_code`. Does not keep loaders from being compared, copied and pickled as they can be."""

    __slots__ = ("_importer", "_loader", "_plain")

    def __init__(self, importer: Importer, loader: Any) -> None:
        self._importer = importer
        self._loader = loader
        self._plain = loader.get_code

    @_as_importlib
    def __call__(self, fullname: str) -> CodeType | None:
        return self._importer.code(self._loader, fullname, self._plain(fullname))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _GetCode)

    def __hash__(self) -> int:
        return hash(_GetCode)

    def __deepcopy__(self, memo: object) -> _GetCode:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        from copy import copy  # needed hardly ever

        plain = copy(self._loader)
        del plain.get_code
        return getattr, (plain, "get_code")


def _watched_exec_module(
    loader: Any, take_earlier: Callable[[], list[Callable[[], None]]], take_callbacks: Callable[[], list[Callable[[], None]]]
) -> Callable[[ModuleType], None]:
    plain_exec_module = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        del loader.exec_module
        for callback in take_earlier():
            callback()
        plain_exec_module(module)
        for callback in take_callbacks():
            callback()

    return _as_importlib(exec_module)
