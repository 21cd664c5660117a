"""The commands that ask about runs or delete them: each prints its result to stdout and returns the exit status."""

from __future__ import annotations

import json
import os
import sys

from flor_trace.errors import RunNotFound, UsageError
from flor_trace.query import check, cleanup, merged, metrics, settings, text
from flor_trace.query import plot as drawing
from flor_trace.query.budget import budget_page, decisions
from flor_trace.query.details import details, page
from flor_trace.store import catalog, layout
from flor_trace.store.locks import Using
from flor_trace.store.reader import Run, open_run
from flor_trace.store.replays import StoredReplay
from flor_trace.store.retention import Rules


def list_runs(store: str, *, as_json: bool = False) -> int:
    """`runs`."""
    summaries = catalog.list_runs(store)
    if not summaries:
        _tell([layout.nothing_recorded(store)])
    if as_json:
        text.write_json(summaries)
        return 0
    if not summaries:
        return 0
    rows = [("id", "name", "script", "status", "when", "took", "snapshots", "size")]
    for info in summaries:
        status = text.ending(info["status"], info["exit_status"])
        if info["damaged"]:
            status += ", damaged"
        script = os.path.basename(info["script"] or "-")
        when, took = text.moment(info["created"]), text.duration(info["seconds"])
        count = "-" if info["snapshots"] is None else str(info["snapshots"])
        rows.append((info["id"], info["name"] or "-", script, status, when, took, count, text.size(info["bytes"])))
    print(text.columns(rows, right=frozenset((5, 6, 7))), end="")
    return 0


def show(store: str, reference: str, *, as_json: bool = False) -> int:
    """`show`."""
    info = details(open_run(store, reference))
    if as_json:
        text.write_json(info)
    else:
        print(page(info), end="")
    return 0


def show_budget(store: str, reference: str, *, as_json: bool = False) -> int:
    """`show --budget`."""
    found = decisions(open_run(store, reference))
    if as_json:
        text.write_json(found)
    else:
        print(budget_page(found), end="")
    return 0


def logs(store: str, reference: str, *, replay: str = "all", as_json: bool = False) -> int:
    """`logs`: what the script printed, both streams in their order, with what replays have added in its places; with JSON one
    record per line. `replay` is an id, "all" or "none"."""
    run = open_run(store, reference)
    for record in merged.merged_log(run, _replays(run, replay)):
        if as_json:
            print(json.dumps(record))
        else:
            text.write(record["text"])
    return 0


def _replays(run: Run, choice: str) -> list[StoredReplay]:
    """The replays whose lines are wanted; of all those that diverged are left out, which is said."""
    chosen = merged.chosen_replays(run, choice)
    diverged = [replay.id for replay in chosen if replay.diverged]
    if choice != "all" or not diverged:
        return chosen
    which = f"replay {diverged[0]}" if len(diverged) == 1 else f"replays {', '.join(diverged)}"
    print(f"flor_trace: without what {which} added, which diverged (--replay {diverged[-1]} shows it)", file=sys.stderr)
    return [replay for replay in chosen if not replay.diverged]


def plot(store: str, reference: str, names: list[str], *, replay: str = "all", to: str | None = None, as_json: bool = False) -> int:
    """`plot`: draws what the run printed after these words, or lists the words that numbers follow. `to` is a picture's file.
    A reference that names no run is the first of them, of the last run."""
    missing: RunNotFound | None = None
    try:
        run = open_run(store, reference)
    except RunNotFound as error:
        if reference.startswith("@"):
            raise
        missing = error
        run, names = open_run(store, "@last"), [reference, *names]
    found = metrics.series_of(merged.merged_log(run, _replays(run, replay)))
    try:
        found = [one for name in names for one in metrics.chosen(found, name)] or found
    except UsageError as error:
        raise UsageError(f"{error}; and {missing}") if missing is not None else error from None
    if as_json:
        text.write_json([{"name": one.name, "values": one.values, "iterations": one.at} for one in found])
    elif not names and not found:
        _tell([f"run {run.id} has printed no numbers behind words, so there is nothing to draw"])
    elif not names:
        rows: list[tuple[str, ...]] = [("name", "values", "first", "last", "least", "greatest")]
        for one in found:
            picked = (one.values[0], one.values[-1], min(one.values), max(one.values))
            rows.append((one.name, str(len(one.values)), *[f"{value:.6g}" for value in picked]))
        print(text.columns(rows, right=frozenset(range(1, 6))), end="")
    elif to is not None:
        drawing.to_file(to, f"run {run.id}", found)
        print(f"wrote {to}")
    else:
        print(drawing.in_terminal(f"run {run.id}", found, colour=sys.stdout.isatty()))
    return 0


