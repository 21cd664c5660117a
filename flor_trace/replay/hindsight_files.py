"""The files that hindsight statements have written, put together from what each unit has added, as one process would have left them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flor_trace.replay.insertions import Inserted, Recorded
from flor_trace.runtime.hindsight_files import ABSENT, APPENDED, FOLDER, FOLDER_MADE, MANIFEST, MIXED, OTHER, WHOLE

FILES = "files"
"""The folder of a replay that holds them."""
OUTSIDE = "@root"
"""In it: what was written outside the script's working directory, by its absolute path."""
_NAMED = 3


@dataclass
class Gathered:
    """What has become of the files that hindsight statements have written.

    Attributes:
        count: how many lie in `folder`.
        folder: absolute.
        unkept: sentences about those that could not be kept.
        misread: paths that a statement has read as they are not, for it had written them in another unit.
    """

    count: int
    folder: str
    unkept: list[str] = field(default_factory=list)
    misread: list[str] = field(default_factory=list)


def put_aside(scratch: Path, replay: Path, unit: int) -> None:
    """Move what a worker has put aside of a finished unit out of its scratch folder into the replay's folder."""
    made, kept = scratch / FOLDER / str(unit), replay / FOLDER / str(unit)
    if made.is_dir():
        kept.parent.mkdir(exist_ok=True)
        if kept.exists():
            shutil.rmtree(kept)
        made.rename(kept)


def gather(
    replay: Path, cwd: str, units: Iterable[int], isolated: bool = False, recorded: Recorded = lambda key: None, places: Sequence[str] = ()
) -> Gathered:
    """Put the files of some units, in this order, into the replay's folder.

    Args:
        replay: its folder, with what `put_aside` has moved there.
        cwd: the working directory of the recorded script.
        units: their numbers.
        isolated: whether each statement's doings were undone behind it (`--isolate`).
        recorded: gives the content of files that recorded code has written.
        places: where the hindsight statements stand, by their numbers.
    """
    base, target = os.path.realpath(cwd), replay / FILES
    if target.exists():
        shutil.rmtree(target)
    merged: dict[str, str] = {}
    misread: dict[str, None] = {}
    inserted = Inserted()
    for unit in units:
        manifest = replay / FOLDER / str(unit) / MANIFEST
        if not manifest.exists():
            continue
        told = json.loads(manifest.read_text())
        misread |= dict.fromkeys(_misread(told, merged | dict.fromkeys(inserted.keys(), WHOLE)))
        inserted.add(told.get("inserted", {}), manifest.parent)
        for key, piece in told["pieces"].items():
            merged[key] = _add(key, piece, merged.get(key), manifest.parent, target / _name(key, base))
    unkept: list[str] = []
    through = inserted.keys() - merged.keys()
    for key in sorted(through):
        why = "" if isolated else inserted.write(key, recorded, target / _name(key, base))
        merged[key] = OTHER if why else WHOLE if (target / _name(key, base)).exists() else ABSENT
        if why:
            where = _listed([places[number] for number in inserted.statements(key)])
            unkept.append(f"what {where} wrote to {_shown(key, base)}, which recorded code has opened, is not kept: {why}")
    found = Gathered(sum(kind == WHOLE for kind in merged.values()), str(target), unkept, list(misread))
    for kind, why in ((MIXED, "recorded code writes to it, too"), (OTHER, "links and moved folders cannot be put together")):
        if names := [_shown(key, base) for key, each in merged.items() if each == kind and key not in through]:
            found.unkept.append(f"what new statements wrote to {_listed(names)} is not kept: {why}")
    if isolated and merged:
        undone = _listed([_shown(key, base) for key in merged])
        found.unkept.append(f"what new statements wrote to {undone} is not kept: --isolate has undone it")
    if misread:
        for key in misread:
            _remove(target / _name(key, base))
        found.count = sum(kind == WHOLE and key not in misread for key, kind in merged.items())
        found.misread = [_shown(key, base) for key in misread]
    if not found.count:
        _remove(target)
    return found


def describe_gathered(found: Gathered, diverged: bool) -> list[str]:
    """What the report says of them, in sentences."""
    lines = list(found.unkept)
    if found.count:
        files = "1 file written by new statements is" if found.count == 1 else f"{found.count} files written by new statements are"
        lines.append(f"{files} in {found.folder}" + (", of a replay that diverged: they may hold what was never so" if diverged else ""))
    return lines


def describe_misread(found: Gathered) -> str:
    """What a divergence is about, and what to do."""
    return (
        f"in what new statements read: {_listed(found.misread)} had been written by them in another part of the run, which "
        "this worker has not replayed; --workers 1 replays all parts in one process, and keeps such files"
    )


def _misread(told: dict[str, Any], merged: dict[str, str]) -> list[str]:
    """The paths that earlier units had changed, unseen. Folders are made again wherever they are needed."""
    changed = {key for key, kind in merged.items() if kind != FOLDER_MADE}
    listed = set(told["listed"])
    return [key for key in sorted(changed) if key in told["seen"] or (os.path.dirname(key) or "/") in listed]


def _add(key: str, piece: dict[str, Any], before: str | None, pieces: Path, target: Path) -> str:
    """Let a unit's piece be the file, or follow what there is of it; the kind of what there is then."""
    kind: str = piece["kind"]
    if MIXED in (kind, before) or OTHER in (kind, before):
        _remove(target)
        return MIXED if MIXED in (kind, before) else OTHER
    if kind == FOLDER_MADE:
        target.mkdir(parents=True, exist_ok=True)
        return kind
    if kind == ABSENT:
        _remove(target)
        return kind
    target.parent.mkdir(parents=True, exist_ok=True)
    if kind == APPENDED and before is None and os.path.isfile(key):
        shutil.copyfile(key, target)
    with (pieces / piece["file"]).open("rb") as source, target.open("ab" if kind == APPENDED else "wb") as out:
        shutil.copyfileobj(source, out)
    return WHOLE


def _remove(target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)


def _name(key: str, base: str) -> str:
    inside = key.startswith(base.rstrip("/") + "/")
    return os.path.relpath(key, base) if inside else f"{OUTSIDE}{key}"


def _shown(key: str, base: str) -> str:
    return _name(key, base).removeprefix(OUTSIDE)


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
