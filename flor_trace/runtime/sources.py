"""The clock and entropy as an input of the run: recorded value by value, and served again in replay.

Rewritten code calls `CLOCK(<callee>)(args)` where the callee's last name is in `CLOCK_NAMES`. `Sources.clock` finds the
callee by identity among the functions known in `runtime.entropy`; whatever else bears such a name is returned untouched.

The stream consists of names and payloads, which are JSON-able builtins. The offset in it is part of every snapshot, so that a
jump continues with the values that the recorded run saw there. While recording it is one flat list, `[name, payload, name, payload, …]`: a
tuple for each value would be followed by the garbage collector, and takes ten times as long to pickle.
"""

from __future__ import annotations

import _thread
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import Any, Literal

from flor_trace.runtime.entropy import KNOWN_NAMES, Source, Tape, bound_source, known_sources

Mode = Literal["off", "record", "replay"]
Value = tuple[str, Any]

CLOCK_NAMES: frozenset[str] = KNOWN_NAMES
"""Last names of all callees that `Sources.clock` can recognise; the rewriter wraps calls with these."""

LIBRARY = "a library's draw of system entropy"
"""The name of the values that libraries drew where no instrumented code called a known source."""

DAMAGED = "a value that is damaged in the store"
"""The name that stands in a loaded stream for a value that cannot be read any more; its payload says why."""


def paired(flat: list[Any]) -> list[Value]:
    """The values in what `Sources.drain` gave (runs recorded by earlier versions hold them in pairs already)."""
    if flat and type(flat[0]) is tuple:
        return flat
    return list(zip(flat[::2], flat[1::2], strict=True))


