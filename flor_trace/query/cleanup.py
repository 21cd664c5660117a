"""`rm` and `gc`: deletion. A run is first moved aside in one step, so that it is never half there."""

from __future__ import annotations

import os
import shutil
import time
from typing import Any

from flor_trace.errors import CorruptRecord, FormatTooNew, StoreUnreadable, UsageError
from flor_trace.store import layout
from flor_trace.store.blobs import pack_name
from flor_trace.store.reader import Run

# A folder without a manifest this old is not being made, it was left by a crash.
_LEFT_AFTER_SECONDS = 3600.0
_TRASH = "trash"


def remove(store: str, references: list[str]) -> list[dict[str, Any]]:
    """Delete runs; all references are resolved, and refused where a run is being recorded, before the first goes."""
    chosen: dict[str, int] = {}
    for reference in references:
        run_id = layout.resolve(store, reference)
        status, size = _status_and_size(layout.run_folder(store, run_id))
        if status == "running":
            raise UsageError(f"run {run_id} is being recorded: stop its script first")
        chosen[run_id] = size
    for run_id in chosen:
        _delete(store, run_id)
    return [{"run": run_id, "bytes": size} for run_id, size in chosen.items()]


def collect_garbage(store: str) -> list[dict[str, Any]]:
    """Delete what no run needs: half-made and half-deleted folders, temporary files, packs without an indexed blob."""
    removed: list[dict[str, Any]] = []
    trash = os.path.join(store, _TRASH)
    if os.path.isdir(trash):
        for name in sorted(os.listdir(trash)):
            removed.append(_drop(os.path.join(trash, name), store, "a deletion was interrupted"))
    for run_id in layout.run_ids(store):
        removed += _clean_run(store, layout.run_folder(store, run_id))
    runs = layout.runs_folder(store)
    for name in sorted(os.listdir(runs)) if os.path.isdir(runs) else []:
        folder = os.path.join(runs, name)
        if os.path.isdir(folder) and not layout.is_complete(folder) and time.time() - os.stat(folder).st_mtime > _LEFT_AFTER_SECONDS:
            removed.append(_drop(folder, store, "the recording crashed before it began"))
    return removed


def _clean_run(store: str, folder: str) -> list[dict[str, Any]]:
    try:
        run = Run(folder)
    except (CorruptRecord, FormatTooNew):
        return []  # what cannot be understood is not touched
    # Damage may hide what a pack is needed for, and another machine's run may be running.
    if run.status in ("running", "unknown"):
        return []
    removed = []
    for part in (folder, os.path.join(folder, layout.SOURCES)):
        for name in sorted(os.listdir(part)) if os.path.isdir(part) else []:
            if name.endswith(".tmp"):
                removed.append(_drop(os.path.join(part, name), store, "a write was interrupted"))
    packs = os.path.join(folder, layout.PACKS)
    if not any(not damage.cut for damage in run.damage) and os.path.isdir(packs):
        needed = {pack_name(entry[1]) for entry in run.index.values()}
        for name in sorted(set(os.listdir(packs)) - needed):
            removed.append(_drop(os.path.join(packs, name), store, "nothing in it was indexed"))
    return removed


def _delete(store: str, run_id: str) -> None:
    trash = os.path.join(store, _TRASH)
    try:
        os.makedirs(trash, exist_ok=True)
        aside = os.path.join(trash, run_id)
        os.rename(layout.run_folder(store, run_id), aside)
        shutil.rmtree(aside)
    except OSError as error:
        raise StoreUnreadable(f"cannot delete run {run_id}: {error.strerror or error}") from error


def _drop(path: str, store: str, reason: str) -> dict[str, Any]:
    size = _size(path)
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except OSError as error:
        raise StoreUnreadable(f"cannot delete {path}: {error.strerror or error}") from error
    return {"path": os.path.relpath(path, store), "bytes": size, "reason": reason}


def _size(path: str) -> int:
    if not os.path.isdir(path):
        return os.lstat(path).st_size
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(path) for name in names)


def _status_and_size(folder: str) -> tuple[str, int]:
    try:
        return Run(folder).status, _size(folder)
    except (CorruptRecord, FormatTooNew):
        return "unreadable", _size(folder)
