"""`verify`: read every byte of a run that something depends on, and name what is damaged."""

from __future__ import annotations

from typing import Any

from flor_trace.errors import CorruptRecord
from flor_trace.store.journal import Damage
from flor_trace.store.reader import Run
from flor_trace.store.replays import stored_replays


def verify(run: Run) -> dict[str, Any]:
    """Hash every blob and source, check every journal frame; what is damaged, and what a killed process left."""
    stored = 0
    for digest, entry in run.index.items():
        try:
            run.blob(digest)
        except CorruptRecord:
            continue  # noted in run.damage
        stored += entry[4]
    for digest in sorted(set(run.sources.values())):
        try:
            run.source(digest)
        except CorruptRecord as error:
            if not any(digest in damage.file for damage in run.damage):
                run.damage.append(Damage(f"sources/{digest}", 0, 0, str(error)))
    recorded = run.count("snapshot")
    good = len(run.snapshots())
    missing = sorted({digest for record in run.events("snapshot") for digest in record["blobs"]} - set(run.index))
    for digest in missing:
        run.damage.append(Damage("journal", 0, 0, f"no record tells where blob {digest} of a snapshot lies"))
    replays = stored_replays(run.folder, run.damage)
    for replay in replays:
        for _ in replay.events():  # goes over every frame
            pass
        run.damage.extend(damage for damage in replay.damage if not damage.cut)
    # Only a run that did not come to its end may stop in the middle of a record.
    excused = run.status not in ("finished", "stopped")
    damaged = [damage for damage in run.damage if not (damage.cut and excused)]
    notes = [damage for damage in run.damage if damage.cut and excused]
    return {
        "run": run.id,
        "status": run.status,
        "records": sum(1 for _ in run.events()),
        "blobs": len(run.index),
        "bytes": stored,
        "sources": len(run.sources),
        "replays": len(replays),
        "snapshots": recorded,
        "snapshots_lost": recorded - good,
        "damaged": [_as_dict(damage) for damage in damaged],
        "notes": [_as_dict(damage) for damage in notes],
    }


def _as_dict(damage: Damage) -> dict[str, Any]:
    return {"file": damage.file, "offset": damage.offset, "length": damage.length, "reason": damage.reason}
