"""The kinds of objects: how each is walked, compared and built.

Every module here registers its kinds; those for torch and NumPy do so only once the library has been imported.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ...errors import NotRestorable
from ..graph import Cell, Node

if TYPE_CHECKING:
    from ..restore import Restorer
    from ..scope import Scope
    from ..walk import Walker

Emit = Callable[["Walker", Any, int], Node]
Atom = Callable[["Walker", Any], Cell]


@dataclass(frozen=True, slots=True, eq=False)
class Handler:
    """What the walk does with instances of one type.

    `atom` writes the object as a value, or returns None for one that must be a node; `serial` asks for a token
    that is not an address.
    """

    emit: Emit | None
    atom: Atom | None = None
    serial: bool = False


class Kind:
    """How nodes of one kind are restored. `construct`: the object is immutable and needs its parts first."""

    name = ""
    construct = False
    value = False  # identity carries no meaning of its own: aliasing is not compared
    late = False  # filled after what it refers to
    hashes = False  # filling it hashes other objects, so they are filled first

    def deps(self, node: Node) -> Iterable[Cell]:
        """The cells that must be resolved before `allocate`."""
        return node[3] if self.construct else ()

    def fits(self, r: Restorer, live: Any, token: int, node: Node) -> bool:
        """Whether a live object of the right type may stand for the node."""
        return not self.construct

    def allocate(self, r: Restorer, token: int, node: Node) -> Any:
        """A new object; its content comes with `fill`."""
        raise NotRestorable(r.path(token), f"no way is known to build {self.name} anew")

    def check(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        """Raise NotRestorable where `fill` could not succeed; nothing may be changed yet."""

    def fill(self, r: Restorer, obj: Any, token: int, node: Node) -> None:
        """Give the object the recorded content."""


class MadeClasses(Protocol):
    """Classes that a function of a library makes while the program runs."""

    def parts(self, cls: type) -> Any:
        """What tells such a class from others with the same bases, as plain data."""

    def make(self, bases: list[Any], parts: Any) -> Any:
        """Another such class, or None."""

    def change(self, cls: Any, parts: Any) -> None:
        """Give a class other parts."""


class Registry:
    """Handlers by type and kinds by name.

    Types are looked up by `id` wherever they may be the user's: as a key, a class is hashed and compared by its metaclass.
    """

    def __init__(self) -> None:
        self.exact: dict[int, Handler] = {}
        self.bases: dict[int, Handler] = {}
        self.named: dict[str, Handler] = {}
        self.kinds: dict[str, Kind] = {}
        self.decoders: dict[str, Callable[[tuple[Any, ...]], Any]] = {}
        self.loaded: set[str] = set()
        self.made: dict[str, MadeClasses] = {}  # by the module whose name the classes bear
        # context managers under which objects are read and built, so that no code of the user's answers
        self.guards: list[Callable[[], AbstractContextManager[Any]]] = []
        self.resolved: dict[int, Handler] = {}
        # what the compiled loop does in the stead of which function (see `compiled`), and what it asks tensors with
        self.compiled: dict[Emit, str] = {}
        self.tensor_parts: tuple[Any, ...] = ()
        self._kept: list[type] = []  # whose ids are keys: none may become another's

    def add(self, cls: type, handler: Handler, subclasses: bool = False) -> None:
        """Handle instances of `cls`, and of its subclasses if asked."""
        self.exact[id(cls)] = handler
        self._kept.append(cls)
        if subclasses:
            self.base(cls, handler)

    def base(self, cls: type, handler: Handler) -> None:
        """Handle instances of subclasses of `cls` that nothing nearer handles."""
        self.bases[id(cls)] = handler
        self._kept.append(cls)

    def resolve(self, cls: type, handler: Handler) -> None:
        """Remember how instances of a class are handled that was met in a walk, and that lasts as long as the program."""
        self.resolved[id(cls)] = handler
        self._kept.append(cls)

    def kind(self, kind: Kind) -> None:
        """Make a kind known."""
        self.kinds[kind.name] = kind

    def undisturbed(self) -> ExitStack:
        """All guards at once."""
        stack = ExitStack()
        for guard in self.guards:
            stack.enter_context(guard())
        return stack

    def refresh(self) -> None:
        """Let the adapters of libraries register that were imported since the last walk."""
        for library, adapter in _ADAPTERS.items():
            if library not in self.loaded and library in sys.modules:
                module = sys.modules[library]
                if getattr(getattr(module, "__spec__", None), "_initializing", False):
                    continue
                self.loaded.add(library)
                self.resolved.clear()
                importlib.import_module(f"{__name__}.{adapter}").register(self)


_OF_PYTHON = (
    "atoms", "containers", "scalars", "objects", "functions", "iterators", "library_values", "opaque", "loggers", "lru", "wrappers",
    "sync", "context", "generators", "files", "streams",
)  # fmt: skip
_ADAPTERS = {
    "typing": "type_hints", "numpy": "numpy", "numpy.random": "numpy_random", "torch": "torch", "pandas": "pandas", "PIL.Image": "pil",
    "h5py": "h5py", "rich.progress": "rich",
}  # fmt: skip


def registry_for(scope: Scope) -> Registry:
    """The scope's registry, brought up to date."""

    def make() -> Registry:
        made = Registry()
        for name in _OF_PYTHON:
            importlib.import_module(f"{__name__}.{name}").register(made)
        return made

    registry: Registry = scope.cached("registry", make)
    registry.refresh()
    return registry
