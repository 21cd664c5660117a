"""Ctrl-C and SIGTERM during a replay: they wait until what must not be cut in two is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ParamSpec

_P = ParamSpec("_P")


class Interrupts:
    """While entered, both signals raise `KeyboardInterrupt`, but not within `deferred`; there a second one does so at once.

    Outside of the main thread, which alone may handle signals, nothing is changed.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._pending = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # A shell starts background jobs with SIGINT ignored, and the user's own handlers are theirs.
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A section that is finished before an interruption takes effect."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        if self._depth == 0 and self._pending:
            self._pending = 0
            raise KeyboardInterrupt

    def deferring(self, action: Callable[_P, None]) -> Callable[_P, None]:
        """The same action, as such a section."""

        def deferred(*args: _P.args, **kwargs: _P.kwargs) -> None:
            with self.deferred():
                action(*args, **kwargs)

        return deferred

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        self._pending += 1
        if self._depth == 0 or self._pending > 1:
            self._pending = 0
            raise KeyboardInterrupt
