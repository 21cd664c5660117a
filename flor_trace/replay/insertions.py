"""What hindsight statements have written through files that recorded code had opened, put into the files as the run has left them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from xxhash import xxh3_128

_BLOCK = 1 << 20

Recorded = Callable[[str], "Iterable[bytes] | str | None"]
"""Gives the content that a file had at the end of the recorded run, in parts: None where there was no file, and where the content is not
known a clause that says why."""


@dataclass(frozen=True)
class _Insertion:
    """Some bytes of a hindsight statement: `length` bytes of `source` from `start` on, to be put in before the recorded byte number
    `place`; `digest` is that of all recorded content before it."""

    place: int
    length: int
    digest: str
    statement: int
    source: Path
    start: int


@dataclass
class Inserted:
    """What the units have inserted into files that recorded code writes, by key, and the statements of which something is lost."""

    into: dict[str, list[_Insertion]] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)

    def add(self, told: dict[str, Any], folder: Path) -> None:
        """What the next unit has put aside in `folder`."""
        for key in told.get("anew", []):
            self.into.pop(key, None)
            self.lost.pop(key, None)
        self.lost.update(told.get("lost", {}))
        for key, about in told.get("files", {}).items():
            start = 0
            for place, length, digest, statement in about["places"]:
                insertion = _Insertion(place, length, digest, statement, folder / about["file"], start)
                self.into.setdefault(key, []).append(insertion)
                start += length

    def keys(self) -> set[str]:
        """The files that are not what they were when recorded."""
        return {*self.into, *self.lost}

    def statements(self, key: str) -> list[int]:
        """The numbers of the statements that have written to a file."""
        found = {insertion.statement for insertion in self.into.get(key, [])}
        return sorted(found | ({self.lost[key]} if key in self.lost else set()))

    def write(self, key: str, recorded: Recorded, target: Path) -> str:
        """Make `target` what the file would be, if it would be there at all; gives why that is not possible, or nothing."""
        if key in self.lost:
            return "it was not written at its end"
        content = recorded(key)
        if content is None:
            return ""
        if isinstance(content, str):
            return content
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as out:
            fits = _put_together(content, self.into[key], out)
        if not fits:
            target.unlink()
            return "recorded code has changed what precedes it"
        return ""


def _put_together(recorded: Iterable[bytes], insertions: Sequence[_Insertion], out: BinaryIO) -> bool:
    """Write the recorded content with the insertions; False if one does not belong where it is said to."""
    parts, digest, at, waiting = _blocks(recorded), xxh3_128(), 0, b""
    for insertion in insertions:
        while at < insertion.place:
            waiting = waiting or next(parts, b"")
            if not waiting:
                return False
            taken, waiting = waiting[: insertion.place - at], waiting[insertion.place - at :]
            out.write(taken)
            digest.update(taken)
            at += len(taken)
        if at != insertion.place or digest.hexdigest() != insertion.digest:
            return False
        _copy(insertion, out)
    out.write(waiting)
    for part in parts:
        out.write(part)
    return True


def _blocks(recorded: Iterable[bytes]) -> Iterator[bytes]:
    return (part for part in recorded if part)


def _copy(insertion: _Insertion, out: BinaryIO) -> None:
    left = insertion.length
    with insertion.source.open("rb") as source:
        source.seek(insertion.start)
        while left > 0 and (data := source.read(min(_BLOCK, left))):
            out.write(data)
            left -= len(data)
