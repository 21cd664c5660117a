"""What replays leave in a run: one append-only journal each, framed and checksummed as the run's own.

Records, in order: one ``replay`` (who and when, and the hindsight statements), for each unit of the transcript one ``unit``, followed by
the ``output`` records that hindsight statements wrote in it, and one ``end`` with the verdict. The recording is never touched.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping
from typing import Any, cast

from flor_trace.errors import CorruptRecord
from flor_trace.store import journal, layout
from flor_trace.store.journal import Damage

FORMAT = 1
_BUFFER = 1 << 16


class ReplayWriter:
    """Appends one replay to a run.

    Args:
        folder: the replay's own folder, which must not hold a journal yet.
        header: the fields of the first record, with `statements`: a list of the hindsight statements.
    """

    def __init__(self, folder: str, header: Mapping[str, Any]) -> None:
        self._journal = journal.JournalWriter(os.path.join(folder, layout.JOURNAL))
        self._pending: list[bytes] = []
        self._size = 0
        self._add("replay", {"format": FORMAT, **header})
        self._flush()

    def unit(self, fields: Mapping[str, Any]) -> None:
        """A unit begins; all output up to the next one belongs to it."""
        self._add("unit", fields)
        self._flush()

    def output(self, fields: Mapping[str, Any]) -> None:
        """A hindsight statement wrote something."""
        self._add("output", fields)

    def end(self, fields: Mapping[str, Any]) -> None:
        """The replay is over; what was written is durable when this returns."""
        self._add("end", fields)
        self._flush()
        self._journal.sync()

    def close(self) -> None:
        """Write what is pending, and close the file."""
        self._flush()
        self._journal.close()

    def _add(self, kind: str, fields: Mapping[str, Any]) -> None:
        frame = journal.frame({"kind": kind, **fields})
        self._pending.append(frame)
        self._size += len(frame)
        if self._size >= _BUFFER:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._journal.append(b"".join(self._pending))
            self._pending, self._size = [], 0


class StoredReplay:
    """One replay of a run; its output is read as it is asked for, and never held whole.

    Attributes:
        id: its number within the run.
        damage: what could not be read of its journal so far.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.id = os.path.basename(folder)
        self.damage: list[Damage] = []
        self.header = next(self.events("replay"), {})
        self.units = list(self.events("unit"))
        self.ending = next(self.events("end"), None)
        if not self.header:
            raise CorruptRecord(f"the first record of replay {self.id} is damaged")

    @property
    def statements(self) -> list[dict[str, Any]]:
        """The hindsight statements, in the order of their numbers."""
        return list(self.header["statements"])

    @property
    def complete(self) -> bool:
        """Whether the whole run was replayed."""
        return self.ending is not None and bool(self.ending["complete"])

    @property
    def diverged(self) -> bool:
        """Whether it was another course than the recorded, so that what it has added may be wrong."""
        return self.ending is not None and self.ending["verdict"] == "diverged"

    def events(self, *kinds: str) -> Iterator[dict[str, Any]]:
        """The records of some kinds, in order."""
        path = os.path.join(self.folder, layout.JOURNAL)
        self.damage.clear()
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                name = f"{layout.REPLAYS}/{self.id}/{layout.JOURNAL}"
                for payload in journal.payloads(cast(bytes, data), self.damage, name):
                    if journal.kind_of(payload) in kinds:
                        yield journal.decode(payload)

    def outputs(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Each output record, with its unit before it."""
        unit: dict[str, Any] = {}
        for record in self.events("unit", "output"):
            if record["kind"] == "unit":
                unit = record
            else:
                yield unit, record


def stored_replays(run_folder: str, damage: list[Damage] | None = None) -> list[StoredReplay]:
    """The replays of a run, oldest first; those whose beginning cannot be read are left out and named in `damage`."""
    parent = os.path.join(run_folder, layout.REPLAYS)
    try:
        numbers = sorted(int(name) for name in os.listdir(parent) if name.isdigit())
    except FileNotFoundError:
        return []
    found: list[StoredReplay] = []
    for number in numbers:
        folder = os.path.join(parent, str(number))
        if not os.path.exists(os.path.join(folder, layout.JOURNAL)):
            continue  # made by an earlier version, or being made
        try:
            found.append(StoredReplay(folder))
        except CorruptRecord as error:
            if damage is not None:
                damage.append(Damage(f"{layout.REPLAYS}/{number}/{layout.JOURNAL}", 0, 0, str(error)))
    return found
