"""A worker's transcript: one JSON line per record, a file per worker, read unit by unit by the coordinator."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flor_trace.store.files import move_up

HINDSIGHT_NONE = -1


class TranscriptWriter:
    """Collects what the script writes while its unit is owned.

    A record is `{stream, text, new, at, line}`: `new` is the number of the hindsight statement that wrote it, or -1. A
    record `{skip: [a, b]}` stands for recorded output records a..b-1, whose loop was skipped.
    """

    def __init__(self, path: Path) -> None:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._file = open(move_up(opened), "w", encoding="utf-8")
        self._pending: dict[str, Any] | None = None

    def write(self, stream: str, text: str, new: int, at: list[list[Any]], line: str) -> None:
        """Add a record, joined with the last one if both come from the same place."""
        pending = self._pending
        if (
            pending is not None
            and pending["new"] == new
            and pending["stream"] == stream
            and pending["line"] == line
            and pending["at"] == at
            and len(pending["text"]) < 1000
        ):
            pending["text"].append(text)
            return
        self._flush_pending()
        self._pending = {"stream": stream, "text": [text], "new": new, "at": at, "line": line}

    def skip(self, first: int, last: int) -> None:
        """Recorded output records `first`..`last`-1 were skipped here."""
        if last > first:
            self._flush_pending()
            self._file.write(json.dumps({"skip": [first, last]}) + "\n")

    def position(self) -> int:
        """Make all records so far readable; the file's size."""
        self._flush_pending()
        self._file.flush()
        return self._file.tell()

    def _flush_pending(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending["text"] = "".join(pending["text"])
            self._file.write(json.dumps(pending) + "\n")


def read_transcript(path: Path, start: int, end: int) -> Iterator[dict[str, Any]]:
    """The records between two positions of a worker's file."""
    with path.open("rb") as file:
        file.seek(start)
        while file.tell() < end:
            yield json.loads(file.readline())
