"""Make the live probes that placeholder constants of rewritten code are replaced by."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import repeat

from flor_trace.runtime.coverage import FunctionProbe
from flor_trace.runtime.engine import Runtime
from flor_trace.runtime.loops import LoopProbe


class ProbeFactory:
    """The probes of one process, one per loop and function, however often a module is loaded.

    Args:
        runtime: shared by all probes.
        clock: what `CLOCK(<callee>)` calls.
        demoted: names of loops that start out of the way (replay: those that recording demoted).
    """

    def __init__(
        self,
        runtime: Runtime,
        clock: Callable[[object], object],
        demoted: Collection[str] = (),
    ) -> None:
        self._runtime = runtime
        # A plain function: copies of the code that holds it share it, and torch.compile copies code deeply.
        self._clock = lambda callee: clock(callee)
        self._demoted = demoted

    def resolver(
        self,
        loops: Mapping[int, tuple[str, bool]],
        functions: Mapping[int, str],
        hindsight: Callable[[int], object] | None = None,
    ) -> Callable[[str], object]:
        """Resolve the placeholders of one module.

        Args:
            loops: names of the module's loops, and whether they are pinned, by index.
            functions: names of its functions, by index.
            hindsight: makes the probe of a hindsight statement, by index (replay only).
        """

        def resolve(placeholder: str) -> object:
            kind, _, index = placeholder.removeprefix("@flor:").partition(":")
            if kind == "loop":
                return self.loop(*loops[int(index)])
            if kind == "func":
                return self.function(functions[int(index)])
            if kind == "hindsight" and hindsight is not None:
                return hindsight(int(index))
            return {"clock": self._clock, "iter": iter, "repeat": repeat}[kind]

        return resolve

    def loop(self, key: str, pinned: bool) -> LoopProbe:
        """The probe of the loop named `key`."""
        probe = self._runtime.loops.get(key)
        if probe is None:
            probe = self._runtime.loops[key] = LoopProbe(self._runtime, key, pinned)
            probe.on = pinned or key not in self._demoted
        return probe

    def function(self, key: str) -> FunctionProbe:
        """A probe for the function named `key`."""
        probe = FunctionProbe(self._runtime, key)
        self._runtime.functions.append(probe)
        return probe
