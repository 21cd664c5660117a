"""Two layers of files shown as one: the user's below, and above it the changed ones in a scratch folder.

A *key* is an absolute path without links. The folder `<scratch>/files` mirrors the keys that were changed (the *upper*
layer); what was removed is *hidden*; everything else shows the user's file (the *lower* layer). All calls here go to
`posix`, which the guard never patches.
"""

from __future__ import annotations

import errno
import os
import posix
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from flor_trace.store.device_paths import is_device

_MAX_LINKS = 40


class Layers:
    """The merged view, and the moves that build the upper layer. Arguments called `path` are the script's own paths.

    Paths under `scratch` and `allow`, devices and what the kernel tells are passed through.
    """

    def __init__(self, scratch: Path, allow: Iterable[Path] = ()) -> None:
        self.scratch = os.path.realpath(scratch)
        self.upper_root = os.path.join(self.scratch, "files")
        os.makedirs(self.upper_root, exist_ok=True)
        roots = ("/proc", "/sys", self.scratch, *(os.path.realpath(p) for p in allow))
        self._through_roots = frozenset(roots)
        self._through = tuple(root + "/" for root in roots)
        self._hidden: dict[str, set[str]] = {}
        """Folder → names in it that are removed from the lower layer's view."""
        self._folders: dict[str, str] = {}
        """Folder as the script writes it → its key; emptied whenever links or folders change."""
        self._cwd: str | None = None
        self.kept_root: str | None = None
        """A folder that mirrors the upper layer with links to its files, which must stay as they are (see `runtime.kept_files`)."""

    # -- names --------------------------------------------------------------------------------------------------------

    def getcwd(self) -> str:
        """The working directory under its own name, also where it exists in the scratch folder only."""
        return self._cwd or posix.getcwd()

    def to_user(self, path: str) -> str:
        """The script's name for a path inside the scratch folder's mirror; other paths are given back."""
        return path[len(self.upper_root) :] or "/" if self.is_upper(path) else path

    def is_upper(self, path: str) -> bool:
        """Whether `path` lies in the upper layer."""
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
        return key.startswith(self._through) or key in self._through_roots or is_device(key)

    def _walk(self, path: str) -> str:
        """Resolve links component by component, as the kernel does, in the merged view."""
        current, rest, links = "", path.split("/")[::-1], 0
        while rest:
            part = rest.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if current and not self.is_folder(current):
                    raise self.absence(current, path)
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
        if lexists(upper):
            return upper
        return key if self.visible(key) and lexists(key) else None

    def is_folder(self, key: str) -> bool:
        """Whether the script sees a folder at `key`."""
        entry = self.entry(key)
        return entry is not None and stat.S_ISDIR(posix.lstat(entry).st_mode)

    def is_own_folder(self, key: str) -> bool:
        """Whether the script sees a folder at `key` that is reached through no link."""
        try:
            return self._walk(key) == key and self.is_folder(key)
        except OSError:
            return False  # links that lead nowhere or in a circle

    def look(self, path: str, follow: bool = True) -> str:
        """The physical path to `stat`; raises FileNotFoundError under the script's name."""
        key = self.key(path, follow)
        if self.passes(key):
            return path
        entry = self.entry(key)
        if entry is None:
            raise self.absence(key, path)
        return entry

    def absence(self, key: str, *names: str) -> OSError:
        """The error for a key at which there is nothing, or no folder where one is needed."""
        while key and self.entry(key) is None:
            key = key.rpartition("/")[0]
        return error(errno.ENOENT if not key or self.is_folder(key) else errno.ENOTDIR, *names)

    def names(self, path: str) -> list[str]:
        """The merged content of a folder."""
        key = self.key(path)
        if self.passes(key):
            return posix.listdir(path)
        if not self.is_folder(key):
            raise self.absence(key, path)
        return self.names_at(key)

    def names_at(self, key: str) -> list[str]:
        """The merged content of the folder at a key."""
        names: dict[str, None] = {}
        if self.visible(key) and is_dir(key):
            hidden = self._hidden.get(key, ())
            names = {name: None for name in posix.listdir(key) if name not in hidden}
        if is_dir(self.upper(key)):
            names |= dict.fromkeys(posix.listdir(self.upper(key)))
        return list(names)

    def is_plain(self, key: str) -> bool:
        """Whether a folder can be listed as it is on disk."""
        return not self._hidden.get(key) and self.visible(key) and lexists(key) and not lexists(self.upper(key))

    # -- layers -------------------------------------------------------------------------------------------------------

    def need_folder(self, key: str, *names: str) -> None:
        """Raise, under the script's `names`, where nothing can be made at `key`."""
        folder = key.rpartition("/")[0] or "/"
        if not self.is_folder(folder):
            raise self.absence(folder, *names)
        if not is_dir(self.upper(folder)) and not posix.access(folder, os.W_OK):
            raise error(errno.EACCES, *names)

    def make_parents(self, key: str) -> None:
        """Mirror the folders above `key` in the upper layer."""
        folder = key.rpartition("/")[0]
        if not folder or is_dir(self.upper(folder)):
            return
        self.make_parents(folder)
        upper = self.upper(folder)
        if lexists(upper):
            posix.unlink(upper)
        with suppress(FileExistsError):
            posix.mkdir(upper)
        if self.visible(folder) and is_dir(folder):
            posix.chmod(upper, stat.S_IMODE(posix.lstat(folder).st_mode) | 0o700)

    def copy_up(self, key: str) -> None:
        """Have what the script sees at `key` in the upper layer (a folder without its content)."""
        upper = self.upper(key)
        if lexists(upper):
            return
        if is_dir(key):
            posix.mkdir(upper)
        else:
            copy(key, upper)

    def part(self, key: str, keep_content: bool) -> None:
        """Before a file of the upper layer is changed: leave the present one to the tree that keeps it, and go on with a copy."""
        if self.kept_root is None:
            return
        upper, kept = self.upper(key), self.kept_root + key
        if not (lexists(upper) and lexists(kept)) or not stat.S_ISREG(posix.lstat(upper).st_mode):
            return
        if posix.lstat(upper).st_ino != posix.lstat(kept).st_ino:
            return
        posix.unlink(upper)
        if keep_content:
            copy(kept, upper)
        else:
            make_like(upper, posix.lstat(kept))

    def view(self) -> tuple[Any, ...]:
        """What is hidden, and the working directory, for `set_view`."""
        return {folder: set(names) for folder, names in self._hidden.items()}, self._cwd, posix.getcwd()

    def set_view(self, view: tuple[Any, ...]) -> None:
        """Show what was shown when `view` was called, provided that the upper layer is what it was then."""
        self._hidden, self._cwd, physical = view
        if posix.getcwd() != physical:
            posix.chdir(physical)
        self._folders.clear()

    def erase(self, key: str) -> None:
        """Let the script see nothing at `key`."""
        remove_tree(self.upper(key))
        if lexists(key):
            self.hide(key)
        self._folders.clear()

    def forget_links(self) -> None:
        """To be called when a link or folder came or went."""
        self._folders.clear()

    def hide(self, key: str) -> None:
        """Let the lower layer no longer show through at `key`."""
        folder, _, name = key.rpartition("/")
        self._hidden.setdefault(folder or "/", set()).add(name)

    def show(self, key: str) -> None:
        """Undo `hide`."""
        folder, _, name = key.rpartition("/")
        names = self._hidden.get(folder or "/")
        if names is not None:
            names.discard(name)
            if not names:
                del self._hidden[folder or "/"]


