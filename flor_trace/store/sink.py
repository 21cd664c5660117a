"""The files of a run that is being recorded, and in which order bytes become durable in them.

A snapshot's commit record is appended to the journal only after its blobs, their index entries' pack and the sources are
durable. Every operation is a generator of short steps, so that its caller can pause between two.

What is to be done comes as *items*, plain tuples that may also have crossed from one process to another:

    ("frame", bytes)                          append journal frames
    ("source", digest, bytes)                 keep a source file
    ("blob", digest, bytes)                   keep bytes whose digest is known
    ("staged", first, slot, places)           keep the bytes of staged buffers, which lie at (offset, size) in a slot; from then on `first`
                                              and the numbers after it stand for their digests
    ("template", number, bytes, holes)        keep bytes after the digests of earlier numbers have been put in, 16 bytes at each offset;
                                              `holes` holds (offset, number)
    ("commit", payload, digests, numbers, graph)
                                              commit a snapshot that needs these digests, and those that these numbers stand for; its
                                              graph is the template of that number (0: none). The payload is the record without these
    ("release", slot) ("forget", slot number) nobody reads this staging slot any more
    ("sync",) ("finish",) ("stop", reason)    as the methods
"""

from __future__ import annotations

import os

from flor_trace.store import journal, layout
from flor_trace.store.blobs import CHUNK, CHUNKED_FROM, PackWriter, digest_of
from flor_trace.store.files import sync_file, sync_folder, write_atomically
from flor_trace.store.locks import Hold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from flor_trace.store.blobs import Entry

    Steps = Generator[None, None, None]

_INDEX_AT_ONCE = 256


class WriterGone(Exception):
    """The process that wrote has ended; never raised by `RunSink`."""


