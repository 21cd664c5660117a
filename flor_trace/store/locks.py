"""Who uses a run's folder, told by a lock of the system on it, which ends with the process whatever becomes of that.

Whoever records, replays or verifies a run holds it *in use*; whoever changes what has been written takes it *alone*. A forked child
has a copy of its parent's descriptor, and the lock stays as long as one copy is open: children must `release` theirs, which leaves
the parent's lock alone. On file systems without locks nothing is held, and the status of the run is all that protects it.
"""

from __future__ import annotations

import os
import time

from flor_trace.errors import UsageError
from flor_trace.store.files import move_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flor_trace.store.reader import Run

# `in_use` takes a run alone for a moment, and who comes then must not take that for a deletion.
PATIENCE_SECONDS = 0.3
_PAUSE_SECONDS = 0.005


class Hold:
    """A lock on a run's folder, until `release`."""

    def __init__(self, folder: str, *, alone: bool = False, patience: float = PATIENCE_SECONDS) -> None:
        """Take it, trying for `patience` seconds.

        Raises:
            UsageError: another process has the run in use (or alone), or it has been deleted.
        """
        self._descriptor = -1
        name = os.path.basename(folder)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise UsageError(f"run {name} has been deleted") from None
        self._identity = _identity(os.fstat(descriptor))
        try:
            _lock(descriptor, alone, patience)
        except BlockingIOError:
            os.close(descriptor)
            doing = "recorded, replayed or verified" if alone else "compacted or deleted"
            raise UsageError(f"run {name} is being {doing}: try again when that has ended") from None
        except OSError:
            os.close(descriptor)  # a file system without locks
            return
        if not self._is_at(folder):
            os.close(descriptor)
            raise UsageError(f"run {name} has been deleted")
        self._descriptor = move_up(descriptor)

    def _is_at(self, folder: str) -> bool:
        """Whether the locked folder is still the one of that name: a deletion moves it aside first."""
        try:
            return _identity(os.stat(folder)) == self._identity
        except OSError:
            return False

    def release(self) -> None:
        """Let go."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        try:
            ours = _identity(os.fstat(descriptor)) == self._identity
        except OSError:
            return  # the script has closed it
        if ours:  # and the script has not opened a file in its place
            os.close(descriptor)

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _lock(descriptor: int, alone: bool, patience: float) -> None:
    import fcntl

    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def in_use(folder: str) -> bool:
    """Whether any process has the run in use or alone."""
    try:
        with Hold(folder, alone=True, patience=0.0):
            return False
    except UsageError:
        return True


class Using:
    """A run that stays as it is until the end of the `with` statement, which gives the run: read again if it was compacted since it
    was opened."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __enter__(self) -> Run:
        """Raises UsageError where the run is being compacted or deleted."""
        self._hold = Hold(self._run.folder)
        try:
            return self._run.current()
        except BaseException:
            self._hold.release()
            raise

    def __exit__(self, *exception: object) -> None:
        self._hold.release()
