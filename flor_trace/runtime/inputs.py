"""The data files that a run reads: what they were when first opened, and whether they still are that.

Python-level opening is seen (`files.FileTracker.inputs`); what native code opens by itself, as h5py and OpenCV do, is not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from time import perf_counter
from typing import Any

SAMPLE_BYTES = 1 << 16
"""A digest covers this much at the beginning, in the middle and at the end of a file."""
SECONDS_PER_SNAPSHOT = 0.005


class InputNotes:
    """Turns what a tracker has seen into records, a little at each snapshot.

    Args:
        inputs: path → (size, mtime_ns) when first opened; grows.
    """

    def __init__(self, inputs: Mapping[str, tuple[int, int]]) -> None:
        self._inputs = inputs
        self._told = 0

    def news(self, seconds: float = SECONDS_PER_SNAPSHOT) -> dict[str, list[Any]]:
        """Path → [size, mtime_ns, digest] of files that no record tells of yet, for about `seconds`; the rest comes next time.

        The digest is None where the file has changed since it was opened, or cannot be read.
        """
        found: dict[str, list[Any]] = {}
        if len(self._inputs) == self._told:
            return found
        until = perf_counter() + seconds
        for path, (size, mtime_ns) in list(self._inputs.items())[self._told :]:
            self._told += 1
            if not path.endswith(".py"):  # sources are kept whole, and compared as such
                found[path] = [size, mtime_ns, sample_digest(path, size, mtime_ns)]
            if perf_counter() > until:
                break
        return found


def sample_digest(path: str, size: int, mtime_ns: int) -> str | None:
    """A digest of parts of a file (all of it up to 192 KiB), or None where it is not the file of that size and time."""
    from xxhash import xxh3_128

    digest = xxh3_128()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.fstat(descriptor)
        if (found.st_size, found.st_mtime_ns) != (size, mtime_ns):
            return None
        for start in _samples(size):
            digest.update(os.pread(descriptor, SAMPLE_BYTES, start))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    text: str = digest.hexdigest()
    return text


def _samples(size: int) -> list[int]:
    if size <= 3 * SAMPLE_BYTES:
        return list(range(0, size, SAMPLE_BYTES))
    return [0, (size - SAMPLE_BYTES) // 2, size - SAMPLE_BYTES]


def changes(records: Iterable[Mapping[str, list[Any]]], touched: Iterable[str]) -> list[str]:
    """What has become of the recorded inputs, each as a clause; nothing for those that are as they were.

    Args:
        records: what `InputNotes.news` gave.
        touched: files that the run wrote itself: replay keeps these as they were.
    """
    own = set(touched)
    found: list[str] = []
    for record in records:
        for path, (size, mtime_ns, digest) in record.items():
            change = None if path in own else _change(path, size, mtime_ns, digest)
            if change:
                found.append(f"the data file {path} {change}")
    return found


def _change(path: str, size: int, mtime_ns: int, digest: str | None) -> str | None:
    try:
        now = os.stat(path)
    except OSError as error:
        return f"cannot be read any more ({error.strerror})"
    if now.st_size != size:
        return f"has changed since the recording: {now.st_size} bytes, then {size}"
    if now.st_mtime_ns == mtime_ns:
        return None
    if digest is None:
        return "has been written since the recording; whether it has changed is not known"
    if sample_digest(path, now.st_size, now.st_mtime_ns) != digest:
        return "has changed since the recording: it has another content of the same size"
    return None
