"""Take the right to write outside given folders from this process, and from all that it starts, for good.

The kernel's Landlock makes the guard tight: native code and subprocesses that get around the patched functions meet
`EACCES`. Numbers and rights are those of `linux/landlock.h`; files that are open already are not affected.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_QUERY = 1
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

_WRITE_FILE = 1 << 1
_REMOVE = 1 << 4 | 1 << 5
_MAKE = 1 << 6 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12
_REFER = 1 << 13
_TRUNCATE = 1 << 14


class _RulesetAttr(ctypes.Structure):
    _fields_ = [("handled_access_fs", ctypes.c_uint64)]


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


def version() -> int:
    """The kernel's Landlock interface version; 0 where there is none."""
    if not sys.platform.startswith("linux"):
        return 0
    found: int = _libc().syscall(_CREATE_RULESET, None, 0, _VERSION_QUERY)
    return max(0, found)


def landlock_active() -> bool:
    """Whether the kernel of this machine keeps replay workers from writing outside their scratch folder."""
    return version() >= 1


def restrict_writes(paths: Iterable[str]) -> bool:
    """Allow writing below the folders `paths` (or to the files), and to devices only; False, with nothing changed, where the
    kernel has no Landlock.

    To be called before other threads exist: only the calling thread and what it starts is restricted.

    Raises:
        OSError: the kernel has Landlock and refuses it to this process.
    """
    available = version()
    if available < 1:
        return False
    full = _WRITE_FILE | _REMOVE | _MAKE
    full |= _REFER if available >= 2 else 0
    full |= _TRUNCATE if available >= 3 else 0
    on_devices = _WRITE_FILE | (full & _TRUNCATE)
    libc = _libc()
    attr = _RulesetAttr(full)
    ruleset = _checked(libc.syscall(_CREATE_RULESET, ctypes.byref(attr), ctypes.sizeof(attr), 0))
    try:
        for path, rights in (*((p, full) for p in (*paths, "/dev/shm")), ("/dev", on_devices), ("/proc", on_devices)):
            if os.path.exists(path):
                # The rights to make and remove are those of folders.
                _allow(libc, ruleset, path, rights if os.path.isdir(path) else rights & on_devices)
        _checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return True


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _PathBeneathAttr(rights, descriptor)
        _checked(libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0))
    finally:
        os.close(descriptor)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result
