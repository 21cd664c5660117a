"""What was instrumented in a module. Plain classes: `dataclasses` would cost 8 ms of every recorded script's start-up."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class LoopInfo:
    """One instrumented loop; `pinned` ones can never be demoted, for their code omits the tests of `LOOP.on`."""

    __slots__ = ("end_lineno", "index", "is_while", "key", "lineno", "pinned", "qualname")

    def __init__(
        self, index: int, key: str, lineno: int, end_lineno: int, is_while: bool, qualname: str, pinned: bool = False
    ) -> None:
        self.index = index
        self.key = key
        self.lineno = lineno
        self.end_lineno = end_lineno
        self.is_while = is_while
        self.qualname = qualname
        self.pinned = pinned

    def fields(self) -> tuple[int, str, int, int, bool, str, bool]:
        """The constructor's arguments."""
        return self.index, self.key, self.lineno, self.end_lineno, self.is_while, self.qualname, self.pinned

    def __repr__(self) -> str:
        return f"LoopInfo{self.fields()!r}"


class FunctionInfo:
    """One function; `probed` is False where it got no probe, so that nobody knows whether it ran."""

    __slots__ = ("end_lineno", "index", "key", "lineno", "probed")

    def __init__(self, index: int, key: str, lineno: int, end_lineno: int, probed: bool) -> None:
        self.index = index
        self.key = key
        self.lineno = lineno
        self.end_lineno = end_lineno
        self.probed = probed

    def fields(self) -> tuple[int, str, int, int, bool]:
        """The constructor's arguments."""
        return self.index, self.key, self.lineno, self.end_lineno, self.probed

    def __repr__(self) -> str:
        return f"FunctionInfo{self.fields()!r}"


class RewrittenInfo:
    """What was instrumented in a module.

    `clocks` has the line and name of each wrapped clock call; `plain_because` is the reason where the module had to be left
    as it is, with no loops and no functions observed.
    """

    __slots__ = ("clocks", "functions", "hindsights", "loops", "module", "plain_because")

    def __init__(self, module: str, plain_because: str = "") -> None:
        self.module = module
        self.plain_because = plain_because
        self.loops: list[LoopInfo] = []
        self.functions: list[FunctionInfo] = []
        self.hindsights: list[int] = []
        self.clocks: list[tuple[int, str]] = []

    def pack(self) -> tuple[Any, ...]:
        """As plain values, which `marshal` takes."""
        loops = [loop.fields() for loop in self.loops]
        functions = [function.fields() for function in self.functions]
        return self.module, self.plain_because, loops, functions, self.hindsights, self.clocks

    @classmethod
    def unpack(cls, packed: tuple[Any, ...]) -> RewrittenInfo:
        """The inverse of `pack`."""
        module, plain_because, loops, functions, hindsights, clocks = packed
        info = RewrittenInfo(module, plain_because)
        info.loops = [LoopInfo(*item) for item in loops]
        info.functions = [FunctionInfo(*item) for item in functions]
        info.hindsights = hindsights
        info.clocks = clocks
        return info
