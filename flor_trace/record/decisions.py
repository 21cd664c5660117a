"""What became of each boundary that the budget was asked about: a snapshot, or the reason why not. For `show --budget`."""

from __future__ import annotations

# As in `record.session`.
from builtins import int, isinstance, list, round  # noqa: UP029
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from flor_trace.runtime.position import Boundary

CREDIT = "credit"
INNER = "inner"
BEAT = "beat"
SHORT = "short"
EVERY = "every"
EARLY = "early"
SLOTS = "slots"
DISK = "disk"
QUEUE = "queue"
LONG = "long"
CAPTURING = "capturing"
REASONS = {
    CREDIT: "the time that --overhead allows is not saved up yet",
    BEAT: "kept for the iterations that, at regular distances, print something or enter a loop",
    INNER: "saved for the loops inside, which are worth more to replay",
    SHORT: "executed again as fast as it would be restored",
    EVERY: "--every wants others",
    EARLY: "the run is young and has no arrays yet",
    SLOTS: "memory to copy into is still being written out, or being made",
    DISK: "--max-disk: snapshots are further apart, so that the rest suffices for as long as the run has lasted",
    QUEUE: "too much waits for the disk",
    CAPTURING: "a CUDA graph was being captured, and nothing may be read meanwhile",
    LONG: "looking through all objects took too long and was given up; the next attempt may take twice as long, once that is saved up",
}


class Decisions:
    """Writes down what was passed by: the heads of one activation, or the entries or exits of one loop, with the same reason as one record
    until a snapshot is taken.

    Args:
        event: takes the records (see `RunWriter.event`).
    """

    def __init__(self, event: Callable[..., None]) -> None:
        self._event = event
        self._open: dict[tuple[str, str], dict[str, Any]] = {}

    def passed(self, boundary: Boundary, why: str, needs: float, credit: float) -> None:
        """A boundary gets no snapshot. `needs`, `credit`: seconds that it would have cost, and that were saved up."""
        loop, entry, iteration = boundary
        at = "entry" if iteration == 0 else "head" if isinstance(iteration, int) else iteration
        run = self._open.get((loop, at))
        if run is None or run["why"] != why or (at == "head" and run["entry"] != entry):
            self._close(loop, at)
            run = self._open[loop, at] = {"loop": loop, "at": at, "entry": entry, "first": iteration, "why": why, "count": 0}
        run["count"] += 1
        run["last"], run["last_entry"] = iteration, entry
        run["needs"], run["credit"] = needs, credit

    def close(self) -> None:
        """A snapshot is taken, or the run ends."""
        for loop, at in list(self._open):
            self._close(loop, at)

    def _close(self, loop: str, at: str) -> None:
        run = self._open.pop((loop, at), None)
        if run is not None:
            run["needs"], run["credit"] = round(run["needs"], 6), round(run["credit"], 6)
            self._event("passed", **run)
