"""Which runs to keep: by count, age and size."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from flor_trace.errors import CorruptRecord, FormatTooNew
from flor_trace.store import layout, locks
from flor_trace.store.reader import Run


@dataclass(frozen=True)
class Rules:
    """What the user wants kept.

    Attributes:
        keep: the newest runs, so many, are kept whatever the other rules say.
        older_than: of the others those go whose last event is so many seconds ago;
        max_size: and then the oldest, until all runs together take at most so many bytes.

    With `keep` alone all others go.
    """

    keep: int | None = None
    older_than: float | None = None
    max_size: int | None = None

    def __bool__(self) -> bool:
        return (self.keep, self.older_than, self.max_size) != (None, None, None)


@dataclass(frozen=True)
class StoredRun:
    """What the rules look at: when something last happened in a run (seconds since 1970), its bytes, and why it must stay if it must."""

    id: str
    last: float
    bytes: int
    protected: str | None = None


@dataclass(frozen=True)
class Choice:
    """The runs that go, oldest first, with one clause each; `excess` bytes are above `max_size` although all went that may."""

    going: list[tuple[StoredRun, str]]
    excess: int


def choose(runs: list[StoredRun], rules: Rules, now: float | None = None) -> Choice:
    """Apply the rules to runs given oldest first."""
    moment = time.time() if now is None else now
    newest = runs[len(runs) - (rules.keep or 0) :]
    free = [run for run in runs if run not in newest and run.protected is None]
    going: list[tuple[StoredRun, str]] = []
    if rules.keep is not None and rules.older_than is None and rules.max_size is None:
        going += [(run, f"the {rules.keep} newest are kept") for run in free]
    if rules.older_than is not None:
        limit = moment - rules.older_than
        going += [(run, f"nothing has happened in it for {(moment - run.last) / 86400:.1f} days") for run in free if run.last < limit]
    excess = 0
    if rules.max_size is not None:
        gone = {run.id for run, _ in going}
        excess = sum(run.bytes for run in runs if run.id not in gone) - rules.max_size
        for run in free:
            if excess > 0 and run.id not in gone:
                going.append((run, "the store was too large"))
                excess -= run.bytes
    order = {run.id: place for place, run in enumerate(runs)}
    return Choice(sorted(going, key=lambda item: order[item[0].id]), max(excess, 0))


def stored_runs(store: str) -> list[StoredRun]:
    """All runs of a store, oldest first."""
    return [_stored_run(store, run_id) for run_id in layout.run_ids(store)]


def _stored_run(store: str, run_id: str) -> StoredRun:
    folder = layout.run_folder(store, run_id)
    return StoredRun(run_id, _last_event(folder), _bytes(folder), _protected(folder))


def _protected(folder: str) -> str | None:
    try:
        status = Run(folder).status
    except FormatTooNew:
        return "a later version of flor_trace wrote it"
    except CorruptRecord:
        status = "killed"  # nobody can replay it
    if status == "running":
        return "it is being recorded"
    if status == "unknown":
        return "it was recorded on another machine, where it may still be running"
    return "it is being used" if locks.in_use(folder) else None


def _last_event(folder: str) -> float:
    """When something was last recorded or replayed."""
    times = [os.stat(folder).st_mtime]
    for name in (layout.JOURNAL, layout.REPLAYS):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            times.append(os.stat(path).st_mtime)
    # The folder itself also changes when something is compacted or cleaned up in it.
    return max(times[1:]) if times[1:] else times[0]


def _bytes(folder: str) -> int:
    return sum(os.lstat(os.path.join(path, name)).st_size for path, _, names in os.walk(folder) for name in names)
