"""What a walk starts from, and which modules count as the user's own code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any


class Scope:
    """Tells user code from library code, and keeps what was learnt about types between walks.

    Functions, classes and class attributes of user modules are walked; those of libraries are values, named by
    module and qualified name.
    """

    __slots__ = ("_cache", "user_modules")

    def __init__(self, user_modules: Callable[[str], bool]) -> None:
        self.user_modules = user_modules
        self._cache: dict[str, Any] = {}

    def cached(self, key: str, make: Callable[[], Any]) -> Any:
        """The value kept under `key`, made on first use."""
        value = self._cache.get(key)
        if value is None:
            value = self._cache[key] = make()
        return value


@dataclass(slots=True)
class FrameRoot:
    """The locals of one live frame; the dict is the caller's and has no identity of its own."""

    name: str
    locals: dict[str, Any]


@dataclass(slots=True)
class Roots:
    """Everything that a snapshot starts from."""

    modules: dict[str, dict[str, Any]] = field(default_factory=dict)
    frames: list[FrameRoot] = field(default_factory=list)
    library: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    # code objects in which the code of a function that must be built anew may be found (instrumented modules')
    codes: list[CodeType] = field(default_factory=list)
    # the live frames of user functions: where cells of their variables may be found
    stack: list[FrameType] = field(default_factory=list)


@dataclass(slots=True)
class Ignore:
    """Names bound only by hindsight statements: where the record has no such name, the live one is passed over."""

    modules: dict[str, set[str]] = field(default_factory=dict)
    frames: dict[str, set[str]] = field(default_factory=dict)
    # Modules whose log statements differ from the recorded: these may make a function close over more or fewer variables.
    edited: set[str] = field(default_factory=set)
    # Attributes that only hindsight statements give to objects, by names that do not occur in the recorded sources.
    attributes: frozenset[str] = frozenset()
    # Library state that is not compared: what watching a program with a witness changes by what it imports.
    library: frozenset[str] = frozenset()
    # Methods and attributes of classes, by module and qualified name of the class. A walk that is told of them does not see them.
    classes: Mapping[tuple[str, str], set[str]] = field(default_factory=dict)
    # Roots beside those of modules and frames that came with libraries which only hindsight statements have imported.
    extra: set[str] = field(default_factory=set)

    def names(self, section: str, root: str) -> set[str]:
        """The names to pass over in one root."""
        if section == "extra":
            return self.extra
        table = self.modules if section == "module" else self.frames if section == "frame" else {}
        return table.get(root, set())


# What torch.compile leaves in the namespace of a module whose functions it has compiled. It belongs to this process's compiled
# code, which no restore touches.
_COMPILED = (
    "__compiled_fn", "__resume_at_", "__import_", "__builtins_dict__", "__gen_rand_values", "__warnings_warn_wrapper",
    "___context_manager_", "__comprehension_",
)  # fmt: skip


def is_state(name: str) -> bool:
    """Whether a name in a module's namespace is the script's."""
    return name not in SKIPPED_NAMES and not name.startswith(_COMPILED)


# The import system's own names: they are the module's identity, not the script's state.
SKIPPED_NAMES = frozenset(
    {
        "__builtins__", "__loader__", "__spec__", "__cached__", "__doc__", "__file__", "__name__", "__package__",
        "__path__", "__annotations__", "__warningregistry__", "__annotate__", "__conditional_annotations__",
    }
)  # fmt: skip
