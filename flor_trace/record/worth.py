"""What a snapshot is worth to replay: which of the loops directly inside an outermost one come first when credit is scarce.

A replay that wants nothing of a loop saves the loop's time by a pair of snapshots, at its entry and its exit. All pairs cost about
the same, so a pair is worth the more the longer its loop is.
"""

from __future__ import annotations

# As in `record.session`.
from builtins import max, sum  # noqa: UP029
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flor_trace.runtime.loops import Activation, LoopProbe

# Below this a loop is executed again as fast as it is restored.
WORTH_SKIPPING_SECONDS = 0.005
# To skip is to compare the state, to restore it and to compare it again; each takes longer than a snapshot.
SKIP_PER_SNAPSHOT = 4.0


def mean_seconds(probe: LoopProbe) -> float | None:
    """How long one execution of a loop has taken on average; None before the first."""
    return probe.seconds / probe.calls if probe.calls else None


def is_worth_skipping(seconds: float, cost: float) -> bool:
    """Whether a loop of `seconds` is skipped sooner than executed, where a snapshot costs `cost` seconds."""
    return seconds >= max(WORTH_SKIPPING_SECONDS, SKIP_PER_SNAPSHOT * cost)


class LoopsInside:
    """The loops met directly inside the present outermost activation."""

    def __init__(self) -> None:
        self._outermost: tuple[str, int] | None = None
        self._met: dict[str, tuple[LoopProbe, int]] = {}  # with the outermost loop's iteration in which each was met last

    def met(self, probe: LoopProbe, parent: Activation) -> None:
        """One of them is entered in an iteration of `parent`."""
        self._begin(parent)
        self._met[probe.key] = (probe, parent.iteration)

    def longer(self, than: LoopProbe | None, parent: Activation | None, cost: float) -> int:
        """How many of them are worth a pair of snapshots sooner than `than` is, all that are worth one if it is None or not known yet.

        Only those count that are met in every iteration: nothing need be saved for others.
        """
        if parent is None:
            return 0
        known = mean_seconds(than) if than is not None else None
        least = 0.0 if known is None else known
        return sum(
            probe is not than and (mean := mean_seconds(probe)) is not None and mean > least and is_worth_skipping(mean, cost)
            for probe in self._present(parent)
        )

    def longest(self, parent: Activation) -> float:
        """How long the longest of them takes; 0 where none is known."""
        return max((mean_seconds(probe) or 0.0 for probe in self._present(parent)), default=0.0)

    def _present(self, parent: Activation) -> list[LoopProbe]:
        self._begin(parent)
        return [probe for probe, iteration in self._met.values() if iteration >= parent.iteration - 1]

    def _begin(self, parent: Activation) -> None:
        outermost = (parent.probe.key, parent.entry)
        if outermost != self._outermost:
            self._outermost = outermost
            self._met.clear()
