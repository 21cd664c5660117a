"""Takes what is recorded off the script's hands: its threads only append to a queue (see `background`)."""

from __future__ import annotations

import time

from flor_trace.errors import StoreUnreadable
from flor_trace.store import journal, layout, liveness
from flor_trace.store.background import BACKLOG_LIMIT, CLOSED, IN_CHILD, OPEN, Background
from flor_trace.store.sink import RunSink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from flor_trace.store.staging import Slot


def create(
    store: str,
    *,
    script: str,
    argv: list[str],
    name: str | None = None,
    tags: dict[str, str] | None = None,
    on_failure: Callable[[str], None] | None = None,
    backlog_limit: int = BACKLOG_LIMIT,
    **more: Any,
) -> RunWriter:
    """Begin a new run in a store.

    Args:
        store: the store's folder; made if needed.
        script: the script's path, or the module's name.
        argv: the arguments that the script sees, without its own name.
        on_failure: called once, with one clause, when recording has to stop; possibly in the writer's thread.
        backlog_limit: how many waiting bytes `has_room` allows.
        more: further JSON values for the manifest.

    Raises:
        StoreUnreadable: the folder cannot be written.
    """
    run_id, folder = layout.create_run_folder(store)
    manifest = {
        "format": layout.FORMAT,
        "id": run_id,
        "name": name,
        "tags": tags or {},
        "script": script,
        "argv": argv,
        "created": time.time(),
        "process": liveness.identity(),
        **more,
    }
    try:
        sink = RunSink(folder, manifest)
    except OSError as error:
        raise StoreUnreadable(f"cannot record into {store}: {error.strerror or error}") from error
    return RunWriter(run_id, folder, sink, on_failure, backlog_limit)


