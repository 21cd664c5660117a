"""The one mutable centre of a process that records or replays: the stack of activations and who drives it."""

from __future__ import annotations

import threading
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from flor_trace.runtime.position import Place, Position

if TYPE_CHECKING:
    from flor_trace.runtime.coverage import FunctionProbe
    from flor_trace.runtime.loops import Activation, LoopProbe


class Driver(Protocol):
    """What recording and replay each do at the boundaries of loops."""

    def entered(self, activation: Activation, frame: FrameType) -> bool:
        """Before the iterable is evaluated; False: the activation has been skipped (its exit is restored)."""

    def begun(self, activation: Activation, frame: FrameType) -> None:
        """The iterable has been evaluated; iteration 0 is about to take its item."""

    def head(self, activation: Activation, frame: FrameType) -> bool:
        """Before iteration `activation.iteration` (≥ 1) takes its item; False: the activation is over."""

    def exited(self, activation: Activation, frame: FrameType) -> None:
        """After exhaustion, before `else:`, or after `break`."""

    def left(self, activation: Activation, frame: FrameType) -> None:
        """In every case, last."""

    def chunk(self, activation: Activation) -> int:
        """How many iterations may pass before the next boundary."""


class Runtime:
    """Shared by all probes of a process.

    Attributes:
        stack: the live activations, outermost first.
        suspended: above zero inside hindsight statements: loops entered there are not tracked.
        hindsight: the numbers of the hindsight statements being executed, outermost first.
        hindsight_frame: the frame in which the outermost of them stands.
        executed: how many hindsight statements have begun.
        user_files: the file names of instrumented code.
        entries: how often each loop has been entered in the run, by loop name.
        fallen: untracked `while … else` loops, by frame, that have just ended by their condition.
        own_variables: environment variables that replay sets where the recorded environment had none; no part of the state.
        script_limit, raised_limit: the recursion limits that `runtime.headroom` found and set; `raised_limit` 0: none set.
    """

    def __init__(self) -> None:
        self.driver: Driver | None = None
        self.stack: list[Activation] = []
        self.suspended = 0
        self.hindsight: list[int] = []
        self.hindsight_frame: FrameType | None = None
        self.executed = 0
        self.main_thread = threading.get_ident()
        self.user_files: set[str] = set()
        self.user_modules: set[str] = set()
        self.entries: dict[str, int] = {}
        self.fallen: set[tuple[int, str]] = set()
        self.loops: dict[str, LoopProbe] = {}
        self.functions: list[FunctionProbe] = []
        self.hit: list[FunctionProbe] = []
        self.own_variables: set[str] = set()
        self.script_limit = 0
        self.raised_limit = 0

    def tracking(self) -> bool:
        """Whether a loop entered now, by this thread, belongs to the run."""
        return self.driver is not None and not self.suspended and threading.get_ident() == self.main_thread

    def position(self) -> Position:
        """The present position, outermost first."""
        return tuple(Place(a.probe.key, a.entry, a.iteration) for a in self.stack)

    def rearm(self) -> None:
        """Let every function report again: the set of active loops is about to change."""
        hit, self.hit = self.hit, []  # another thread may add to it meanwhile
        for probe in hit:
            probe.cold = True

    def disable(self) -> None:
        """Turn every probe off for good (a forked child, or recording that failed)."""
        self.driver = None
        for loop in self.loops.values():
            loop.on = loop.pinned
        for function in self.functions:
            function.cold = False
