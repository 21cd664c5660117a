"""The thread behind a recording: it takes items from a queue and passes them on to a *sink*, whoever that is at the time.

At first the sink is the run's files themselves (`sink.RunSink`), and from the first staged buffer on a process of low priority that has
taken these over (`process_sink.ProcessSink`). If that process dies, the thread takes the files back and does again what was not settled.

The thread's work is a generator of short steps, so it can be stopped between any two (before the script forks), continued by
another thread, or be run to the end by whoever closes the run. A failure of any kind ends the recording, never the script.
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

from flor_trace.store.sink import RunSink, WriterGone
from flor_trace.store.staging import SlotPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from flor_trace.store.process_sink import ProcessSink
    from flor_trace.store.standby import Standby

    # See `sink`; besides, ("staged", first, slot, places), ("release", slot) and ("populate", slot) name live slots.
    Item = tuple[Any, ...]

# Events reach the file at most this long after they happened.
LINGER_SECONDS = 0.5
# Beyond this many waiting bytes a caller should skip a snapshot; beyond four times as many the recording ends.
BACKLOG_LIMIT = 512 << 20
_FRAMES_AT_ONCE = 1 << 20

OPEN, FAILED, CLOSED, IN_CHILD = range(4)


class Background:
    """The queue, the thread, and the files' owner.

    Attributes:
        failed: why recording has ended early, in one clause; None while it has not.
        busy_seconds: the thread's processor time.
        slots: staging memory.
    """

    def __init__(self, folder: str, sink: RunSink, on_failure: Callable[[str], None] | None, backlog_limit: int) -> None:
        self.folder = folder
        self.failed: str | None = None
        self.backlog_limit = backlog_limit
        self.busy_seconds = 0.0
        self.slots = SlotPool(on_drop=lambda number: self._put(("forget", number), 0, urgent=True))
        self._queued = 0
        self._sink: RunSink | ProcessSink = sink
        self._standby: Standby | None = None
        self._stood_by = False
        self._on_failure = on_failure
        self._state = OPEN
        self._resolved: list[tuple[int, str]] = []
        self._queue: deque[tuple[int, Item]] = deque()
        # Handed to the sink and not yet known to be done, with their sizes.
        self._unsettled: deque[tuple[int, Item]] = deque()
        self._steps = self._work()
        self._native_id = 0
        self._make_locks()
        _register_at_fork(self)

    def stand_by(self) -> None:
        """Have a process ready that takes the writing over at the first staged buffer, where that goes unnoticed; without one the
        thread writes. To be called before the script's libraries start threads; a second call does nothing."""
        from flor_trace.store.standby import stand_by

        if self._state != OPEN or self._stood_by or not self._hold():
            return
        self._stood_by = True
        try:
            self._await_thread()
            self._standby = stand_by()
        finally:
            self._release()
        self.wake()

    def wake(self) -> None:
        """Go on writing after a fork. Every other method does so too; a caller that uses none for long calls this one."""
        with self._lock:
            if self._queue or self._unsettled:
                self._wake.put(True)
                self._start()

    # -- the queue ------------------------------------------------------------------------------------------------------

    def _put(self, item: Item, size: int, *, urgent: bool) -> None:
        with self._lock:
            if self._state != OPEN:
                return
            was_empty = not self._queue
            self._queue.append((size, item))
            self._queued += size
            overrun = self._queued > 4 * self.backlog_limit
            if urgent or was_empty or self._queued > _FRAMES_AT_ONCE:
                # Put under the lock: the thread looks at the queue under it too, before it sleeps.
                self._wake.put(urgent or self._queued > _FRAMES_AT_ONCE)
            self._start()
        if overrun:
            self._fail(f"the disk is too slow: {self._queued >> 20} MiB wait to be written")

    def _take(self) -> Item | None:
        """The next item, which counts as unsettled from now on."""
        with self._lock:
            self._settle()
            if not self._queue:
                return None
            size, item = self._queue.popleft()
            if item[0] == "frame":
                frames = [item[1]]
                while self._queue and self._queue[0][1][0] == "frame" and size < _FRAMES_AT_ONCE:
                    more, (_, frame) = self._queue.popleft()
                    frames.append(frame)
                    size += more
                item = ("frame", b"".join(frames))
            if item[0] != "populate":
                self._unsettled.append((size, item))
            return item

    def _work(self) -> Generator[bool, None, None]:
        """Do what the queue says, for ever, in short steps; yields whether there is more to do."""
        while True:
            if self._sink.gone:
                yield from self._take_over()
            item = self._take()
            if item is None:
                yield False
                continue
            if item[0] == "populate":
                for _ in item[1].populate():
                    yield True
                self.slots.release(item[1])
                continue
            if item[0] == "staged" and self._standby is not None:
                self._hand_over()
            yield from self._perform(item)
            del item
            yield True

    def _perform(self, item: Item) -> Generator[bool, None, None]:
        try:
            for _ in self._sink.perform(item):
                yield True
        except WriterGone:
            return  # the item is unsettled, and done again by the files' next owner
        with self._lock:
            self._settle()

    def _settle(self) -> None:
        """Forget the items that are done; called under the lock."""
        for _ in range(self._sink.settled()):
            if not self._unsettled:
                break  # recording has failed meanwhile
            size, item = self._unsettled.popleft()
            self._queued -= size
            if item[0] == "release":
                self.slots.release(item[1])
        self._resolved += self._sink.take_resolved()
        if self._sink.failure is not None:
            self._fail(self._sink.failure)
        elif self._sink.gone and self._wake.empty():
            self._wake.put(True)  # the thread, which may sleep, takes the files over

    # -- who owns the files -----------------------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        """Let the process on standby write from now on; if there is none any more, the thread goes on itself."""
        standby, self._standby = self._standby, None
        assert standby is not None
        assert isinstance(self._sink, RunSink)
        from flor_trace.store.process_sink import ProcessSink

        self._sink.sync()  # so that the other need not know what is not durable yet
        sink = ProcessSink(standby, self.folder, self._sink.committed, self._sink.stored_bytes)
        if sink.gone:
            return
        # What has been taken from the queue last is not done yet, and the new sink's to do.
        self._sink.close()
        with self._lock:
            self._resolved += self._sink.take_resolved()
            self._sink = sink

    def _take_over(self) -> Generator[bool, None, None]:
        """The writer's process is gone: go on as before there was one, and do again what it may not have done."""
        gone = self._sink
        with self._lock:
            self._settle()  # what it told last: the journal is kept as far as that, so these items must not be done again
            gone.close()
            if self._state != OPEN:
                return
            self._sink = RunSink.resume(self.folder, gone.journal_size, gone.digests)
            again = [item for _, item in self._unsettled]
        for item in again:
            yield from self._perform(item)

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
        if self._holds or self._state != OPEN or not self._driver.acquire(blocking=False):
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
        before = self.busy_seconds
        try:
            while not self._holds and self._state == OPEN:
                more = next(self._steps)
                self.busy_seconds = before + time.thread_time()
                if not more and not self._holds:
                    self._sleep()
        except Exception as error:
            self._fail(reason_of(error))
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

    def _drain(self, last: Item) -> None:
        """Run all steps here, with a last item, until everything is done; called by whoever holds the thread."""
        try:
            if self._state == OPEN:
                with self._lock:
                    self._queue.append((0, last))
                while next(self._steps) or (self._unsettled and self._state == OPEN):
                    if not self._queue:
                        self._sink.wait()
        except Exception as error:
            self._fail(reason_of(error))
        if self.failed is not None:
            self._sink.stop(self.failed)

    def _fail(self, reason: str, *, tell: bool = True) -> None:
        with self._lock:
            if self._state != OPEN:
                return
            self._state = FAILED
            self.failed = reason
            self._queue.clear()
            self._unsettled.clear()
            self._queued = 0
        self._wake.put(True)
        if self._driver.acquire(blocking=False):
            self._sink.stop(reason)
            self._driver.release()
        if tell and self._on_failure is not None:
            self._on_failure(reason)

    # -- forks ----------------------------------------------------------------------------------------------------------

    def _before_fork(self) -> None:
        if self._state in (CLOSED, IN_CHILD):
            return
        self._forking = self._hold()
        self._await_thread()

    def _await_thread(self) -> None:
        """Return when the stopped thread is gone: the lock is released a moment before, and Python 3.12 counts the system's threads."""
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
        if self._state == IN_CHILD:
            return
        closed = self._state == CLOSED
        self._state = IN_CHILD
        self._queue.clear()
        self._unsettled.clear()
        self._steps.close()
        self._make_locks()
        if not closed:
            self._sink.close()
            if self._standby is not None:
                self._standby.dismiss()
            self.slots.clear()

    _forking = False


def reason_of(error: Exception) -> str:
    """A failure in one clause."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    return f"{type(error).__name__}: {error}"


def _register_at_fork(writer: Background) -> None:
    # Such hooks cannot be taken back, so they must not keep the writer alive.
    reference = weakref.ref(writer)

    def call(method: Callable[[Background], None]) -> Callable[[], None]:
        def hook() -> None:
            live = reference()
            if live is not None:
                method(live)

        return hook

    os.register_at_fork(
        before=call(Background._before_fork),
        after_in_parent=call(Background._after_fork_in_parent),
        after_in_child=call(Background._after_fork_in_child),
    )
