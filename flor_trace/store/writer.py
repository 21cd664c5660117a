"""Writes a run from within the training process.

The script's threads only append to a queue; one background thread does all disk I/O. Its work is a generator of short
steps, so it can be stopped between any two (before the script forks), continued by another thread, or be run to the end by
whoever closes the run. A failure of any kind ends the recording, never the script.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` builds enums first: 2 ms at start-up
import _thread
import os
import sys
import time
import weakref
from _queue import Empty, SimpleQueue
from collections import deque

from flor_trace.errors import StoreUnreadable
from flor_trace.store import journal, layout, liveness
from flor_trace.store.sink import RunSink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    # What waits: ("frame", "", bytes) | ("blob", digest, data) | ("source", digest, data) | ("commit", "", frame)
    Item = tuple[str, str, bytes | memoryview]

# Events reach the file at most this long after they happened.
LINGER_SECONDS = 0.5
# Beyond this many waiting bytes a caller should skip a snapshot; beyond four times as many the recording ends.
BACKLOG_LIMIT = 512 << 20
_FRAMES_AT_ONCE = 1 << 20

_OPEN, _FAILED, _CLOSED, _IN_CHILD = range(4)


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


class RunWriter:
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
        self.folder = folder
        self.failed: str | None = None
        self._queued = 0
        self.backlog_limit = backlog_limit
        self.busy_seconds = 0.0
        self._began = time.monotonic()
        self._sink = sink
        self._on_failure = on_failure
        self._state = _OPEN
        self._ended = False
        self._known: set[str] = set()
        self._sources: set[tuple[str, str]] = set()
        self._queue: deque[Item] = deque()
        self._steps = self._work()
        self._native_id = 0
        self._make_locks()
        _register_at_fork(self)

    # -- what the recording calls ---------------------------------------------------------------------------------------

    def event(self, kind: str, **fields: Any) -> None:
        """Append a record to the journal. The fields are encoded at once, so they may change afterwards."""
        if self._state != _OPEN:
            return
        if kind == "end":
            self._ended = True
        record = {"kind": kind, "t": round(time.monotonic() - self._began, 6), **fields}
        frame = self._encode(record)
        if frame is not None:
            self._put(("frame", "", frame), urgent=False)

    def has_blob(self, digest: str) -> bool:
        """Whether these bytes were put before in this run."""
        return digest in self._known

    def put_blob(self, digest: str, data: bytes | bytearray | memoryview) -> None:
        """Store bytes under their xxh3-128. They are not copied and must not change until they are written."""
        if self._state != _OPEN or digest in self._known:
            return
        self._known.add(digest)
        self._put(("blob", digest, memoryview(data).cast("B")), urgent=True)

    def commit_snapshot(self, record: dict[str, Any], digests: list[str]) -> None:
        """Append a snapshot's commit record once all its blobs are durable."""
        if self._state != _OPEN:
            return
        unknown = [digest for digest in digests if digest not in self._known]
        if unknown:
            self._fail(f"a snapshot refers to {len(unknown)} blobs that were never stored, such as {unknown[0]}")
            return
        entry = {"kind": "snapshot", "t": round(time.monotonic() - self._began, 6)}
        frame = self._encode({**entry, **record, "kind": "snapshot", "blobs": digests})
        if frame is not None:
            self._put(("commit", "", frame), urgent=True)

    def source(self, path: str, data: bytes) -> str:
        """Store a source file; returns its digest."""
        from flor_trace.store.blobs import digest_of

        digest = digest_of(data)
        if self._state == _OPEN and (path, digest) not in self._sources:
            stored = any(digest == known for _, known in self._sources)
            self._sources.add((path, digest))
            if not stored:
                self._put(("source", digest, data), urgent=False)
            self.event("source", path=path, digest=digest, size=len(data))
        return digest

    def has_room(self, nbytes: int) -> bool:
        """Whether a snapshot of this size can wait in the queue; if not, skip it."""
        waiting = self.backlog_bytes
        return waiting == 0 or waiting + nbytes <= self.backlog_limit

    @property
    def backlog_bytes(self) -> int:
        """How many bytes wait to be written."""
        if self._queued and not self._driver.locked():
            self.wake()
        return self._queued

    def wake(self) -> None:
        """Go on writing after a fork. Every other method does so too; a caller that uses none for long calls this one."""
        with self._lock:
            if self._queued:
                self._wake.put(True)
                self._start()

    @property
    def committed(self) -> int:
        """How many snapshots are durable."""
        return self._sink.committed

    @property
    def stored_bytes(self) -> int:
        """How many bytes are on the disk."""
        return self._sink.stored_bytes

    def flush(self) -> None:
        """Return once everything put so far is durable (or recording has failed)."""
        if self._state == _OPEN and self._hold():
            try:
                self._drain(self._sink.sync)
            finally:
                self._release()
            self.wake()

    def stop(self, reason: str) -> None:
        """Keep what was put so far and record nothing more; a reader finds the run stopped, for this reason."""
        self.flush()
        self._fail(reason, tell=False)

    def close(self, status: str | int | None = None) -> None:
        """Write out what waits and end the run; an `end` record is added where a status is given and none was written."""
        if self._state in (_CLOSED, _IN_CHILD):
            return
        if status is not None and not self._ended:
            self.event("end", status=status, seconds=time.monotonic() - self._began)
        held = self._hold()
        try:
            self._drain(self._sink.finish)
        finally:
            self._state = _CLOSED
            self._sink.close()
            if held:
                self._release()

    # -- the queue ------------------------------------------------------------------------------------------------------

    def _encode(self, record: dict[str, Any]) -> bytes | None:
        try:
            return journal.frame(record)
        except (TypeError, ValueError, RecursionError) as error:
            self._fail(f"a {record['kind']} record cannot be written: {error}")
            return None

    def _put(self, item: Item, *, urgent: bool) -> None:
        size = len(item[2])
        with self._lock:
            if self._state != _OPEN:
                return
            was_empty = not self._queue
            self._queue.append(item)
            self._queued += size
            overrun = self._queued > 4 * self.backlog_limit
            if urgent or was_empty or self._queued > _FRAMES_AT_ONCE:
                # Put under the lock: the thread looks at the queue under it too, before it sleeps.
                self._wake.put(urgent or self._queued > _FRAMES_AT_ONCE)
            self._start()
        if overrun:
            self._fail(f"the disk is too slow: {self._queued >> 20} MiB wait to be written")

    def _take(self) -> Item | None:
        with self._lock:
            if not self._queue:
                return None
            item = self._queue.popleft()
            if item[0] != "frame":
                return item
            frames = [item[2]]
            size = len(item[2])
            while self._queue and self._queue[0][0] == "frame" and size < _FRAMES_AT_ONCE:
                frames.append(self._queue.popleft()[2])
                size += len(frames[-1])
            return ("frame", "", b"".join(frames))

    def _work(self) -> Generator[bool, None, None]:
        """Do what the queue says, for ever, in short steps; yields whether there is more to do."""
        while True:
            item = self._take()
            if item is None:
                yield False
                continue
            what, digest, data = item
            if what == "frame":
                self._sink.frames(bytes(data))
            elif what == "source":
                self._sink.source(digest, bytes(data))
            else:
                for _ in self._sink.blob(digest, memoryview(data)) if what == "blob" else self._sink.commit(bytes(data)):
                    yield True
            with self._lock:
                self._queued -= len(data)
            del item, data
            yield True

    # -- the thread -----------------------------------------------------------------------------------------------------

    def _make_locks(self) -> None:
        # Reentrant, for a signal handler of the script may print while the main thread is in here.
        self._lock = _thread.RLock()
        # Held by whoever runs the steps: the thread from its start to its end, or `flush`, `close` and a fork.
        self._driver = _thread.allocate_lock()
        self._driver_owner = 0
        self._holds = 0
        self._wake: SimpleQueue[bool] = SimpleQueue()

    def _start(self) -> None:
        """Start the thread if it is needed and does not run; called under the lock."""
        if self._holds or self._state != _OPEN or not self._driver.acquire(blocking=False):
            return
        try:
            # Not `threading`: the script's `threading.enumerate()` and `active_count()` stay as they are without us.
            _thread.start_new_thread(self._run, ())
        except RuntimeError:
            self._driver.release()  # at interpreter shutdown: `close` does the work itself

    def _run(self) -> None:
        # Signals are for the script's threads, whose blocking calls they must interrupt.
        _signal.pthread_sigmask(_signal.SIG_SETMASK, _signal.valid_signals())
        self._native_id = _thread.get_native_id()
        try:
            while not self._holds and self._state == _OPEN:
                began = time.monotonic()
                more = next(self._steps)
                self.busy_seconds += time.monotonic() - began
                if not more and not self._holds:
                    self._sleep()
        except Exception as error:
            self._fail(_reason(error))
        finally:
            if self.failed is not None:
                self._sink.stop(self.failed)
            self._driver.release()

    def _sleep(self) -> None:
        urgent = self._wake.get()
        deadline = time.monotonic() + LINGER_SECONDS
        while not urgent and (left := deadline - time.monotonic()) > 0:
            try:
                urgent = self._wake.get(True, left)
            except Empty:
                break
        # What these tokens announce is in the queue already.
        while not self._wake.empty():
            self._wake.get()

    def _hold(self) -> bool:
        """Stop the thread at the next step and keep it from running; False if this thread holds it already."""
        if self._driver_owner == _thread.get_ident():
            return False
        with self._lock:
            self._holds += 1
        self._wake.put(True)
        self._driver.acquire()
        self._driver_owner = _thread.get_ident()
        return True

    def _release(self) -> None:
        self._driver_owner = 0
        self._driver.release()
        with self._lock:
            self._holds -= 1

    def _drain(self, then: Callable[[], None]) -> None:
        """Run all steps here; called by whoever holds the thread."""
        try:
            if self._state == _OPEN:
                while next(self._steps):
                    pass
                then()
        except Exception as error:
            self._fail(_reason(error))
        if self.failed is not None:
            self._sink.stop(self.failed)

    def _fail(self, reason: str, *, tell: bool = True) -> None:
        with self._lock:
            if self._state != _OPEN:
                return
            self._state = _FAILED
            self.failed = reason
            self._queue.clear()
            self._queued = 0
        self._wake.put(True)
        if self._driver.acquire(blocking=False):
            self._sink.stop(reason)
            self._driver.release()
        if tell and self._on_failure is not None:
            self._on_failure(reason)

    # -- forks ----------------------------------------------------------------------------------------------------------

    def _before_fork(self) -> None:
        if self._state in (_CLOSED, _IN_CHILD):
            return
        self._forking = self._hold()
        # The lock is released a moment before the thread is gone, and Python 3.12 counts the system's threads.
        task = f"/proc/self/task/{self._native_id}"
        for _ in range(1000):
            if not self._native_id or not os.path.exists(task):
                break
            time.sleep(0.0001)

    def _after_fork_in_parent(self) -> None:
        if self._forking:
            self._forking = False
            self._release()
            # From 3.12 on `fork` counts the threads once more after this hook; there the next call of a method goes on.
            if sys.version_info < (3, 12):
                self.wake()

    def _after_fork_in_child(self) -> None:
        if self._state == _IN_CHILD:
            return
        closed = self._state == _CLOSED
        self._state = _IN_CHILD
        self._queue.clear()
        self._steps.close()
        self._make_locks()
        if not closed:
            self._sink.close()

    _forking = False


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    return f"{type(error).__name__}: {error}"


def _register_at_fork(writer: RunWriter) -> None:
    # Such hooks cannot be taken back, so they must not keep the writer alive.
    reference = weakref.ref(writer)

    def call(method: Callable[[RunWriter], None]) -> Callable[[], None]:
        def hook() -> None:
            live = reference()
            if live is not None:
                method(live)

        return hook

    os.register_at_fork(
        before=call(RunWriter._before_fork),
        after_in_parent=call(RunWriter._after_fork_in_parent),
        after_in_child=call(RunWriter._after_fork_in_child),
    )