def config(*, as_json: bool = False) -> int:
    """`config`: every setting, and where its value came from."""
    found = settings.settings()
    if as_json:
        text.write_json(found)
        return 0
    rows = [("setting", "value", "from", "used by", "variable")]
    for one in found:
        rows.append((one["name"], settings.shown(one["value"]), one["origin"], ", ".join(one["commands"]), one["variable"]))
    print(text.columns(rows), end="")
    return 0


def verify(store: str, reference: str, *, as_json: bool = False) -> int:
    """`verify`: exit status 1 where something is damaged."""
    with Using(open_run(store, reference)) as run:
        result = check.verify(run)
    if as_json:
        text.write_json(result)
    else:
        for damage in result["damaged"]:
            print(f"damaged: {damage['file']} at byte {damage['offset']}: {damage['reason']}")
        for note in result["notes"]:
            print(f"unfinished: {note['file']} at byte {note['offset']}: {note['reason']}")
        verdict = f"{len(result['damaged'])} places are damaged" if result["damaged"] else "intact"
        lost = f", {result['snapshots_lost']} of {result['snapshots']} snapshots lost" if result["snapshots_lost"] else ""
        print(
            f"run {result['run']}: {verdict}{lost} ({result['records']} records, {result['blobs']} blobs of {text.size(result['bytes'])}, "
            f"{result['sources']} sources, {result['snapshots']} snapshots)"
        )
    return 1 if result["damaged"] else 0


def verify_deep(store: str, reference: str, sample: int, workers: int | None, *, as_json: bool = False) -> int:
    """`verify --deep`: exit status as that of replay, 3 where the re-execution diverged."""
    from flor_trace.query import deep

    with Using(open_run(store, reference)) as run:
        result = deep.verify_deep(run, sample, workers, lambda line: print(f"flor_trace: {line}", file=sys.stderr))
    if as_json:
        text.write_json(result)
    else:
        for segment in result["segments"]:
            print(f"executed again: {segment}")
        print(f"run {result['run']}: {result['verdict']}, {len(result['segments'])} of {result['of']} segments executed again")
    return 3 if result["verdict"] == "diverged" else 0


def remove(store: str, references: list[str], *, as_json: bool = False) -> int:
    """`rm`."""
    removed = cleanup.remove(store, references)
    if as_json:
        text.write_json(removed)
    else:
        for item in removed:
            print(f"removed run {item['run']} ({text.size(item['bytes'])})")
    return 0


def collect_garbage(store: str, rules: Rules, *, dry_run: bool = False, as_json: bool = False) -> int:
    """`gc`."""
    _tell_if_absent(store)
    removed, notes = cleanup.collect_garbage(store, rules, dry_run=dry_run)
    if as_json:
        text.write_json(removed)
    else:
        verb = "would remove" if dry_run else "removed"
        for item in removed:
            print(f"{verb} {item['path']} ({text.size(item['bytes'])}): {item['reason']}")
        print(f"{'would free' if dry_run else 'freed'} {text.size(sum(item['bytes'] for item in removed))}")
    _tell(notes)
    return 0


def compact(store: str, references: list[str], *, as_json: bool = False) -> int:
    """`compact`."""
    _tell_if_absent(store)
    done, notes = cleanup.compact(store, references)
    if as_json:
        text.write_json(done)
    else:
        for item in done:
            print(f"compacted run {item['run']}: {text.size(item['before'])} -> {text.size(item['after'])}")
        print(f"freed {text.size(sum(item['before'] - item['after'] for item in done))}")
    _tell(notes)
    return 0


def _tell_if_absent(store: str) -> None:
    if not os.path.exists(store):
        _tell([layout.nothing_recorded(store)])


def _tell(notes: list[str]) -> None:
    for note in notes:
        print(f"flor_trace: {note}", file=sys.stderr)
