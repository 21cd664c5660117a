"""Which of the snapshots that a worker passes are compared with the live state: hundreds of short iterations recorded with
`--every 1` would take longer to compare than to execute."""

from __future__ import annotations

import time
from collections.abc import Callable

# What comparing may take, as a share of a worker's time, and what it may take in any case.
SHARE = 0.02
ALLOWANCE_SECONDS = 0.25


class Sampler:
    """A credit that grows with time and that comparisons are paid from.

    Args:
        everything: compare at every snapshot (a replay without hindsight statements verifies the run).
        clock: seconds since some fixed moment.
    """

    def __init__(self, everything: bool = False, clock: Callable[[], float] = time.perf_counter) -> None:
        self._everything = everything
        self._clock = clock
        self._begin = clock()
        self._spent = 0.0
        self._cost = 0.0
        self.passed = 0

    def due(self) -> bool:
        """Whether to compare now; if not, the snapshot counts as passed over."""
        credit = ALLOWANCE_SECONDS + SHARE * (self._clock() - self._begin) - self._spent
        due = self._everything or self._cost <= credit
        self.passed += not due
        return due

    def paid(self, seconds: float) -> None:
        """A comparison that nothing else needed has taken this long."""
        self._spent += seconds
        self._cost = seconds
