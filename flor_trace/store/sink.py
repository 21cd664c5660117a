"""The files of a run that is being recorded, and in which order bytes become durable in them.

A snapshot's commit record is appended to the journal only after its blobs, their index entries' pack and the sources are
durable. Every operation is a generator of short steps, so that its caller can pause between two.
"""

from __future__ import annotations

import os

from flor_trace.store import journal, layout
from flor_trace.store.blobs import PackWriter
from flor_trace.store.files import sync_file, sync_folder, write_atomically

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from flor_trace.store.blobs import Entry

    Steps = Generator[None, None, None]

_INDEX_AT_ONCE = 256


class RunSink:
    """The journal, packs and sources of one run, open for appending."""

    def __init__(self, folder: str, manifest: dict[str, Any]) -> None:
        self._folder = folder
        self._journal = journal.JournalWriter(os.path.join(folder, layout.JOURNAL))
        self._packs = PackWriter(os.path.join(folder, layout.PACKS))
        self._index: list[Entry] = []
        # Files written whole but not yet durable; they are made so before the first commit that may need them.
        self._unsynced: list[str] = []
        self._stopped = False
        self.committed = 0
        self._journal.append(journal.frame({"kind": "manifest", **manifest}))
        layout.write_manifest(folder, manifest)
        self._unsynced.append(os.path.join(folder, layout.MANIFEST))

    @property
    def stored_bytes(self) -> int:
        """Bytes in the journal and the packs so far."""
        return self._journal.size + self._packs.stored_bytes

    def frames(self, frames: bytes) -> None:
        """Append journal frames; they outlive the process from now on, a power loss from the next commit on."""
        self._journal.append(frames)

    def blob(self, digest: str, data: bytes | memoryview) -> Steps:
        """Store a blob."""
        entry = yield from self._packs.append(digest, data)
        self._index.append(entry)
        if len(self._index) >= _INDEX_AT_ONCE:
            self._write_index()

    def source(self, digest: str, data: bytes) -> None:
        """Store a source file's bytes."""
        path = os.path.join(self._folder, layout.SOURCES, digest)
        write_atomically(path, data)
        self._unsynced.append(path)

    def commit(self, frame: bytes) -> Steps:
        """Append a snapshot's commit record, after all that it needs is durable."""
        self._packs.sync()
        yield
        yield from self._sync_whole_files()
        self._write_index()
        self._journal.append(frame)
        self._journal.sync()
        self.committed += 1

    def finish(self) -> None:
        """Write what is left; after a run without snapshots nothing is waited for."""
        self._write_index()
        if self.committed:
            for _ in self._sync_whole_files():
                pass
            self._journal.sync()

    def sync(self) -> None:
        """Make everything written so far durable."""
        self._packs.sync()
        self._write_index()
        for _ in self._sync_whole_files():
            pass
        self._journal.sync()

    def stop(self, reason: str) -> None:
        """Note that the recording ended early, if the disk still takes that much."""
        if self._stopped:
            return
        self._stopped = True
        try:
            self._journal.append(journal.frame({"kind": "stopped", "reason": reason}))
        except OSError:
            return  # the reason has been told to the user; a reader finds a run without an end

    def close(self) -> None:
        """Close the descriptors."""
        self._journal.close()
        self._packs.close()

    def _write_index(self) -> None:
        if self._index:
            self._journal.append(journal.frame({"kind": "blobs", "entries": self._index}))
            self._index = []

    def _sync_whole_files(self) -> Steps:
        if not self._unsynced:
            return
        waiting, self._unsynced = self._unsynced, []
        for path in waiting:
            sync_file(path)
            yield
        for folder in {os.path.dirname(path) for path in waiting} | {os.path.join(self._folder, layout.PACKS)}:
            sync_folder(folder)
            yield
