"""Whether memory has been written since: the kernel notes it, page by page, so that a large constant array need not be read again.

Linux 6.7 and later: pages are write-protected through an asynchronous userfaultfd, whose faults the kernel resolves by itself, and
PAGEMAP_SCAN tells which still are. (Documentation/admin-guide/mm/userfaultfd.rst and pagemap.rst.) Only positive evidence counts: all pages
are there, protected, and not written. Where the kernel or a container does not allow it nothing is ever watched.

Devices write past page tables into memory that they had pinned before, so nothing is watched beside one.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct

# As in `record.session`.
from builtins import len
from typing import NamedTuple

import xxhash

_SYSCALL = {"x86_64": 323, "aarch64": 282}
_USER_MODE_ONLY = 1
_API = 0xAA
# From <linux/userfaultfd.h> and <linux/fs.h>.
_UFFDIO_API, _UFFDIO_REGISTER, _UFFDIO_UNREGISTER, _UFFDIO_WRITEPROTECT = 0xC018AA3F, 0xC020AA00, 0x8010AA01, 0xC018AA06
_FEATURE_WP_UNPOPULATED, _FEATURE_WP_ASYNC = 1 << 13, 1 << 15
_REGISTER_MODE_WP = 2
_WRITEPROTECT_MODE_WP = 1
_PAGEMAP_SCAN = 0xC0606610
_WPALLOWED, _WRITTEN, _PRESENT, _SWAPPED = 1, 2, 8, 16
_DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri", "/dev/infiniband", "/dev/vfio", "io_uring")
# Each may cost the process two more mappings, of which the kernel allows 65,530.
_MOST = 1000
_FAILURES = 8


class _Watched(NamedTuple):
    address: int
    nbytes: int
    start: int
    end: int
    edges: str


class WriteWatch:
    """Ranges of this process's memory that the kernel watches."""

    def __init__(self) -> None:
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._watched: dict[int, _Watched] = {}
        self._refused = 0
        self._mappings: list[tuple[int, int]] | None = None
        self._scanner = -1
        self._faults = _open_userfaultfd()
        if self._faults >= 0:
            try:
                self._scanner = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                self.close()

    @property
    def works(self) -> bool:
        """Whether this kernel watches at all."""
        return self._scanner >= 0 and self._refused < _FAILURES

    def look(self) -> None:
        """What is known of this process's mappings may have changed."""
        self._mappings = None

    def begin(self, key: int, address: int, nbytes: int) -> bool:
        """Watch a range from now on, under a key of the caller's; False where that cannot be done."""
        start = -(-address // self._page) * self._page
        end = (address + nbytes) // self._page * self._page
        if not self.works or end <= start or len(self._watched) >= _MOST:
            return False
        if self._mappings is None:
            self._mappings = _private_mappings()
        if not _covers(self._mappings, start, end):
            return False
        if not self._protect(start, end):
            self._refused += 1
            return False
        self._watched[key] = _Watched(address, nbytes, start, end, _edges(address, nbytes, start, end))
        return True

    def untouched(self, key: int) -> bool:
        """Whether a range is watched and has not been written since `begin`. Its memory must still be there."""
        known = self._watched.get(key)
        return known is not None and self._all_protected(known.start, known.end) and known.edges == _edges(*known[:4])

    def end(self, key: int) -> bool:
        """Watch a range no more; returns whether it was watched."""
        known = self._watched.pop(key, None)
        if known is None:
            return False
        try:
            fcntl.ioctl(self._faults, _UFFDIO_UNREGISTER, struct.pack("QQ", known.start, known.end - known.start))
        except OSError:
            return True  # it has been unmapped, and with it the watch has ended
        return True

    def close(self) -> None:
        """Watch nothing any more; the kernel lifts all protection."""
        for descriptor in (self._faults, self._scanner):
            if descriptor >= 0:
                os.close(descriptor)
        self._faults = self._scanner = -1
        self._watched = {}

    def _protect(self, start: int, end: int) -> bool:
        try:
            fcntl.ioctl(self._faults, _UFFDIO_REGISTER, struct.pack("QQQQ", start, end - start, _REGISTER_MODE_WP, 0))
            fcntl.ioctl(self._faults, _UFFDIO_WRITEPROTECT, struct.pack("QQQ", start, end - start, _WRITEPROTECT_MODE_WP))
        except OSError:
            return False
        return True

    def _all_protected(self, start: int, end: int) -> bool:
        """Whether every page of a range is there, protected and not written: then the scan finds all of it in one piece."""
        found = (ctypes.c_uint64 * 3)()
        question = struct.pack(
            "12Q", 96, 0, start, end, 0, ctypes.addressof(found), 1, 0, _WRITTEN, _WPALLOWED | _WRITTEN, _PRESENT | _SWAPPED, _WPALLOWED
        )
        try:
            count = fcntl.ioctl(self._scanner, _PAGEMAP_SCAN, bytearray(question))
        except OSError:
            return False
        return count == 1 and (found[0], found[1]) == (start, end)


def _open_userfaultfd() -> int:
    """A descriptor whose faults the kernel resolves by itself; -1 where that is not to be had."""
    number = _SYSCALL.get(os.uname().machine)
    if number is None or os.uname().sysname != "Linux":
        return -1
    descriptor: int = ctypes.CDLL(None).syscall(number, os.O_CLOEXEC | _USER_MODE_ONLY)
    if descriptor < 0:
        return -1
    try:
        fcntl.ioctl(descriptor, _UFFDIO_API, struct.pack("QQQ", _API, _FEATURE_WP_UNPOPULATED | _FEATURE_WP_ASYNC, 0))
    except OSError:
        os.close(descriptor)
        return -1
    from flor_trace.store.files import move_up

    return move_up(descriptor)


def _private_mappings() -> list[tuple[int, int]]:
    """The ordinary memory of this process alone; none of it where a device may be, that could write into it unseen."""
    found = []
    with open("/proc/self/maps", "rb") as file:
        lines = file.read().decode(errors="surrogateescape").splitlines()
    for line in lines:
        if any(device in line for device in _DEVICES):
            return []
        fields = line.split(maxsplit=5)
        if fields[1].endswith("p") and fields[4] == "0":
            low, _, high = fields[0].partition("-")
            found.append((int(low, 16), int(high, 16)))
    return found


def _covers(mappings: list[tuple[int, int]], start: int, end: int) -> bool:
    """Whether a range lies in these mappings, which are in order."""
    for low, high in mappings:
        if low <= start < high:
            start = high
    return start >= end


def _edges(address: int, nbytes: int, start: int, end: int) -> str:
    """The hash of the parts of a range that do not fill a page."""
    head = (ctypes.c_ubyte * (start - address)).from_address(address)
    tail = (ctypes.c_ubyte * (address + nbytes - end)).from_address(end)
    edges = xxhash.xxh3_128(head)
    edges.update(tail)
    return edges.hexdigest()
