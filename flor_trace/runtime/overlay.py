"""The files as a replay worker sees them: the user's, with all changes kept apart in a scratch folder.

The methods are the system calls of the same name, on the merged view of `runtime.layers`.
"""

from __future__ import annotations

import errno
import os
import posix
import stat
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from flor_trace.runtime.files import FileState
from flor_trace.runtime.layers import Layers, copy, error, is_dir, make_like, within
from flor_trace.runtime.recorded_files import RecordedFiles

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Overlay(Layers):
    """Maps the paths that a script uses to paths that may be touched; all arguments are the script's own paths."""

    def __init__(self, scratch: Path, allow: Iterable[Path] = ()) -> None:
        super().__init__(scratch, allow)
        self.recorded = RecordedFiles(self)

    def install_state(
        self, state: Mapping[str, FileState], initial: Mapping[str, FileState], read_blob: Callable[[str], bytes]
    ) -> None:
        """Show the files as they were at a snapshot; see `RecordedFiles.install`."""
        self.recorded.install(state, initial, read_blob)

    def opened(self, path: str, file: Any) -> None:
        """Remember a file object that writes, so that `install_state` leaves it at the end of what it installs."""
        key = self.key(path)
        if not self.passes(key):
            self.recorded.add_writer(key, file)

    def view(self) -> tuple[Any, ...]:
        """See `Layers`; with what is known of recorded files."""
        return super().view(), self.recorded.view()

    def set_view(self, view: tuple[Any, ...]) -> None:
        """See `Layers`."""
        super().set_view(view[0])
        self.recorded.set_view(view[1])

    def unwrite(self, key: str) -> None:
        """Show what lies at `key` on disk, whatever was written there."""
        self.erase(key)
        self.show(key)

    def erase(self, key: str) -> None:
        """Let the script see nothing at `key`, and forget what was recorded of it."""
        super().erase(key)
        self.recorded.forget(key)

    def resolve_read(self, path: str) -> str:
        """The physical path whose content the script sees at `path`."""
        key = self.key(path)
        if self.passes(key):
            return path
        entry = self.entry(key)
        if entry is None:
            raise self.absence(key, path)
        self.recorded.materialise(key)
        return entry

    # -- changes ------------------------------------------------------------------------------------------------------

    def resolve_write(self, path: str, keep_content: bool) -> str:
        """The scratch path to open for writing; with `keep_content` it holds what the script sees there now."""
        return self.open_path(path, os.O_RDWR | os.O_CREAT | (0 if keep_content else os.O_TRUNC))

    def open_path(self, path: str, flags: int) -> str:
        """The physical path to call `open(2)` on with `flags`."""
        if not flags & _WRITES:
            return self.resolve_read(path)
        key = self.key(path)
        if self.passes(key):
            return path
        entry = self.entry(key)
        if entry is None:
            if not flags & os.O_CREAT:
                raise self.absence(key, path)
            self.need_folder(key, path)
        else:
            if flags & os.O_CREAT and flags & os.O_EXCL:
                raise error(errno.EEXIST, path)
            if not stat.S_ISREG(posix.lstat(entry).st_mode):
                return entry
            if entry == key and not posix.access(key, os.W_OK):
                raise error(errno.EACCES, path)
        self.make_parents(key)
        if entry is not None and not flags & os.O_TRUNC:
            self.recorded.materialise(key)
            self.part(key, keep_content=True)
            self.copy_up(key)
        else:
            self.recorded.forget(key)
            self.part(key, keep_content=False)
            if entry == key:
                make_like(self.upper(key), posix.lstat(key))
        return self.upper(key)

    def change(self, path: str, follow: bool = True) -> str:
        """The scratch path of something whose attributes are about to be changed."""
        key = self.key(path, follow)
        if self.passes(key):
            return path
        if self.entry(key) is None:
            raise self.absence(key, path)
        self.recorded.materialise(key)
        self.make_parents(key)
        self.part(key, keep_content=True)
        self.copy_up(key)
        return self.upper(key)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """As `os.mkdir`."""
        key = self.key(path, follow=False)
        if self.passes(key):
            return posix.mkdir(path, mode)
        if self.entry(key) is not None:
            raise error(errno.EEXIST, path)
        self.need_folder(key, path)
        self.make_parents(key)
        posix.mkdir(self.upper(key), mode)
        self.forget_links()

    def remove(self, path: str) -> None:
        """As `os.remove`."""
        key = self.key(path, follow=False)
        if self.passes(key):
            return posix.unlink(path)
        if self.entry(key) is None:
            raise self.absence(key, path)
        if self.is_folder(key):
            raise error(errno.EISDIR, path)
        self.erase(key)

    def rmdir(self, path: str) -> None:
        """As `os.rmdir`."""
        key = self.key(path, follow=False)
        if self.passes(key):
            return posix.rmdir(path)
        if self.entry(key) is None:
            raise self.absence(key, path)
        if not self.is_folder(key):
            raise error(errno.ENOTDIR, path)
        if self.names_at(key):
            raise error(errno.ENOTEMPTY, path)
        self.erase(key)

    def rename(self, source: str, target: str) -> None:
        """As `os.rename` and `os.replace`; whole folders are copied into the scratch folder first."""
        old, new = self.key(source, follow=False), self.key(target, follow=False)
        if self.passes(old) or self.passes(new):
            return self._rename_across(source, target, old, new)
        if self.entry(old) is None:
            raise self.absence(old, source, target)
        if within(new, old) and old != new:
            raise error(errno.EINVAL, source, target)
        if within(old, new) and old != new:
            raise error(errno.ENOTEMPTY, source, target)
        self.need_folder(new, source, target)
        if old == new:
            return
        if self.entry(new) is not None:
            if self.is_folder(old) and not self.is_folder(new):
                raise error(errno.ENOTDIR, source, target)
            if self.is_folder(new) and (not self.is_folder(old) or self.names_at(new)):
                raise error(errno.ENOTEMPTY if self.is_folder(old) else errno.EISDIR, source, target)
        self.make_parents(old)
        self.copy_up_tree(old)
        lost = self.recorded.lost_below(old)
        self.erase(new)
        self.make_parents(new)
        posix.rename(self.upper(old), self.upper(new))
        self.erase(old)
        self.recorded.renamed(old, new, lost)

    def _rename_across(self, source: str, target: str, old: str, new: str) -> None:
        physical = source if self.passes(old) else self.resolve_read(source)
        if stat.S_ISDIR(posix.lstat(physical).st_mode) and not (self.passes(old) and self.passes(new)):
            raise error(errno.EXDEV, source, target)
        if self.passes(new):
            place = target
        else:
            self.need_folder(new, source, target)
            self.make_parents(new)
            self.erase(new)
            place = self.upper(new)
        if physical == source or self.is_upper(physical):
            with suppress(OSError):
                posix.rename(physical, place)
                return
        copy(physical, place)
        self.erase(old) if not self.passes(old) else posix.unlink(source)

    def symlink(self, target: str, path: str) -> None:
        """As `os.symlink`."""
        key = self.key(path, follow=False)
        if self.passes(key):
            return posix.symlink(target, path)
        if self.entry(key) is not None:
            raise error(errno.EEXIST, target, path)
        self.need_folder(key, target, path)
        self.make_parents(key)
        posix.symlink(target, self.upper(key))
        self.forget_links()

    def link(self, source: str, path: str, follow: bool = True) -> None:
        """As `os.link`: both names share one content in the scratch folder."""
        old = self.key(source, follow)
        if not self.passes(old) and self.entry(old) is None:
            raise self.absence(old, source, path)
        new = self.key(path, follow=False)
        if self.entry(new) is not None:
            raise error(errno.EEXIST, source, path)
        physical = self.change(source, follow)
        if self.passes(new):
            return posix.link(physical, path)
        self.need_folder(new, source, path)
        self.make_parents(new)
        posix.link(physical, self.upper(new), follow_symlinks=False)

    def chdir(self, path: str) -> None:
        """As `os.chdir`; a folder that exists in the scratch folder only keeps the script's name for it."""
        key = self.key(path)
        if self.passes(key):
            posix.chdir(path)
            self._cwd = None
            return
        if not self.is_folder(key):
            raise self.absence(key, path)
        on_disk = self.visible(key) and is_dir(key)
        posix.chdir(key if on_disk else self.upper(key))
        self._cwd = None if on_disk else key

    def copy_up_tree(self, key: str) -> None:
        """Have everything that the script sees at and below `key` in the upper layer."""
        if self.is_folder(key):
            self.copy_up(key)
            for name in self.names_at(key):
                self.copy_up_tree(f"{key}/{name}")
        else:
            if not self.recorded.is_lost(key):
                self.recorded.materialise(key)
            self.copy_up(key)
