"""How far a replay is, on a terminal: a row for each worker and the time that is left (rich), or one line of text without rich.

Shown on stderr alone, and only where that is a terminal. What the script prints goes on as ever: before a line of output the
display is taken away, and it comes back behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

REDRAW = 0.25  # seconds


@dataclass(slots=True)
class _Work:
    what: str
    expected: float
    since: float


class Tally:
    """What is done, what is being done by whom, and how long the rest will take.

    Args:
        expected: by unit, the seconds that it is expected to take.
        workers: how many there are at most.
        clock: the time in seconds.
    """

    def __init__(self, expected: Mapping[int, float], workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.expected = dict(expected)
        self.workers = workers
        self.now = clock
        self.began = clock()
        self.done = 0
        self.working: dict[int, _Work] = {}
        self._left = dict(expected)
        self._units: dict[int, int] = {}
        self._took = self._estimated = 0.0

    def begins(self, worker: int, unit: int, what: str) -> None:
        """A worker has begun a unit."""
        self._units[worker] = unit
        self.working[worker] = _Work(what, self.expected.get(unit, 0.0), self.now())

    def ends(self, worker: int, done: bool) -> None:
        """A worker has done its unit, or is gone without."""
        unit, work = self._units.pop(worker, None), self.working.pop(worker, None)
        if done and unit is not None and work is not None:
            self.done += 1
            self._left.pop(unit, None)
            self._took += self.now() - work.since
            self._estimated += work.expected

    def left(self) -> float | None:
        """Seconds until the end, None while there is nothing to go by: the estimate, stretched as it has proved wrong so far."""
        if self._estimated <= 0.0:
            return None
        stretched = self._took / self._estimated
        running = [max(work.expected * stretched - (self.now() - work.since), 0.0) for work in self.working.values()]
        waiting = stretched * sum(seconds for unit, seconds in self._left.items() if unit not in self._units.values())
        return max((sum(running) + waiting) / max(self.workers, 1), *running, 0.0)


class Progress:
    """Shows nothing; the base of what does. `interval`: seconds between two calls of `redraw`, None for never."""

    interval: float | None = None

    def __init__(self, tally: Tally) -> None:
        self.tally = tally

    def redraw(self) -> None:
        """Bring the display up to date."""

    def clear(self) -> None:
        """Take the display away, until the next `redraw`."""

    def around(self, emit: Callable[[Mapping[str, Any]], None]) -> Callable[[Mapping[str, Any]], None]:
        """`emit`, with the display out of the way."""
        return emit


class _Shown(Progress):
    interval = REDRAW

    def __init__(self, tally: Tally, stream: TextIO, shares_terminal: bool) -> None:
        super().__init__(tally)
        self.stream = stream
        self._shares = shares_terminal
        self._at_line_start = True
        self._due = float("-inf")

    def redraw(self) -> None:
        if self._at_line_start and self.tally.now() >= self._due:
            self._due = self.tally.now() + REDRAW
            self.draw()

    def draw(self) -> None:
        """Show how things stand."""
        raise NotImplementedError

    def around(self, emit: Callable[[Mapping[str, Any]], None]) -> Callable[[Mapping[str, Any]], None]:
        def emit_clear(record: Mapping[str, Any]) -> None:
            if self._shares or record["stream"] == "stderr":
                self.clear()
                self._at_line_start = record["text"].endswith("\n")
            emit(record)

        return emit_clear


class Line(_Shown):
    """One line of text."""

    def draw(self) -> None:
        tally = self.tally
        self.stream.write(f"\r\x1b[Kreplay: {summary(tally)}")
        self.stream.flush()

    def clear(self) -> None:
        self.stream.write("\r\x1b[K")
        self.stream.flush()


class Rows(_Shown):
    """A row for each worker, drawn by rich.

    Raises:
        ImportError: rich is not installed.
    """

    def __init__(self, tally: Tally, stream: TextIO, shares_terminal: bool) -> None:
        super().__init__(tally, stream, shares_terminal)
        from rich.console import Console
        from rich.live import Live
        from rich.table import Table

        self._table = Table
        self._live = Live(
            console=Console(file=stream), auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )

    def draw(self) -> None:
        self._live.update(self._rows())
        if not self._live.is_started:
            self._live.start()
        self._live.refresh()

    def clear(self) -> None:
        if self._live.is_started:
            self._live.stop()

    def _rows(self) -> Any:
        tally = self.tally
        table = self._table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for worker, work in sorted(tally.working.items()):
            of = f" of about {short_time(work.expected)}" if work.expected >= 1.0 else ""
            table.add_row(f"worker {worker}", work.what, short_time(tally.now() - work.since) + of)
        table.add_row("replay", summary(tally), "")
        return table


def progress_for(tally: Tally, stderr: TextIO | None, stdout: TextIO | None) -> Progress:
    """What suits these streams."""
    if stderr is None or not stderr.isatty():
        return Progress(tally)
    shares = stdout is not None and stdout.isatty()
    try:
        return Rows(tally, stderr, shares)
    except ImportError:
        return Line(tally, stderr, shares)


def summary(tally: Tally) -> str:
    """Such as `3 of 8 units, 2 workers, 12 s, about 20 s left`."""
    left = tally.left()
    rest = "" if left is None else f", about {short_time(left)} left"
    count = len(tally.working)
    workers = f"{count} worker{'s' * (count != 1)}"
    return f"{tally.done} of {len(tally.expected)} units, {workers}, {short_time(tally.now() - tally.began)}{rest}"


def short_time(seconds: float) -> str:
    """Such as 12 s, 3:07, 1:02:30."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
