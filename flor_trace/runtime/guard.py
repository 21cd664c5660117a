"""Replay must not harm: Python-level file access of a worker goes through an `Overlay`.

`install` exchanges `open` and the functions of `os`, and every early-bound copy of them in modules imported already;
pathlib, shutil, glob, zipfile, NumPy, `logging` and TensorBoard follow from these. Native code that is given a path is
covered by `runtime.native` as far as known, and by `runtime.landlock` for the rest.
"""

from __future__ import annotations

import _io
import builtins
import errno
import os
import posix
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flor_trace.runtime.native import wrap_loaded, wrap_native
from flor_trace.runtime.overlay import Overlay


class Guarded:
    """Stands in for a builtin function. An instance, so that, like a builtin, it does not bind when a class holds it."""

    def __init__(self, original: Any, function: Callable[..., Any], module: str) -> None:
        self.__wrapped__ = original
        self.__name__ = self.__qualname__ = original.__name__
        self.__module__ = module
        self.__doc__ = original.__doc__
        self.__self__ = getattr(original, "__self__", None)
        self.__text_signature__ = getattr(original, "__text_signature__", None)
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def __reduce__(self) -> str:
        return str(self.__name__)


class Guard:
    """The functions that stand in, for one overlay."""

    def __init__(self, overlay: Overlay) -> None:
        self.overlay = overlay

    # -- paths and errors ---------------------------------------------------------------------------------------------

    def absolute(self, path: str, dir_fd: int | None) -> str:
        """`path` as seen from an open folder."""
        if dir_fd is None or path.startswith("/"):
            return path
        return os.path.join(self.overlay.to_user(posix.readlink(f"/proc/self/fd/{dir_fd}")), path)

    @contextmanager
    def naming(self, *names: Any) -> Iterator[None]:
        """Let errors carry the names that the script used."""
        try:
            yield
        except OSError as error:
            if isinstance(error.filename, (str, bytes)) and names:
                error.filename = names[0]
                if error.filename2 is not None and len(names) > 1:
                    error.filename2 = names[1]
            raise

    # -- opening ------------------------------------------------------------------------------------------------------

    def open(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        if isinstance(file, int) or opener is not None:
            return _io.open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        # With an opener the file object's `name`, and the name in errors, are what the script passed.
        made = _io.open(file, mode, buffering, encoding, errors, newline, closefd, self._opener)
        if made.writable() and not mode.startswith("a"):
            self.overlay.opened(os.fsdecode(file), made)
        return made

    def _opener(self, path: Any, flags: int) -> int:
        return self.os_open(path, flags, 0o666)

    def os_open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        name = os.fspath(path)
        with self.naming(name):
            physical = self.overlay.open_path(self.absolute(os.fsdecode(name), dir_fd), flags)
            return posix.open(physical, flags, mode, dir_fd=None if physical.startswith("/") else dir_fd)

    # -- looking ------------------------------------------------------------------------------------------------------

    def looking(self, original: Any, content: bool = False, follows: bool = True) -> Callable[..., Any]:
        """For functions whose first argument is a path that is only looked at."""
        find = self.overlay.look

        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(path, int):
                return original(path, *args, **kwargs)
            name = os.fspath(path)
            dir_fd = kwargs.pop("dir_fd", None)
            follow = follows and kwargs.get("follow_symlinks", True)
            with self.naming(name):
                return original(find(self.absolute(os.fsdecode(name), dir_fd), follow), *args, **kwargs)

        return call

    def access(
        self,
        path: Any,
        mode: int,
        *,
        dir_fd: int | None = None,
        effective_ids: bool = False,
        follow_symlinks: bool = True,
    ) -> bool:
        name = os.fsdecode(path) if not isinstance(path, int) else None
        if name is None:
            return posix.access(path, mode)
        try:
            physical = self.overlay.look(self.absolute(name, dir_fd), follow_symlinks)
        except OSError:
            return False
        return posix.access(physical, mode, effective_ids=effective_ids)

    def readlink(self, path: Any, *, dir_fd: int | None = None) -> Any:
        name = os.fspath(path)
        with self.naming(name):
            target = posix.readlink(self.overlay.look(self.absolute(os.fsdecode(name), dir_fd), follow=False))
        target = self.overlay.to_user(target)
        return os.fsencode(target) if isinstance(name, bytes) else target

    def listdir(self, path: Any = None) -> Any:
        name = self._folder(path)
        with self.naming("." if path is None else path):
            names = self.overlay.names(os.fsdecode(name))
        return [os.fsencode(n) for n in names] if isinstance(path, bytes) else names

    def scandir(self, path: Any = None) -> Any:
        name = self._folder(path)
        text = os.fsdecode(name)
        key = self.overlay.key(text)
        if self.overlay.passes(key) or (isinstance(path, int) and self.overlay.is_plain(key)):
            return posix.scandir(path)
        if self.overlay.is_plain(key) and (self.overlay.getcwd() == posix.getcwd() or text.startswith("/")):
            return posix.scandir(path)
        with self.naming("." if path is None else path):
            names = self.overlay.names(text)
        shown = "." if path is None else name
        make: Callable[[str], Any] = os.fsencode if isinstance(name, bytes) else str
        shown = make("") if isinstance(path, int) else shown
        return _Scan([_Entry(self.overlay, make(n), os.path.join(shown, make(n)), key) for n in names])

    def _folder(self, path: Any) -> Any:
        if path is None:
            return "."
        if isinstance(path, int):
            return self.overlay.to_user(posix.readlink(f"/proc/self/fd/{path}"))
        return os.fspath(path)

    # -- changing -----------------------------------------------------------------------------------------------------

    def changing(self, original: Any) -> Callable[..., Any]:
        """For functions that change the attributes of the path that is their first argument."""

        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(path, int):
                return original(path, *args, **kwargs)
            name = os.fspath(path)
            dir_fd = kwargs.pop("dir_fd", None)
            with self.naming(name):
                physical = self.overlay.change(
                    self.absolute(os.fsdecode(name), dir_fd), kwargs.get("follow_symlinks", True)
                )
                return original(physical, *args, **kwargs)

        return call

    def truncate(self, path: Any, length: int) -> None:
        if isinstance(path, int):
            return posix.truncate(path, length)
        with self.naming(os.fspath(path)):
            posix.truncate(self.overlay.open_path(os.fsdecode(path), os.O_RDWR), length)

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        with self.naming(os.fspath(path)):
            self.overlay.mkdir(self.absolute(os.fsdecode(path), dir_fd), mode)

    def rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        with self.naming(os.fspath(path)):
            self.overlay.rmdir(self.absolute(os.fsdecode(path), dir_fd))

    def remove(self, path: Any, *, dir_fd: int | None = None) -> None:
        with self.naming(os.fspath(path)):
            self.overlay.remove(self.absolute(os.fsdecode(path), dir_fd))

    def rename(self, src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        with self.naming(os.fspath(src), os.fspath(dst)):
            self.overlay.rename(
                self.absolute(os.fsdecode(src), src_dir_fd), self.absolute(os.fsdecode(dst), dst_dir_fd)
            )

    def symlink(self, src: Any, dst: Any, target_is_directory: bool = False, *, dir_fd: int | None = None) -> None:
        with self.naming(os.fspath(src), os.fspath(dst)):
            self.overlay.symlink(os.fsdecode(src), self.absolute(os.fsdecode(dst), dir_fd))

    def link(
        self,
        src: Any,
        dst: Any,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        with self.naming(os.fspath(src), os.fspath(dst)):
            self.overlay.link(
                self.absolute(os.fsdecode(src), src_dir_fd),
                self.absolute(os.fsdecode(dst), dst_dir_fd),
                follow_symlinks,
            )

    def making(self, original: Any) -> Callable[..., Any]:
        """For `mkfifo` and `mknod`."""

        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            dir_fd = kwargs.pop("dir_fd", None)
            name = self.absolute(os.fsdecode(path), dir_fd)
            with self.naming(os.fspath(path)):
                return original(self.overlay.resolve_write(name, keep_content=False), *args, **kwargs)

        return call

    def chdir(self, path: Any) -> None:
        if isinstance(path, int):
            return posix.chdir(path)
        with self.naming(os.fspath(path)):
            self.overlay.chdir(os.fsdecode(path))

    def getcwd(self) -> str:
        return self.overlay.getcwd()

    def getcwdb(self) -> bytes:
        return os.fsencode(self.overlay.getcwd())

    # -- databases ----------------------------------------------------------------------------------------------------

    def connecting(self, original: Any) -> Callable[..., Any]:
        """For `sqlite3.connect`, which opens the file and its journals natively."""

        def call(database: Any, *args: Any, **kwargs: Any) -> Any:
            name = os.fsdecode(database)
            if name in ("", ":memory:"):
                return original(database, *args, **kwargs)
            if name.startswith("file:") and (kwargs.get("uri") or (len(args) > 6 and args[6])):
                from urllib.parse import quote, unquote, urlsplit

                parts = urlsplit(name)
                if "mode=memory" in parts.query or not parts.path:
                    return original(database, *args, **kwargs)
                writes = not ("mode=ro" in parts.query or "immutable=1" in parts.query)
                path = self._database(unquote(parts.path), writes, create="mode=rw" not in parts.query)
                return original(f"file:{quote(path)}" + (f"?{parts.query}" if parts.query else ""), *args, **kwargs)
            return original(self._database(name, True, create=True), *args, **kwargs)

        return call

    def _database(self, path: str, writes: bool, create: bool) -> str:
        try:
            # SQLite writes journals beside the file even to read it, so the scratch folder gets them all.
            physical = self.overlay.open_path(path, os.O_RDWR)
        except FileNotFoundError:
            if not (writes and create):
                return path
            return self._new_database(path)
        for suffix in ("-journal", "-wal", "-shm"):
            key = self.overlay.key(path) + suffix
            if self.overlay.entry(key) is not None:
                self.overlay.open_path(key, os.O_RDWR)
        return physical

    def _new_database(self, path: str) -> str:
        try:
            return self.overlay.open_path(path, os.O_RDWR | os.O_CREAT)
        except OSError:
            # Let SQLite say "unable to open database file", as it did when recorded.
            return os.path.join(self.overlay.scratch, "absent", "database")


class _Entry:
    """A `DirEntry` of the merged view."""

    def __init__(self, overlay: Overlay, name: Any, path: Any, folder: str) -> None:
        self.name = name
        self.path = path
        self._overlay = overlay
        self._key = f"{folder.rstrip('/')}/{os.fsdecode(name)}"

    def __fspath__(self) -> Any:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return posix.stat(self._overlay.look(self._key, follow_symlinks), follow_symlinks=follow_symlinks)

    def inode(self) -> int:
        return self.stat(follow_symlinks=False).st_ino

    def _is(self, kind: int, follow_symlinks: bool) -> bool:
        try:
            return self.stat(follow_symlinks=follow_symlinks).st_mode & 0o170000 == kind
        except FileNotFoundError:
            return False

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(0o040000, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(0o100000, follow_symlinks)

    def is_symlink(self) -> bool:
        return self._is(0o120000, False)

    def is_junction(self) -> bool:
        return False


class _Scan:
    """What `os.scandir` returns for a merged folder."""

    def __init__(self, entries: list[_Entry]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> _Scan:
        return self

    def __next__(self) -> _Entry:
        return next(self._entries)

    def __enter__(self) -> _Scan:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries = iter(())


# -- putting them in place --------------------------------------------------------------------------------------------

_restore: list[Callable[[], None]] = []
_installed: Guard | None = None
_LOOKING = ("stat", "statvfs", "getxattr", "listxattr", "pathconf")
_CHANGING = ("chmod", "chown", "lchown", "utime", "setxattr", "removexattr")
# Our way to the real functions, and the import system's.
_NOT_REBOUND = ("posix", "_io", "importlib._bootstrap_external", "_frozen_importlib_external", __name__)


def install(overlay: Overlay) -> Guard:
    """Send the file access of this process, and of the children that it forks, through `overlay`."""
    global _installed
    if _installed is not None:
        uninstall()
    guard = Guard(overlay)
    exchanged: dict[int, Guarded] = {}
    for name, function in _os_functions(guard).items():
        original = getattr(posix, name)
        stand_in = Guarded(original, function, "os")
        exchanged[id(original)] = stand_in
        for support in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks, os.supports_effective_ids):
            if original in support:
                support.add(stand_in)
    exchanged[id(_io.open)] = Guarded(_io.open, guard.open, "io")
    _rebind(exchanged)
    _exchange(builtins, "open", exchanged[id(_io.open)])
    _patch_libraries(guard, exchanged)
    _installed = guard
    return guard


def uninstall() -> None:
    """Put the functions back that `install` exchanged."""
    global _installed
    while _restore:
        _restore.pop()()
    _installed = None


def imported(library: str) -> None:
    """To be called after the import of each of `native.LIBRARIES` and of `sqlite3`."""
    if _installed is None:
        return
    if library == "sqlite3":
        _patch_sqlite(_installed)
    _restore.extend(wrap_native(library, _native_write, _native_read))


def _os_functions(guard: Guard) -> dict[str, Callable[..., Any]]:
    functions: dict[str, Callable[..., Any]] = {
        "open": guard.os_open, "access": guard.access, "readlink": guard.readlink, "listdir": guard.listdir,
        "scandir": guard.scandir, "truncate": guard.truncate, "mkdir": guard.mkdir, "rmdir": guard.rmdir,
        "remove": guard.remove, "unlink": guard.remove, "rename": guard.rename, "replace": guard.rename,
        "symlink": guard.symlink, "link": guard.link, "chdir": guard.chdir, "getcwd": guard.getcwd,
        "getcwdb": guard.getcwdb, "lstat": guard.looking(posix.lstat, follows=False),
    }  # fmt: skip
    functions |= {name: guard.looking(getattr(posix, name)) for name in _LOOKING if hasattr(posix, name)}
    functions |= {name: guard.changing(getattr(posix, name)) for name in _CHANGING if hasattr(posix, name)}
    functions |= {name: guard.making(getattr(posix, name)) for name in ("mkfifo", "mknod") if hasattr(posix, name)}
    return functions


def _exchange(owner: Any, name: str, value: Any) -> None:
    before = vars(owner)[name]
    setattr(owner, name, value)
    _restore.append(lambda: setattr(owner, name, before))


def _rebind(exchanged: dict[int, Guarded]) -> None:
    """Exchange the functions wherever a module imported by now holds them under any name."""
    for key, module in list(sys.modules.items()):
        names = getattr(module, "__dict__", None)
        if type(names) is not dict or key in _NOT_REBOUND:
            continue
        for name, value in list(names.items()):
            stand_in = exchanged.get(id(value))
            if stand_in is not None and value is stand_in.__wrapped__:
                _exchange(module, name, stand_in)


def _patch_libraries(guard: Guard, exchanged: dict[int, Guarded]) -> None:
    import shutil

    # With its fd-based functions rmtree would work on real folders behind the overlay.
    _exchange(shutil, "_use_fd_functions", False)
    glob = sys.modules.get("glob")
    globber = getattr(glob, "_StringGlobber", None)
    if globber is not None:
        for name in ("lstat", "scandir"):
            if name in vars(globber):
                _exchange(globber, name, staticmethod(getattr(os, name)))
    datasource = sys.modules.get("numpy.lib._datasource")
    openers = getattr(getattr(datasource, "_file_openers", None), "_file_openers", None)
    if openers is not None and openers.get(None) is _io.open:
        openers[None] = exchanged[id(_io.open)]
        _restore.append(lambda: openers.update({None: _io.open}))
    _patch_sqlite(guard)
    _restore.extend(wrap_loaded(_native_write, _native_read))


def _patch_sqlite(guard: Guard) -> None:
    for module in (sys.modules.get("sqlite3"), sys.modules.get("sqlite3.dbapi2")):
        original = getattr(module, "connect", None)
        if original is not None and not isinstance(original, Guarded):
            _exchange(module, "connect", Guarded(original, guard.connecting(original), "sqlite3"))


def _native_write(path: str) -> str:
    if _installed is None:
        return path
    try:
        return _installed.overlay.resolve_write(path, keep_content=False)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise
        # The library makes its own error out of a missing folder, which the script may expect: let it.
        return os.path.join(_installed.overlay.scratch, "absent", os.path.basename(path))


def _native_read(path: str) -> str:
    return path if _installed is None else _installed.overlay.resolve_read(path)
