"""Compare recorded output lines with replayed ones, setting apart those that differ only by the clock.

A line is only masked when it differs, so masks need not be narrow to be safe for equal output; they are narrow all
the same, because a loss hidden by a mask would be a divergence not reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_NUMBER = r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_PER = (
    r"(?:[kMG]?i?B|[kKM]?(?:it|its|iters?|iterations?|batch(?:es)?|samples?|images?|imgs?|tok|tokens?|steps?|ex|examples?"
    r"|epochs?|frames?|words?|wps|rows?|s|ms|us|sec|secs|seconds?))"
    r" ?/ ?(?:s|ms|us|sec|secs|second|min|h|it|iter|iteration|batch|step|epoch|sample|image|img|token)\b"
)
_UNIT = r"(?:ns|us|µs|μs|ms|msec|msecs|milliseconds?|s|sec|secs|seconds?|mins|minutes?|h|hrs?|hours?|days?)\b"
_TIMED = (
    r"\b(?:\w*_)?(?:time(?!_?steps?\b)|elapsed|took|takes|duration|runtime|walltime|latency|speed|throughput|fps|ips"
    r"|dt|tokens_per_sec(?:ond)?|samples_per_sec(?:ond)?|steps_per_sec(?:ond)?|mfu|timestamp)(?:_\w+)?\b"
)
_DAY, _MONTH = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)", "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_CLOCK_TIME = r"\d{1,3}:\d{2}:\d{2}(?:[.,]\d+)?"
_CTIME = rf"{_DAY},? +(?:\d{{1,2}} +)?{_MONTH}(?: +\d{{1,2}})? (?:\d{{4}} )? *{_CLOCK_TIME}(?: [A-Z]{{3,4}})?(?: \d{{4}})?"

_MASKS = [
    (re.compile(_CTIME), "<time>"),
    (re.compile(rf"\d{{4}}-\d\d-\d\d[T _]{_CLOCK_TIME}(?: ?Z|[+-]\d\d:?\d\d)?"), "<time>"),
    (re.compile(r"\b\d{4}[-/.]\d\d[-/.]\d\d(?:[ _T-]\d\d[-_:]?\d\d(?:[-_:]?\d\d)?)?\b|\b\d{8}[-_T]\d{4,6}\b"), "<time>"),
    (re.compile(r"\b\d{1,2}/\d{1,2}/\d{2,4}\b"), "<time>"),
    (re.compile(rf"\b{_MONTH}\.? ?\d{{1,2}},?(?:[ _-]\d{{4}})?(?:[ _-]{_CLOCK_TIME}|[_-]\d\d-\d\d-\d\d)?\b"), "<time>"),
    (re.compile(rf"(?:\d+ days?, )?\b{_CLOCK_TIME}\b"), "<time>"),
    (re.compile(r"\[(?:\d+:)?\d\d?:\d\d<[^\]]*\]"), "<time>"),
    (re.compile(r"\b(eta|elapsed|time|remaining|left|took|in|<)(\W{0,3})\d{1,3}:\d\d\b", re.IGNORECASE), r"\1\2<time>"),
    (re.compile(r"\b1[6-9]\d{8}(?:\.\d+)?\b"), "<time>"),
    # `ms/batch  5.43`: the number after the unit, not the one before it
    (re.compile(rf"({_PER})(\s*[:=|]?\s*){_NUMBER}", re.IGNORECASE), r"\1\2<rate>"),
    (re.compile(rf"{_NUMBER} ?{_PER}(?!\s*[:=|]?\s*<rate>)", re.IGNORECASE), "<rate>"),
    (re.compile(r"\b(?:\d+ ?h ?)?\d+ ?m ?\d+(?:\.\d+)? ?s\b"), "<duration>"),
    (re.compile(rf"({_TIMED}[\"']?(?:\s*\([^)\d]*\))?)(\s*[:=|]?\s*){_NUMBER} ?%?(?:{_UNIT})?", re.IGNORECASE), r"\1\2<duration>"),
    (re.compile(rf"(\b(?:time|elapsed|duration|took)\b[a-z ]*\d*[a-z ]*[:=]\s*){_NUMBER}", re.IGNORECASE), r"\1<duration>"),
    (re.compile(rf"(?<![\w.]){_NUMBER} ?{_UNIT}(?! ?/)"), "<duration>"),
    (re.compile(r"\b0x[0-9a-f]{6,16}\b"), "<address>"),
]  # fmt: skip
MOVE_UP = "\x1b[A"
"""Moves the cursor up one line."""
_LONGEST_LINE = 1 << 16
_MOST_KEPT = 100
_SPACES = re.compile(r" +")
# A bar of tqdm, with or without a total: `loss:  30%|███   | 3/10 [00:03<00:10,  3.2it/s, acc=0.5]`, or a line with one of rich's:
# `epochs ━━━━━━━╸          60% 0:00:07`.
_BAR = re.compile(r"^.*?(?:\d+%\|.*?\| *[\d.kMG]+/[\d.kMG]+|\d+[a-zA-Z ]*) \[[\d:?]+(?:<[\d:?]+)?,[^\]]*\]|^.*[━╸╺]{5}.*$")
# A column of rich's that is too wide goes on in the next line, below its beginning.
_WRAPPED = " " * 10
# What trackers say of themselves: where a run is kept, that it is offline, how it went. In a replay they are offline, and quiet.
_OF_TRACKERS = re.compile(r"(?:wandb|swanlab|COMET \w+|\[neptune\] \[\w+ *\]|[\d/]+ [\d:]+ INFO (?:mlflow|alembic)\.[\w.]+): ?")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class LinePair:
    """A recorded and a replayed line that belong together; None where one side has ended."""

    recorded_index: int | None
    replayed_index: int | None
    recorded: str | None
    replayed: str | None


@dataclass(frozen=True)
class OutputComparison:
    """How replayed output compares with the recorded."""

    exact: int = 0
    """How many lines are equal."""
    clock_count: int = 0
    """How many lines are equal but for times, rates, dates, progress bars and addresses."""
    clock_dependent: list[LinePair] = field(default_factory=list)
    """The first ones of them."""
    first_difference: LinePair | None = None

    @property
    def same(self) -> bool:
        """Whether nothing differs but what depends on the clock."""
        return self.first_difference is None


def split_lines(texts: Iterable[str]) -> Iterator[str]:
    """The lines of a text that comes in pieces, with their ends, one at a time.

    `str.splitlines` would split at carriage returns and form feeds too. A line that gets very long (a progress bar, redrawn a
    million times) is cut at a carriage return, so that it need not be held whole; where depends on its text alone.
    """
    held: list[str] = []
    length = 0
    for text in texts:
        start = 0
        while start < len(text):
            end = text.find("\n", start) + 1
            if length + (end or len(text)) - start > _LONGEST_LINE:
                # The first carriage return beyond the limit, however the text was cut into pieces.
                cut = text.find("\r", max(start, start + _LONGEST_LINE - length), end or len(text)) + 1
                end = cut or end
            piece = text[start : end or len(text)]
            held.append(piece)
            length += len(piece)
            start += len(piece)
            if end:
                yield "".join(held)
                held, length = [], 0
    if held:
        yield "".join(held)


def compare_output(recorded: Iterable[str], replayed: Iterable[str], nested: bool | None = None) -> OutputComparison:
    """Compare two outputs line by line, up to the first line that differs by more than the clock.

    How often a progress bar is redrawn depends on the clock, and what trackers say on where they write, so such lines are not paired.

    Args:
        recorded, replayed: the lines, as `split_lines` makes them.
        nested: whether either output has nested bars, which move the cursor with line feeds and back with `MOVE_UP`; None: the
            lines are looked through for that first, and so must all be held.
    """
    if nested is None:
        recorded, replayed = list(recorded), list(replayed)
        nested = any(MOVE_UP in line for lines in (recorded, replayed) for line in lines)
    old, new = _Reader(recorded), _Reader(replayed)
    exact = count = 0
    clock: list[LinePair] = []
    while True:
        if old.text is not None and old.text == new.text:
            exact += 1
            old.advance()
            new.advance()
            continue
        bars = False
        for reader in (old, new):
            if reader.text is not None and (is_beside_the_run(reader.text) or reader.wraps() or (nested and not reader.text.strip())):
                count += 1
                if count <= _MOST_KEPT:
                    clock.append(_pair(old if reader is old else None, new if reader is new else None))
                reader.advance()
                bars = True
        if bars:
            continue
        if old.text is None and new.text is None:
            return OutputComparison(exact, count, clock)
        pair = _pair(old, new)
        if old.text is None or new.text is None or mask(old.text) != mask(new.text):
            return OutputComparison(exact, count, clock, pair)
        count += 1
        if count <= _MOST_KEPT:
            clock.append(pair)
        old.advance()
        new.advance()


def mask(line: str) -> str:
    """The line with everything that depends on the clock replaced by what it is."""
    shown = _without_progress(line)
    for pattern, replacement in _MASKS:
        shown = pattern.sub(replacement, shown)
    # Numbers are padded to a width: `time  9.5` and `time 10.1`.
    return _SPACES.sub(" ", shown).strip()


def is_beside_the_run(line: str) -> bool:
    """Whether a line shows nothing that the script computes: a progress bar, or what an experiment tracker says of itself."""
    return is_only_progress(line) or _OF_TRACKERS.match(_ANSI.sub("", line)) is not None


def is_only_progress(line: str) -> bool:
    """Whether a line, or a piece of one that ends in a carriage return, shows nothing but a progress bar."""
    if not line.strip():
        return "\r" in line.removesuffix("\r\n")  # a bar was wiped out
    drawn = "\r" in line.strip("\r\n") or MOVE_UP in line or _BAR.search(line) is not None
    return drawn and not _without_progress(line)


def _without_progress(line: str) -> str:
    """What stays on the screen of a line, less progress bars."""
    text = _ANSI.sub("", line).rstrip("\r\n")
    drawn = [part for part in text.split("\r") if part.strip()]
    if not drawn:
        return ""
    # Earlier parts were overwritten; how many there are depends on the clock if they are bars.
    return _BAR.sub("", drawn[-1]).strip() if len(drawn) > 1 or _BAR.search(drawn[-1]) else drawn[-1]


class _Reader:
    """A place in lines that come one at a time."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._above: str | None = None
        self._wraps = self._below_wrapped = False
        self.index = 0
        self.text = next(self._lines, None)

    def advance(self) -> None:
        self._above, self._below_wrapped, self._wraps = self.text, self._wraps, False
        self.index += 1
        self.text = next(self._lines, None)

    def wraps(self) -> bool:
        """Whether the line is what the progress bar above it had no room for."""
        if self.text is not None and self._above is not None and _ANSI.sub("", self.text).startswith(_WRAPPED):
            self._wraps = self._below_wrapped or _BAR.search(self._above) is not None
        return self._wraps


def _pair(old: _Reader | None, new: _Reader | None) -> LinePair:
    return LinePair(
        old.index if old is not None and old.text is not None else None,
        new.index if new is not None and new.text is not None else None,
        old.text if old is not None else None,
        new.text if new is not None else None,
    )
