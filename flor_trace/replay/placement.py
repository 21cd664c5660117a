"""Where in the recorded log the output of hindsight statements belongs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]
_WINDOW = 1000


class Placer:
    """Follows the recorded log while its replayed lines pass by; `place` is how far it has come.

    A place is the number of a recorded output record, and how many of its characters come before. Recorded and
    replayed records are cut differently (a hindsight statement splits what had been joined), so they are followed character
    by character, and where the clock makes them differ line by line.

    Args:
        outputs: the recorded output records from a number on.
        start: the number of the first one that can be met; -1: that is found by the position of the first record.
        as_recorded: gives line numbers the values that they had when recorded.
    """

    def __init__(
        self, outputs: Callable[[int, int | None], Iterator[Record]], start: int, as_recorded: Callable[[str], str]
    ) -> None:
        self._outputs = outputs
        self._as_recorded = as_recorded
        self._number = start
        self._used = 0
        self._window: deque[Record] = deque()
        self._rest = iter(()) if start < 0 else outputs(start, None)

    def place(self, at: Sequence[Sequence[Any]]) -> list[int]:
        """The place of something that is written now, at position `at`."""
        self._find(at)
        return [self._number, self._used]

    def skip(self, last: int) -> None:
        """A loop was skipped: the next recorded record is `last`."""
        while self._number < last and self._current() is not None:
            self._advance()

    def passed(self, record: Record) -> None:
        """A recorded line has been replayed."""
        self._find(record["at"])
        key = (record["stream"], self._as_recorded(record["line"]))
        if not self._seek(key):
            return
        text = self._as_recorded(record["text"])
        while text:
            current = self._current()
            if current is None or _key(current) != key:
                return
            rest = current["text"][self._used :]
            if rest.startswith(text):
                self._used += len(text)
                text = ""
            elif text.startswith(rest):
                text = text[len(rest) :]
                self._used += len(rest)
            else:
                text = self._pass_lines(rest, text)
            if self._used >= len(current["text"]):
                self._advance()

    def _pass_lines(self, rest: str, text: str) -> str:
        """Pass as many lines of `rest` as `text` has; gives what is left of `text`."""
        lines = text.count("\n")
        have = rest.count("\n")
        if have <= lines:
            self._used += len(rest) if lines else 0
            return text.split("\n", have)[-1] if have < lines else ""
        end = 0
        for _ in range(lines):
            end = rest.index("\n", end) + 1
        self._used += end
        return ""

    def _seek(self, key: tuple[str, str]) -> bool:
        """Go to the next record with a key, if there is one not far away."""
        current = self._current()
        if current is not None and _key(current) == key:
            return True
        while len(self._window) < _WINDOW:
            record = next(self._rest, None)
            if record is None:
                break
            self._window.append(record)
        ahead = next((n for n, record in enumerate(self._window) if _key(record) == key), None)
        for _ in range(ahead or 0):
            self._advance()
        return ahead is not None

    def _current(self) -> Record | None:
        if not self._window:
            record = next(self._rest, None)
            if record is None:
                return None
            self._window.append(record)
        return self._window[0]

    def _advance(self) -> None:
        self._window.popleft()
        self._number += 1
        self._used = 0

    def _find(self, at: Sequence[Sequence[Any]]) -> None:
        """Begin at the first recorded record that was written at or after a position."""
        if self._number >= 0:
            return
        self._number = 0
        for record in self._outputs(0, None):
            if _reached(record["at"], at):
                break
            self._number += 1
        self._rest = self._outputs(self._number, None)


def _key(record: Record) -> tuple[str, str]:
    return record["stream"], record["line"]


def _reached(there: Sequence[Sequence[Any]], at: Sequence[Sequence[Any]]) -> bool:
    """Whether a recorded position lies in or behind the iteration of the outermost loop of `at`."""
    if not at or not there:
        return not at
    (loop, entry, iteration), (other_loop, other_entry, other_iteration) = at[0], there[0]
    return loop == other_loop and (other_entry, other_iteration) >= (entry, iteration)
