"""h5py opens files in native code: `h5py.File(path)` of h5py 3 calls `h5py.h5f.open` and `create`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

PathMap = Callable[[str], str]
Undo = Callable[[], None]


def wrap_h5py(h5py: Any, for_write: PathMap, for_read: PathMap | None, for_update: PathMap) -> list[Undo]:
    """Make h5py pass each path that it opens through the maps (see `native.wrap_native`)."""
    h5f = getattr(h5py, "h5f", None)
    if h5f is None or _is_wrapped(h5f.open, for_update):
        return []
    given: dict[bytes, bytes] = {}
    """What the script called the files that it has opened under another path."""

    def mapped(name: Any, through: PathMap | None, fapl: Any) -> Any:
        # With a driver for Python's file objects the name is that of no file.
        in_python = fapl is not None and fapl.get_driver() == getattr(h5py.h5fd, "fileobj_driver", None)
        if through is None or in_python or not isinstance(name, (bytes, str)):
            return name
        physical = os.fsencode(through(os.fsdecode(name)))
        given[physical] = os.fsencode(name)
        return physical

    originals = h5f.open, h5f.create, h5f.get_name, h5f.is_hdf5

    @functools.wraps(originals[0])
    def open(name: Any, flags: int = h5f.ACC_RDWR, fapl: Any = None) -> Any:
        return originals[0](mapped(name, for_update if flags & h5f.ACC_RDWR else for_read, fapl), flags, fapl)

    @functools.wraps(originals[1])
    def create(name: Any, flags: int = h5f.ACC_TRUNC, fcpl: Any = None, fapl: Any = None) -> Any:
        # One that must not exist yet is looked for where the script sees it.
        return originals[1](mapped(name, for_update if flags & h5f.ACC_EXCL else for_write, fapl), flags, fcpl, fapl)

    @functools.wraps(originals[2])
    def get_name(obj: Any) -> Any:
        name = originals[2](obj)
        return given.get(name, name)

    @functools.wraps(originals[3])
    def is_hdf5(name: Any) -> Any:
        try:
            return originals[3](mapped(name, for_read, None))
        except FileNotFoundError:
            return False

    undo: list[Undo] = []
    functions: dict[str, Any] = {"open": open, "create": create, "get_name": get_name, "is_hdf5": is_hdf5}
    for (name, function), original in zip(functions.items(), originals, strict=True):
        function.__dict__["@flor"] = for_update
        setattr(h5f, name, function)
        undo.append(functools.partial(setattr, h5f, name, original))
    return undo


def _is_wrapped(function: Any, through: PathMap) -> bool:
    return bool(getattr(function, "__dict__", {}).get("@flor", None) == through)