class Sources:
    """Records what known clock and entropy functions return, or serves it again.

    Only the thread that made this object records and is served; a forked child gets the real functions.
    """

    def __init__(self, mode: Mode = "off") -> None:
        self.mode: Mode = mode
        self.mismatches: list[str] = []
        self.on_damage: Callable[[str], None] = lambda why: None
        """Called (replay) when a value is asked for that is damaged; if it returns, that is a mismatch."""
        self._main = _thread.get_ident()
        self._recorded: list[Any] = []
        self._pack_later: dict[str, Callable[[Any, Any], Any]] = {}
        self._stream: list[Value] = []
        self._start = 0
        """Offset of the first value in `_recorded` or `_stream`: what was drained before lies below it."""
        self._cursor = 0
        self._lost = False
        self._suspended = 0
        self._inside = 0
        self._modules_seen = -1
        self._wrapped: dict[Any, Callable[..., Any]] = {}
        self._table: dict[Any, Callable[..., Any]] = {}
        self._safe: set[int] = set()  # ids of types: a class may define how it hashes
        if mode != "off":
            os.register_at_fork(after_in_child=self._stop)
            self.refresh()

    # -- what rewritten code calls ------------------------------------------------------------------------------------

    def clock(self, f: Any) -> Any:
        """Return `f`, or what stands in for it where it is a known source and the mode asks for that."""
        # Looking up an arbitrary callable would run its __hash__ and __eq__; those of these types are C code.
        kind = type(f)
        if kind is BuiltinFunctionType:
            return self._table.get(f) or self._miss(f)
        if kind is FunctionType or kind is type:
            found = self._table.get(f)
            if found is None and self._modules_seen == len(sys.modules):
                return f
            return found or self._miss(f)
        if id(kind) in self._safe:  # dear: `id` is audited, and the files' hook is called each time
            return self._table.get(f) or self._miss(f)
        return self._miss(f)

    def kept(self, name: str, f: Callable[..., Any]) -> Callable[..., Any]:
        """`f`, but that its results, JSON-able builtins, are recorded and served under a name like those of known sources."""
        inner = self._wrap(f, Source(name, plain=True))

        def call(*args: Any, **kwargs: Any) -> Any:
            return (f if self.mode == "off" or self._suspended else inner)(*args, **kwargs)

        return call

    # -- modes --------------------------------------------------------------------------------------------------------

    def suspend(self) -> None:
        """Call through, neither recorded nor served, until the matching `resume` (a hindsight statement runs)."""
        self._suspended += 1
        self._table = {}

    def resume(self) -> None:
        """End the innermost `suspend`."""
        self._suspended = max(0, self._suspended - 1)
        if not self._suspended and self.mode != "off":
            self._table = self._wrapped

    def refresh(self) -> None:
        """Take up the sources of modules imported since; done by itself when an unknown callee is met."""
        self._modules_seen = len(sys.modules)
        for f, source in known_sources():
            if f not in self._wrapped:
                self._wrapped[f] = self._wrap(f, source)
                self._safe.add(id(type(f)))
        if not self._suspended:
            self._table = self._wrapped

    def _stop(self) -> None:
        self.mode = "off"
        self._table = {}

    # -- the stream ---------------------------------------------------------------------------------------------------

    @property
    def offset(self) -> int:
        """Number of values recorded or served so far, from the run's beginning."""
        return self._start + len(self._recorded) // 2 if self.mode == "record" else self._cursor

    @offset.setter
    def offset(self, value: int) -> None:
        if self.mode == "record":
            raise ValueError("the offset of a stream that is being recorded cannot be set")
        self._cursor = value
        self._lost = False

    @property
    def mismatch(self) -> str | None:
        """The first divergence from the recorded stream, or None."""
        return self.mismatches[0] if self.mismatches else None

    def has_come_to(self, offset: int) -> bool:
        """Whether as many values have been served as `offset` says, but for those of libraries: these may have drawn less this time
        (what they left is passed over), or earlier."""
        first, last = sorted((self._cursor - self._start, offset - self._start))
        between = self._stream[max(first, 0) : last]
        if len(between) < last - first or any(name != LIBRARY for name, _ in between):
            return False
        self._cursor = max(self._cursor, offset)
        return True

    def drain(self) -> tuple[int, list[Any]]:
        """Hand over what was recorded since the last call, as names and payloads in turn (see `paired`), with the first one's offset."""
        start, flat = self._start, self._recorded[:]
        del self._recorded[: len(flat)]
        self._start += len(flat) // 2
        if not self._pack_later.keys().isdisjoint(flat[::2]):
            for at in range(0, len(flat), 2):
                if pack := self._pack_later.get(flat[at]):
                    flat[at + 1] = pack(flat[at + 1], None)
        return start, flat

    def load(self, values: Iterable[Value | list[Any]], start: int = 0) -> None:
        """Set the recorded stream to serve from; `start` is the offset of the first of `values`."""
        self._stream = [(name, payload) for name, payload in values]
        self._start = start
        self._cursor = start
        self._lost = False

    # -- standing in --------------------------------------------------------------------------------------------------

    def _miss(self, f: Any) -> Any:
        if self.mode == "off" or self._suspended:
            return f
        if self._modules_seen != len(sys.modules):
            self.refresh()
            if id(type(f)) in self._safe and f in self._table:
                return self._table[f]
        if type(f) is partial:
            inner = self.clock(f.func)
            return f if inner is f.func else partial(inner, *f.args, **f.keywords)
        source = bound_source(f)
        return f if source is None else self._wrap(f, source)

    def _wrap(self, f: Callable[..., Any], source: Source) -> Callable[..., Any]:
        if source.tape is not None:
            return self._taped(f, source, source.tape)
        if source.warns:
            return _warning(self._wrap(_quiet_utcnow(f), replace(source, warns="")), source.warns)
        if self.mode == "replay":
            return self._serving(f, source)
        if source.later:
            self._pack_later[source.name] = source.pack
        return self._recording_plain(f, source.name) if source.plain or source.later else self._recording(f, source)

    def _recording_plain(self, f: Callable[..., Any], name: str) -> Callable[..., Any]:
        # The path of time.time() in a training loop: every name in it is a cell or an argument.
        extend, get_ident, main = self._recorded.extend, _thread.get_ident, self._main

        def call(*args: Any, **kwargs: Any) -> Any:
            value = f(*args, **kwargs)
            if get_ident() == main:
                extend((name, value))
            return value

        return call

    def _recording(self, f: Callable[..., Any], source: Source) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if _thread.get_ident() != self._main or not source.applies(args, kwargs):
                return f(*args, **kwargs)
            self._inside += 1  # as `_alone`, at a tenth of its cost
            try:
                value = f(*args, **kwargs)
            finally:
                self._inside -= 1
            self._recorded.extend((source.name, source.pack(value, f)))
            return value

        return call

    def _taped(self, f: Callable[..., Any], source: Source, tape: Tape) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if _thread.get_ident() != self._main or self.mode == "off":
                return f(*args, **kwargs)
            if self.mode == "record":
                with self._alone(), tape(None) as drawn:
                    made = f(*args, **kwargs)
                self._recorded.extend((source.name, drawn))
                return made
            if not self._next_is(source.name):
                return f(*args, **kwargs)
            payload = self._stream[self._cursor - self._start][1]
            self._cursor += 1
            with self._alone(), tape(payload):
                return f(*args, **kwargs)

        return call

    def _serving(self, f: Callable[..., Any], source: Source) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if _thread.get_ident() != self._main or not source.applies(args, kwargs):
                return f(*args, **kwargs)
            if not self._next_is(source.name):
                return f(*args, **kwargs)
            payload = self._stream[self._cursor - self._start][1]
            self._cursor += 1
            with self._alone():
                return source.serve(payload, f, args, kwargs)

        return call

    def _next_is(self, name: str) -> bool:
        """Whether the recorded stream goes on with `name`; if not, the divergence is noted once and serving stops."""
        if self._lost:
            return False
        index = self._cursor - self._start
        while 0 <= index < len(self._stream) and self._stream[index][0] == LIBRARY:
            index += 1
        self._cursor = self._start + index
        if not 0 <= index < len(self._stream):
            self.mismatches.append(f"{name}() was called past the end of the recorded values (offset {self._cursor})")
        elif self._stream[index][0] != name:
            recorded, payload = self._stream[index]
            if recorded == DAMAGED:
                self.on_damage(payload)
            what = recorded if recorded == DAMAGED else f"{recorded}()"
            self.mismatches.append(f"{name}() was called where {what} was recorded (offset {self._cursor})")
        else:
            return True
        self._lost = True
        return False

    # -- libraries ----------------------------------------------------------------------------------------------------

    def watch_libraries(self) -> None:
        """Have what NumPy, `secrets` and `random.SystemRandom` take from the system recorded and served as well.

        They all take it through `random._urandom`. Here differences are borne: a library may draw for reasons of its own, and if
        it mattered, the comparison of states says so.
        """
        import random

        real: Callable[[int], bytes] = random._urandom  # type: ignore[attr-defined]

        def urandom(size: int) -> bytes:
            if self.mode == "off" or self._suspended or self._inside or _thread.get_ident() != self._main:
                return real(size)
            if self.mode == "replay":
                return self._drawn(size) or real(size)
            data = real(size)
            self._recorded.extend((LIBRARY, data.hex()))
            return data

        random._urandom = _InC(urandom).__getitem__  # type: ignore[attr-defined]

    def _drawn(self, size: int) -> bytes | None:
        """The recorded value that is next, if it is a library's of this size."""
        index = self._cursor - self._start
        if self._lost or not 0 <= index < len(self._stream):
            return None
        name, payload = self._stream[index]
        if name == DAMAGED:
            self._next_is(LIBRARY)
        if name != LIBRARY or len(payload) != 2 * size:
            return None
        self._cursor += 1
        return bytes.fromhex(payload)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let what a known source draws within its call not count by itself."""
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1


class _InC(dict[int, bytes]):
    """Gives what `draw` returns for a size; its `__getitem__` is a function in C, as `os.urandom` is.

    Scripts list a module's functions (to read their documentation, for one), and one in Python would be one more.
    """

    def __init__(self, draw: Callable[[int], bytes]) -> None:
        super().__init__()
        self._draw = draw

    def __missing__(self, size: int) -> bytes:
        return self._draw(size)


def _warning(f: Callable[..., Any], text: str) -> Callable[..., Any]:
    """`f`, with a warning to its caller, which C code would give to the frame of ours that calls it."""

    def call(*args: Any, **kwargs: Any) -> Any:
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return f(*args, **kwargs)

    return call


def _quiet_utcnow(f: Any) -> Any:
    """The same as `datetime.utcnow` of a class, without the warning."""
    import datetime  # is loaded, for `f` is its

    def utcnow() -> Any:
        now = datetime.datetime.__dict__["now"].__get__(None, f.__self__)
        return datetime.datetime.replace(now(datetime.UTC), tzinfo=None)

    utcnow.__self__ = f.__self__  # type: ignore[attr-defined]
    return utcnow
