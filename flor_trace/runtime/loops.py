"""The live objects behind the loop probes: one `LoopProbe` per loop statement, one `Activation` per execution."""

from __future__ import annotations

import sys

# A script may put others in their places, as tests do with `len`.
from builtins import id, int, iter, len, max, min, next, range, type  # noqa: UP029
from collections.abc import Iterator
from itertools import chain, islice, repeat
from operator import length_hint
from time import perf_counter
from types import FrameType
from typing import Any

from flor_trace.runtime.engine import Runtime

# Iterators whose length hint is exact at any moment: 0 means that the next item does not exist. (A dict's or set's
# hint is also 0 after a change of size, where iteration has to raise.)
_SIZED_ITERATORS = frozenset(id(type(items)) for items in (iter([]), iter(()), iter(""), iter(b"")))
_RANGE_ITERATOR = type(iter(range(0)))

# Iterations faster than this are handed out many at once.
FAST_ITERATION_SECONDS = 50e-6

# A loop whose executions are this short on average is not worth a boundary.
DEMOTE_BELOW_SECONDS = 100e-6
DEMOTE_AFTER_CALLS = 16


class LoopProbe:
    """The probe of one loop statement; `on` False takes it out of the way at the cost of a flag test."""

    __slots__ = ("active", "calls", "demotable", "demoted", "key", "on", "pinned", "ran", "runtime", "seconds")

    def __init__(self, runtime: Runtime, key: str, pinned: bool = False) -> None:
        self.runtime = runtime
        self.key = key
        self.on = True
        self.pinned = pinned
        self.demotable = not pinned
        self.demoted = False
        self.ran: set[str] = set()
        self.calls = 0
        self.seconds = 0.0
        self.active = 0

    def __reduce__(self) -> tuple[object, ...]:
        return (_untracked, (self.key, self.pinned))

    def enter(self) -> bool:
        """Begin an activation; False when it was skipped, so that the iterable is not even evaluated."""
        runtime = self.runtime
        if not runtime.tracking():
            return True
        frame = sys._getframe(1)
        activation = self._begin(frame)
        assert runtime.driver is not None
        activation.skipped = not runtime.driver.entered(activation, frame)
        return not activation.skipped

    def over(self, items: Iterator[Any] | None) -> Iterator[Any]:
        """The iterator that a `for` statement goes over instead of `items`."""
        activation = self._own(sys._getframe(1))
        if activation is None:
            return items if items is not None else iter(())
        if items is None or activation.skipped:
            return iter(())
        shared = sys.getrefcount(items) > _OWN_REFERENCES
        activation.go_over(items, shared)
        return chain.from_iterable(activation)

    def ticks(self) -> Iterator[Any]:
        """What a `while` statement goes over: one empty tuple per evaluation of its condition."""
        runtime = self.runtime
        if not runtime.tracking():
            return repeat(())
        frame = sys._getframe(1)
        activation = self._begin(frame)
        assert runtime.driver is not None
        if not runtime.driver.entered(activation, frame):
            activation.skipped = True
            return iter(())
        activation.go_on()
        return chain.from_iterable(activation)

    def fell(self) -> None:
        """The condition of a `while` was false."""
        frame = sys._getframe(1)
        activation = self._own(frame)
        if activation is not None:
            activation.exhausted = True
        elif self.pinned:
            self.runtime.fallen.add((id(frame), self.key))

    def fallen(self) -> bool:
        """Whether the `while` just left ended by its condition (and not by `break`)."""
        frame = sys._getframe(1)
        activation = self._own(frame)
        if activation is not None:
            if activation.exhausted:
                self._exit(activation, frame)
            return activation.exhausted
        mark = (id(frame), self.key)
        untracked = self.runtime.fallen
        ended = mark in untracked
        untracked.discard(mark)
        return ended

    def completed(self) -> bool:
        """Whether the `for` just left was exhausted, also when that was restored and not executed."""
        frame = sys._getframe(1)
        activation = self._own(frame)
        if activation is None:
            return True
        if activation.exhausted:
            self._exit(activation, frame)
        return activation.exhausted

    def exit(self) -> None:
        """Reached after exhaustion and `break` only."""
        frame = sys._getframe(1)
        activation = self._own(frame)
        if activation is not None:
            self._exit(activation, frame)

    def _exit(self, activation: Activation, frame: FrameType) -> None:
        """The boundary at the exit: before `else:`, which a replay that skips the loop executes."""
        if activation.exited or self.runtime.driver is None:
            return
        activation.release()
        activation.exited = True
        if not activation.unasked:
            self.runtime.driver.exited(activation, frame)

    def leave(self) -> None:
        """End the activation, however it ended."""
        frame = sys._getframe(1)
        activation = self._own(frame)
        if activation is None:
            return
        runtime = self.runtime
        activation.release()
        runtime.rearm()
        runtime.stack.pop()
        self.active -= 1
        if runtime.driver is not None:
            runtime.driver.left(activation, frame)

    def demote_if_small(self, seconds: float) -> bool:
        """Take the probe out of the way if its executions have turned out to be shorter than that in the mean."""
        if (
            self.demotable
            and self.active == 0
            and self.calls >= DEMOTE_AFTER_CALLS
            and self.seconds < seconds * self.calls
        ):
            self.on = False
            self.demoted = True
            return True
        return False

    def _begin(self, frame: FrameType) -> Activation:
        runtime = self.runtime
        entry = runtime.entries.get(self.key, 0)
        runtime.entries[self.key] = entry + 1
        activation = Activation(self, entry, id(frame))
        runtime.rearm()
        runtime.stack.append(activation)
        self.active += 1
        return activation

    def _own(self, frame: FrameType) -> Activation | None:
        """The activation that this frame is executing, unless the loop runs untracked (another thread, a
        hindsight statement). Frame addresses are unique while an activation lives."""
        stack = self.runtime.stack
        if stack:
            top = stack[-1]
            if top.probe is self and top.frame_id == id(frame):
                return top
            for depth in range(len(stack) - 2, -1, -1):
                if stack[depth].probe is self and stack[depth].frame_id == id(frame):
                    _lose(stack, depth + 1)
                    return stack[depth]
        return None


