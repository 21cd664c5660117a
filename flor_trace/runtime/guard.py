"""Replay must not harm: Python-level file access of a worker goes through an `Overlay`.

`install` exchanges `open` and the functions of `os`, and every early-bound copy of them in modules imported already;
pathlib, shutil, glob, zipfile, NumPy, `logging` and TensorBoard follow from these. Native code that is given a path is
covered by `runtime.native` as far as known, and by `runtime.landlock` for the rest.
"""

from __future__ import annotations

import _io
import builtins
import errno
import functools
import os
import posix
import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

from flor_trace.runtime.guarded import Guarded, GuardedFiles
from flor_trace.runtime.native import wrap_loaded, wrap_native
from flor_trace.runtime.offline import socket_folder
from flor_trace.runtime.overlay import Overlay

_restore: list[Callable[[], None]] = []
_installed: GuardedFiles | None = None
_LOOKING = ("stat", "statvfs", "getxattr", "listxattr", "pathconf")
_CHANGING = ("chmod", "chown", "lchown", "utime", "setxattr", "removexattr")
# Our way to the real functions, and the import system's.
_NOT_REBOUND = ("posix", "_io", "importlib._bootstrap_external", "_frozen_importlib_external", __name__)


def install(overlay: Overlay) -> None:
    """Send the file access of this process, and of the children that it forks, through `overlay`."""
    global _installed
    if _installed is not None:
        uninstall()
    _redirect_sockets(overlay)
    guard = GuardedFiles(overlay)
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


def _redirect_sockets(overlay: Overlay) -> None:
    """Let multiprocessing (and so a DataLoader's workers) bind its sockets, natively, where both sides find them."""
    from multiprocessing import process

    config: dict[str, Any] = process.current_process()._config  # type: ignore[attr-defined]
    before = config.get("tempdir")
    config["tempdir"], descriptor = socket_folder(Path(overlay.scratch))
    _restore.append(lambda: config.update(tempdir=before))
    _restore.append(lambda: os.close(descriptor))


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
    _restore.extend(wrap_native(library, _native_write, _native_read, _native_update))


def _os_functions(guard: GuardedFiles) -> dict[str, Callable[..., Any]]:
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


def _patch_libraries(guard: GuardedFiles, exchanged: dict[int, Guarded]) -> None:
    import shutil

    # With its fd-based functions rmtree would work on real folders behind the overlay.
    _exchange(shutil, "_use_fd_functions", False)
    glob = sys.modules.get("glob")
    globber = getattr(glob, "_StringGlobber", None)
    if globber is not None:
        for name in ("lstat", "scandir"):
            if name in vars(globber):
                _exchange(globber, name, staticmethod(getattr(os, name)))
    _patch_defaults(getattr(sys.modules.get("tempfile"), "_TemporaryFileCloser", None), exchanged)
    datasource = sys.modules.get("numpy.lib._datasource")
    openers = getattr(getattr(datasource, "_file_openers", None), "_file_openers", None)
    if openers is not None and openers.get(None) is _io.open:
        openers[None] = exchanged[id(_io.open)]
        _restore.append(lambda: openers.update({None: _io.open}))
    _patch_sqlite(guard)
    _restore.extend(wrap_loaded(_native_write, _native_read, _native_update))


def _patch_defaults(owner: type | None, exchanged: dict[int, Guarded]) -> None:
    """Exchange the functions where methods hold them as defaults of their arguments, as those of `tempfile` do that remove files."""
    for method in [value for value in vars(owner).values() if isinstance(value, FunctionType)] if owner is not None else []:
        before = method.__defaults__
        if before:
            method.__defaults__ = tuple(exchanged.get(id(value), value) for value in before)
            _restore.append(functools.partial(setattr, method, "__defaults__", before))


def _patch_sqlite(guard: GuardedFiles) -> None:
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


def _native_update(path: str) -> str:
    return path if _installed is None else _installed.overlay.resolve_write(path, keep_content=True)


def _native_read(path: str) -> str:
    return path if _installed is None else _installed.overlay.resolve_read(path)
