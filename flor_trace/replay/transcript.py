"""A worker's transcript: one JSON line per record, a file per worker, read unit by unit by the coordinator."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flor_trace.replay.lines import MOVE_UP
from flor_trace.runtime.output import Joiner
from flor_trace.store.files import move_up

HINDSIGHT_NONE = -1


class TranscriptWriter:
    """Collects what the script writes while its unit is owned.

    A record is `{stream, text, new, at, line}`: `new` is the number of the hindsight statement that wrote it, or -1; then `calls` are the
    lines, outermost first, that called the function in which it stands (none: left out). A
    record `{skip: [a, b]}` stands for recorded output records a..b-1, whose loop was skipped.
    """

    def __init__(self, path: Path) -> None:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._file = open(move_up(opened), "w", encoding="utf-8")
        self._joiner = Joiner(self._write)

    def write(
        self, stream: str, text: str, new: int, at: list[list[Any]], line: str, calls: Sequence[str] = ()
    ) -> None:
        """Add a record, joined with the last one if both come from the same place."""
        more = {"calls": list(calls)} if calls else {}
        self._joiner.add(text, stream=stream, new=new, at=at, line=line, **more)

    def skip(self, first: int, last: int) -> None:
        """Recorded output records `first`..`last`-1 were skipped here."""
        if last > first:
            self._joiner.flush()
            self._write({"skip": [first, last]})

    def position(self) -> int:
        """Make all records so far readable; the file's size."""
        self._joiner.flush()
        self._file.flush()
        return self._file.tell()

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")


def read_transcript(path: Path, start: int, end: int, stream: str | None = None) -> Iterator[dict[str, Any]]:
    """The records between two positions of a worker's file; with `stream` only what was written to that one."""
    beginning = f'{{"stream": "{stream}"'.encode() if stream is not None else b""
    for line in _lines(path, start, end):
        if line.startswith(beginning):
            yield json.loads(line)


@dataclass
class Survey:
    """What must be known of a stretch before it is read: which recorded records were skipped, and whether the cursor moves up."""

    skipped: list[tuple[int, int]]
    nested: bool


def survey(path: Path, start: int, end: int) -> Survey:
    """Look through a stretch of a worker's file."""
    found = Survey([], False)
    for line in _lines(path, start, end):
        if line.startswith(b'{"skip"'):
            first, last = json.loads(line)["skip"]
            found.skipped.append((first, last))
        found.nested = found.nested or _MOVES_UP in line
    return found


_MOVES_UP = json.dumps(MOVE_UP).strip('"').encode()


def _lines(path: Path, start: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        at = start
        while at < end:
            line = file.readline()
            at += len(line)
            yield line
