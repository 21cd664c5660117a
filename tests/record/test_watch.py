"""The kernel notes every write to watched memory, whoever makes it; only positive evidence counts."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from flor_trace.record.stager import FIRST_PATIENCE, WORTH_STAGING_BYTES, Stager
from flor_trace.record.watch import WriteWatch
from flor_trace.state.memory import Region

SIZE = 3 << 20
# A place within pages, not at the edge of the array.
INNER = 1_000_003

watching = pytest.mark.skipif(not WriteWatch().works, reason="this kernel does not watch memory")


@pytest.fixture
def watch() -> Iterator[WriteWatch]:
    made = WriteWatch()
    yield made
    made.close()


def by_kernel(array: np.ndarray) -> None:
    read, write = os.pipe()
    os.write(write, b"x")
    os.readv(read, [memoryview(array)[INNER : INNER + 1]])
    os.close(read)
    os.close(write)


def after_a_fork(array: np.ndarray) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    array[INNER] = 1


def given_back(array: np.ndarray) -> None:
    """As free and a new allocation at the same address do."""
    libc = ctypes.CDLL(None)
    page = 4096
    address = (array.ctypes.data // page + 5) * page
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10  # MAP_FIXED
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
    assert libc.mmap(address, page, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0) == address


def dropped(array: np.ndarray) -> None:
    page = 4096
    address = (array.ctypes.data // page + 5) * page
    assert ctypes.CDLL(None).madvise(ctypes.c_void_p(address), ctypes.c_size_t(page), 4) == 0  # MADV_DONTNEED


def at(place: int) -> Callable[[np.ndarray], None]:
    def write(array: np.ndarray) -> None:
        array[place] = array[place] + 1

    return write


@watching
@pytest.mark.parametrize("zeros", [True, False])
@pytest.mark.parametrize("write", [at(INNER), at(0), at(-1), by_kernel, after_a_fork, given_back, dropped])
def test_every_write_is_noticed(write: Callable[[np.ndarray], None], zeros: bool, watch: WriteWatch) -> None:
    array = np.zeros(SIZE, np.uint8) if zeros else np.full(SIZE, 5, np.uint8)
    assert watch.begin(1, array.ctypes.data, array.nbytes)
    assert watch.untouched(1)
    assert int(array[::999].sum()) >= 0, "reading is no write"
    assert watch.untouched(1)
    write(array)
    assert not watch.untouched(1)
    watch.end(1)
    assert watch.begin(1, array.ctypes.data, array.nbytes)
    assert watch.untouched(1)
    watch.close()
    array[INNER] = 3
    assert array[INNER] == 3


@watching
def test_a_childs_writes_do_not_count(watch: WriteWatch) -> None:
    array = np.zeros(SIZE, np.uint8)
    assert watch.begin(1, array.ctypes.data, array.nbytes)
    assert watch.untouched(1)
    child = os.fork()
    if child == 0:
        array[INNER] = 1
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert watch.untouched(1)


def test_what_others_can_write_is_not_watched(watch: WriteWatch) -> None:
    shared = np.frombuffer(mmap.mmap(-1, SIZE), np.uint8)
    assert not watch.begin(1, shared.ctypes.data, shared.nbytes)
    assert not watch.untouched(1)
    assert not watch.begin(1, shared.ctypes.data, 10), "less than a page"


class Counted(Region):
    """Counts how often it is hashed."""

    hashed = 0

    def digest(self) -> str:
        Counted.hashed += 1
        return super().digest()


class NoSlots:
    """A writer that has none, so that everything is hashed here."""

    class slots:
        idle = False

        @staticmethod
        def take(nbytes: int) -> None:
            return None

    @staticmethod
    def take_resolved() -> list[tuple[int, str]]:
        return []


@pytest.mark.parametrize("works", [pytest.param(True, marks=watching), False])
def test_constant_memory_is_not_read_again_and_a_late_change_is_seen(works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not works:
        monkeypatch.setattr("flor_trace.record.watch._open_userfaultfd", lambda: -1)
    array = np.full(2 * WORTH_STAGING_BYTES, 3, np.uint8)
    stager = Stager(NoSlots())  # type: ignore[arg-type]
    address = array.ctypes.data

    def digest() -> str:
        region = Counted(address, array.nbytes, array)
        region.see(address, address + array.nbytes)
        stager.begin(may_skip=False)
        return stager.regions({address: region})[address]

    monkeypatch.setattr(Counted, "hashed", 0)
    first = {digest() for _ in range(FIRST_PATIENCE + 2)}
    before = Counted.hashed
    assert len(first | {digest() for _ in range(5)}) == 1
    assert Counted.hashed - before == (0 if works else 5)
    array[INNER] = 4
    second = digest()
    assert second not in first
    array[INNER] = 3
    assert {digest()} == first
    assert len({digest() for _ in range(6)}) == 1
    stager.close()
