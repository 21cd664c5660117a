"""Around a hindsight statement: what it prints is marked as new, and what it draws and reads leaves no trace."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

from flor_trace.runtime.engine import Runtime


class HindsightProbe:
    """`HINDSIGHT.enter()` and `.leave()` enclose one hindsight statement (DESIGN §4, rule 5).

    Args:
        runtime: its `suspended` count is raised inside.
        index: the statement's number in the diff.
        capture: given the statement's frame, returns the state of all random number generators, or all state (`--isolate`).
        apply: sets it again.
    """

    __slots__ = ("_apply", "_capture", "_kept", "_runtime", "index")

    def __init__(
        self, runtime: Runtime, index: int, capture: Callable[[FrameType], object], apply: Callable[[object], None]
    ) -> None:
        self.index = index
        self._runtime = runtime
        self._capture = capture
        self._apply = apply
        self._kept: list[object] = []

    def enter(self) -> None:
        """Before the statement; statements can nest through the functions that they call."""
        frame = sys._getframe(1)
        self._kept.append(self._capture(frame))
        if not self._runtime.hindsight:
            self._runtime.hindsight_frame = frame
        self._runtime.suspended += 1
        self._runtime.executed += 1
        self._runtime.hindsight.append(self.index)

    def leave(self) -> None:
        """After the statement, also when it raised."""
        self._runtime.hindsight.pop()
        if not self._runtime.hindsight:
            self._runtime.hindsight_frame = None
        self._runtime.suspended -= 1
        self._apply(self._kept.pop())
