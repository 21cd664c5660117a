"""The recorded log with the lines that replays have added, each in its place.

A statement that several replays have covered at a position is shown from the last of them only: a statement is the same in two replays
where its text and its place among the recorded statements are (`replay.kept`), and a replay covers the iterations of its
segments, or everything if it was complete; one that kept only the lines for which a condition was true (`--where`)
covers these. So replaying again with further statements adds, and doubles nothing.

Lines of one replay keep their order. Lines that different replays wrote at one position, between the same two recorded lines, are
ordered by the recorded lines that lead to their statements: those of the calls, and those that the statements follow. Of two
statements that follow the same line the one that was replayed first comes first, and where a function is called several times by one
line (in a comprehension, or a loop too short to be followed) the lines of one replay stand together. Replaying both at once
shows their order.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from functools import cmp_to_key
from typing import Any

from flor_trace.errors import RunNotFound
from flor_trace.store.reader import Run
from flor_trace.store.replays import StoredReplay, stored_replays

RECORDED, HINDSIGHT = "recorded", "hindsight"


def chosen_replays(run: Run, choice: str) -> list[StoredReplay]:
    """The replays that "all", "none" or an id means.

    Raises:
        RunNotFound: there is no such replay.
    """
    if choice == "none":
        return []
    replays = stored_replays(run.folder, run.damage)
    if choice == "all":
        return replays
    found = [replay for replay in replays if replay.id == choice]
    if not found:
        known = ", ".join(replay.id for replay in replays) or "none"
        raise RunNotFound(f"run {run.id} has no replay {choice} (it has: {known}); write an id, all or none")
    return found


def merged_log(run: Run, replays: Sequence[StoredReplay]) -> Iterator[dict[str, Any]]:
    """The log, one record after the other; a recorded record in which something is inserted comes in pieces.

    Each has `origin`, `stream`, `text`, `at` (its position), `line` (the source line that wrote it, as it was numbered then), and for
    what a hindsight statement wrote also `statement` (its line and text) and `replay`.
    """
    new = _hindsight(run, replays)
    following = next(new, None)
    number = -1
    for number, record in enumerate(run.events("output")):
        fields = {"origin": RECORDED, **{key: value for key, value in record.items() if key != "kind"}}
        text, done = record["text"], 0
        while following is not None and following["place"][0] <= number:
            cut = min(following["place"][1], len(text)) if following["place"][0] == number else done
            if cut > done:
                yield {**fields, "text": text[done:cut]}
                done = cut
            yield _shown(following)
            following = next(new, None)
        if done < len(text):
            yield {**fields, "text": text[done:]}
    while following is not None:
        yield _shown(following)
        following = next(new, None)


def _shown(record: Mapping[str, Any]) -> dict[str, Any]:
    hidden = ("kind", "place", "anchor", "module", "calls", "path")
    return {"origin": HINDSIGHT, **{key: value for key, value in record.items() if key not in hidden}}


def _hindsight(run: Run, replays: Sequence[StoredReplay]) -> Iterator[dict[str, Any]]:
    if not replays:
        return iter(())
    order = _Order(run)
    streams = [_of_replay(replay, replays[number + 1 :]) for number, replay in enumerate(replays)]
    return heapq.merge(*streams, key=cmp_to_key(order.compare))


def _of_replay(replay: StoredReplay, later: Sequence[StoredReplay]) -> Iterator[dict[str, Any]]:
    statements = replay.statements
    chosen = [_kept(other) for other in later if other.header.get("where") is not None]
    again = {s["id"]: [other for other in later if any(t["id"] == s["id"] for t in other.statements)] for s in statements}
    for unit, record in replay.outputs():
        statement = statements[record["statement"]]
        if any(_covers(other, unit, record["at"]) for other in again[statement["id"]]):
            continue
        if any((statement["id"], _key(record["at"])) in kept for kept in chosen):
            continue
        where = f"{statement['file']}:{statement['line']}"
        told = {"statement": {"line": where, "text": statement["text"]}, "replay": replay.id}
        path = _path(record, statement)
        yield {**record, **told, "anchor": statement["anchor"], "module": statement["module"], "path": path}


def _path(record: Mapping[str, Any], statement: Mapping[str, Any]) -> list[tuple[str, int, int, int]] | None:
    """The recorded lines that lead to where a record was written: those of the calls, outermost first, and the one that the statement
    follows (1) or takes the place of (0); of two that follow the last line of a block, the one in the block comes first. None in
    what earlier versions wrote."""
    if "calls" not in record:
        return None
    calls = [call.rpartition(":") for call in record["calls"]]
    last = (statement["file"], statement["anchor"], 0 if statement["edited"] else 1, -statement["column"])
    return [*((file, int(line), 0, 0) for file, _, line in calls), last]


def _covers(replay: StoredReplay, unit: Mapping[str, Any], at: Sequence[Sequence[Any]]) -> bool:
    """Whether a replay has executed what is at a position, or in a unit of another replay, and kept all that it wrote."""
    if replay.header.get("where") is not None:
        return False
    if replay.complete:
        return True
    for own in replay.units:
        if own["unit"] != "segment":
            if (own["unit"], own["loop"], own["entry"]) == (unit["unit"], unit["loop"], unit["entry"]):
                return True
            continue
        for loop, entry, iteration in at:
            within = own["start"] <= iteration and (own["end"] is None or iteration < own["end"])
            if (loop, entry) == (own["loop"], own["entry"]) and within:
                return True
    return False


def _kept(replay: StoredReplay) -> set[tuple[str, int]]:
    """Which statement has written something where, for a replay that kept some lines only: they are as few as were asked for."""
    return {(replay.statements[record["statement"]]["id"], _key(record["at"])) for _, record in replay.outputs()}


def _key(at: Sequence[Sequence[Any]]) -> int:
    return hash(tuple(map(tuple, at)))


class _Order:
    """Which of two hindsight records of different replays comes first."""

    def __init__(self, run: Run) -> None:
        self._started = {(event["loop"], event["entry"]): event["started"] for event in run.events("activation")}
        self._lines = {
            loop["key"]: (event["name"], loop["lineno"]) for event in run.events("module") for loop in event.get("loops", ())
        }

    def compare(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
        """Negative: `one` comes first. By the place in the recorded log, then by position, then by the recorded line."""
        if one["place"] != other["place"]:
            return -1 if one["place"] < other["place"] else 1
        for (loop, entry, iteration), (loop2, entry2, iteration2) in zip(one["at"], other["at"], strict=False):
            if loop != loop2:
                first, second = self._started.get((loop, entry)), self._started.get((loop2, entry2))
                if first is None or second is None or first == second:
                    break
                return -1 if first < second else 1
            if (entry, iteration) != (entry2, iteration2):
                return -1 if (entry, iteration) < (entry2, iteration2) else 1
        if one["path"] is not None and other["path"] is not None:
            return -1 if one["path"] < other["path"] else int(one["path"] > other["path"])
        depth = len(one["at"]) - len(other["at"])
        if depth == 0:
            return 0 if one["module"] != other["module"] else one["anchor"] - other["anchor"]
        deeper, outer = (one, other) if depth > 0 else (other, one)
        module, line = self._lines.get(deeper["at"][len(outer["at"])][0], (None, 0))
        # A statement that stands before the inner loop was executed before it.
        before = module == outer["module"] and outer["anchor"] < line
        return (1 if before else -1) * (1 if depth > 0 else -1)
