"""The files as a replay worker sees them: the user's, with all changes kept apart in a scratch folder.

A *key* is an absolute path without links. The folder `<scratch>/files` mirrors the keys that were changed (the *upper*
layer); what was removed is *hidden*; for everything else the user's file (the *lower* layer) is read. All calls here use
`posix`, which the guard never patches.
"""

from __future__ import annotations

import errno
import os
import posix
import stat
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from flor_trace.errors import NotRestorable
from flor_trace.runtime.files import FileState

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_MAX_LINKS = 40


class Overlay:
    """Maps the paths that a script uses to paths that may be touched. Methods take the script's own paths.

    Paths under `scratch`, `allow`, `/dev`, `/proc` and `/sys` are passed through.
    """

    def __init__(self, scratch: Path, allow: Iterable[Path] = ()) -> None:
        self.scratch = os.path.realpath(scratch)
        self.upper_root = os.path.join(self.scratch, "files")
        os.makedirs(self.upper_root, exist_ok=True)
        roots = ("/dev", "/proc", "/sys", self.scratch, *(os.path.realpath(p) for p in allow))
        self._through_roots = frozenset(roots)
        self._through = tuple(root + "/" for root in roots)
        self._hidden: dict[str, set[str]] = {}
        """Folder → names in it that are removed from the lower layer's view."""
        self._pending: dict[str, FileState] = {}
        """Files that have the recorded size and time by now, but get their content when it is first asked for."""
        self._lost: dict[str, str] = {}
        self._installed: dict[str, tuple[FileState, tuple[int, int, int]]] = {}
        self._read_blob: Callable[[str], bytes] | None = None
        self._writers: dict[str, list[weakref.ref[Any]]] = {}
        self._folders: dict[str, str] = {}
        self._cwd: str | None = None
        self._lock = threading.RLock()
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()

    # -- names --------------------------------------------------------------------------------------------------------

    def getcwd(self) -> str:
        """The working directory under its own name, also where it exists in the scratch folder only."""
        return self._cwd or posix.getcwd()

    def to_user(self, path: str) -> str:
        """The script's name for a path inside the scratch folder's mirror; other paths are given back."""
        return path[len(self.upper_root) :] or "/" if self._is_upper(path) else path

    def _is_upper(self, path: str) -> bool:
        return path == self.upper_root or path.startswith(self.upper_root + "/")

    def key(self, path: str, follow: bool = True) -> str:
        """The key of `path`; with `follow` the last component is followed when it is a link."""
        whole = path if path.startswith("/") else f"{self.getcwd()}/{path}"
        folder, _, last = whole.rstrip("/").rpartition("/")
        if last in ("", ".", ".."):
            return self._walk(whole)
        base = self._folders.get(folder)
        if base is None:
            base = self._folders[folder] = self._walk(folder)
        key = f"{base.rstrip('/')}/{last}"
        if follow and not self.passes(key) and self._link_target(key) is not None:
            return self._walk(key)
        return key

    def passes(self, key: str) -> bool:
        """Whether a path is none of the overlay's business."""
        return key.startswith(self._through) or key in self._through_roots

    def _walk(self, path: str) -> str:
        """Resolve links component by component, as the kernel does, in the merged view."""
        current, rest, links = "", path.split("/")[::-1], 0
        while rest:
            part = rest.pop()
            if part in ("", "."):
                continue
            if part == "..":
                current = current.rpartition("/")[0]
                continue
            current = f"{current}/{part}"
            if self.passes(current):
                return "/".join([current, *(p for p in rest[::-1] if p)])
            target = self._link_target(current)
            if target is None:
                continue
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            current = "" if target.startswith("/") else current.rpartition("/")[0]
            rest.extend(target.split("/")[::-1])
        return current or "/"

    def _link_target(self, key: str) -> str | None:
        entry = self.entry(key)
        if entry is None:
            return None
        try:
            return posix.readlink(entry)
        except OSError:
            return None

    # -- the merged view ----------------------------------------------------------------------------------------------

    def upper(self, key: str) -> str:
        """Where the changed version of `key` is or would be."""
        return self.upper_root + key

    def visible(self, key: str) -> bool:
        """Whether the lower layer shows through at `key`."""
        while self._hidden:
            folder, _, name = key.rpartition("/")
            if name in self._hidden.get(folder or "/", ()):
                return False
            if not folder:
                break
            key = folder
        return True

    def entry(self, key: str) -> str | None:
        """The physical path of what the script sees at `key`, or None where it sees nothing."""
        upper = self.upper(key)
        if _lexists(upper):
            return upper
        return key if self.visible(key) and _lexists(key) else None

    def is_folder(self, key: str) -> bool:
        """Whether the script sees a folder at `key`."""
        entry = self.entry(key)
        return entry is not None and stat.S_ISDIR(posix.lstat(entry).st_mode)

    def look(self, path: str, follow: bool = True) -> str:
        """The physical path to `stat`; raises FileNotFoundError under the script's name."""
        key = self.key(path, follow)
        if self.passes(key):
            return path
        entry = self.entry(key)
        if entry is None:
            raise _error(errno.ENOENT, path)
        return entry

    def resolve_read(self, path: str) -> str:
        """The physical path whose content the script sees at `path`."""
        key = self.key(path)
        if self.passes(key):
            return path
        entry = self.entry(key)
        if entry is None:
            raise _error(errno.ENOENT, path)
        self._materialise(key)
        return entry

    def names(self, path: str) -> list[str]:
        """The merged content of a folder."""
        key = self.key(path)
        if self.passes(key):
            return posix.listdir(path)
        if not self.is_folder(key):
            raise _error(errno.ENOENT if self.entry(key) is None else errno.ENOTDIR, path)
        return self._names(key)

    def _names(self, key: str) -> list[str]:
        names: dict[str, None] = {}
        if self.visible(key) and _is_dir(key):
            hidden = self._hidden.get(key, ())
            names = {name: None for name in posix.listdir(key) if name not in hidden}
        if _is_dir(self.upper(key)):
            names |= dict.fromkeys(posix.listdir(self.upper(key)))
        return list(names)

    def is_plain(self, key: str) -> bool:
        """Whether a folder can be listed as it is on disk."""
        return not self._hidden.get(key) and self.visible(key) and not _lexists(self.upper(key))

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
                raise _error(errno.ENOENT, path)
            self._need_folder(key, path)
        else:
            if flags & os.O_CREAT and flags & os.O_EXCL:
                raise _error(errno.EEXIST, path)
            if not stat.S_ISREG(posix.lstat(entry).st_mode):
                return entry
            if entry == key and not posix.access(key, os.W_OK):
                raise _error(errno.EACCES, path)
        self._make_parents(key)
        if entry is not None and not flags & os.O_TRUNC:
            self._materialise(key)
            self._copy_up(key)
        else:
            self._pending.pop(key, None)
            self._lost.pop(key, None)
            if entry == key:
                _make_like(self.upper(key), posix.lstat(key))
        return self.upper(key)

    def change(self, path: str, follow: bool = True) -> str:
        """The scratch path of something whose attributes are about to be changed."""
        key = self.key(path, follow)
        if self.passes(key):
            return path
        if self.entry(key) is None:
            raise _error(errno.ENOENT, path)
        self._materialise(key)
        self._make_parents(key)
        self._copy_up(key)
        return self.upper(key)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """As `os.mkdir`."""
        key = self.key(path, follow=False)
        if self.passes(key):
            return posix.mkdir(path, mode)
        if self.entry(key) is not None:
            raise _error(errno.EEXIST, path)
        self._need_folder(key, path)
        self._make_parents(key)
        posix.mkdir(self.upper(key), mode)
        self._folders.clear()

    def remove(self, path: str) -> None:
        """As `os.remove`."""
        key = self.key(path, follow=False)
        if self.passes(key):
            return posix.unlink(path)
        if self.entry(key) is None:
            raise _error(errno.ENOENT, path)
        if self.is_folder(key):
            raise _error(errno.EISDIR, path)
        self._erase(key)

    def rmdir(self, path: str) -> None:
        """As `os.rmdir`."""
        key = self.key(path, follow=False)
        if self.passes(key):
            return posix.rmdir(path)
        if self.entry(key) is None:
            raise _error(errno.ENOENT, path)
        if not self.is_folder(key):
            raise _error(errno.ENOTDIR, path)
        if self._names(key):
            raise _error(errno.ENOTEMPTY, path)
        self._erase(key)

    def rename(self, source: str, target: str) -> None:
        """As `os.rename` and `os.replace`; whole folders are copied into the scratch folder first."""
        old, new = self.key(source, follow=False), self.key(target, follow=False)
        if self.passes(old) or self.passes(new):
            return self._rename_across(source, target, old, new)
        if self.entry(old) is None:
            raise _error(errno.ENOENT, source, target)
        self._need_folder(new, source, target)
        if old == new:
            return
        if self.entry(new) is not None:
            if self.is_folder(old) and not self.is_folder(new):
                raise _error(errno.ENOTDIR, source, target)
            if self.is_folder(new) and (not self.is_folder(old) or self._names(new)):
                raise _error(errno.ENOTEMPTY if self.is_folder(old) else errno.EISDIR, source, target)
        self._make_parents(old)
        self._copy_up_tree(old)
        lost = {new + key[len(old) :]: why for key, why in self._lost.items() if _within(key, old)}
        self._erase(new)
        self._make_parents(new)
        posix.rename(self.upper(old), self.upper(new))
        self._writers[new] = self._writers.pop(old, [])
        self._erase(old)
        self._lost |= lost

    def _rename_across(self, source: str, target: str, old: str, new: str) -> None:
        physical = source if self.passes(old) else self.resolve_read(source)
        if stat.S_ISDIR(posix.lstat(physical).st_mode) and not (self.passes(old) and self.passes(new)):
            raise _error(errno.EXDEV, source, target)
        if self.passes(new):
            place = target
        else:
            self._need_folder(new, source, target)
            self._make_parents(new)
            self._erase(new)
            place = self.upper(new)
        if physical == source or self._is_upper(physical):
            with suppress(OSError):
                posix.rename(physical, place)
                return
        _copy(physical, place)
        self._erase(old) if not self.passes(old) else posix.unlink(source)

    def symlink(self, target: str, path: str) -> None:
        """As `os.symlink`."""
        key = self.key(path, follow=False)
        if self.passes(key):
            return posix.symlink(target, path)
        if self.entry(key) is not None:
            raise _error(errno.EEXIST, target, path)
        self._need_folder(key, target, path)
        self._make_parents(key)
        posix.symlink(target, self.upper(key))
        self._folders.clear()

    def link(self, source: str, path: str, follow: bool = True) -> None:
        """As `os.link`: both names share one content in the scratch folder."""
        old, new = self.key(source, follow), self.key(path, follow=False)
        if self.entry(new) is not None:
            raise _error(errno.EEXIST, source, path)
        physical = self.change(source, follow)
        if self.passes(new):
            return posix.link(physical, path)
        self._need_folder(new, source, path)
        self._make_parents(new)
        posix.link(physical, self.upper(new), follow_symlinks=False)
        if old in self._lost:
            self._lost[new] = self._lost[old]

    def chdir(self, path: str) -> None:
        """As `os.chdir`; a folder that exists in the scratch folder only keeps the script's name for it."""
        key = self.key(path)
        if self.passes(key):
            posix.chdir(path)
            self._cwd = None
            return
        if not self.is_folder(key):
            raise _error(errno.ENOENT if self.entry(key) is None else errno.ENOTDIR, path)
        on_disk = self.visible(key) and _is_dir(key)
        posix.chdir(key if on_disk else self.upper(key))
        self._cwd = None if on_disk else key

    def opened(self, path: str, file: Any) -> None:
        """Remember a file object that writes, so that `install_state` can put it at the end of the content it installs."""
        key = self.key(path)
        if not self.passes(key):
            self._writers.setdefault(key, []).append(weakref.ref(file))

    # -- a recorded state ---------------------------------------------------------------------------------------------

    def install_state(
        self, state: Mapping[str, FileState], initial: Mapping[str, FileState], read_blob: Callable[[str], bytes]
    ) -> None:
        """Show the files as they were at a snapshot, whatever is on disk today.

        `state` is the snapshot's. `initial` holds, for every path that the run touches at any time, what it was before
        the run: a path that `state` lacks had not been touched yet, and is shown so.
        """
        self._read_blob = read_blob
        self._folders.clear()
        for path in sorted({*state, *initial}):
            if not self.passes(path):
                before = initial.get(path)
                self._install(path, state.get(path) or initial[path], before is not None and before.kind == "dir")
        self._folders.clear()

    def _install(self, key: str, state: FileState, was_folder: bool) -> None:
        upper = self.upper(key)
        if state.kind == "file":
            if not self._is_installed(key, state):
                self._install_file(key, state)
            return
        if state.kind == "dir" and was_folder:
            self._show(key)
            if self.is_folder(key):
                return
        if not (state.kind == "dir" and _is_dir(upper)):
            self._erase(key)
        # A folder that the script made holds what the script put there, and nothing of what is there today.
        self._hide(key)
        if state.kind != "absent":
            self._make_parents(key)
        if state.kind == "dir" and not _lexists(upper):
            posix.mkdir(upper)
        elif state.kind == "link" and state.target is not None:
            posix.symlink(state.target, upper)

    def _is_installed(self, key: str, state: FileState) -> bool:
        known = self._installed.get(key)
        return known is not None and known[0] == state and known[1] == _signature(self.upper(key))

    def _install_file(self, key: str, state: FileState) -> None:
        writers = [w for ref in self._writers.get(key, []) if (w := ref()) is not None and not w.closed]
        for file in writers:
            file.flush()
        upper = self.upper(key)
        if not writers:
            self._erase(key)
        self._make_parents(key)
        with open(upper, "ab", opener=_posix_open) as file:
            file.truncate(0)
            file.truncate(state.size)
        if not writers and self.visible(key) and _lexists(key):
            posix.chmod(upper, stat.S_IMODE(posix.lstat(key).st_mode))
        if state.lost is None:
            self._pending[key] = state
            self._lost.pop(key, None)
        else:
            self._lost[key] = state.lost
        posix.utime(upper, ns=(state.mtime_ns, state.mtime_ns))
        self._installed[key] = (state, _signature(upper))
        if writers:
            self._materialise(key)
            for file in writers:
                file.seek(0, os.SEEK_END)

    def _materialise(self, key: str) -> None:
        if key in self._lost:
            raise NotRestorable(key, f"its content at this point was not kept: {self._lost[key]}")
        if key not in self._pending:
            return
        with self._lock:
            state = self._pending.get(key)
            if state is None or self._read_blob is None:
                return
            upper = self.upper(key)
            with open(upper, "r+b", opener=_posix_open) as file:
                for digest, _ in state.chunks:
                    file.write(self._read_blob(digest))
            posix.utime(upper, ns=(state.mtime_ns, state.mtime_ns))
            self._installed[key] = (state, _signature(upper))
            del self._pending[key]

    # -- layers -------------------------------------------------------------------------------------------------------

    def _need_folder(self, key: str, *names: str) -> None:
        folder = key.rpartition("/")[0] or "/"
        if not self.is_folder(folder):
            raise _error(errno.ENOENT if self.entry(folder) is None else errno.ENOTDIR, *names)
        if not _is_dir(self.upper(folder)) and not posix.access(folder, os.W_OK):
            raise _error(errno.EACCES, *names)

    def _make_parents(self, key: str) -> None:
        folder = key.rpartition("/")[0]
        if not folder or _is_dir(self.upper(folder)):
            return
        self._make_parents(folder)
        upper = self.upper(folder)
        if _lexists(upper):
            posix.unlink(upper)
        with suppress(FileExistsError):
            posix.mkdir(upper)
        if self.visible(folder) and _is_dir(folder):
            posix.chmod(upper, stat.S_IMODE(posix.lstat(folder).st_mode) | 0o700)

    def _copy_up(self, key: str) -> None:
        upper = self.upper(key)
        if _lexists(upper):
            return
        if _is_dir(key):
            posix.mkdir(upper)
        else:
            _copy(key, upper)

    def _copy_up_tree(self, key: str) -> None:
        if self.is_folder(key):
            self._copy_up(key)
            for name in self._names(key):
                self._copy_up_tree(f"{key}/{name}")
        else:
            if key not in self._lost:
                self._materialise(key)
            self._copy_up(key)

    def _erase(self, key: str) -> None:
        """Let the script see nothing at `key`."""
        _remove_tree(self.upper(key))
        for known in (self._pending, self._lost, self._installed):
            for path in [p for p in known if _within(p, key)]:
                del known[path]
        if _lexists(key):
            self._hide(key)
        self._folders.clear()

    def _hide(self, key: str) -> None:
        folder, _, name = key.rpartition("/")
        self._hidden.setdefault(folder or "/", set()).add(name)

    def _show(self, key: str) -> None:
        folder, _, name = key.rpartition("/")
        names = self._hidden.get(folder or "/")
        if names is not None:
            names.discard(name)
            if not names:
                del self._hidden[folder or "/"]


