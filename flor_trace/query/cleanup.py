"""`rm`, `gc` and `compact`: deletion, and saving of space."""

from __future__ import annotations

import os
import shutil
import time
from typing import Any

from flor_trace.errors import CorruptRecord, FlorTraceError, FormatTooNew, StoreUnreadable, UsageError
from flor_trace.store import compact as compaction
from flor_trace.store import layout, locks, retention
from flor_trace.store.blobs import pack_name
from flor_trace.store.deletion import TRASH, delete_run
from flor_trace.store.reader import Run
from flor_trace.store.retention import Rules

# A folder without a manifest this old is not being made, it was left by a crash.
_LEFT_AFTER_SECONDS = 3600.0


def remove(store: str, references: list[str]) -> list[dict[str, Any]]:
    """Delete runs; all references are resolved, and refused where a run is being recorded or used, before the first goes."""
    chosen: dict[str, int] = {}
    for reference in references:
        run_id = layout.resolve(store, reference)
        folder = layout.run_folder(store, run_id)
        if _status(folder) == "running":
            raise UsageError(f"run {run_id} is being recorded: stop its script first")
        if locks.in_use(folder):
            raise UsageError(f"run {run_id} is being used: delete it when that has ended")
        chosen[run_id] = _size(folder)
    for run_id in chosen:
        delete_run(store, run_id)
    return [{"run": run_id, "bytes": size} for run_id, size in chosen.items()]


def collect_garbage(store: str, rules: Rules | None = None, *, dry_run: bool = False) -> tuple[list[dict[str, Any]], list[str]]:
    """Delete what no run needs (half-made and half-deleted folders, temporary files, packs without an indexed blob), then the runs
    that `rules` do not keep; with `dry_run` only tell.

    Returns:
        What was deleted: path within the store, bytes, reason; and notes about what could not be done.
    """
    removed = []
    for path, reason in _garbage(store):
        removed.append({"path": os.path.relpath(path, store), "bytes": _size(path), "reason": reason})
        if not dry_run:
            _drop(path)
    if not rules:
        return removed, []
    runs = retention.stored_runs(store)
    choice = retention.choose(runs, rules)
    for run, reason in choice.going:
        removed.append({"path": f"runs/{run.id}", "bytes": run.bytes, "reason": reason})
        if not dry_run:
            delete_run(store, run.id)
    notes = [f"run {run.id} stays: {run.protected}" for run in runs if run.protected]
    if choice.excess:
        notes.append(f"the store still takes {choice.excess} bytes more than --max-size: the other runs are protected")
    return removed, notes


def compact(store: str, references: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Compact runs, or all that have ended; returns what was done, and notes about the runs that stay as they are.

    Raises:
        UsageError: a run that was asked for cannot be compacted.
    """
    done: list[dict[str, Any]] = []
    notes: list[str] = []
    for run_id in [layout.resolve(store, reference) for reference in references] or layout.run_ids(store):
        try:
            before, after = compaction.compact(layout.run_folder(store, run_id))
        except OSError as error:
            raise StoreUnreadable(f"cannot compact run {run_id}, which stays as it is: {error.strerror or error}") from error
        except FlorTraceError as error:
            if references:
                raise
            notes.append(str(error))
        else:
            done.append({"run": run_id, "before": before, "after": after})
    return done, notes


def _garbage(store: str) -> list[tuple[str, str]]:
    """What nothing needs: paths and reasons."""
    found: list[tuple[str, str]] = []
    trash = os.path.join(store, TRASH)
    if os.path.isdir(trash):
        found += [(os.path.join(trash, name), "a deletion was interrupted") for name in sorted(os.listdir(trash))]
    for run_id in layout.run_ids(store):
        found += _garbage_of_run(layout.run_folder(store, run_id))
    runs = layout.runs_folder(store)
    for name in sorted(os.listdir(runs)) if os.path.isdir(runs) else []:
        folder = os.path.join(runs, name)
        if os.path.isdir(folder) and not layout.is_complete(folder) and time.time() - os.stat(folder).st_mtime > _LEFT_AFTER_SECONDS:
            found.append((folder, "the recording crashed before it began"))
    return found


def _garbage_of_run(folder: str) -> list[tuple[str, str]]:
    try:
        run = Run(folder)
    except (CorruptRecord, FormatTooNew):
        return []  # what cannot be understood is not touched
    # Another machine's run may be running; a killed run's writer may still be at work.
    if run.status in ("running", "unknown") or locks.in_use(folder):
        return []
    found = []
    for part in (folder, os.path.join(folder, layout.SOURCES)):
        for name in sorted(os.listdir(part)) if os.path.isdir(part) else []:
            if name.endswith(".tmp"):
                found.append((os.path.join(part, name), "a write was interrupted"))
    packs = os.path.join(folder, layout.PACKS)
    # Damage may hide what a pack is needed for.
    if not any(not damage.cut for damage in run.damage) and os.path.isdir(packs):
        needed = {pack_name(entry[1]) for entry in run.index.values()}
        found += [(os.path.join(packs, name), "nothing in it is indexed") for name in sorted(set(os.listdir(packs)) - needed)]
    return found


def _drop(path: str) -> None:
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except OSError as error:
        raise StoreUnreadable(f"cannot delete {path}: {error.strerror or error}") from error


def _size(path: str) -> int:
    if not os.path.isdir(path):
        return os.lstat(path).st_size
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(path) for name in names)


def _status(folder: str) -> str:
    try:
        return Run(folder).status
    except (CorruptRecord, FormatTooNew):
        return "unreadable"
