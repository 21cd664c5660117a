"""Large lists, tuples and dicts of nothing but atoms, as one run of bytes each.

What such a container holds is told without hashing the classes of its elements: a metaclass may define how its classes hash.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Collection
from itertools import chain, islice
from typing import Any

BULK = 1000  # a container with more elements is tried as one
_SAMPLES = 100
_ATOMS = {id(cls): cls for cls in (int, float, bool, str, bytes, complex, type(None))}
_HEADER = 5  # marshal's: the container's type and the number of elements
_TAGS = {id(int): (b"i", 5), id(float): (b"g", 9)}  # how marshal begins a number, and how many bytes it then takes


def reader_of(obj: Any) -> Callable[[], bytes] | None:
    """What makes the bytes of a plain list, tuple or dict; None where it holds anything but atoms and tuples of atoms.

    They are the same whenever the content is.
    """
    data = _numbers(obj) if type(obj) is not dict else None
    if data is not None:
        return _Once(obj, 2, data)
    version = _version(obj)
    return None if version is None else _Once(obj, version, None)


class _Once:
    """Hands out the bytes that have been made already, and makes them again if asked once more."""

    __slots__ = ("data", "obj", "version")

    def __init__(self, obj: Any, version: int, data: bytes | None) -> None:
        self.obj = obj
        self.version = version
        self.data = data

    def __call__(self) -> bytes:
        data, self.data = self.data, None
        return marshal.dumps(self.obj, self.version) if data is None else data


def _numbers(obj: Any) -> bytes | None:
    """The bytes of nothing but small ints or nothing but floats: looking for their marks takes a tenth of the time that looking at
    each element's type does."""
    first = type(obj[0])
    if id(first) not in _TAGS:
        return None
    # marshal writes whatever offers a buffer, so of mixed content it is not to be asked
    if any(type(item) is not first for item in obj[:: len(obj) // _SAMPLES]):
        return None
    try:
        data = marshal.dumps(obj, 2)
    except ValueError:
        return None
    tag, size = _TAGS[id(first)]
    if len(data) != _HEADER + size * len(obj) or data[_HEADER::size].count(tag) != len(obj):
        return None
    return data


def _version(obj: Any) -> int | None:
    """The version of marshal's format in which equal content has equal bytes; None if there is none."""
    # most of what holds anything else shows it at once
    if not _kinds(list(islice(_elements(obj), _SAMPLES))) <= _ATOMS.keys():
        return None
    kinds = _kinds(_elements(obj))
    if not kinds <= _ATOMS.keys():
        return None
    # Up to version 1 marshal tells interned strings from others, and floats need version 2: with strings use 0.
    if id(str) not in kinds:
        return 2
    return None if id(float) in kinds or id(complex) in kinds else 0


def _elements(obj: Any) -> Collection[Any]:
    return list(chain(obj, obj.values())) if type(obj) is dict else obj


def _kinds(elements: Collection[Any]) -> set[int]:
    """The types of elements, by `id`; of tuples those of what they hold."""
    kinds = set(map(id, map(type, elements)))
    if id(tuple) in kinds:
        kinds.remove(id(tuple))
        kinds.update(map(id, map(type, chain.from_iterable([item for item in elements if type(item) is tuple]))))
    return kinds
