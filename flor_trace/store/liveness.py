"""Which process records a run, and whether it is still alive."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def identity() -> dict[str, Any]:
    """What tells this process from any other, on this machine and after a reboot."""
    return {
        "pid": os.getpid(),
        "started": _start_time(os.getpid()),
        "boot": _boot_id(),
        "namespace": _namespace(),
        "host": os.uname().nodename,
    }


def is_alive(process: dict[str, Any]) -> bool | None:
    """Whether that process still runs; None where it cannot be told from here, such as on another machine."""
    if process.get("boot") != _boot_id():
        return False if process.get("host") == os.uname().nodename else None
    if process.get("namespace") != _namespace():
        return None
    started = _start_time(int(process["pid"]))
    return started is not None and started == process.get("started")


def _start_time(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return None
    # The second field is the command's name in parentheses and may hold anything, so count from its end.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] == b"Z" else int(fields[19])


def _boot_id() -> str | None:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return None


def _namespace() -> str | None:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
