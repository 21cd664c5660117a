"""A run's summary, and an SQLite index of summaries. The index may be deleted, damaged or unwritable at any time: it only saves reading."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from typing import Any

from flor_trace.errors import CorruptRecord, FormatTooNew
from flor_trace.store import layout
from flor_trace.store.reader import Run

_SCHEMA = "CREATE TABLE IF NOT EXISTS runs (id TEXT PRIMARY KEY, stamp TEXT NOT NULL, summary TEXT NOT NULL)"
_VERSION = 1


def summarise(run: Run) -> dict[str, Any]:
    """What the list of runs tells about one."""
    end = run.end
    seconds = end["seconds"] if end else (run.last_event() or {}).get("t")
    return {
        "id": run.id,
        "name": run.name,
        "tags": run.manifest.get("tags") or {},
        "script": run.script,
        "argv": run.manifest.get("argv", []),
        "status": run.status,
        "exit_status": end["status"] if end else None,
        "created": run.manifest.get("created"),
        "seconds": seconds,
        "snapshots": run.count("snapshot"),
        "bytes": run.disk_bytes(),
        "damaged": any(not damage.cut for damage in run.damage),
    }


def list_runs(store: str) -> list[dict[str, Any]]:
    """The summaries of all runs, oldest first."""
    known = _load(store)
    summaries: list[dict[str, Any]] = []
    new: dict[str, tuple[str, dict[str, Any]]] = {}
    for run_id in layout.run_ids(store):
        folder = layout.run_folder(store, run_id)
        stamp = _stamp(folder)
        if known.get(run_id, ("",))[0] == stamp:
            summaries.append(known[run_id][1])
            continue
        try:
            summary = summarise(Run(folder))
        except (CorruptRecord, FormatTooNew) as error:
            summary = _unreadable(run_id, error)
        summaries.append(summary)
        # A run that has not ended changes its status without changing its files.
        if summary["status"] in ("finished", "stopped"):
            new[run_id] = (stamp, summary)
    gone = set(known) - {summary["id"] for summary in summaries}
    if new or gone:
        _save(store, new, gone)
    return summaries


def _unreadable(run_id: str, error: Exception) -> dict[str, Any]:
    empty = dict.fromkeys(("name", "script", "exit_status", "created", "seconds", "snapshots", "bytes"))
    return {**empty, "id": run_id, "tags": {}, "argv": [], "status": "unreadable", "damaged": True, "reason": str(error)}


def _stamp(folder: str) -> str:
    """Changes whenever a file that the summary depends on does."""
    parts = []
    for name in (layout.MANIFEST, layout.JOURNAL, layout.PACKS, layout.REPLAYS):
        try:
            status = os.stat(os.path.join(folder, name))
        except OSError:
            parts.append("-")  # not there is a state too
        else:
            parts.append(f"{status.st_size}:{status.st_mtime_ns}:{status.st_ino}")
    return " ".join(parts)


def _load(store: str) -> dict[str, tuple[str, dict[str, Any]]]:
    path = os.path.join(store, layout.CATALOG)
    if not os.path.exists(path):
        return {}
    try:
        with closing(sqlite3.connect(path, timeout=1)) as database:
            if database.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                return {}
            rows = database.execute("SELECT id, stamp, summary FROM runs").fetchall()
            return {run_id: (stamp, json.loads(summary)) for run_id, stamp, summary in rows}
    except (sqlite3.Error, ValueError):
        return {}  # the files tell the same


def _save(store: str, new: dict[str, tuple[str, dict[str, Any]]], gone: set[str]) -> None:
    path = os.path.join(store, layout.CATALOG)
    for attempt in range(2):
        try:
            with closing(sqlite3.connect(path, timeout=1)) as database, database:
                database.execute(_SCHEMA)
                database.execute(f"PRAGMA user_version = {_VERSION}")
                rows = [(run_id, stamp, json.dumps(summary)) for run_id, (stamp, summary) in new.items()]
                database.executemany("INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", rows)
                database.executemany("DELETE FROM runs WHERE id = ?", [(run_id,) for run_id in gone])
            return
        except sqlite3.OperationalError:
            return  # read-only or busy: the next listing tries again
        except sqlite3.DatabaseError:
            if attempt:
                return
            try:
                os.unlink(path)  # damaged: it is rebuilt
            except OSError:
                return
