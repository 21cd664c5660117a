"""Probes that observe nothing, in the ways in which real ones hand items out: what the rewriter's tests run against."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from flor_trace.instrument.infos import RewrittenInfo


class FakeLoop:
    """Hands items out in chunks of growing size, as a recording loop does, and counts what it is told."""

    def __init__(self, on: bool = True, pinned: bool = False) -> None:
        self.on = on or pinned
        self.frames: list[dict[str, bool]] = []
        self.balance = 0
        self.exits = 0

    def enter(self) -> bool:
        self.frames.append({"completed": False, "fallen": False})
        self.balance += 1
        return True

    def over(self, iterator: Iterator[Any]) -> Iterator[Any]:
        return itertools.chain.from_iterable(self._chunks(iterator, self.frames[-1]))

    def _chunks(self, iterator: Iterator[Any], frame: dict[str, bool]) -> Iterator[Any]:
        size = 1
        for first in iterator:  # a chunk is lazy: no item is taken before the body has run for the one before
            yield itertools.chain((first,), itertools.islice(iterator, size - 1))
            size = min(size * 2, 8)
        frame["completed"] = True

    def ticks(self) -> Iterator[tuple[()]]:
        self.enter()
        return itertools.chain.from_iterable(itertools.repeat((), n) for n in itertools.count(1))

    def completed(self) -> bool:
        return self.frames[-1]["completed"]

    def fell(self) -> None:
        self.frames[-1]["fallen"] = True

    def fallen(self) -> bool:
        return self.frames[-1]["fallen"]

    def exit(self) -> None:
        self.exits += 1

    def leave(self) -> None:
        self.balance -= 1
        self.frames.pop()


class PassingLoop(FakeLoop):
    """Hands the iterator through, so that no frame of ours is ever in between."""

    def over(self, iterator: Iterator[Any]) -> Iterator[Any]:
        self.frames[-1]["completed"] = True  # an `else` is reached by exhaustion only
        return itertools.chain.from_iterable([iterator])


class FakeFunction:
    def __init__(self) -> None:
        self.cold = True
        self.runs = 0

    def ran(self) -> None:
        self.runs += 1


class FakeHindsight:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def enter(self) -> None:
        self.calls.append("enter")

    def leave(self) -> None:
        self.calls.append("leave")


class FakeHooks:
    """Hooks of a session that records nothing."""

    annotates = False

    def __init__(self, on: bool = True, loop: type[FakeLoop] = FakeLoop) -> None:
        self.on = on
        self.loop = loop
        self.infos: dict[str, RewrittenInfo] = {}
        self.probes: dict[tuple[str, str], Any] = {}
        self.clocked: list[object] = []

    def annotate(self, tree: object, module: str, filename: str, source: bytes) -> bool:
        return False

    def resolver(self, rewritten: RewrittenInfo, filename: str, source: bytes) -> Callable[[str], object]:
        self.infos[rewritten.module] = rewritten

        def resolve(placeholder: str) -> object:
            kind, _, index = placeholder.removeprefix("@flor:").partition(":")
            if kind == "clock":
                return self.clock
            key = (rewritten.module, placeholder)
            if key not in self.probes:
                if kind == "loop":
                    self.probes[key] = self.loop(self.on, rewritten.loops[int(index)].pinned)
                else:
                    self.probes[key] = {"func": FakeFunction, "hindsight": FakeHindsight}[kind]()
            return self.probes[key]

        return resolve

    def clock(self, function: object) -> object:
        self.clocked.append(function)
        return function
