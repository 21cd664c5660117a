"""Which functions ran inside which loop, at the price of a flag test per call."""

from __future__ import annotations

from flor_trace.runtime.engine import Runtime


class FunctionProbe:
    """`if FUNC.cold: FUNC.ran()` stands first in every observed function.

    A function is cold again whenever a loop is entered or left, so each set of active loops sees it once.
    """

    __slots__ = ("_runtime", "cold", "key")

    def __init__(self, runtime: Runtime, key: str) -> None:
        self._runtime = runtime
        self.key = key
        self.cold = True

    def __reduce__(self) -> tuple[object, ...]:
        return (_unobserved, (self.key,))

    def ran(self) -> None:
        """Note that the function runs inside every active loop."""
        self.cold = False
        runtime = self._runtime
        if runtime.suspended or runtime.driver is None:
            return
        runtime.hit.append(self)
        for activation in runtime.stack:
            activation.probe.ran.add(self.key)


def _unobserved(key: str) -> FunctionProbe:
    """A probe that observes nothing: what a pickled function (cloudpickle, by value) carries to elsewhere."""
    probe = FunctionProbe(Runtime(), key)
    probe.cold = False
    return probe
