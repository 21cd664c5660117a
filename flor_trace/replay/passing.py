"""Passing iterations: a worker on its way to its unit skips the loops in them that snapshots allow to skip, and executes the rest.

So a segment may also begin where no snapshot is: at a later iteration than the nearest head, if the way from there is short. A pair
of snapshots around each epoch's training serves as well as a head of each epoch, and recording makes such pairs first.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from flor_trace.replay.history import ActivationKey, History, RecordedActivation

if TYPE_CHECKING:
    from flor_trace.replay.estimate import Costs


class Passing:
    """How long it takes to pass iterations.

    Args:
        history: the run.
        costs: what skipping takes.
        executed: the loops that are not skipped on the way either.
    """

    def __init__(self, history: History, costs: Costs, executed: set[str]) -> None:
        self._history = history
        self._costs = costs
        self._executed = executed
        self._sums: dict[ActivationKey, list[float]] = {}

    def between(self, activation: RecordedActivation, first: int, last: int) -> float:
        """Seconds from the head of iteration `first` to that of iteration `last`, without a restore of a head."""
        sums = self._sums.get(activation.key)
        if sums is None:
            sums = self._sums[activation.key] = self._summed(activation)
        most = len(sums) - 1
        return max(sums[min(last, most)] - sums[min(first, most)], 0.0)

    def reach(self, activation: RecordedActivation, iteration: int) -> float:
        """Seconds from the nearest head before iteration `iteration` to it."""
        heads = self._history.heads(activation.key)
        before = bisect_right(heads, iteration) - 1
        return self.between(activation, heads[before] if before >= 0 else 0, iteration)

    def around(self, activation: RecordedActivation, iteration: int) -> float:
        """Seconds from the nearest head before to the nearest one behind: one worker comes to a place from the one, and another
        one, whose unit ends there, goes on to the other."""
        heads = self._history.heads(activation.key)
        before = bisect_right(heads, iteration) - 1
        behind = self.next_head(activation, iteration)
        return self.between(activation, heads[before] if before >= 0 else 0, activation.iterations if behind is None else behind)

    def next_head(self, activation: RecordedActivation, iteration: int) -> int | None:
        """The first iteration from `iteration` on at whose head there is a snapshot."""
        heads = self._history.heads(activation.key)
        found = bisect_left(heads, iteration)
        return heads[found] if found < len(heads) else None

    def _summed(self, activation: RecordedActivation) -> list[float]:
        saved = [0.0] * (activation.iterations + 1)
        for child in self._history.children(activation.key):
            assert child.parent is not None
            if child.parent[2] < len(saved):
                saved[child.parent[2]] += self._saved(child)
        seconds = [activation.seconds / max(activation.iterations, 1)] * activation.iterations
        seconds[: len(activation.ticks)] = activation.ticks[: activation.iterations]
        return [0.0, *accumulate(max(each - less, 0.0) for each, less in zip(seconds, saved, strict=False))]

    def _saved(self, activation: RecordedActivation) -> float:
        if activation.loop not in self._executed and self._history.skippable(activation.key):
            return activation.seconds - self._costs.skip(self._history, activation)
        return sum(self._saved(child) for child in self._history.children(activation.key))
