"""Numbers in what a run printed: each belongs to the words before it ("train loss 2.23, accuracy 0.33"), and so to a series."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flor_trace.errors import UsageError

# Not within a word, a version or a date: conv1, 2.13.0, 2026-11-23.
_NUMBER = re.compile(r"(?<![\w.])(?<!\d-)[-+]?(?:\d+\.\d*|\.\d+|\d+|inf|nan)(?:[eE][-+]?\d+)?(?![\w]|\.\d|-\d)")
_LETTER = re.compile(r"[^\W\d_]")
_LABEL_ENDS = ",;|\t()[]{}"


@dataclass(slots=True)
class Series:
    """The values of one name. `at` holds for each the iteration of the run's outermost loop in which it was printed, or None."""

    name: str
    values: list[float] = field(default_factory=list)
    at: list[int | None] = field(default_factory=list)

    @property
    def places(self) -> list[int]:
        """Where to draw the values: at their iterations, if each has one of its own, else one after the other."""
        known = [place for place in self.at if place is not None]
        if len(known) == len(self.at) == len(set(known)):
            return known
        return list(range(1, len(self.values) + 1))

    @property
    def by_iteration(self) -> bool:
        """Whether `places` are iterations of the outermost loop."""
        return None not in self.at and len(set(self.at)) == len(self.at)


def series_of(log: Iterable[Mapping[str, Any]]) -> list[Series]:
    """All series of a log (`merged_log`), in the order in which their names first occur."""
    found: dict[str, Series] = {}
    for line, at in _lines(log):
        for name, value in numbers_in(line):
            series = found.setdefault(name.lower(), Series(name))
            series.values.append(value)
            series.at.append(at[0][2] if at else None)
    return list(found.values())


def chosen(series: Sequence[Series], name: str) -> list[Series]:
    """The series of that name, or else those whose names contain it.

    Raises:
        UsageError: there is none.
    """
    wanted = name.lower()
    found = [one for one in series if one.name.lower() == wanted] or [one for one in series if wanted in one.name.lower()]
    if not found:
        known = ", ".join(one.name for one in series) or "none"
        raise UsageError(f"the run printed no numbers after {name!r}; it did after: {known}")
    return found


def numbers_in(line: str) -> Iterator[tuple[str, float]]:
    """The numbers of a line that have words before them, with these words."""
    end = 0
    for match in _NUMBER.finditer(line):
        name = _label(line[end : match.start()])
        end = match.end()
        if name:
            yield name, float(match.group())


def _label(between: str) -> str:
    """The last words before a number: `, 'val loss': ` gives `val loss`."""
    text = between.rstrip(" \t:=\"'~≈")
    for mark in _LABEL_ENDS:
        text = text.rpartition(mark)[2]
    text = text.strip(" :=\"'-/%.*#>")
    return text if _LETTER.search(text) else ""


def _lines(log: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Whole lines with the position of their end; a progress bar's line counts as it stood last."""
    open_lines: dict[tuple[str, str], str] = {}
    for record in log:
        source = (record["origin"], record["stream"])
        *whole, rest = (open_lines.pop(source, "") + record["text"]).split("\n")
        for line in whole:
            yield line.rstrip("\r").rpartition("\r")[2], record["at"]
        if rest:
            open_lines[source] = rest
    for rest in open_lines.values():
        yield rest.rpartition("\r")[2], ()