class Activation:
    """One execution of a loop statement: an iterator over chunks of its items.

    Each `__next__` is a boundary. `iteration` is the number of the iteration that begins with the chunk handed out last.
    """

    __slots__ = (
        "_chunk",
        "_first",
        "_items",
        "_numbered_from",
        "_position",
        "_range",
        "_shared",
        "_tail",
        "data",
        "entry",
        "exhausted",
        "exited",
        "frame_id",
        "iteration",
        "last",
        "outputs",
        "probe",
        "seconds_per_iteration",
        "size",
        "skipped",
        "source",
        "stalled",
        "started",
        "taken",
        "ticks",
        "unasked",
    )  # fmt: skip

    def __init__(self, probe: LoopProbe, entry: int, frame_id: int) -> None:
        self.probe = probe
        self.entry = entry
        self.frame_id = frame_id
        self.iteration = 0
        self.size = 0
        self.skipped = False
        self.exhausted = False
        self.exited = False
        self.started = self.last = perf_counter()
        self.seconds_per_iteration = 0.0
        self.ticks: list[float] = []
        self.data: object = None
        self.outputs = 0
        self.unasked = False  # the driver wants to know of its entry and its end only
        self.taken = 0  # how many iterations had begun when the loop was left; -1: not known
        self.source: Iterator[Any] | None = None
        self.stalled = 0.0  # seconds of ours within it, which its times leave out
        self._items: Iterator[Any] | None = None
        self._range: range | None = None
        self._tail: _Tail | None = None
        self._position: int | None = None  # of sized items: the index of the next one
        self._shared = False
        self._numbered_from: int | None = None  # where the numbers of an `enumerate` begin that goes over nothing else
        self._chunk: Iterator[Any] | None = None
        self._first = True

    def go_over(self, items: Iterator[Any], shared: bool) -> None:
        """Iterate over `items`, a fresh iterator (`shared`: the script can see it advance)."""
        if type(items) is _RANGE_ITERATOR and not shared:
            reduced: Any = items.__reduce__()
            self._range = reduced[1][0]
        else:
            self._take_from(items)
            self._shared = shared
            if type(items) is enumerate:
                self._numbered_from = _next_number(items)

    def _take_from(self, items: Iterator[Any]) -> None:
        self.source = items
        self._tail = self._position = self._numbered_from = None
        if id(type(items)) in _SIZED_ITERATORS:  # by id: a class may define how it hashes
            self._items = items
            self._position = _index(items)
        else:
            self._tail = _Tail()
            self._items = chain(items, self._tail)

    def go_on(self) -> None:
        """Iterate without items, as a `while` does."""
        self._items = repeat(())

    def release(self) -> None:
        """Drop the iterator where plain Python would: when the loop has been left."""
        if self._chunk is not None:
            self.taken = self._begun()
        self.source = self._items = self._range = self._tail = self._chunk = None

    def abandon(self) -> None:
        """The activation goes to its exit without its remaining items."""
        if self.source is not None:
            keep_forever(self.source)
        self.release()

    def stand_at(self, iteration: int, source: Iterator[Any]) -> None:
        """The iterator has been restored to where `iteration` takes its item; `source` is the script's iterator now."""
        self.iteration = iteration
        self.replace_source(source)

    def replace_source(self, source: Iterator[Any]) -> None:
        """A restore has set the iterator, or has made another one that stands where it should."""
        if source is not self.source:
            keep_forever(self.source)
        self._take_from(source)

    def advance_to(self, iteration: int) -> bool:
        """Reposition to `iteration` by taking and dropping items; False if they run out before."""
        missing = iteration - self.iteration
        if self._range is None:
            assert self._items is not None
            if type(self._items) is not repeat:
                taken = 0
                for _ in islice(self._items, missing):
                    taken += 1
                if self._position is not None:
                    self._position = _index(self._items)
                if taken < missing:
                    return False
        elif iteration > len(self._range):
            return False
        self.iteration = iteration
        return True

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Iterator[Any]:
        driver = self.probe.runtime.driver
        if self._first:
            self._first = False
            if driver is None:
                return self._rest()
            if not self.unasked:
                driver.begun(self, sys._getframe(1))
        else:
            if self._over():
                self.exhausted = self._items is None or type(self._items) is not repeat
                raise StopIteration
            if driver is None:
                return self._rest()
            self._chunk, self.taken = None, self.iteration  # an exception in `head` leaves the loop between two iterations
            now = perf_counter()
            self.seconds_per_iteration = (now - self.last) / self.size
            if self.size == 1:
                self.ticks.append(now - self.last)
            if not self.unasked and not driver.head(self, sys._getframe(1)):
                raise StopIteration
            self.last = perf_counter()
        assert driver is not None
        self.size = self.fast_chunk() if self.unasked else driver.chunk(self)
        return self._hand_out(self.size)

    def fast_chunk(self) -> int:
        """About a millisecond's worth of iterations, where they are fast; else one."""
        per_iteration = self.seconds_per_iteration
        if per_iteration <= 0.0 or per_iteration > FAST_ITERATION_SECONDS:
            return 1
        return min(int(1e-3 / per_iteration) + 1, self.size * 8)

    def _hand_out(self, size: int) -> Iterator[Any]:
        if self._range is not None:
            self._chunk = iter(self._range[self.iteration : self.iteration + size])
        elif type(self._items) is repeat:
            self._chunk = repeat((), size)
        else:
            assert self._items is not None
            if self._position is not None and size > 1:
                self.size = size = min(size, max(length_hint(self._items), 1))  # an exhausted iterator has forgotten its index
            self._chunk = islice(self._items, size)
        return self._chunk

    def _over(self) -> bool:
        """Account for the chunk that has been consumed; True when there are no more items."""
        if self._range is not None:
            self.iteration = min(self.iteration + self.size, len(self._range))
            return self.iteration >= len(self._range)
        if self._tail is not None:
            if self._tail.reached:
                return True  # of a chunk of one nothing was taken; of a longer one an unknown part
            self.iteration += self.size
            return False
        if self._position is not None:
            items = self._items
            assert items is not None
            position = _index(items)
            self.iteration += min(max(position - self._position, 0), self.size)
            self._position = position
            if length_hint(items) == 0:
                # Only an iterator that has been asked in vain is exhausted for good, also if its list grows later.
                next(items, None)
                return True
            return False
        self.iteration += self.size
        return False

    def _begun(self) -> int:
        """How many iterations have begun; -1 where one cannot tell how many of those handed out at once were taken."""
        if type(self._items) is repeat:  # a `while`: its condition was asked once more than it held
            return self.iteration + self.size - length_hint(self._chunk) - self.exhausted
        if self._range is not None:
            given = min(self.size, len(self._range) - self.iteration)
            return self.iteration if self.exhausted else self.iteration + given - length_hint(self._chunk)
        if self.size == 1:
            return self.iteration + (not self.exhausted)
        if self._shared:
            return -1
        if self._numbered_from is not None:
            # An exception may be that of what is numbered: then one more iteration has begun than was numbered.
            unsure = not self.exhausted and sys.exc_info()[0] not in (None, KeyboardInterrupt)
            return -1 if unsure else _next_number(self.source) - self._numbered_from
        if self._position is None or self._position < 0:
            return -1
        if self.exhausted:
            return self.iteration
        index = _index(self._items)
        return -1 if index < 0 else self.iteration + index - self._position

    def _rest(self) -> Iterator[Any]:
        """All remaining items in one chunk: the run is no longer tracked."""
        self.size = sys.maxsize >> 1
        return self._hand_out(self.size)


