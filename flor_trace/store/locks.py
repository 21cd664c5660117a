"""Who uses a run's folder, told by a lock of the system on it, which ends with the process whatever becomes of that.

Whoever records or replays a run holds it *in use*; whoever changes what has been written takes it *alone*. Forked children share
the lock of their parent. On file systems without locks nothing is held, and the status of the run is all that protects it.
"""

from __future__ import annotations

import os

from flor_trace.errors import UsageError
from flor_trace.store.files import move_up


class Hold:
    """A lock on a run's folder, until `release`."""

    def __init__(self, folder: str, *, alone: bool = False) -> None:
        """Take it; raises UsageError where another process has the run in use (or alone)."""
        import fcntl

        self._descriptor = -1
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            doing = "recorded, replayed or verified" if alone else "compacted or deleted"
            raise UsageError(f"run {os.path.basename(folder)} is being {doing}: try again when that has ended") from None
        except OSError:
            os.close(descriptor)  # a file system without locks
        else:
            self._descriptor = move_up(descriptor)

    def release(self) -> None:
        """Let go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def in_use(folder: str) -> bool:
    """Whether any process has the run in use or alone."""
    try:
        with Hold(folder, alone=True):
            return False
    except UsageError:
        return True
