"""What functions draw whose results cannot be kept: a file of random name, an element chosen by the system's entropy.

While such a function is called, what the interpreter's own library draws in it is kept, or is what had been kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def temporary_names(kept: list[Any] | None) -> Iterator[list[Any]]:
    """The random parts of temporary files' names; those that were taken already are among them."""
    tempfile: Any = sys.modules["tempfile"]
    names = tempfile._get_candidate_names()
    drawn: list[Any] = []
    tempfile._name_sequence = _Names(names, list(kept or ()), drawn)
    try:
        yield drawn
    finally:
        tempfile._name_sequence = names


class _Names:
    """An iterator of names: those that were kept, then new ones."""

    def __init__(self, names: Iterator[str], kept: list[Any], drawn: list[Any]) -> None:
        self._names = names
        self._kept = iter(kept)
        self._drawn = drawn

    def __iter__(self) -> _Names:
        return self

    def __next__(self) -> str:
        name: str = next(self._kept, None) or next(self._names)
        self._drawn.append(name)
        return name


@contextmanager
def system_entropy(kept: list[Any] | None) -> Iterator[list[Any]]:
    """The bytes that `random.SystemRandom` takes from the system, in hexadecimal."""
    random: Any = sys.modules["random"]
    real: Callable[[int], bytes] = random._urandom
    drawn: list[Any] = []
    left = iter(list(kept or ()))

    def urandom(size: int) -> bytes:
        served = next(left, None)
        data = real(size) if served is None else bytes.fromhex(served)
        drawn.append(data.hex())
        return data

    random._urandom = urandom
    try:
        yield drawn
    finally:
        random._urandom = real
