"""`--max-disk`: snapshots get further apart as the space for them fills, and never go beyond it.

A snapshot is due when the time since the last one is so long that, at this rate, the space that is left would suffice for as long as
the run has lasted so far. So nothing need be known of a run's length: what is left shrinks with the inverse of time, never to nothing.
"""

from __future__ import annotations

# As in `record.session`.
from builtins import max  # noqa: UP029
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from flor_trace.store.writer import RunWriter


class DiskBudget:
    """The space of one run.

    Args:
        limit: bytes that its files may take; None: as many as there are. What the script prints is recorded beyond it.
        writer: tells what is taken.
        clock: seconds since some fixed moment.

    Attributes:
        thinned: how many snapshots were passed by for its sake, counted by whoever asks.
    """

    def __init__(self, limit: int | None, writer: RunWriter, clock: Callable[[], float]) -> None:
        self.limit = limit
        self.thinned = 0
        self._writer = writer
        self._clock = clock
        self._started = self._last = clock()
        self._size = 0.0
        self._taken = 0
        # Snapshots on their way: which of the run they are, and how many bytes at most they add.
        self._pending: deque[tuple[int, int]] = deque()

    def left(self) -> int | None:
        """Bytes that are free for sure; None: no limit."""
        if self.limit is None:
            return None
        while self._pending and self._pending[0][0] < self._writer.committed:
            self._pending.popleft()
        return max(self.limit - self._writer.stored_bytes - sum(size for _, size in self._pending), 0)

    def allows(self, *, needed: bool) -> bool:
        """Whether a snapshot may be taken now. `needed`: one without which others are useless, so it only has to fit."""
        left = self.left()
        if left is None:
            return True
        now = self._clock()
        wait = 0.0 if needed else (now - self._started) * self._size / max(left, 1)
        return self._size <= left and now - self._last >= wait

    def took(self, nbytes: int) -> None:
        """A snapshot adds up to `nbytes` to the files."""
        if self.limit is None:
            return
        self._pending.append((self._taken, nbytes))
        self._taken += 1
        self._size = nbytes if self._taken == 1 else 0.5 * (self._size + nbytes)
        self._last = self._clock()
