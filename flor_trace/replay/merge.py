"""One ordered transcript from the workers' pieces, and the verdict."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TextIO

from flor_trace.replay.coordinator import Outcome
from flor_trace.replay.lines import compare_output
from flor_trace.replay.plan import Plan, Unit
from flor_trace.replay.repeats import Repeats
from flor_trace.replay.transcript import HINDSIGHT_NONE, read_transcript

STREAMS = ("stdout", "stderr")


@dataclass
class OutputVerdict:
    """How replayed output compares with the recorded: lines that depend on the clock are no divergence, and neither are
    warnings that a worker shows because another one, or a skipped loop, had shown them before."""

    compared: int = 0
    clock_lines: int = 0
    repeated_warnings: int = 0
    differences: list[str] = field(default_factory=list)


class Merger:
    """Prints units in order as they complete, and compares their output with the recorded.

    Args:
        plan: gives the order.
        recorded: the recorded output records, in order.
        replaced: whether a recorded output record came from a log statement that has been edited or removed since.
        as_recorded: gives line numbers in replayed text the numbers that they had when recorded.
        show_all: print the recorded log with the new lines in their places, and not the new lines alone.
        emit: called with each record that is to be shown.
    """

    def __init__(
        self,
        plan: Plan,
        recorded: Sequence[Mapping[str, Any]],
        replaced: Callable[[str], bool],
        show_all: bool,
        as_recorded: Callable[[str], str],
        emit: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._plan = plan
        self._recorded = recorded
        self._replaced = replaced
        self._show_all = show_all
        self._as_recorded = as_recorded
        self._emit = emit
        self._next = 0
        self.verdict = OutputVerdict()

    def completed(self, unit: int, outcome: Outcome) -> None:
        """A unit's transcript is complete: print it and all that waited for it."""
        while self._next < len(self._plan.units) and self._next in outcome.stretches:
            self._print(self._plan.units[self._next], outcome)
            self._next += 1

    def rest(self, outcome: Outcome) -> None:
        """Print what is complete behind a unit that failed."""
        for unit in self._plan.units[self._next :]:
            if unit.index in outcome.stretches:
                self._print(unit, outcome)

    def _print(self, unit: Unit, outcome: Outcome) -> None:
        stretch = outcome.stretches[unit.index]
        records = list(read_transcript(stretch.file, stretch.start, stretch.end))
        skipped = [(record["skip"][0], record["skip"][1]) for record in records if "skip" in record]
        start, end = unit.outputs
        expected = list(self._expected(start, end, skipped)) if start >= 0 else []
        jumped_over = [self._recorded[: max(start, 0)], *(self._recorded[first:last] for first, last in skipped)]
        repeats = Repeats(expected, chain.from_iterable(jumped_over))
        replayed: dict[str, list[str]] = {s: [] for s in STREAMS}
        for record in records:
            if "skip" in record:
                if self._show_all:
                    first, last = record["skip"]
                    for output in self._recorded[first:last]:
                        self._emit({**output, "new": HINDSIGHT_NONE})
                continue
            if record["new"] == HINDSIGHT_NONE:
                if record["stream"] == "stderr":
                    record["text"] = repeats.drop(record["text"], self._as_recorded)
                replayed[record["stream"]].append(record["text"])
            if self._show_all or record["new"] != HINDSIGHT_NONE:
                self._emit(record)
        self.verdict.repeated_warnings += repeats.dropped
        if start >= 0:
            self._compare(expected, replayed)

    def _expected(
        self, first: int, last: int | None, skipped: list[tuple[int, int]]
    ) -> Iterator[Mapping[str, Any]]:
        end = len(self._recorded) if last is None else last
        for number in range(first, end):
            if any(a <= number < b for a, b in skipped):
                continue
            output = self._recorded[number]
            if not self._replaced(output["line"]):
                yield output

    def _compare(self, expected: Iterable[Mapping[str, Any]], replayed: Mapping[str, list[str]]) -> None:
        expected = list(expected)
        for stream in STREAMS:
            then = _lines("".join(o["text"] for o in expected if o["stream"] == stream))
            now = _lines(self._as_recorded("".join(replayed[stream])))
            comparison = compare_output(then, now)
            self.verdict.compared += len(then)
            self.verdict.clock_lines += len(comparison.clock_dependent)
            pair = comparison.first_difference
            if pair is not None:
                self.verdict.differences.append(f"{stream}: recorded {pair.recorded!r}, replayed {pair.replayed!r}")


def _lines(text: str) -> list[str]:
    """The lines with their ends; `str.splitlines` would split at carriage returns and form feeds too."""
    *whole, rest = text.split("\n")
    return [line + "\n" for line in whole] + ([rest] if rest else [])


def as_text(stdout: TextIO, stderr: TextIO) -> Callable[[Mapping[str, Any]], None]:
    """Show records as the script would have written them."""

    def emit(record: Mapping[str, Any]) -> None:
        stream = stdout if record["stream"] == "stdout" else stderr
        stream.write(record["text"])
        stream.flush()

    return emit


def as_json(stdout: TextIO) -> Callable[[Mapping[str, Any]], None]:
    """Show records as JSON, one a line."""

    def emit(record: Mapping[str, Any]) -> None:
        fields = {
            "origin": "recorded" if record["new"] == HINDSIGHT_NONE else "hindsight",
            "stream": record["stream"],
            "text": record["text"],
            "position": [list(place) for place in record["at"]],
            "line": record["line"],
        }
        stdout.write(json.dumps(fields) + "\n")
        stdout.flush()

    return emit
