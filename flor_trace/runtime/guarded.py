"""The functions that stand in for `open` and those of `os` while a worker is guarded."""

from __future__ import annotations

import _io
import os
import posix
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flor_trace.runtime.merged_scan import MergedEntry, MergedScan
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


def _rename(error: OSError, *names: Any) -> None:
    """Let an error carry the names that the script used."""
    if isinstance(error.filename, (str, bytes)):
        error.filename = names[0]
        if len(names) > 1:
            error.filename2 = names[1]


class GuardedFiles:
    """The functions that stand in, for one overlay; each has the signature of its original."""

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
            _rename(error, *names)
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
        if made.writable():
            self.overlay.opened(os.fsdecode(file), made)
        return made

    def _opener(self, path: Any, flags: int) -> int:
        return self.os_open(path, flags, 0o666)

    def os_open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        name = os.fspath(path)
        try:
            physical = self.overlay.open_path(self.absolute(os.fsdecode(name), dir_fd), flags)
            return posix.open(physical, flags, mode)
        except OSError as error:
            _rename(error, name)
            raise

    # -- looking ------------------------------------------------------------------------------------------------------

    def looking(self, original: Any, follows: bool = True) -> Callable[..., Any]:
        """For functions whose first argument is a path that is only looked at."""
        find = self.overlay.look

        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(path, int):
                return original(path, *args, **kwargs)
            name = os.fspath(path)
            dir_fd = kwargs.pop("dir_fd", None)
            follow = follows and kwargs.get("follow_symlinks", True)
            try:
                return original(find(self.absolute(os.fsdecode(name), dir_fd), follow), *args, **kwargs)
            except OSError as error:
                _rename(error, name)
                raise

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
        with self.naming("." if path is None else path):
            key = self.overlay.key(text)
            at_home = text.startswith("/") or self.overlay.getcwd() == posix.getcwd()
            if self.overlay.passes(key) or (self.overlay.is_plain(key) and (at_home or isinstance(path, int))):
                return posix.scandir(path)
            names = self.overlay.names(text)
        shown = "." if path is None else name
        make: Callable[[str], Any] = os.fsencode if isinstance(name, bytes) else str
        shown = make("") if isinstance(path, int) else shown
        return MergedScan([MergedEntry(self.overlay, make(n), os.path.join(shown, make(n)), key) for n in names])

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
            # link(2) does not follow a final link, whatever the default of follow_symlinks suggests.
            self.overlay.link(
                self.absolute(os.fsdecode(src), src_dir_fd), self.absolute(os.fsdecode(dst), dst_dir_fd), follow=False
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
                from urllib.parse import parse_qs, quote, unquote, urlsplit

                parts = urlsplit(name)
                mode = parse_qs(parts.query).get("mode", ["rwc"])[-1]
                if mode == "memory" or not parts.path:
                    return original(database, *args, **kwargs)
                path = self._database(unquote(parts.path), create=mode == "rwc")
                return original(f"file:{quote(path)}" + (f"?{parts.query}" if parts.query else ""), *args, **kwargs)
            return original(self._database(name, create=True), *args, **kwargs)

        return call

    def _database(self, path: str, create: bool) -> str:
        try:
            # SQLite writes journals beside the file even to read it, so the scratch folder gets them all.
            physical = self.overlay.open_path(path, os.O_RDWR)
        except FileNotFoundError:
            return self._new_database(path) if create else path
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