def error(number: int, *names: str) -> OSError:
    """An OSError of the right subclass under the script's names."""
    # Its arguments are (errno, text, filename, winerror, filename2).
    if len(names) > 1:
        return OSError(number, os.strerror(number), names[0], None, names[1])
    return OSError(number, os.strerror(number), *names)


def within(path: str, key: str) -> bool:
    """Whether `path` is `key` or lies below it."""
    return path == key or path.startswith(key + "/")


def lexists(path: str) -> bool:
    """Whether there is something at a physical path, be it a dangling link."""
    try:
        posix.lstat(path)
    except (OSError, ValueError):
        return False
    return True


def is_dir(path: str) -> bool:
    """Whether a physical path is a folder (and no link to one)."""
    try:
        return stat.S_ISDIR(posix.lstat(path).st_mode)
    except OSError:
        return False


def signature(path: str) -> tuple[int, int, int]:
    """What changes whenever the file at a physical path is written or replaced."""
    try:
        found = posix.lstat(path)
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def make_like(path: str, found: os.stat_result) -> None:
    """Make an empty file with the mode of another."""
    posix.close(posix.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
    posix.chmod(path, stat.S_IMODE(found.st_mode))


def copy(source: str, target: str) -> None:
    """Copy a file or link with its mode and times."""
    found = posix.lstat(source)
    if stat.S_ISLNK(found.st_mode):
        posix.symlink(posix.readlink(source), target)
        return
    reader = posix.open(source, os.O_RDONLY)
    writer = posix.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        while posix.sendfile(writer, reader, None, 1 << 30):
            continue
    finally:
        posix.close(reader)
        posix.close(writer)
    posix.chmod(target, stat.S_IMODE(found.st_mode))
    posix.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def posix_open(path: str, flags: int) -> int:
    """An `opener` for `open` that the guard does not see."""
    return posix.open(path, flags, 0o666)


def remove_tree(path: str) -> None:
    """Remove whatever is at a physical path."""
    if is_dir(path):
        for name in posix.listdir(path):
            remove_tree(f"{path}/{name}")
        posix.rmdir(path)
    elif lexists(path):
        posix.unlink(path)
