"""`show`: everything about one run that fits on a page."""

from __future__ import annotations

import shlex
from typing import Any

from flor_trace.query import text
from flor_trace.query.loops import main_loop, totals
from flor_trace.query.opaque import opaque_objects
from flor_trace.store import catalog
from flor_trace.store.reader import Run

_OPAQUE = "(cannot be stored: replay makes its own. Results stay exact; where a snapshot depends on it, code is executed instead)"

_AS_GIVEN = {"module": ("-m",), "code": ("-c",)}


def details(run: Run) -> dict[str, Any]:
    """A run's details as JSON values."""
    start = next(run.events("start"), {})
    loops = totals(run)
    places = _places(run)
    main = main_loop(loops)
    snapshots = run.snapshots()
    opaque = {f"{path} ({kind})" for path, kind in opaque_objects(run, snapshots)}
    versions = dict(start.get("versions", {}))
    for record in run.events("versions"):
        versions.update(record["versions"])
    stopped = next(run.events("stopped"), None)
    return {
        **catalog.summarise(run),
        "cwd": start.get("cwd", run.manifest.get("cwd")),
        "python": _dotted(start.get("python", run.manifest.get("python"))),
        "versions": versions,
        "seed": start.get("seed"),
        "stopped": stopped["reason"] if stopped else None,
        "kind": run.manifest.get("target_kind", "file"),
        "modules": [{"name": record["name"], "path": record["path"]} for record in run.events("module")],
        "main_loop": main,
        "loops": [{**loop.as_dict(), "line": places.get(key), "main": key == main} for key, loop in loops.items()],
        "demoted": [record["loop"] for record in run.events("demoted")],
        "snapshots": len(snapshots),
        "snapshots_lost": run.count("snapshot") - len(snapshots),
        "stall": sum(record.get("stall") or 0.0 for record in snapshots),
        "opaque": sorted(opaque),
        "damage": [str(damage) for damage in run.damage],
        "folder": run.folder,
    }


def page(info: dict[str, Any]) -> str:
    """The same for people."""
    status = text.ending(info["status"], info["exit_status"])
    if info["stopped"]:
        status += f": {info['stopped']}"
    rows = [
        ("run", info["id"]),
        ("name", info["name"] or ""),
        ("tags", " ".join(f"{key}={value}" for key, value in info["tags"].items())),
        ("command", shlex.join([*_AS_GIVEN.get(info["kind"], ()), info["script"], *map(str, info["argv"])])),
        ("directory", info["cwd"] or ""),
        ("status", status),
        ("began", text.moment(info["created"])),
        ("took", text.duration(info["seconds"])),
        ("python", str(info["python"] or "")),
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(info["versions"].items()))),
        ("seed", "" if info["seed"] is None else str(info["seed"])),
        ("snapshots", _snapshots(info)),
        ("disk", text.size(info["bytes"])),
        ("opaque", ", ".join(info["opaque"])),
        ("", _OPAQUE if info["opaque"] else ""),
    ]
    parts = [text.columns([row for row in rows if row[1]])]
    if info["loops"]:
        table = [("loop", "line", "times", "iterations", "seconds", "")]
        for loop in sorted(info["loops"], key=lambda loop: -loop["seconds"]):
            counts = (str(loop["activations"]), str(loop["iterations"]), f"{loop['seconds']:.2f}")
            table.append((loop["key"], loop["line"] or "", *counts, "main loop" if loop["main"] else ""))
        parts.append(text.columns(table, right=frozenset((2, 3, 4))))
    if info["damage"]:
        parts.append("".join(f"damage: {line}\n" for line in info["damage"]))
    return "\n".join(parts)


def _dotted(version: Any) -> Any:
    return ".".join(map(str, version)) if isinstance(version, list) else version


def _snapshots(info: dict[str, Any]) -> str:
    lost = f", {info['snapshots_lost']} lost to damage" if info["snapshots_lost"] else ""
    return f"{info['snapshots']}{lost}, {info['stall'] * 1000:.0f} ms of stall"


def _places(run: Run) -> dict[str, str]:
    places: dict[str, str] = {}
    for record in run.events("module"):
        file = str(record["path"]).rsplit("/", 1)[-1]
        for loop in record.get("loops", []):
            places[loop["key"]] = f"{file}:{loop['lineno']}"
    return places