def _error(number: int, *names: str) -> OSError:
    # OSError(errno, …) makes the right subclass; its arguments are (errno, text, filename, winerror, filename2).
    if len(names) > 1:
        return OSError(number, os.strerror(number), names[0], None, names[1])
    return OSError(number, os.strerror(number), *names)


def _within(path: str, key: str) -> bool:
    return path == key or path.startswith(key + "/")


def _lexists(path: str) -> bool:
    try:
        posix.lstat(path)
    except (OSError, ValueError):
        return False
    return True


def _is_dir(path: str) -> bool:
    try:
        return stat.S_ISDIR(posix.lstat(path).st_mode)
    except OSError:
        return False


def _signature(path: str) -> tuple[int, int, int]:
    try:
        found = posix.lstat(path)
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _make_like(path: str, found: os.stat_result) -> None:
    posix.close(posix.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
    posix.chmod(path, stat.S_IMODE(found.st_mode))


def _copy(source: str, target: str) -> None:
    found = posix.lstat(source)
    if stat.S_ISLNK(found.st_mode):
        posix.symlink(posix.readlink(source), target)
        return
    _make_like(target, found)
    reader, writer = posix.open(source, os.O_RDONLY), posix.open(target, os.O_WRONLY)
    try:
        while posix.sendfile(writer, reader, None, 1 << 30):
            continue
    finally:
        posix.close(reader)
        posix.close(writer)
    posix.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _posix_open(path: str, flags: int) -> int:
    return posix.open(path, flags, 0o666)


def _remove_tree(path: str) -> None:
    if _is_dir(path):
        for name in posix.listdir(path):
            _remove_tree(f"{path}/{name}")
        posix.rmdir(path)
    elif _lexists(path):
        posix.unlink(path)
