"""Every exception that flor_trace raises on purpose.

FlorTraceError
  UsageError            the user asked for something that cannot be done: exit status 2
    RunNotFound
    StoreUnreadable
    FormatTooNew
    SourceChanged       today's source differs from the recorded one by more than log statements
    EnvironmentMismatch recorded by another interpreter or torch version
  CorruptRecord         bytes on disk fail their checksum; readers fall back to an earlier snapshot
  NotRestorable         a snapshot cannot be restored onto the live state; an earlier one is used
    AutogradAcrossBoundary  a restored tensor's autograd graph, which no snapshot holds, was needed
  HalfRestored          a restore failed after it had begun to change things; the process is of no further use
  ReplayFailed          a worker failed: exit status 1
    ReplayInterrupted   the user has ended it: exit status 130
"""

from __future__ import annotations

INTERRUPTED = 130
"""The exit status of a program that Ctrl-C has ended, as a shell tells it."""


class FlorTraceError(Exception):
    """Base of all exceptions of this package; its message is one clear sentence for the user."""

    exit_status = 1


class UsageError(FlorTraceError):
    """The request cannot be carried out as it was made."""

    exit_status = 2


class RunNotFound(UsageError):
    """No recorded run fits the request."""


class StoreUnreadable(UsageError):
    """The store's folder or a file in it cannot be read or written."""


class FormatTooNew(UsageError):
    """The run was written by a later version of flor_trace."""


class SourceChanged(UsageError):
    """Today's source differs from the recorded one by more than log statements."""


class EnvironmentMismatch(UsageError):
    """The run was recorded by another interpreter or library version."""


class CorruptRecord(FlorTraceError):
    """Stored bytes fail their checksum or are cut short."""


class NotRestorable(FlorTraceError):
    """A snapshot cannot be restored onto the present live state."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class AutogradAcrossBoundary(NotRestorable):
    """A restored tensor's autograd graph, which no snapshot holds, was needed."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "its autograd graph was built before the point restored and is used after it")


class HalfRestored(FlorTraceError):
    """A restore that had been planned failed when part of the state was already changed."""

    def __init__(self, path: str, error: Exception) -> None:
        what = str(error) if isinstance(error, FlorTraceError) else f"{type(error).__name__}: {error}"
        super().__init__(f"{path} could not be given its recorded content ({what})")


class ReplayFailed(FlorTraceError):
    """A replay worker failed."""


class ReplayInterrupted(ReplayFailed):
    """Ctrl-C, or a signal to the same effect, has ended the replay."""

    exit_status = INTERRUPTED
