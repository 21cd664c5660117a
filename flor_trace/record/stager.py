"""Takes large memory off the training thread's hands: it is copied into a staging slot, and hashed and written later.

A copy into memory that is reused takes about three times as long as hashing the same bytes, so memory that was the same at the last
snapshots is hashed here, and only copied if it has changed after all. All else that is large is copied at once. Where the kernel can tell
that memory has not been written since (`watch`), it is not even read. The memory of devices is copied each time, straight into the slot.
"""

from __future__ import annotations

import ctypes

# As in `record.session`.
from builtins import sum
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from flor_trace.record.decisions import DISK, SLOTS
from flor_trace.record.watch import WriteWatch
from flor_trace.state.devices import wait_for
from flor_trace.state.graph import FILE_BACKED, SHARED, STAGED
from flor_trace.state.memory import bytes_digest, small_digests
from flor_trace.store.staging import ALIGNMENT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flor_trace.state.memory import Region
    from flor_trace.store.staging import Slot
    from flor_trace.store.writer import RunWriter

# Smaller memory is hashed and copied as it is met: a slot would not be felt.
LARGE_BYTES = 64 << 10
WORTH_STAGING_BYTES = 4 << 20
# A snapshot for which no slot is free is only left out if it would take longer to copy in the ordinary way than the walk has taken already.
WORTH_LEAVING_OUT_BYTES = 64 << 20
# Hashing less takes less time than asking the kernel.
WORTH_WATCHING_BYTES = 512 << 10
# At so many snapshots memory must have been the same before it is watched, for the first write to each watched page is slow; twice as
# many each time that it was written after all.
FIRST_PATIENCE = 2


class NoRoom(Exception):
    """This snapshot is to be left out; its argument is the reason (see `decisions`)."""


class _Known(NamedTuple):
    """What some memory held at the last snapshot."""

    extent: tuple[int, int, int]
    digest: str
    same: int  # at how many before that, in a row
    patience: int = FIRST_PATIENCE


