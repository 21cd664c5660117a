"""What hindsight statements write through files that recorded code has opened: a new line in the script's own log.

Such a file is the recorded one with *insertions*: bytes of a statement, each at a place of the recorded content. A worker sees some parts
of the run only, and files are made again as they were recorded whenever it jumps, so what it notes of an insertion is where it belongs and
the digest of all recorded content before it. `replay.insertions` puts them into the file as the run has left it.
"""

from __future__ import annotations

import os
import posix
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from flor_trace.runtime.layers import posix_open, within
from flor_trace.runtime.overlay import Overlay
from flor_trace.state.kinds.files import standing

_BLOCK = 1 << 20

Mark = tuple[str, Any, int]
"""A file that recorded code has opened: its key, the file object, and how much was written through it or waits to be."""


@dataclass(slots=True)
class _Content:
    """The recorded content that a file holds, as far as it has been read: up to `read`, of which `inserted` bytes are not recorded."""

    read: int = 0
    inserted: int = 0
    digest: Any = None


@dataclass(slots=True)
class _Unit:
    """What a unit has inserted: by key the folder's file that holds the bytes, and their places."""

    folder: str
    anew: set[str] = field(default_factory=set)
    files: dict[str, str] = field(default_factory=dict)
    places: dict[str, list[list[Any]]] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    made: int = 0


class Insertions:
    """Follows what is written through files that recorded code has opened.

    Args:
        overlay: through which they are opened.
        concerns: tells whether a key is of a file that recorded code alone writes.
    """

    def __init__(self, overlay: Overlay, concerns: Callable[[str], bool]) -> None:
        self._overlay = overlay
        self._concerns = concerns
        self._contents: dict[str, _Content] = {}
        self._unit: _Unit | None = None
        overlay.recorded.on_forget = self._forget

    def begin(self, folder: str) -> None:
        """A unit begins; what it inserts is to be kept in `folder`."""
        self._unit = _Unit(folder)

    def end(self) -> dict[str, Any]:
        """What the unit has inserted, for `replay.insertions`: `anew` are the keys that recorded code has made anew, `files` what was
        inserted into others since, and `lost` the statements whose writing could not be followed."""
        unit, self._unit = self._unit, None
        if unit is None:
            return {}
        files = {key: {"file": name, "places": unit.places[key]} for key, name in unit.files.items()}
        told = {"anew": sorted(unit.anew), "files": files, "lost": unit.lost}
        return {name: fields for name, fields in told.items() if fields}

    def made_anew(self, key: str) -> None:
        """Recorded code makes a file anew: what was inserted into it before is gone."""
        unit = self._unit
        if unit is not None and self._concerns(key):
            unit.anew.add(key)
            unit.lost.pop(key, None)
            if key in unit.files:
                posix.unlink(os.path.join(unit.folder, unit.files.pop(key)))
                del unit.places[key]

    def before(self) -> list[Mark]:
        """A hindsight statement begins: how much has been written through each open file."""
        return list(self._marks())

    def after(self, marks: list[Mark], statement: int) -> None:
        """The statement with that number has ended: note what it has written."""
        for key, file, before in marks:
            place = standing(file)
            if place is not None and sum(place) != before:
                self._grown(key, file, sum(place) - before, statement)
            elif place is None and file.closed and self._unit is not None:
                self._unit.lost[key] = statement

    def _marks(self) -> Iterator[Mark]:
        for key, file in self._overlay.recorded.writers():
            place = standing(file) if self._concerns(key) else None
            if place is not None:
                yield key, file, sum(place)

    def _grown(self, key: str, file: Any, length: int, statement: int) -> None:
        """A statement has written `length` bytes, the last ones of all."""
        file.flush()
        descriptor = file.fileno()
        size = posix.fstat(descriptor).st_size
        content = self._contents.setdefault(key, _Content())
        start = size - length
        at_end = posix.lseek(descriptor, 0, os.SEEK_CUR) == size
        if length < 0 or not at_end or start < content.read:
            if self._unit is not None:
                self._unit.lost[key] = statement
            return
        with open(f"/proc/self/fd/{descriptor}", "rb", opener=posix_open) as reader:
            self._read_up_to(content, start, reader)
            if self._unit is not None:
                self._keep(self._unit, key, content, reader, length, statement)
        content.read, content.inserted = size, content.inserted + length

    def _read_up_to(self, content: _Content, end: int, reader: Any) -> None:
        if content.digest is None:
            from xxhash import xxh3_128

            content.digest = xxh3_128()
        reader.seek(content.read)
        while content.read < end and (data := reader.read(min(_BLOCK, end - content.read))):
            content.digest.update(data)
            content.read += len(data)

    def _keep(self, unit: _Unit, key: str, content: _Content, reader: Any, length: int, statement: int) -> None:
        if key not in unit.files:
            unit.files[key] = f"inserted-{unit.made}"
            unit.made += 1
        place = [content.read - content.inserted, length, content.digest.hexdigest(), statement]
        unit.places.setdefault(key, []).append(place)
        os.makedirs(unit.folder, exist_ok=True)
        reader.seek(content.read)
        with open(os.path.join(unit.folder, unit.files[key]), "ab", opener=posix_open) as out:
            while length > 0 and (data := reader.read(min(_BLOCK, length))):
                out.write(data)
                length -= len(data)

    def _forget(self, key: str) -> None:
        """What lies at and below a key has been replaced."""
        for path in [path for path in self._contents if within(path, key)]:
            del self._contents[path]
