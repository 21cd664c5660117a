"""The compiled inner loop of the walk (`_walk.c`), where it has been built: several times as fast as the functions that it stands for.

It is optional: where an installation had no C compiler, `walk` and the functions of `kinds` do everything.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .kinds import Registry
    from .walk import Walker


def _load() -> Any:
    if os.environ.get("FLOR_TRACE_PURE_PYTHON") == "1":
        return None
    try:
        return importlib.import_module("flor_trace.state._walk")
    except ImportError:  # not built for this interpreter
        return None


LOOP: Any = _load()


def cells_for(walker: Walker, **limits: int) -> Any:
    """What takes over `cell` and the emission of common nodes in one walk; None where that has not been built.

    It and the walker refer to each other, so the walker must let go of it at the end.
    """
    if LOOP is None:
        return None
    registry = walker.registry
    return LOOP.Cells(
        walker=walker, objects=walker.objects, nodes=walker.nodes, big_ints=walker.big_ints, singletons=walker.singletons,
        volatile=walker.volatile, views=walker.views, regions=walker.memory.regions, kinds=_kinds(registry), unset=walker.unset,
        parts=registry.tensor_parts, **limits,
    )  # fmt: skip


def _kinds(registry: Registry) -> dict[Any, int]:
    """By the function that emits nodes, the kind that the compiled loop emits in its stead."""
    return {emit: getattr(LOOP, kind) for emit, kind in registry.compiled.items()}
