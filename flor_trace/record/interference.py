"""What writing in the background takes from the training: its processor time, as far as no core was idle.

The stall of a snapshot is what the training thread itself loses. Hashing, compressing and writing happen on another thread or in another
process; that is free where a core is to spare, and where none is it lasts at the training's expense.
"""

from __future__ import annotations

import os

# As in `record.session`.
from builtins import max, min, sum  # noqa: UP029
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Looking at the machine takes up to a millisecond where it has many cores, and the kernel counts hundredths of seconds.
WORTH_LOOKING_SECONDS = 0.02
SHORTEST_SECONDS = 0.5


class Interference:
    """Tells by and by how many seconds the training has lost.

    Args:
        idle: seconds for which the cores of this process were idle since some fixed moment, all together; None if nobody knows.
        clock: seconds since some fixed moment.
    """

    def __init__(self, idle: Callable[[], float | None] | None = None, clock: Callable[[], float] = perf_counter) -> None:
        self._idle_seconds = idle or idle_seconds
        self._clock = clock
        self._at = clock()
        self._idle = self._idle_seconds()
        self._written = 0.0

    def since_last(self, written: float) -> float:
        """What has been lost since the machine was last looked at; 0 while it is too early for another look.

        Args:
            written: seconds of processor time that writing has taken so far in this run.
        """
        now = self._clock()
        used, passed = written - self._written, now - self._at
        if used < WORTH_LOOKING_SECONDS or passed < SHORTEST_SECONDS:
            return 0.0
        idle, before = self._idle_seconds(), self._idle
        self._written, self._at, self._idle = written, now, idle
        if idle is None or before is None:
            return 0.0
        to_spare = (idle - before + used) / passed  # cores that would have been idle without us
        return used * min(max(1.0 - to_spare, 0.0), 1.0)


def idle_seconds() -> float | None:
    """For how long the cores that this process may use have been idle or waiting for a disk, all together (`proc_stat(5)`); None where the
    kernel does not tell. A container with a quota of processor time sees the whole machine's cores."""
    ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    try:
        with open("/proc/stat") as file:
            fields = [line.split() for line in file if line.startswith("cpu")]
    except OSError:
        return None
    return sum(int(cpu[4]) + int(cpu[5]) for cpu in fields if cpu[0] in ours) / os.sysconf("SC_CLK_TCK")
