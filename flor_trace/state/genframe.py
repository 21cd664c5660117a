"""The frames of suspended generators: read them, and write them, since Python itself offers no way to set one.

Calling a generator function runs nothing of its body, so a new generator costs nothing; what it holds (locals, the
values on its stack, the instruction at which it is suspended) lies behind the object's head, at places that differ
between versions. They are given here for the versions that were tried, and checked against a live generator before
the first use: elsewhere generators stay opaque.
"""

from __future__ import annotations

import ctypes
import opcode
import sys
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

_YIELD = opcode.opmap["YIELD_VALUE"]
_NULL = object()
UNBOUND: Any = _NULL  # stands for an empty slot


class Offsets(NamedTuple):
    """Where a generator object has its parts (CPython's `PyGenObject` and `_PyInterpreterFrame`)."""

    exception: int  # what `sys.exc_info()` is inside: NULL or None unless suspended in an `except`
    state: int  # one signed byte
    pointer: int  # the instruction
    top: int  # how many slots are used, as an int; after it two bytes for where a call returns to (from 3.12)
    slots: int  # locals, cells, free variables, and then the stack


_KNOWN = {
    (3, 11): Offsets(exception=48, state=75, pointer=136, top=144, slots=152),
    (3, 12): Offsets(exception=40, state=67, pointer=128, top=136, slots=144),
    (3, 13): Offsets(exception=40, state=67, pointer=128, top=136, slots=144),
}


class CodeFacts(NamedTuple):
    """What is asked of a code object again and again."""

    code: types.CodeType
    names: tuple[str, ...]  # of the slots that are no stack
    yields: tuple[int, ...]  # where it can be suspended, in bytes from its first instruction


class Suspended(NamedTuple):
    """A generator's frame. `place` is (the number of the yield, the distance to it): log statements that were added
    to the function do not change it."""

    state: int
    place: tuple[int, int]
    returns: int
    named: tuple[Any, ...]
    stack: tuple[Any, ...]
    handled: Any = UNBOUND  # the exception that is being handled, inside an `except`


def facts_of(code: types.CodeType) -> CodeFacts:
    """The names of a code's slots, and its yields."""
    names: list[str] = []
    name_at: Any = code._varname_from_oparg  # type: ignore[attr-defined]
    count = code.co_nlocals + len(set(code.co_cellvars) - set(code.co_varnames)) + len(code.co_freevars)
    names.extend(name_at(i) for i in range(count))
    # the inline caches between instructions read as zeros here
    yields = tuple(2 * i for i, byte in enumerate(code.co_code[::2]) if byte == _YIELD)
    return CodeFacts(code, tuple(names), yields)


