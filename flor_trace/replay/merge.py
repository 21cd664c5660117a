"""One ordered transcript from the workers' pieces, and the verdict.

Nothing here holds more than a few records at a time: a stretch of a transcript is read once for each thing that is
wanted of it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

from flor_trace.replay.coordinator import Outcome, Stretch
from flor_trace.replay.interrupted import Interruption, as_far_as
from flor_trace.replay.kept import describe_unit
from flor_trace.replay.lines import MOVE_UP, compare_output, split_lines
from flor_trace.replay.placement import Placer
from flor_trace.replay.plan import AFTER, Plan, Unit
from flor_trace.replay.repeats import KnownWarnings, Repeats
from flor_trace.replay.transcript import HINDSIGHT_NONE, read_transcript, survey

Record = Mapping[str, Any]
Skipped = list[tuple[int, int]]


class RecordedOutput(Protocol):
    """The recorded log."""

    def outputs(self, first: int = 0, last: int | None = None) -> Iterator[Record]:
        """The records number `first` to `last` - 1, read one at a time."""


class Keeper(Protocol):
    """Where the output of hindsight statements is kept (see `store.replays.ReplayWriter`)."""

    def unit(self, fields: Record) -> None:
        """A unit begins."""

    def output(self, fields: Record) -> None:
        """A hindsight statement wrote something."""


@dataclass
class OutputVerdict:
    """How replayed output compares with the recorded: lines that depend on the clock are no divergence, and neither are
    warnings that a worker shows because another one, or a skipped loop, had shown them before."""

    compared: int = 0
    clock_lines: int = 0
    repeated_warnings: int = 0
    differences: list[str] = field(default_factory=list)
    unit: int | None = None
    """The first unit whose output differs."""


class Merger:
    """Prints units in order as they complete, keeps what is new, and compares the rest with the recorded.

    Args:
        plan: gives the order.
        recorded: the recorded output.
        replaced: whether a recorded output record came from a log statement that has been edited or removed since.
        show_all: print the recorded log with the new lines in their places, and not the new lines alone.
        as_recorded: gives line numbers in replayed text the numbers that they had when recorded.
        emit: called with each record that is to be shown.
        first_output: the number of the first recorded output record of a unit, -1 if that is unknown.
        keeper: is given what hindsight statements wrote, if it is to be kept.
    """

    def __init__(
        self,
        plan: Plan,
        recorded: RecordedOutput,
        replaced: Callable[[str], bool],
        show_all: bool,
        as_recorded: Callable[[str], str],
        emit: Callable[[Record], None],
        first_output: Callable[[Unit], int] = lambda unit: unit.outputs[0],
        keeper: Keeper | None = None,
    ) -> None:
        self._plan = plan
        self._recorded = recorded
        self._replaced = replaced
        self._as_recorded = as_recorded
        self._first_output = first_output
        self._show_all = show_all
        self._emit = emit
        self._keeper = keeper
        self._next = 0
        self._known = KnownWarnings()
        self._learnt = 0
        self._placer: Placer | None = None
        self.verdict = OutputVerdict()

    def completed(self, unit: int, outcome: Outcome) -> None:
        """A unit's transcript is complete: print it and all that waited for it."""
        while self._next < len(self._plan.units) and self._next in outcome.stretches:
            self._print(self._plan.units[self._next], outcome.stretches[self._next], outcome.interrupted.get(self._next))
            self._next += 1

    def rest(self, outcome: Outcome) -> None:
        """Print what is complete behind a unit that failed."""
        for unit in self._plan.units[self._next :]:
            if unit.index in outcome.stretches:
                self._print(unit, outcome.stretches[unit.index], outcome.interrupted.get(unit.index))

    def _print(self, unit: Unit, stretch: Stretch, interruption: Interruption | None) -> None:
        found = survey(stretch.file, stretch.start, stretch.end)
        start = unit.outputs[0]
        self._learn(start, found.skipped)
        expected = _Expected(self, unit, found.skipped, interruption) if start >= 0 else ()
        nested = found.nested or any(MOVE_UP in output["text"] for output in expected)
        if self._keeper is not None:
            self._keeper.unit(describe_unit(self._plan, unit))
        repeats = Repeats(expected, self._known)
        # Reading stderr shows the whole stretch, in its order, as it goes along.
        shown = self._show(stretch, repeats, self._place_at(unit))
        if start >= 0:
            self._compare("stderr", expected, shown, nested, interruption)
            self._compare("stdout", expected, self._recorded_text(stretch, "stdout"), nested, interruption)
        deque(shown, maxlen=0)
        if self.verdict.differences and self.verdict.unit is None:
            self.verdict.unit = unit.index
        self.verdict.repeated_warnings += repeats.dropped

    def _learn(self, start: int, skipped: Skipped) -> None:
        """Take in the warnings of what precedes a stretch, and of what was skipped in it."""
        for first, last in [(self._learnt, start), *skipped]:
            if last > self._learnt:
                self._known.learn(self._recorded.outputs(max(first, self._learnt), last))
        self._learnt = max(self._learnt, start, 0)

    def _place_at(self, unit: Unit) -> Placer:
        first = self._first_output(unit)
        if self._placer is None or not (unit.kind == AFTER and first < 0):
            self._placer = Placer(self._recorded.outputs, first, self._as_recorded)
        return self._placer

    def _show(self, stretch: Stretch, repeats: Repeats, placer: Placer) -> Iterator[str]:
        """Show and keep what is to be; gives what recorded code wrote to stderr."""
        for record in read_transcript(stretch.file, stretch.start, stretch.end):
            if "skip" in record:
                first, last = record["skip"]
                if self._show_all:
                    for output in self._recorded.outputs(first, last):
                        self._emit({**output, "new": HINDSIGHT_NONE})
                placer.skip(last)
                continue
            new = record["new"]
            if new == HINDSIGHT_NONE:
                if record["stream"] == "stderr":
                    record["text"] = repeats.drop(record["text"], self._as_recorded)
                    yield record["text"]
                placer.passed(record)
            elif self._keeper is not None:
                fields = {key: record[key] for key in ("stream", "text", "at", "line")}
                calls = [self._as_recorded(call) for call in record.get("calls", ())]
                self._keeper.output({**fields, "calls": calls, "statement": new, "place": placer.place(record["at"])})
            if record["text"] and (self._show_all or new != HINDSIGHT_NONE):
                self._emit(record)

    def _recorded_text(self, stretch: Stretch, stream: str) -> Iterator[str]:
        records = read_transcript(stretch.file, stretch.start, stretch.end, stream)
        return (record["text"] for record in records if record["new"] == HINDSIGHT_NONE)

    def expected(self, unit: Unit, skipped: Skipped, interruption: Interruption | None) -> Iterator[Record]:
        """The recorded output that a unit has to give again."""
        number, last = unit.outputs
        if interruption is not None:
            last = interruption.end(self._recorded.outputs(interruption.outputs))
        # A loop that is skipped within another skipped one is not told of, so the ranges ascend.
        for first, behind in [*skipped, (last, last)]:
            for output in self._recorded.outputs(number, first):
                if not self._replaced(output["line"]):
                    yield output
            number = max(number, behind or 0)

    def _compare(
        self, stream: str, expected: Iterable[Record], replayed: Iterator[str], nested: bool, interruption: Interruption | None
    ) -> None:
        def lines() -> Iterator[str]:
            return split_lines(o["text"] for o in expected if o["stream"] == stream)

        then = _Counting(lines())
        now: Iterator[str] = map(self._as_recorded, split_lines(replayed))
        if interruption is not None:
            now = as_far_as(lines(), now)
        comparison = compare_output(then, now, nested)
        deque(now, maxlen=0)
        deque(then, maxlen=0)
        self.verdict.compared += then.count
        self.verdict.clock_lines += comparison.clock_count
        pair = comparison.first_difference
        if pair is not None:
            self.verdict.differences.append(f"{stream}: recorded {pair.recorded!r}, replayed {pair.replayed!r}")


@dataclass(frozen=True)
class _Expected:
    """The recorded output that a unit has to give again, read anew each time that it is gone over."""

    merger: Merger
    unit: Unit
    skipped: Skipped
    interruption: Interruption | None

    def __iter__(self) -> Iterator[Record]:
        return self.merger.expected(self.unit, self.skipped, self.interruption)


class _Counting(Iterator[str]):
    """Counts what passes."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.count = 0

    def __next__(self) -> str:
        line = next(self._lines)
        self.count += 1
        return line


def as_text(stdout: TextIO, stderr: TextIO) -> Callable[[Mapping[str, Any]], None]:
    """Show records as the script would have written them, and what it would have sent to a tracker on stdout."""

    def emit(record: Mapping[str, Any]) -> None:
        stream = stderr if record["stream"] == "stderr" else stdout
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