class RunWriter(Background):
    """Takes events, blobs and snapshots of one run. All methods may be called from any thread and never wait for the disk,
    save `flush` and `close`. Once recording has failed, and in forked children, they do nothing."""

    def __init__(
        self,
        run_id: str,
        folder: str,
        sink: RunSink,
        on_failure: Callable[[str], None] | None = None,
        backlog_limit: int = BACKLOG_LIMIT,
    ) -> None:
        self.run_id = run_id
        self._began = time.monotonic()
        self._ended = False
        self._known: set[str] = set()
        self._sources: set[tuple[str, str]] = set()
        self._numbers = 0
        super().__init__(folder, sink, on_failure, backlog_limit)

    def event(self, kind: str, **fields: Any) -> None:
        """Append a record to the journal. The fields are encoded at once, so they may change afterwards."""
        if self._state != OPEN:
            return
        if kind == "end":
            self._ended = True
        record = {"kind": kind, "t": round(time.monotonic() - self._began, 6), **fields}
        frame = self._encode(record, journal.frame)
        if frame is not None:
            self._put(("frame", frame), len(frame), urgent=False)

    def has_blob(self, digest: str) -> bool:
        """Whether these bytes were put before in this run."""
        return digest in self._known

    def put_blob(self, digest: str, data: bytes | bytearray | memoryview) -> None:
        """Store bytes under their xxh3-128. They are not copied and must not change until they are written."""
        if self._state != OPEN or digest in self._known:
            return
        self._known.add(digest)
        view = memoryview(data).cast("B")
        self._put(("blob", digest, view), len(view), urgent=False)

    def put_staged(self, slot: Slot, places: list[tuple[int, int]]) -> int:
        """Store parts of a slot, given as (offset, size); returns the number that stands for the first one's digest until that is
        known. The others' follow."""
        first = self._numbers + 1
        self._numbers += len(places)
        self._put(("staged", first, slot, places), 0, urgent=False)
        return first

    def put_template(self, data: bytes, holes: list[tuple[int, int]]) -> int:
        """Store bytes into which digests of earlier numbers are to be put, as (offset, number); returns a number too."""
        self._numbers += 1
        self._put(("template", self._numbers, data, holes), len(data), urgent=False)
        return self._numbers

    def release(self, slot: Slot) -> None:
        """Everything that was staged in a slot has been put; it is free once that is stored."""
        self._put(("release", slot), 0, urgent=False)

    def populate(self, slot: Slot) -> None:
        """Make a slot's pages exist in the background, and free it."""
        self._put(("populate", slot), 0, urgent=True)

    def take_resolved(self) -> list[tuple[int, str]]:
        """The digests that numbers of staged buffers have turned out to be, of snapshots committed since the last call."""
        with self._lock:
            self._settle()
            found, self._resolved = self._resolved, []
        self._known.update(digest for _, digest in found)
        return found

    def commit_snapshot(
        self, record: dict[str, Any], digests: list[str], numbers: list[int] | None = None, graph: int = 0
    ) -> None:
        """Append a snapshot's commit record once all its blobs are durable: those with these digests, and those that these numbers
        stand for. `graph`: the number of the template that is the snapshot's graph, unless the record names it."""
        if self._state != OPEN:
            return
        unknown = [digest for digest in digests if digest not in self._known]
        if unknown:
            self._fail(f"a snapshot refers to {len(unknown)} blobs that were never stored, such as {unknown[0]}")
            return
        entry = {"kind": "snapshot", "t": round(time.monotonic() - self._began, 6)}
        payload = self._encode({**entry, **record}, journal.payload_of)
        if payload is not None:
            self._put(("commit", payload, digests, numbers or [], graph), len(payload), urgent=True)

    def source(self, path: str, data: bytes) -> str:
        """Store a source file; returns its digest."""
        from flor_trace.store.blobs import digest_of

        digest = digest_of(data)
        if self._state == OPEN and (path, digest) not in self._sources:
            stored = any(digest == known for _, known in self._sources)
            self._sources.add((path, digest))
            if not stored:
                self._put(("source", digest, data), len(data), urgent=False)
            self.event("source", path=path, digest=digest, size=len(data))
        return digest

    def has_room(self, nbytes: int) -> bool:
        """Whether a snapshot of this size can wait in the queue; if not, skip it."""
        waiting = self.backlog_bytes
        return waiting == 0 or waiting + nbytes <= self.backlog_limit

    @property
    def backlog_bytes(self) -> int:
        """How many bytes wait to be written, those in slots not counted."""
        with self._lock:
            self._settle()
        if (self._queued or self._sink.gone) and not self._driver.locked():
            self.wake()
        return self._queued

    @property
    def written_seconds(self) -> float:
        """Processor time that thread and process have spent on writing."""
        sink = self._sink
        return self.busy_seconds + (0.0 if isinstance(sink, RunSink) else sink.busy_seconds)

    @property
    def committed(self) -> int:
        """How many snapshots are durable."""
        with self._lock:
            self._settle()
        return self._sink.committed

    @property
    def stored_bytes(self) -> int:
        """How many bytes are on the disk."""
        return self._sink.stored_bytes

    def flush(self) -> None:
        """Return once everything put so far is durable (or recording has failed)."""
        if self._state == OPEN and self._hold():
            try:
                self._drain(("sync",))
            finally:
                self._release()
            self.wake()

    def stop(self, reason: str) -> None:
        """Keep what was put so far and record nothing more; a reader finds the run stopped, for this reason."""
        self.flush()
        self._fail(reason, tell=False)

    def close(self, status: str | int | None = None) -> None:
        """Write out what waits and end the run; an `end` record is added where a status is given and none was written."""
        if self._state in (CLOSED, IN_CHILD):
            return
        if status is not None and not self._ended:
            self.event("end", status=status, seconds=time.monotonic() - self._began)
        held = self._hold()
        try:
            self._drain(("finish",))
        finally:
            self._state = CLOSED
            self._sink.close()
            if self._standby is not None:
                self._standby.dismiss()
            self.slots.clear()
            if held:
                self._release()

    def _encode(self, record: dict[str, Any], encode: Callable[[dict[str, Any]], bytes]) -> bytes | None:
        try:
            return encode(record)
        except (TypeError, ValueError, RecursionError) as error:
            self._fail(f"a {record['kind']} record cannot be written: {error}")
            return None
