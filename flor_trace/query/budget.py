"""`show --budget`: each boundary that recording considered, whether it got a snapshot, at what cost, and if not, why."""

from __future__ import annotations

from typing import Any

from flor_trace.query import text
from flor_trace.record.decisions import REASONS
from flor_trace.store.reader import Run


def decisions(run: Run) -> list[dict[str, Any]]:
    """What became of the boundaries, in order; those of one loop that were passed by for the same reason are one item.

    `taken`: whether there is a snapshot; then `stall` (seconds), `added` (bytes at most), `owed` (seconds that had been spent by then
    beyond what --overhead allows, to be repaid later), `interference` (seconds that writing has taken from the script by then),
    else `count`, `last` (iteration), `last_entry`, `why`, and the seconds that it would have taken (`needs`) and
    that were saved up (`credit`) at the last of them.
    """
    found: list[dict[str, Any]] = []
    for record in run.events():
        if record["kind"] == "snapshot":
            loop, entry, iteration = record["at"]
            cost = {"stall": record["stall"], "added": record.get("added"), "owed": record.get("owed", 0.0), "seconds": record["seconds"]}
            cost["interference"] = record.get("interference", 0.0)
            found.append({"loop": loop, "entry": entry, "first": iteration, "taken": True, **cost})
        elif record["kind"] == "passed":
            fields = {name: record[name] for name in ("loop", "entry", "first", "last", "last_entry", "count", "why", "needs", "credit")}
            found.append({**fields, "taken": False})
    return found


_LEGEND = (
    "stall: the time that a snapshot took from the script; adds: the bytes that it adds to the files at most. --overhead allows a share of "
    "the\ntime: what is saved up of it pays for snapshots, and what is borrowed at the start is repaid later.\n"
)


def budget_page(found: list[dict[str, Any]]) -> str:
    """The same for people."""
    rows = [("loop", "entry", "boundary", "stall", "adds", "")]
    for item in found:
        if item["taken"]:
            added = "-" if item["added"] is None else text.size(item["added"])
            rows.append((item["loop"] or "-", str(item["entry"]), _name(item["first"]), _milliseconds(item["stall"]), added, _taken(item)))
            continue
        which = _name(item["first"]) if item["first"] == item["last"] else f"{item['first']} to {item['last']}"
        entries = str(item["entry"]) if item["entry"] == item["last_entry"] else f"{item['entry']} to {item['last_entry']}"
        why = REASONS.get(item["why"], item["why"])
        if item["why"] == "credit":
            why += f": {_milliseconds(max(item['credit'], 0.0))} of {_milliseconds(item['needs'])}"
        rows.append((item["loop"] or "-", entries, which, "", "", f"{why} ({item['count']} times)" if item["count"] > 1 else why))
    taken = [item for item in found if item["taken"]]
    passed = sum(item["count"] for item in found if not item["taken"])
    stall = sum(item["stall"] for item in taken)
    tail = f"{len(taken)} of {len(taken) + passed} boundaries taken, {_milliseconds(stall)} of stall"
    if lost := max((item["interference"] for item in taken), default=0.0):
        tail += f", and {_milliseconds(lost)} that writing took from the script, since no core was idle"
    tail += "\n"
    return text.columns(rows, right=frozenset((1, 3, 4))) + tail + _LEGEND


def _taken(item: dict[str, Any]) -> str:
    return f"taken, {_milliseconds(item['owed'])} borrowed by now" if item["owed"] else "taken"


def _name(iteration: int | str) -> str:
    return "entry" if iteration == 0 else str(iteration)


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"
