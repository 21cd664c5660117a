"""What `os.scandir` gives for a folder that exists in two layers."""

from __future__ import annotations

import os
import posix
import stat
from typing import Any

from flor_trace.runtime.layers import Layers


class MergedEntry:
    """A `DirEntry` of the merged view."""

    def __init__(self, layers: Layers, name: Any, path: Any, folder: str) -> None:
        self.name = name
        self.path = path
        self._layers = layers
        self._key = f"{folder.rstrip('/')}/{os.fsdecode(name)}"

    def __fspath__(self) -> Any:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return posix.stat(self._layers.look(self._key, follow_symlinks), follow_symlinks=follow_symlinks)

    def inode(self) -> int:
        return self.stat(follow_symlinks=False).st_ino

    def _is(self, kind: int, follow_symlinks: bool) -> bool:
        try:
            return stat.S_IFMT(self.stat(follow_symlinks=follow_symlinks).st_mode) == kind
        except FileNotFoundError:
            return False

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(stat.S_IFDIR, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(stat.S_IFREG, follow_symlinks)

    def is_symlink(self) -> bool:
        return self._is(stat.S_IFLNK, False)

    def is_junction(self) -> bool:
        return False


class MergedScan:
    """What `os.scandir` returns for a merged folder."""

    def __init__(self, entries: list[MergedEntry]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> MergedScan:
        return self

    def __next__(self) -> MergedEntry:
        return next(self._entries)

    def __enter__(self) -> MergedScan:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries = iter(())
