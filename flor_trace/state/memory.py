"""Raw memory behind tensors and arrays: one region per allocation, whoever looks at it.

A NumPy array and a torch tensor may share bytes (`from_numpy`, `.numpy()`), and a storage may begin inside another
owner's allocation, so regions are joined where their address ranges overlap.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import xxhash

from .compiled import LOOP
from .devices import wait_for
from .graph import FILE_BACKED, READ_ONLY, SHARED, Buffer

# The hash under which a blob is stored.
bytes_digest: Callable[[Any], str] = xxhash.xxh3_128_hexdigest


# Where memory begins within so many bytes decides in which order vector units add up what it holds (matrix times vector, say).
ALIGNED_BYTES = 64


class Region:
    """A range of live memory; `owner` keeps it alive."""

    __slots__ = ("address", "device", "flags", "high", "low", "nbytes", "owner")

    def __init__(
        self, address: int, nbytes: int, owner: Any, flags: int = 0, device: str = "cpu", low: int | None = None, high: int = 0
    ) -> None:
        self.address = address
        self.nbytes = nbytes
        self.owner = owner
        self.flags = flags
        self.device = device
        # the addresses between which views look at it; nothing else of it is state
        self.low = address + nbytes if low is None else low
        self.high = address if low is None else high

    def see(self, low: int, high: int) -> None:
        """A view looks at the addresses from `low` up to `high`."""
        self.low = min(self.low, low)
        self.high = max(self.high, high)

    @property
    def start(self) -> int:
        """Where the part that is seen begins."""
        return max(self.low - self.address, 0) if self.seen else 0

    @property
    def seen(self) -> int:
        """How many bytes are seen."""
        return max(self.high - self.low, 0)

    @property
    def writable(self) -> bool:
        """Whether restore may write here: never into files, shared memory or what is declared read-only."""
        return not self.flags & (FILE_BACKED | SHARED | READ_ONLY)

    def read(self) -> Any:
        """The seen content as an object with the buffer interface; no copy for memory of the CPU."""
        if self.device != "cpu":
            return self.owner[self.start : self.start + self.seen].cpu().numpy()
        return (ctypes.c_ubyte * self.seen).from_address(self.address + self.start)

    def view(self, start: int, nbytes: int) -> memoryview:
        """A writable view of `nbytes` from `start` on; CPU only."""
        if start < 0 or start + nbytes > self.nbytes:
            raise ValueError(f"{nbytes} bytes at {start} of a region of {self.nbytes}")
        whole = (ctypes.c_ubyte * nbytes).from_address(self.address + start)
        return memoryview(whole).cast("B")

    def write(self, data: bytes | memoryview, start: int) -> None:
        """Overwrite the bytes from `start` on."""
        view = memoryview(data).cast("B")
        if start < 0 or start + view.nbytes > self.nbytes:
            raise ValueError(f"{view.nbytes} bytes at {start} of a region of {self.nbytes}")
        if self.device != "cpu":
            self.owner[start : start + view.nbytes].copy_(_host_bytes(view))
            return
        whole = (ctypes.c_ubyte * self.nbytes).from_address(self.address)
        memoryview(whole).cast("B")[start : start + view.nbytes] = view

    def copy_to(self, view: memoryview) -> None:
        """Copy the seen content of a device's memory to a writable view of as many bytes; done when `devices.wait_for` returns."""
        import torch

        torch.frombuffer(view, dtype=torch.uint8).copy_(self.owner[self.start : self.start + self.seen], non_blocking=True)

    def digest(self) -> str:
        """The hash of the content."""
        return bytes_digest(self.read())


def _host_bytes(view: memoryview) -> Any:
    import torch

    return torch.frombuffer(bytearray(view), dtype=torch.uint8)


class Memory:
    """The regions met in one walk; `elsewhere` are those that are not the CPU's."""

    __slots__ = ("elsewhere", "regions")

    def __init__(self) -> None:
        self.regions: dict[int, Region] = {}
        self.elsewhere: set[int] = set()

    def add(self, address: int, nbytes: int, owner: Any, flags: int = 0, device: str = "cpu") -> int:
        """Note a range; returns its address, which names it until `joined` says otherwise."""
        known = self.regions.get(address)
        if known is None:
            self.regions[address] = Region(address, nbytes, owner, flags, device)
            if device != "cpu":
                self.elsewhere.add(address)
        else:
            known.flags |= flags
            if nbytes > known.nbytes:
                known.nbytes, known.owner = nbytes, owner if device != "cpu" else (owner, known.owner)
        return address

    def joined(self) -> dict[int, int]:
        """Join overlapping ranges; returns which noted addresses now belong to another region."""
        moved: dict[int, int] = {}
        last: Region | None = None
        addresses = sorted(self.regions)
        if LOOP is not None and LOOP.lie_apart(self.regions, addresses):
            return moved
        for address in addresses:
            region = self.regions[address]
            if last is not None and last.device == region.device and address < last.address + last.nbytes:
                end = max(last.address + last.nbytes, address + region.nbytes)
                if last.device != "cpu" and end > last.address + last.nbytes:
                    raise RuntimeError(f"two allocations of {last.device} overlap in part, and cannot be read as one")
                last.nbytes = end - last.address
                last.owner = (last.owner, region.owner) if last.device == "cpu" else last.owner
                last.flags |= region.flags
                last.see(region.low, region.high)
                moved[address] = last.address
            else:
                last = region
        for address in moved:
            del self.regions[address]
        self.elsewhere -= moved.keys()
        return moved

    def buffers(self, known: Mapping[int, Buffer], stager: Stager | None = None) -> dict[int, Buffer]:
        """Size, hash and flags of every region; see `walk` for `known` and `stager`."""
        if self.elsewhere:
            wait_for({self.regions[address].device for address in self.elsewhere})
        if stager is not None:
            digests = stager.regions(self.regions)
            if LOOP is not None:
                made: dict[int, Buffer] = LOOP.buffers(self.regions, digests, Buffer)
                return made
        else:
            digests = {address: _digest(region, known.get(address)) for address, region in self.regions.items()}
        return {
            address: Buffer(region.seen, digests[address], region.flags, region.start, region.nbytes)
            for address, region in self.regions.items()
        }


class Stager(Protocol):
    """Takes the content of buffers during a walk. What it returns for each is its hash, or `STAGED` and a number."""

    def data(self, data: Any) -> str:
        """Take the content of a node, an object with the buffer interface that may change after the call."""

    def regions(self, regions: Mapping[int, Region]) -> dict[int, str]:
        """Take the seen content of all memory; called once, at the walk's end. May raise to give the walk up."""


def _digest(region: Region, told: Buffer | None) -> str:
    if told is not None and (told.nbytes, told.start, told.whole) == (region.seen, region.start, region.nbytes):
        return told.digest
    return region.digest()


def small_digests(regions: Mapping[int, Region], limit: int) -> dict[int, str]:
    """By address, the hash of the content of all of the CPU's regions of which fewer than `limit` bytes are seen."""
    if LOOP is not None:
        found: dict[int, str] = LOOP.small_digests(regions, limit, bytes_digest)
        return found
    return {address: region.digest() for address, region in regions.items() if region.seen < limit and region.device == "cpu"}
