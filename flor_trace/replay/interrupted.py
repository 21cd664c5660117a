"""A recording that was ended by Ctrl-C, which replay does not meet again: how far its output goes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

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
        within = itertools.takewhile(lambda record: any(tuple(place[:2]) == self[:2] for place in record["at"]), behind)
        return self.outputs + sum(1 for _ in within)


def as_far_as(recorded: Iterable[str], replayed: Iterable[str]) -> Iterator[str]:
    """As many replayed lines as the recording had come to, and of the last no more than it had written."""
    count, last = 0, ""
    for last in recorded:  # noqa: B007 - wanted behind the loop
        count += 1
    for number, line in enumerate(replayed, start=1):
        if number <= count:
            yield line[: len(last)] if number == count and not last.endswith("\n") else line