class RunSink:
    """The journal, packs and sources of one run, open for appending.

    Attributes:
        committed: how many snapshots are durable.
        digests: what the numbers of staged buffers and templates have turned out to be, since the last commit.
        through: the last number that the last commit knew.
    """

    # What can only happen to a sink in another process: see `ProcessSink`.
    gone = False
    failure: str | None = None

    def __init__(self, folder: str, manifest: dict[str, Any]) -> None:
        self._begin(folder, 0, resume=False)
        self._journal.append(journal.frame({"kind": "manifest", **manifest}))
        layout.write_manifest(folder, manifest)
        self._unsynced.append(os.path.join(folder, layout.MANIFEST))

    @classmethod
    def resume(cls, folder: str, journal_size: int | None = None, digests: dict[int, str] | None = None) -> RunSink:
        """Go on with a run that another sink began and no longer writes to; with `journal_size`, what it wrote behind that is taken
        back. `digests`: see the attribute.

        Raises OSError, and ValueError where the journal does not reach that far.
        """
        path = os.path.join(folder, layout.JOURNAL)
        if journal_size is not None:
            if os.path.getsize(path) < journal_size:
                raise ValueError(f"{path} has been cut")
            os.truncate(path, journal_size)
        made = cls.__new__(cls)
        packs = os.path.join(folder, layout.PACKS)
        made._begin(folder, len(os.listdir(packs)), resume=True)
        made._packs.stored_bytes = sum(os.stat(os.path.join(packs, name)).st_size for name in os.listdir(packs))
        for payload in journal.read(path, []):
            kind = journal.kind_of(payload)
            if kind == "blobs":
                made._stored.update(entry[0] for entry in journal.decode(payload)["entries"])
            made.committed += kind == "snapshot"
        made.digests.update(digests or {})
        if journal_size is not None:
            # The other was stopped before it synced: the next commit may need any of these.
            made._unsynced = [os.path.join(folder, layout.MANIFEST)]
            for parent in (packs, os.path.join(folder, layout.SOURCES)):
                made._unsynced += [os.path.join(parent, name) for name in os.listdir(parent)]
        return made

    def _begin(self, folder: str, first_pack: int, *, resume: bool) -> None:
        self._folder = folder
        self._hold = Hold(folder)  # before there is a journal, by which others see the run
        self._journal = journal.JournalWriter(os.path.join(folder, layout.JOURNAL), resume=resume)
        self._packs = PackWriter(os.path.join(folder, layout.PACKS), first_pack)
        self._index: list[Entry] = []
        self._stored: set[str] = set()
        # Files written whole but not yet durable; they are made so before the first commit that may need them.
        self._unsynced: list[str] = []
        self._stopped = False
        self.committed = 0
        self.digests: dict[int, str] = {}
        self.through = 0
        self._resolved: list[tuple[int, str]] = []
        self._done = 0

    @property
    def stored_bytes(self) -> int:
        """Bytes in the journal and the packs so far."""
        return self._journal.size + self._packs.stored_bytes

    @property
    def journal_size(self) -> int:
        """Bytes in the journal."""
        return self._journal.size

    @property
    def indexed(self) -> bool:
        """Whether the journal says where all blobs lie, so that another sink can go on from here."""
        return not self._index

    def settled(self) -> int:
        """How many items have been carried out since the last call."""
        done, self._done = self._done, 0
        return done

    def take_resolved(self) -> list[tuple[int, str]]:
        """The digests of numbers that have been committed since the last call."""
        found, self._resolved = self._resolved, []
        return found

    def wait(self) -> None:
        """Nothing is ever under way here when a step has ended."""

    def perform(self, item: tuple[Any, ...]) -> Steps:
        """Carry out one item, in short steps."""
        yield from self._perform(item)
        self._done += 1

    def _perform(self, item: tuple[Any, ...]) -> Steps:
        what = item[0]
        if what == "frame":
            self._journal.append(item[1])  # outlives the process from now on, a power loss from the next commit on
        elif what == "source":
            self._source(item[1], item[2])
        elif what == "blob":
            yield from self._blob(item[1], item[2])
        elif what == "staged":
            for number, place in enumerate(item[3], start=item[1]):
                yield from self._staged(number, item[2].view(*place))
        elif what == "template":
            yield from self._template(item[1], item[2], item[3])
        elif what == "commit":
            yield from self._commit(*item[1:])
        elif what not in ("release", "forget"):
            actions: dict[str, Callable[..., None]] = {"sync": self.sync, "finish": self.finish, "stop": self.stop}
            actions[what](*item[1:])

    def _source(self, digest: str, data: bytes) -> None:
        path = os.path.join(self._folder, layout.SOURCES, digest)
        write_atomically(path, data)
        self._unsynced.append(path)

    def _blob(self, digest: str, data: bytes | memoryview, parts: list[str] | None = None) -> Steps:
        """Store bytes of this digest unless they are in the run; `parts`, if known, are the digests of their chunks."""
        if digest in self._stored:
            return
        self._stored.add(digest)
        view = memoryview(data)
        if len(view) < CHUNKED_FROM:
            yield from self._append(digest, view)
            return
        if parts is None:
            parts = (yield from _hash_chunks(view))[1]
        for number, part in enumerate(parts):
            if part not in self._stored:
                self._stored.add(part)
                yield from self._append(part, view[number * CHUNK : (number + 1) * CHUNK])
        self._index.append(self._packs.append_list(digest, len(view), parts))

    def _append(self, digest: str, data: memoryview) -> Steps:
        entry = yield from self._packs.append(digest, data)
        self._index.append(entry)
        if len(self._index) >= _INDEX_AT_ONCE:
            self.write_index()

    def _staged(self, number: int, data: memoryview) -> Steps:
        if len(data) < CHUNKED_FROM:
            digest, parts = digest_of(data), None
        else:
            digest, parts = yield from _hash_chunks(data)
        yield from self._blob(digest, data, parts)
        self.digests[number] = digest

    def _template(self, number: int, data: bytes, holes: list[tuple[int, int]]) -> Steps:
        whole = bytearray(data)
        for offset, staged in holes:
            whole[offset : offset + 16] = bytes.fromhex(self.digests[staged])
        yield from self._staged(number, memoryview(whole))

    def _commit(self, record: bytes, digests: list[str], numbers: list[int], graph: int) -> Steps:
        needed = {*digests, *(self.digests[number] for number in numbers)}
        more: dict[str, Any] = {}
        if graph:
            more["graph"] = self.digests[graph]
            needed.add(self.digests[graph])
        more["blobs"] = sorted(needed)
        yield from self._commit_frame(journal.framed(journal.extended(record, more)))
        if graph:
            self._resolved += self.digests.items()
            self.digests = {}
            self.through = graph

    def _commit_frame(self, frame: bytes) -> Steps:
        self._packs.sync()
        yield
        yield from self._sync_whole_files()
        self.write_index()
        self._journal.append(frame)
        self._journal.sync()
        self.committed += 1

    def finish(self) -> None:
        """Write what is left; after a run without snapshots nothing is waited for."""
        self.write_index()
        if self.committed:
            for _ in self._sync_whole_files():
                pass
            self._journal.sync()

    def sync(self) -> None:
        """Make everything written so far durable."""
        self._packs.sync()
        self.write_index()
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
        """Close the descriptors. In a forked child this leaves the parent's as they are."""
        self._journal.close()
        self._packs.close()
        self._hold.release()

    def write_index(self) -> None:
        """Let the journal say where all blobs stored so far lie."""
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
        for folder in {os.path.dirname(path) for path in waiting}:
            sync_folder(folder)
            yield


def _hash_chunks(data: memoryview) -> Generator[None, None, tuple[str, list[str]]]:
    """The digest of some bytes and those of their chunks, in one pass over the memory."""
    import xxhash

    whole = xxhash.xxh3_128()
    parts = []
    for start in range(0, len(data), CHUNK):
        chunk = data[start : start + CHUNK]
        parts.append(digest_of(chunk))
        whole.update(chunk)
        yield
    return whole.hexdigest(), parts
