"""Differences in memory alone may be of no consequence: what was allocated and is not yet written holds what lay there before.

`ids = torch.empty(n)`, filled in a loop, differs at the loop's entry in every execution, and is as recorded at its exit. So such a
difference is not told at once. If the whole state is as recorded at a later comparison, and no hindsight statement has been executed
in between, nothing that was or will be shown can have come of it: recorded lines are compared anyway, and all that follows starts
from the recorded state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from flor_trace.replay.link import Link
from flor_trace.replay.restorer import EXACT, Check


class Withheld:
    """Comparisons of one worker that wait for a later one.

    Args:
        link: to the coordinator.
        executed: how many hindsight statements have been executed.
    """

    def __init__(self, link: Link, executed: Callable[[], int]) -> None:
        self._link = link
        self._executed = executed
        self._checks: list[Check] = []
        self._mark = 0

    def __bool__(self) -> bool:
        return bool(self._checks)

    def take(self, check: Check) -> None:
        """Wait with a comparison that found differences in memory and nothing else."""
        if self._checks and self._executed() != self._mark:
            self.tell()
        if not self._checks:
            self._mark = self._executed()
        self._checks.append(check)

    def settle(self) -> None:
        """The whole state has been found to be as recorded."""
        if self._checks and self._executed() != self._mark:
            self.tell()
        for check in self._checks:
            where = check.differences[0].partition(" (content)")[0]
            text = f"memory held something else at {check.at} and what was recorded later on, unused in between: {where}"
            self._link.tell("note", text=text)
            self._link.tell("checked", **replace(check, verdict=EXACT, largest=0.0, differences=[]).as_json(), restored=False)
        self._checks = []

    def tell(self) -> None:
        """Tell what is still withheld: those are divergences."""
        for check in self._checks:
            self._link.tell("checked", **check.as_json(), restored=False)
        self._checks = []