def _lose(stack: list[Activation], depth: int) -> None:
    """Drop activations whose `leave` could not be called, for want of stack."""
    while len(stack) > depth:
        lost = stack.pop()
        lost.release()
        lost.probe.active -= 1


def keep_forever(thing: object) -> None:
    """Never let go of an iterator that a restore has put another in place of: a generator that is dropped runs its
    `finally` blocks, over a state that is not its own."""
    import ctypes  # replay only

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _next_number(numbered: Any) -> int:
    """The number that an `enumerate` gives its next item."""
    number: int = numbered.__reduce__()[1][1]
    return number


def _index(items: Any) -> int:
    """The index of the item that a sized iterator gives next; -1 once it is exhausted."""
    reduced: tuple[Any, ...] = items.__reduce__()
    return int(reduced[2]) if len(reduced) > 2 else -1


class _Tail:
    """Behind the script's iterator in a chain: reached exactly when that is exhausted, which is asked only once."""

    __slots__ = ("reached",)

    def __init__(self) -> None:
        self.reached = False

    def __iter__(self) -> _Tail:
        return self

    def __next__(self) -> object:
        self.reached = True
        raise StopIteration


def _untracked(key: str, pinned: bool) -> LoopProbe:
    """A probe that is off: what a pickled function (cloudpickle, by value) carries to elsewhere."""
    probe = LoopProbe(Runtime(), key, pinned)
    probe.on = pinned
    return probe


def _own_references() -> int:
    """How many references a method sees to an argument that nobody else holds; it differs between versions."""

    class Probe:
        def over(self, items: object) -> int:
            return sys.getrefcount(items)

    return Probe().over(iter(range(1)))


_OWN_REFERENCES = _own_references()