class Stager:
    """The memory of one recording; see `state.memory.Stager`.

    Args:
        writer: whose slots are used, and who hashes and writes what they hold.

    Attributes:
        numbers: the staged buffers of the snapshot that is being taken.
        staged_bytes: their size.
        once: seconds that went into making a slot for it, which is used again.
    """

    def __init__(self, writer: RunWriter) -> None:
        self.numbers: list[int] = []
        self.staged_bytes = 0
        self.once = 0.0
        self._room: int | None = None
        self._writer = writer
        self._known: dict[int, _Known] = {}
        # Staged at the last snapshots: whose digest each number will tell.
        self._waiting: dict[int, tuple[int, tuple[int, int, int]]] = {}
        self._watch = WriteWatch()
        self._may_skip = False
        self._slot: Slot | None = None

    def begin(self, *, may_skip: bool, room: int | None = None) -> None:
        """A snapshot is about to be taken. `may_skip`: rather leave it out than wait for much memory; `room`: how many bytes it may add
        to the run's files."""
        self._may_skip, self._room = may_skip, room
        self.numbers = []
        self.staged_bytes = 0
        self.once = 0.0
        for number, digest in self._writer.take_resolved():
            place = self._waiting.pop(number, None)
            if place is not None:
                self._note(*place, digest)

    def end(self) -> None:
        """The snapshot has been taken, or given up."""
        slot, self._slot = self._slot, None
        if slot is not None:
            self._writer.release(slot)

    def close(self) -> None:
        """No further snapshot will be taken."""
        self._watch.close()

    def data(self, data: Any) -> str:
        """See `state.memory.Stager`; whoever asked for the walk stores it."""
        return bytes_digest(data)

    def regions(self, regions: Mapping[int, Region]) -> dict[int, str]:
        """See `state.memory.Stager`. Raises NoRoom."""
        changed: dict[int, Region] = {}
        self._watch.look()
        digests = small_digests(regions, LARGE_BYTES)
        for address, region in regions.items():
            if address in digests:
                continue
            if not region.seen:
                digests[address] = region.digest()
            elif region.device != "cpu" or not self._is_unchanged(address, region, digests):
                changed[address] = region
        for address in self._known.keys() - regions.keys():
            self._watch.end(address)
            del self._known[address]
        slot = self._take_slot(changed)
        if slot is not None:
            return digests | self._stage(slot, changed)
        for address, region in changed.items():
            digests[address] = digest = region.digest()
            if region.device == "cpu":
                self._note(address, _extent(region), digest)
        return digests

    def _is_unchanged(self, address: int, region: Region, digests: dict[int, str]) -> bool:
        """Whether memory that was the same at the last snapshots is so still; its digest goes into `digests` then."""
        known = self._known.get(address)
        if known is None or not known.same or known.extent != _extent(region):
            self._watch.end(address)
            return False
        if not self._watch.untouched(address):
            if self._watch.end(address):
                known = self._known[address] = known._replace(same=1, patience=2 * known.patience)
            # Watched from before it is hashed, so that no write in between is missed.
            elif known.same >= known.patience and _may_be_watched(region):
                self._watch.begin(address, address + region.start, region.seen)
            if region.digest() != known.digest:
                self._watch.end(address)
                return False
        digests[address] = known.digest
        self._known[address] = known._replace(same=known.same + 1)
        return True

    def _note(self, address: int, extent: tuple[int, int, int], digest: str) -> None:
        before = self._known.get(address)
        if before is None or before.extent != extent:
            self._known[address] = _Known(extent, digest, 0)
        else:
            self._known[address] = before._replace(digest=digest, same=before.same + 1 if before.digest == digest else 0)

    def _take_slot(self, changed: Mapping[int, Region]) -> Slot | None:
        """The slot for all that has to be copied; None if it is to be copied in the ordinary way."""
        nbytes = sum(region.seen + ALIGNMENT for region in changed.values())
        if self._room is not None and nbytes > self._room:
            raise NoRoom(DISK)
        if nbytes < WORTH_STAGING_BYTES:
            return None
        slots = self._writer.slots
        slot = slots.take(nbytes)
        may_skip = self._may_skip and nbytes >= WORTH_LEAVING_OUT_BYTES
        if slot is None:
            if may_skip and not slots.idle:
                raise NoRoom(SLOTS)
            return None
        if not slot.ready:
            if may_skip:
                self._writer.populate(slot)
                raise NoRoom(SLOTS)
            began = perf_counter()
            for _ in slot.populate():
                pass
            self.once = perf_counter() - began
        self._slot = slot
        return slot

    def _stage(self, slot: Slot, changed: Mapping[int, Region]) -> dict[int, str]:
        """Copy all of it into the slot. The writer hears of it once: it would compete for the interpreter's lock with the copying, and a
        message for each part costs more than hashing it."""
        places = []
        for region in changed.values():
            offset = slot.place(region.seen)
            if region.device == "cpu":
                ctypes.memmove(slot.address + offset, region.address + region.start, region.seen)
            else:
                region.copy_to(slot.view(offset, region.seen))
            places.append((offset, region.seen))
            self.staged_bytes += region.seen
        if devices := {region.device for region in changed.values()} - {"cpu"}:
            wait_for(devices)
        first = self._writer.put_staged(slot, places)
        staged = {}
        for number, (address, region) in enumerate(changed.items(), start=first):
            self.numbers.append(number)
            if region.device == "cpu":
                self._waiting[number] = (address, _extent(region))
            staged[address] = STAGED + str(number)
        return staged


def _may_be_watched(region: Region) -> bool:
    """Whether only this process writes there, and it is worth the trouble."""
    return region.seen >= WORTH_WATCHING_BYTES and not region.flags & (FILE_BACKED | SHARED)


def _extent(region: Region) -> tuple[int, int, int]:
    return region.start, region.seen, region.nbytes
