"""Type hints such as `Optional[int]`, which signatures of functions hold: values, that `typing` makes once and gives out again.

As objects they would be matched by identity, and one that a restore has built stood beside the one that a library's function holds.
"""

from __future__ import annotations

import pickle
import types
import typing
from typing import TYPE_CHECKING, Any

from ..graph import Cell
from ..layout import derives, module_of, type_name
from . import Handler, Registry
from .objects import emit_object

if TYPE_CHECKING:
    from ..walk import Walker

_OF_TYPING: tuple[type, ...] = tuple(
    type(hint) for hint in (typing.List[int], typing.Optional[int], typing.Literal[1], typing.Callable[[int], str])  # noqa: UP006, UP045
)
_OF_C: tuple[type, ...] = (types.GenericAlias, types.UnionType)
_NAMED = frozenset({"_SpecialForm", "_LiteralSpecialForm", "_TypedCacheSpecialForm", "TypeVar"})
_CONSTANTS = frozenset(map(id, (int, str, bytes, bool, type(None), type(...))))


def _is_hint(kind: type) -> bool:
    return any(kind is known for known in (*_OF_TYPING, *_OF_C))


def _is_plain(w: Walker, part: Any) -> bool:
    """Whether a part of a hint is found again by its name or its value, and no code of the user's is asked about it."""
    kind = type(part)
    if id(kind) in _CONSTANTS:
        return True
    if _is_hint(kind):
        return _has_plain_parts(w, part)
    if derives(kind, type):
        return not w.is_user(module_of(part)) and not w.is_user(module_of(kind))
    return module_of(kind) == "typing" and kind.__name__ in _NAMED and not w.is_user(part.__module__)


def _has_plain_parts(w: Walker, hint: Any) -> bool:
    origin = None if type(hint) is types.UnionType else hint.__origin__
    return _is_plain(w, origin) and all(_is_plain(w, part) for part in hint.__args__)


def _as_value(w: Walker, obj: Any) -> Cell:
    if not _has_plain_parts(w, obj):
        return None
    try:
        return ("pickle", type_name(type(obj)), repr(obj), pickle.dumps(obj, 4))
    except (pickle.PicklingError, AttributeError, TypeError):  # something in it that is found under no name
        return None


def register(reg: Registry) -> None:
    """Make these hints known."""
    for cls in _OF_TYPING:
        reg.add(cls, Handler(emit_object, _as_value))
    for cls in _OF_C:
        other = reg.named["C"]
        reg.add(cls, Handler(other.emit, _as_value, other.serial))
