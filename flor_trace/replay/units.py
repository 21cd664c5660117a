"""Units: the stretches of a run that workers execute, and where a partitioned activation is cut into them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import NamedTuple

from flor_trace.replay.history import ActivationKey, History, RecordedActivation
from flor_trace.replay.passing import Passing
from flor_trace.runtime.position import Boundary

PROLOGUE = "prologue"
SEGMENT = "segment"
AFTER = "after"

# Guided self-scheduling (Polychronopoulos and Kuck, 1987): a round hands every worker this share of what an even division of
# the rest would give it, so that segments grow shorter towards the end and the last worker to finish is soon done. A share of 1
# divides evenly, once: it saves restores, where workers are equally fast.
SHARE_OF_REST = 0.5
SHARES = (SHARE_OF_REST, 0.8, 1.0)
# Rounds go on until segments would be this small a part of a worker's even share.
SMALLEST_SHARE = 0.05
# A segment should last this many times longer than it takes to restore its start; two for each worker there are in any case,
# for that many workers were asked for, and what one that fails had finished is kept.
WORTH_RESTORING = 5.0
# A place without a snapshot can only help if what it costs is so much less than executing all that is before it.
WORTH_PASSING = 0.5
# One worker's segments only serve to show their output early and to keep what is finished.
SECONDS_PER_UNIT_OF_ONE = 5.0
# A cut between iterations is better than one within, if it is no further from where it is wanted than this part of a segment.
OUTER_CUT_TOLERANCE = 0.25


class Inner(NamedTuple):
    """A place within an iteration: where iteration `iteration` of an activation in it begins."""

    loop: str
    entry: int
    iteration: int

    @property
    def key(self) -> ActivationKey:
        """The activation."""
        return (self.loop, self.entry)


@dataclass(frozen=True)
class Unit:
    """A stretch of the run that one worker executes and whose output it owns.

    Attributes:
        index: its place in the transcript.
        kind: "prologue", "segment" or "after".
        partition: the number of the partitioned activation, -1 for the prologue.
        start, end: the iterations of a segment; `end` None means until the loop is left.
        start_inner: where in iteration `start` it begins, None: where that iteration begins.
        end_inner: where in iteration `end` it ends, None: where that iteration begins.
        outputs: the first recorded output record of the stretch and the one after its last (None: unknown).
        seconds: how long it will take to execute, estimated.
    """

    index: int
    kind: str
    partition: int = -1
    start: int = 0
    end: int | None = None
    outputs: tuple[int, int | None] = (0, None)
    seconds: float = 0.0
    start_inner: Inner | None = None
    end_inner: Inner | None = None

    def is_over(self, iteration: int) -> bool:
        """Whether it ends where `iteration` of the partitioned loop begins, or before."""
        if self.end is None:
            return False
        return iteration > self.end or (iteration == self.end and self.end_inner is None)

    def has_begun(self, iteration: int) -> bool:
        """Whether it begins where `iteration` of the partitioned loop begins, or before."""
        return iteration > self.start or (iteration == self.start and self.start_inner is None)


@dataclass(frozen=True)
class Cut:
    """A place at which a segment may begin: at a snapshot, or a short way behind one.

    Attributes:
        iteration: of the partitioned activation.
        inner: the place within the iteration, None for its beginning.
        at: seconds of replay from the activation's entry to here.
        outputs: how many output records precede it, -1 if that has not been looked up.
        detour: seconds that it costs that no snapshot is here (see `passing`).
    """

    iteration: int
    inner: Inner | None
    at: float
    outputs: int
    detour: float = 0.0


def cuts(
    history: History,
    activation: RecordedActivation,
    seconds_of: Callable[[RecordedActivation], float | None],
    passing: Passing | None = None,
) -> list[Cut]:
    """Every place where a segment may begin, in order; the first is the entry.

    Args:
        history: the run.
        activation: the partitioned activation.
        seconds_of: how long an activation directly inside takes when it is skipped; None if it is executed.
        passing: how long it takes to get to iterations without a snapshot; None: segments begin at snapshots only.
    """
    inside: dict[int, list[RecordedActivation]] = {}
    for child in history.children(activation.key):
        assert child.parent is not None
        inside.setdefault(child.parent[2], []).append(child)
    heads = set(history.heads(activation.key))
    count = max([activation.begun, *heads])
    begun = [activation.seconds_until(i) for i in range(count + 1)] if not activation.ticks else _sums(activation, count)
    found = [Cut(0, None, 0.0, activation.outputs)]
    saved = 0.0
    unfinished = activation.exit == "unfinished"
    for iteration in range(count + 1):
        if iteration in heads and iteration > 0 and iteration < activation.begun:
            outputs = history.snapshots[Boundary(*activation.key, iteration)].outputs
            found.append(Cut(iteration, None, begun[iteration] - saved, outputs))
        elif passing is not None and not unfinished and 0 < iteration < min(activation.iterations, len(activation.ticks) + 1):
            detour = passing.around(activation, iteration)
            if detour < WORTH_PASSING * (begun[iteration] - saved):
                found.append(Cut(iteration, None, begun[iteration] - saved, -1, detour))
        passed = begun[iteration] - saved
        for child in inside.get(iteration, ()):
            skipped = seconds_of(child)
            if skipped is not None:
                saved += child.seconds - skipped
                passed += skipped
                continue
            if iteration == 0 or iteration in heads:
                found.extend(_within(history, child, iteration, passed))
            passed += child.seconds
    return _ascending(found)


def _ascending(found: list[Cut]) -> list[Cut]:
    """Times are sums of measured parts, which need not agree to the last: no cut lies before its predecessor."""
    latest = 0.0
    ordered: list[Cut] = []
    for cut in found:
        latest = max(latest, cut.at)
        ordered.append(replace(cut, at=latest))
    return ordered


def _sums(activation: RecordedActivation, count: int) -> list[float]:
    sums = [0.0, *accumulate(activation.ticks)]
    return [*sums, *(activation.seconds_until(i) for i in range(len(sums), count + 1))][: count + 1]


def _within(history: History, child: RecordedActivation, iteration: int, begun: float) -> list[Cut]:
    """The heads of an activation inside; its own entry must have a snapshot, from which a jump can start."""
    heads = history.heads(child.key)
    if not heads or heads[0] != 0 or child.loop in history.demoted:
        return []
    return [
        Cut(
            iteration, Inner(*child.key, head), begun + child.seconds_until(head),
            history.snapshots[Boundary(*child.key, head)].outputs,
        )
        for head in heads[1:] if head < child.iterations
    ]  # fmt: skip


def choose(every: list[Cut], seconds: float, workers: int, restore_seconds: float, share: float = SHARE_OF_REST) -> list[Cut]:
    """The cuts at which segments begin.

    Args:
        every: what `cuts` found.
        seconds: how long the whole activation takes.
        workers: how many share it.
        restore_seconds: what it costs to begin a segment.
        share: of the rest that a round hands out.
    """
    chosen = [every[0]]
    rest = every[1:]
    smallest = min(max(WORTH_RESTORING * restore_seconds, SMALLEST_SHARE * seconds / workers), SHARE_OF_REST * seconds / workers)
    while rest:
        remaining = seconds - chosen[-1].at
        length = max(share * remaining / workers, smallest)
        if workers == 1:
            length = max(SECONDS_PER_UNIT_OF_ONE, seconds / 16)
        begun = chosen[-1].at
        for number in range(1, workers + 1):
            due = begun + number * length  # and not from the last cut on, or what it is off by would add up
            if not rest or due > seconds - 0.5 * length:
                return chosen
            if due <= chosen[-1].at:
                continue
            nearest = _nearest(rest, due, length)
            chosen.append(rest[nearest])
            rest = rest[nearest + 1 :]
    return chosen


def _nearest(rest: list[Cut], due: float, length: float) -> int:
    """The number of the cut to take. A list of cuts is ascending, so only those around `due` matter; what the want of a snapshot
    costs counts like the distance from where the cut is wanted, and must be little beside the segment."""
    first = bisect_left(rest, due - length / 2, key=lambda cut: cut.at)
    last = bisect_left(rest, due + length / 2, key=lambda cut: cut.at)
    near = [number for number in range(first, last) if WORTH_RESTORING * rest[number].detour <= length]
    near = near or [*range(max(first - 1, 0), min(last + 1, len(rest))), *_snapshots_around(rest, first)]

    def off(number: int) -> float:
        return abs(rest[number].at - due) + rest[number].detour

    best = min(near, key=off)
    if rest[best].inner is None:
        return best
    whole = [n for n in near if rest[n].inner is None and off(n) <= OUTER_CUT_TOLERANCE * length]
    return min(whole, key=off, default=best)


def _snapshots_around(rest: list[Cut], place: int) -> list[int]:
    """The last snapshot before a place in the list and the first behind it."""
    before = next((number for number in range(place - 1, -1, -1) if not rest[number].detour), None)
    behind = next((number for number in range(place, len(rest)) if not rest[number].detour), None)
    return [number for number in (before, behind) if number is not None]
