"""Staging slots: memory that the training thread copies large buffers into, and that the writer reads at its leisure.

A slot is one memfd, mapped here and in the writer's process: so what it holds outlives a killed trainer, and a small /dev/shm
does not matter. Slots are reused, for the first touch of a page costs about twenty times as much as the copy. There are at
most two, so that one can be filled while the other is written. They grow when the state has grown, with some room to spare, and
are given back when memory gets scarce.
"""

from __future__ import annotations

import mmap
import os
import time

from flor_trace.store.files import move_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_SLOTS = 2
# Buffers begin at multiples of a cache line.
ALIGNMENT = 64
_GRANULE = 2 << 20
_SPARE = 1.1
# Of the memory that is free, the first slot may take half and the second a quarter.
_SHARES = (0.5, 0.25)
# Slots in use by nobody are given back when less than this share of the machine's (or the container's) memory is free.
_SCARCE = 0.06
_LOOK_AGAIN_SECONDS = 1.0
_POPULATE_STEP = 16 << 20
_MADV_POPULATE_WRITE = 23


class Slot:
    """One piece of staging memory.

    Attributes:
        number: names the slot in the channel to the writer's process; never given twice.
        address: where it is mapped in this process.
        used: bytes given out since it was taken.
        ready: whether all its pages exist.
    """

    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.size = size
        self.used = 0
        self.ready = False
        self.descriptor = move_up(os.memfd_create("flor_trace", os.MFD_CLOEXEC))
        try:
            os.ftruncate(self.descriptor, size)
            self._map = mmap.mmap(self.descriptor, size)
        except OSError:
            os.close(self.descriptor)
            raise
        # A script that does not use large memory does not pay for the import: 10 ms.
        import ctypes

        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    def view(self, offset: int, size: int) -> memoryview:
        """A part of the slot."""
        return memoryview(self._map)[offset : offset + size]

    def place(self, size: int) -> int:
        """The offset at which the next `size` bytes go."""
        offset = self.used
        self.used += (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        return offset

    def populate(self) -> Iterator[None]:
        """Make all pages exist, in short steps; the kernel does it without the interpreter's lock."""
        import ctypes

        advise = ctypes.CDLL(None).madvise
        for start in range(0, self.size, _POPULATE_STEP):
            size = min(_POPULATE_STEP, self.size - start)
            # An old kernel does not know this advice: then the first copy makes the pages.
            advise(ctypes.c_void_p(self.address + start), ctypes.c_size_t(size), _MADV_POPULATE_WRITE)
            yield
        self.ready = True

    def close(self) -> None:
        """Give the memory back. The mapping goes with its last view, the pages with it and the writer's mapping."""
        del self._map
        os.close(self.descriptor)


class SlotPool:
    """The slots of one process. Used by the training thread; `release` may be called by any.

    Args:
        on_drop: called with the number of a slot that is given back.
        room: bytes of memory that are free, and bytes of memory there are at all; for tests.
    """

    def __init__(self, on_drop: Callable[[int], None] | None = None, room: Callable[[], tuple[int, int]] | None = None) -> None:
        self._on_drop = on_drop
        self._room = room or memory_room
        self._free: list[Slot] = []
        self._slots: list[Slot] = []
        self._last = 0
        self._looked = 0.0

    @property
    def nbytes(self) -> int:
        """The size of all slots."""
        return sum(slot.size for slot in self._slots)

    @property
    def idle(self) -> bool:
        """Whether a slot is free, or another may be made."""
        return bool(self._free) or len(self._slots) < MOST_SLOTS

    def take(self, nbytes: int) -> Slot | None:
        """A free slot of at least this size, made or grown where memory allows; None: both are busy, or memory is short. A slot
        whose pages do not exist yet is not `ready`."""
        self._drop_if_scarce()
        for slot in sorted(self._free, key=lambda slot: slot.size):
            if slot.size >= nbytes:
                self._free.remove(slot)
                slot.used = 0
                return slot
        if self._free:
            self._drop(self._free[-1])
        return self._make(nbytes)

    def release(self, slot: Slot) -> None:
        """The content of a slot is no longer needed."""
        if slot in self._slots:
            self._free.append(slot)

    def clear(self) -> None:
        """Give back every slot, also those in use: nobody will read them."""
        for slot in self._slots:
            slot.close()
        self._slots, self._free = [], []

    def _make(self, nbytes: int) -> Slot | None:
        if len(self._slots) >= MOST_SLOTS:
            return None
        size = (int(nbytes * _SPARE) + _GRANULE - 1) // _GRANULE * _GRANULE
        if size > _SHARES[len(self._slots)] * self._room()[0]:
            return None
        try:
            slot = Slot(self._last + 1, size)
        except (OSError, AttributeError):
            return None  # no address space, or no memfd on this platform
        self._last = slot.number
        self._slots.append(slot)
        return slot

    def _drop_if_scarce(self) -> None:
        now = time.monotonic()
        if not self._free or now - self._looked < _LOOK_AGAIN_SECONDS:
            return
        self._looked = now
        free, total = self._room()
        if free < _SCARCE * total:
            for slot in list(self._free):
                self._drop(slot)

    def _drop(self, slot: Slot) -> None:
        self._free.remove(slot)
        self._slots.remove(slot)
        slot.close()
        if self._on_drop is not None:
            self._on_drop(slot.number)


def memory_room() -> tuple[int, int]:
    """Bytes of memory that can be had without swapping, and all there are: of the machine, or of the container if it has less."""
    fields: dict[str, int] = {}
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                name, _, rest = line.partition(":")
                fields[name] = int(rest.split()[0]) << 10
    except (OSError, ValueError, IndexError):
        return 0, 0  # memory of unknown size is not used
    total, free = fields.get("MemTotal", 0), fields.get("MemAvailable", 0)
    for limit, used in _group_limits():
        if limit < total:
            total, free = limit, min(free, max(limit - used, 0))
    return free, total


def _group_limits() -> list[tuple[int, int]]:
    """Limit and use of the control groups that this process is in; page cache that could be dropped does not count as used."""
    found = []
    for folder, limit, usage in _group_files():
        try:
            with open(os.path.join(folder, limit)) as file:
                text = file.read().strip()
            if text == "max":
                continue
            with open(os.path.join(folder, usage)) as file:
                used = int(file.read())
            with open(os.path.join(folder, "memory.stat")) as file:
                stat = dict(line.split() for line in file)
        except (OSError, ValueError):
            continue
        cache = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
        found.append((int(text), max(used - cache, 0)))
    return found


def _group_files() -> Iterator[tuple[str, str, str]]:
    """The folders of this process's memory control groups, innermost first, with the names of limit and use in them."""
    try:
        with open("/proc/self/cgroup") as file:
            lines = file.read().split()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, limit, usage = (
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
            if controllers
            else ("/sys/fs/cgroup", "memory.max", "memory.current")
        )
        while True:
            yield os.path.join(root, path.strip("/")), limit, usage
            if path in ("/", ""):
                break
            path = os.path.dirname(path)
