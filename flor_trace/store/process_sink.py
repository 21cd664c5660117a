"""The sink whose work is done by another process: see `writer_process` for that one, and `standby` for its start."""

from __future__ import annotations

import os
import select

from flor_trace.store.channel import Channel, ChannelClosed
from flor_trace.store.sink import WriterGone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from flor_trace.store.staging import Slot
    from flor_trace.store.standby import Standby

_WAIT_SECONDS = 0.5


class ProcessSink:
    """See `RunSink`, of which this is the remote part.

    Attributes:
        gone: whether the process has ended.
        failure: why it had to stop, in one clause.
        journal_size: up to here the journal is settled; what lies behind is done again if the process is gone.
        digests: of numbers that are settled and not yet committed.
        busy_seconds: processor time that it has spent.
    """

    def __init__(self, standby: Standby, folder: str, committed: int, stored_bytes: int) -> None:
        self._channel = Channel(standby.take())
        self._slots: set[int] = set()
        self._settled = 0
        self._resolved: list[tuple[int, str]] = []
        self.gone = False
        # Its last words can be read after it has gone.
        self._heard_all = False
        self.failure: str | None = None
        self.journal_size = os.path.getsize(os.path.join(folder, "journal"))
        self.committed = committed
        self.stored_bytes = stored_bytes
        self.busy_seconds = 0.0
        self.digests: dict[int, str] = {}
        try:
            self._channel.send(("open", os.path.abspath(folder)))
        except ChannelClosed:
            self.gone = True

    def perform(self, item: tuple[Any, ...]) -> Generator[None, None, None]:
        """Hand an item to the process; raises WriterGone."""
        if self.gone:
            raise WriterGone
        try:
            self._send(item)
        except ChannelClosed:
            self.gone = True
            raise WriterGone from None
        yield

    def _send(self, item: tuple[Any, ...]) -> None:
        what = item[0]
        if what == "staged":
            slot: Slot = item[2]
            if slot.number not in self._slots:
                self._slots.add(slot.number)
                self._channel.send(("slot", slot.number, slot.size), slot.descriptor)
            item = (what, item[1], slot.number, item[3])
        elif what == "release":
            item = (what, item[1].number)
        elif what == "blob":
            item = (what, item[1], bytes(item[2]))
        self._channel.send(item)

    def settled(self) -> int:
        """How many items the process has told to be done since the last call. Not to be called by two threads at once."""
        self._listen()
        done, self._settled = self._settled, 0
        return done

    def take_resolved(self) -> list[tuple[int, str]]:
        """See `RunSink`."""
        found, self._resolved = self._resolved, []
        return found

    def wait(self) -> None:
        """Return when the process may have told something."""
        if not self.gone:
            select.select([self._channel], [], [], _WAIT_SECONDS)

    def stop(self, reason: str) -> None:
        """See `RunSink`; a process that is gone leaves a run without an end."""
        if not self.gone:
            try:
                self._channel.send(("stop", reason))
            except ChannelClosed:
                self.gone = True

    def close(self) -> None:
        """Let go of the process, which ends when it has done what it holds."""
        self._channel.close()

    def _listen(self) -> None:
        while not self._heard_all:
            try:
                received = self._channel.receive(wait=False)
            except ChannelClosed:
                self.gone = self._heard_all = True
                return
            if received is None:
                return
            message = received[0]
            if message[0] == "failed":
                self.failure = message[1]
                continue
            _, done, self.journal_size, self.committed, self.stored_bytes, self.busy_seconds, digests, through = message
            self._settled += done
            self.digests.update(digests)
            committed = [number for number in self.digests if number <= through]
            self._resolved += [(number, self.digests.pop(number)) for number in committed]
