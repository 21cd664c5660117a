"""A worker does not outlive the process that started it, however that one ends."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with(parent: int) -> None:
    """Let the kernel kill this process when the process `parent`, which must have started it, is gone.

    A worker notices a coordinator's end by itself only when it next talks to it, which a long iteration, or one that waits for
    something, does late or never.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl: {os.strerror(error)}")
    if os.getppid() != parent:  # it was gone already
        os.kill(os.getpid(), signal.SIGKILL)