class GeneratorFrames:
    """Reads and writes generators' frames, where this interpreter's layout is known."""

    def __init__(self) -> None:
        self._facts: dict[int, CodeFacts] = {}
        self._start = 0
        self._created = 0
        offsets = _KNOWN.get(sys.version_info[:2])
        self.usable = offsets is not None and sys.implementation.name == "cpython" and not getattr(sys, "abiflags", "")
        self._at = offsets or _KNOWN[(3, 11)]
        self.usable = self.usable and self._calibrated()

    def facts(self, code: types.CodeType) -> CodeFacts:
        """`facts_of`, kept."""
        found = self._facts.get(id(code))
        if found is None:
            found = self._facts[id(code)] = facts_of(code)
        return found

    def read(self, generator: Any) -> Suspended | None:
        """The frame of a suspended generator; None for one that runs or has ended."""
        if generator.gi_running or generator.gi_frame is None:
            return None
        base = id(generator)
        at = self._at
        state = ctypes.c_int8.from_address(base + at.state).value
        if state >= 0:
            return None
        handled = _word(base + at.exception)
        facts = self.facts(generator.gi_code)
        top = ctypes.c_int32.from_address(base + at.top).value
        slots = tuple([_object(_word(base + at.slots + 8 * i)) for i in range(top)])
        lasti = _word(base + at.pointer) - id(generator.gi_code) - self._start
        before = [offset for offset in facts.yields if offset <= lasti]
        place = (len(before), lasti - before[-1]) if state != self._created and before else (0, 0)
        returns = ctypes.c_uint16.from_address(base + at.top + 4).value if sys.version_info >= (3, 12) else 0
        count = len(facts.names)
        exception = UNBOUND if handled in (0, id(None)) else _object(handled)
        return Suspended(state, place, returns, slots[:count], slots[count:], exception)

    def shell(self, function: types.FunctionType, name: str, qualname: str) -> Any:
        """A new generator of the function that has not run."""
        code = function.__code__
        bare = types.FunctionType(code, function.__globals__, function.__name__, None, function.__closure__)
        count = code.co_argcount
        keywords = dict.fromkeys(code.co_varnames[count : count + code.co_kwonlyargcount])
        made: Any = bare(*[None] * count, **keywords)
        made.__name__, made.__qualname__ = name, qualname
        # the frame holds the function, which a walk meets
        self._exchange(made, bare, function)
        return made

    def write(self, generator: Any, function: types.FunctionType, frame: Suspended) -> None:
        """Make a generator stand where `frame` says; it must have a frame and not be running."""
        base, at = id(generator), self._at
        facts = self.facts(generator.gi_code)
        if frame.state == self._created:
            pointer = _word(id(fresh := self.shell(function, "", "")) + at.pointer)
            del fresh
        else:
            number, distance = frame.place
            pointer = id(generator.gi_code) + self._start + facts.yields[number - 1] + distance
        values = [*frame.named, *frame.stack]
        if len(values) > len(facts.names) + generator.gi_code.co_stacksize:
            raise ValueError("a frame of more slots than there are")
        old_top = ctypes.c_int32.from_address(base + at.top).value
        old = [_word(base + at.slots + 8 * i) for i in range(old_top)]
        for value in values:
            if value is not UNBOUND:
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
        for i, value in enumerate(values):
            ctypes.c_size_t.from_address(base + at.slots + 8 * i).value = 0 if value is UNBOUND else id(value)
        ctypes.c_int32.from_address(base + at.top).value = len(values)
        ctypes.c_size_t.from_address(base + at.pointer).value = pointer
        ctypes.c_int8.from_address(base + at.state).value = frame.state
        if sys.version_info >= (3, 12):
            ctypes.c_uint16.from_address(base + at.top + 4).value = frame.returns
        old.append(_word(base + at.exception))
        if frame.handled is not UNBOUND:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(frame.handled))
        ctypes.c_size_t.from_address(base + at.exception).value = 0 if frame.handled is UNBOUND else id(frame.handled)
        for address in old:
            if address:
                ctypes.pythonapi.Py_DecRef(ctypes.c_void_p(address))

    def end(self, generator: Any, function: types.FunctionType) -> None:
        """Make a generator one that has ended, without running its `finally` clauses."""
        if generator.gi_frame is None:
            return
        count = len(self.facts(generator.gi_code).names)
        self.write(generator, function, Suspended(self._created, (0, 0), 0, (UNBOUND,) * count, ()))
        generator.close()

    def _exchange(self, generator: Any, old: Any, new: Any) -> None:
        """Put one function for another into the frame's head, which has the same code."""
        base = id(generator)
        for address in range(base, base + self._at.slots, 8):
            if _word(address) == id(old):
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(new))
                ctypes.c_size_t.from_address(address).value = id(new)
                ctypes.pythonapi.Py_DecRef(ctypes.py_object(old))
                return

    def _calibrated(self) -> bool:
        """Find where a code's instructions begin, and check everything on a generator whose frame is known."""
        first, second, third = object(), object(), object()
        live: Any = _sample(first, (second, third))
        frame = live.gi_frame
        at = self._at
        self._created = ctypes.c_int8.from_address(id(live) + at.state).value
        self._start = _word(id(live) + at.pointer) - id(live.gi_code) - frame.f_lasti
        if not 0 < self._start < 1024 or self._created >= 0:
            return False
        next(live)
        suspended = ctypes.c_int8.from_address(id(live) + at.state).value
        top = ctypes.c_int32.from_address(id(live) + at.top).value
        lasti = _word(id(live) + at.pointer) - id(live.gi_code) - self._start
        names = self.facts(live.gi_code).names
        if suspended >= 0 or suspended == self._created or top != len(names) + 1 or lasti != frame.f_lasti:
            return False
        slots = [_word(id(live) + at.slots + 8 * i) for i in range(len(names))]
        return slots[0] == id(first) and slots[2] == id(second)


def _sample(first: object, items: tuple[object, ...]) -> Iterator[object]:
    for item in items:  # noqa: UP028 - a name for what is on the stack
        yield item


def _word(address: int) -> int:
    return ctypes.c_size_t.from_address(address).value


def _object(address: int) -> Any:
    return ctypes.cast(address, ctypes.py_object).value if address else UNBOUND
