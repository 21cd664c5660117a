"""What a run's activations tell about its loops: how often each ran, how long, and which is the main loop."""

from __future__ import annotations

from typing import Any

from flor_trace.store.reader import Run

# A loop within the main candidate takes over if the candidate ran once around and this share of its time is in it.
_SHARE = 0.5
# Activations that end like this are counted up to the iteration that they were in, which has run in part.
_WITHIN = ("break", "left")


class LoopTotals:
    """The sums over all activations of one loop."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.activations = 0
        self.iterations = 0
        self.seconds = 0.0
        self.outermost = False
        self.parents: set[str] = set()

    def as_dict(self) -> dict[str, Any]:
        """The sums by name."""
        return {
            "key": self.key,
            "activations": self.activations,
            "iterations": self.iterations,
            "seconds": self.seconds,
            "within": sorted(self.parents),
        }


def totals(run: Run) -> dict[str, LoopTotals]:
    """The sums of every loop that ran, in the order in which they first ended."""
    loops: dict[str, LoopTotals] = {}
    for record in run.events("activation"):
        loop = loops.setdefault(record["loop"], LoopTotals(record["loop"]))
        loop.activations += 1
        loop.iterations += (record.get("iterations") or 0) + (record.get("exit") in _WITHIN)
        loop.seconds += record.get("seconds") or 0.0
        parent = record.get("parent")
        if parent is None:
            loop.outermost = True
        elif parent[0] != loop.key:
            loop.parents.add(parent[0])
    return loops


def main_loop(loops: dict[str, LoopTotals]) -> str | None:
    """The outermost loop in which the time is spent; loops that only go round once are looked into."""
    candidates = [loop for loop in loops.values() if loop.outermost]
    found: LoopTotals | None = None
    while candidates:
        longest = max(candidates, key=lambda loop: loop.seconds)
        if found is not None and (found.iterations > found.activations or longest.seconds < _SHARE * found.seconds):
            break
        found = longest
        inside = found.key
        candidates = [loop for loop in loops.values() if inside in loop.parents and loop.key != inside]
        if found.iterations > found.activations:
            break
    return found.key if found else None
