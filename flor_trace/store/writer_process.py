"""The process that writes a run, beside the training and at the lowest priority.

It hashes, deduplicates, compresses, writes and commits what the training process hands to it (the items of `sink`), and tells how
far it has come. When the training process is gone, it finishes what it holds and ends.
"""

from __future__ import annotations

import _thread
import mmap
import os
import time
from collections import deque

from flor_trace.store.channel import Channel, ChannelClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from flor_trace.store.sink import RunSink

_NICENESS = 19
# Named in <linux/ioprio.h>; the class is in the upper bits.
_IOPRIO_WHO_PROCESS = 1
_IOPRIO_IDLE = 3 << 13
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_OOM_SCORE = "600"


def serve(descriptor: int) -> NoReturn:
    """Write what comes over this socket until its other end is closed; then end this process."""
    try:
        channel = Channel(descriptor)
        try:
            received = channel.receive()
        except ChannelClosed:
            return  # type: ignore[misc]  # never needed; see `finally`
        assert received is not None
        _lower_priority()
        Service(channel, received[0][1]).run()
    finally:
        os._exit(0)


def _lower_priority() -> None:
    os.nice(_NICENESS)
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(_OOM_SCORE)  # if something has to go, then not the training
    except OSError:
        pass  # a container may forbid it; it is a preference only
    number = _IOPRIO_SET.get(os.uname().machine)
    if number is not None:
        import ctypes

        ctypes.CDLL(None).syscall(number, _IOPRIO_WHO_PROCESS, 0, _IOPRIO_IDLE)


class _Mapped:
    """A staging slot of the training process."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._map = mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
        os.close(descriptor)

    def view(self, offset: int, size: int) -> memoryview:
        return memoryview(self._map)[offset : offset + size]


class Service:
    """Carries out the items of one run.

    A thread of its own receives, so that everything that was sent is held here if the sender dies.
    """

    def __init__(self, channel: Channel, folder: str) -> None:
        from flor_trace.store.sink import RunSink

        self._channel = channel
        self._items: deque[tuple[Any, ...]] = deque()
        self._more = _thread.allocate_lock()  # locked while nothing is known to wait
        self._ended = False
        self._slots: dict[int, _Mapped] = {}
        self._told: set[int] = set()
        self._done = 0
        self._sink: RunSink = RunSink.resume(folder)
        self._began = time.process_time()

    def run(self) -> None:
        """Work until the other end is closed and nothing waits."""
        self._more.acquire()
        _thread.start_new_thread(self._receive, ())
        while True:
            if not self._items:
                if self._done:
                    self._report()
                if self._ended and not self._items:
                    return
                self._more.acquire(timeout=1.0)
                continue
            try:
                self._carry_out(self._items.popleft())
            except Exception as error:
                self._fail(error)
                return
            if self._sink.indexed:
                self._tell()

    def _carry_out(self, item: tuple[Any, ...]) -> None:
        what = item[0]
        if what == "slot":
            self._slots[item[1]] = item[2]
            return
        if what == "forget":
            self._slots.pop(item[1], None)
        if what == "staged":
            item = (what, item[1], self._slots[item[2]], item[3])
        for _ in self._sink.perform(item):
            pass
        if what == "stop":
            return
        self._done += 1

    def _report(self) -> None:
        """Nothing waits: settle what has been done."""
        if not self._sink.indexed:
            self._sink.write_index()
        self._tell()

    def _tell(self) -> None:
        sink = self._sink
        new = [(number, digest) for number, digest in (*sink.take_resolved(), *sink.digests.items()) if number not in self._told]
        self._told = {*sink.digests}
        used = time.process_time() - self._began
        message = ("done", self._done, sink.journal_size, sink.committed, sink.stored_bytes, used, new, sink.through)
        self._done = 0
        self._send(message)

    def _fail(self, error: Exception) -> None:
        from flor_trace.store.background import reason_of

        reason = reason_of(error)
        self._sink.stop(reason)
        self._send(("failed", reason))

    def _send(self, message: tuple[Any, ...]) -> None:
        try:
            self._channel.send(message)
        except ChannelClosed:
            self._ended = True

    def _receive(self) -> None:
        try:
            while (received := self._channel.receive()) is not None:
                message, descriptor = received
                if descriptor is not None:
                    message = (*message[:2], _Mapped(descriptor, message[2]))
                self._items.append(message)
                self._wake()
        except Exception:
            # The channel is closed, or memory too short for a message or a slot: whatever has not come is the training process's to do,
            # as after any other end of this one.
            self._ended = True
            self._wake()

    def _wake(self) -> None:
        try:
            self._more.release()
        except RuntimeError:
            return  # it has been woken already
