"""Room on the stack for what we do beneath the script's frames.

A script that has recursed to just below the recursion limit must not make a walk fail that its next loop begins. So the limit
is higher while we work; the script sees its own, and so does a snapshot (`script_limit`).
"""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Callable
from functools import wraps
from sys import getrecursionlimit, setrecursionlimit
from types import FrameType
from typing import ParamSpec, TypeVar

from flor_trace.runtime.engine import Driver, Runtime
from flor_trace.runtime.loops import Activation

# A walk needs about 30 frames, and an import that it makes about 60.
ROOM = 300

_P = ParamSpec("_P")
_T = TypeVar("_T")


def with_room(runtime: Runtime, function: Callable[_P, _T]) -> Callable[_P, _T]:
    """`function`, with room beneath it; without that it raises `RecursionError` before it has done anything."""

    @wraps(function)
    def roomy(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        limit = getrecursionlimit()
        if limit == runtime.raised_limit or get_ident() != runtime.main_thread:
            return function(*args, **kwargs)  # within another such call, or where nothing walks
        # Refused near the limit, just as lowering it would be below.
        setrecursionlimit(limit)
        raised = limit + ROOM
        runtime.script_limit, runtime.raised_limit = limit, raised
        try:
            setrecursionlimit(raised)
            return function(*args, **kwargs)
        finally:
            runtime.raised_limit = 0
            if getrecursionlimit() == raised:  # else a restore or another thread has set another
                setrecursionlimit(limit)

    return roomy


def script_limit(runtime: Runtime) -> int:
    """The recursion limit that the script would see now."""
    limit = getrecursionlimit()
    return runtime.script_limit if limit == runtime.raised_limit else limit


class RoomyDriver:
    """A driver (see `runtime.engine.Driver`) with room beneath its methods."""

    def __init__(self, runtime: Runtime, driver: Driver) -> None:
        self.entered: Callable[[Activation, FrameType], bool] = with_room(runtime, driver.entered)
        self.begun: Callable[[Activation, FrameType], None] = with_room(runtime, driver.begun)
        self.head: Callable[[Activation, FrameType], bool] = with_room(runtime, driver.head)
        self.exited: Callable[[Activation, FrameType], None] = with_room(runtime, driver.exited)
        self.left: Callable[[Activation, FrameType], None] = with_room(runtime, driver.left)
        self.chunk: Callable[[Activation], int] = driver.chunk
