"""A recording that was ended by Ctrl-C, which replay does not meet again: how far its output goes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from flor_trace.replay.history import count_within

KEYBOARD_INTERRUPT = "KeyboardInterrupt"


class Interruption(NamedTuple):
    """The activation that was interrupted: its loop, its entry, and how many output records there were before it."""

    loop: str
    entry: int
    outputs: int

    def end(self, behind: Iterable[Mapping[str, Any]]) -> int:
        """The number of the first output record that was written after the interruption, such as the traceback.

        Args:
            behind: the output records from number `outputs` on.
        """
        return self.outputs + count_within((self.loop, self.entry), behind)


def as_far_as(recorded: Iterable[str], replayed: Iterable[str]) -> Iterator[str]:
    """As many replayed lines as the recording had come to, and of the last no more than it had written."""
    count, last = 0, ""
    for last in recorded:  # noqa: B007 - wanted behind the loop
        count += 1
    for number, line in enumerate(replayed, start=1):
        if number <= count:
            yield line[: len(last)] if number == count and not last.endswith("\n") else line
