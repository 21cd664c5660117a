"""How long a plan will take: what restoring costs, and a simulation of the workers that share the units."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from flor_trace.replay.history import History, RecordedActivation, SnapshotRef
from flor_trace.replay.passing import Passing
from flor_trace.replay.units import AFTER, PROLOGUE, SEGMENT, Unit
from flor_trace.runtime.position import END_OF_RUN, EXIT, Boundary

if TYPE_CHECKING:
    from flor_trace.replay.plan import Plan

# Measured on one core of a server of 2023; the bandwidth is measured anew where a run is at hand (`measured`).
PROCESS_SECONDS = 0.5
SECONDS_PER_RESTORE = 0.02
SECONDS_PER_OBJECT = 25e-6
BYTES_PER_SECOND = 1.5e9
# Two comparisons and the look at what a restore may leave alone hash what is live.
HASHED_BYTES_PER_SECOND = 5e9
_PROBE_BYTES = 64 << 20
_PROBE_SECONDS = 0.05
# How far the parts of an estimate may be off, as shares: recorded times vary, and snapshots share unchanged memory.
WORK_SHARE, START_SHARE, RESTORE_SHARE = 0.1, 0.25, 0.6
# The ways in which workers may differ, as parts of the spread that is expected (see `_makespan`).
UNEQUAL = (-1.0, -0.5, 0.5, 1.0)
# A part that takes this share of the whole is worth telling.
TELLING_SHARE = 0.4


class Sizes:
    """How many bytes one snapshot has that another has not: what is unchanged is not read when it is restored.

    Args:
        snapshots: the journal's records.
        sizes: of blobs, by digest.
    """

    def __init__(self, snapshots: Iterable[Mapping[str, Any]], sizes: Mapping[str, int]) -> None:
        self._blobs = {Boundary(*record["at"]): frozenset(record["blobs"]) for record in snapshots}
        self._sizes = sizes

    def fresh(self, at: Boundary, base: Boundary) -> int | None:
        """The bytes of a snapshot that are not in the other; None if one of them is not known."""
        blobs, others = self._blobs.get(at), self._blobs.get(base)
        if blobs is None or others is None:
            return None
        return sum(self._sizes.get(digest, 0) for digest in blobs - others)


@dataclass(frozen=True)
class Costs:
    """What replay does beside the script's own work, in seconds.

    Attributes:
        spread: by which share the slowest worker is slower than expected, for cores and memory are shared.
        sizes: what snapshots have in common, if that is known.
        process: start of a worker, up to the script's first line.
        bandwidth: bytes per second that are read, hashed and put in place.
        slowdown: how much slower the script's own work is than when recorded, because workers share cores.
    """

    process: float = PROCESS_SECONDS
    bandwidth: float = BYTES_PER_SECOND
    slowdown: float = 1.0
    spread: float = 0.1
    sizes: Sizes | None = None

    def restore(self, ref: SnapshotRef | None, base: Boundary | None = None) -> float:
        """What it takes to compare the live state, which is that of snapshot `base`, with a snapshot and to restore one like it."""
        if ref is None:
            return SECONDS_PER_RESTORE
        fresh = self.sizes.fresh(ref.at, base) if self.sizes is not None and base is not None else None
        read = ref.nbytes if fresh is None else min(fresh, ref.nbytes)
        walking = SECONDS_PER_RESTORE + SECONDS_PER_OBJECT * ref.objects
        return walking + read / self.bandwidth + ref.nbytes / HASHED_BYTES_PER_SECOND

    def skip(self, history: History, activation: RecordedActivation) -> float:
        """What it takes to skip an activation."""
        return self.restore(history.snapshots.get(Boundary(*activation.key, EXIT)), Boundary(*activation.key, 0))

    def jump(self, history: History, partition: RecordedActivation) -> float:
        """What it takes to go to the head of an iteration."""
        heads = history.heads(partition.key)
        if not heads:
            return self.restore(None)
        middle = history.snapshots.get(Boundary(*partition.key, heads[len(heads) // 2]))
        return self.restore(middle, Boundary(*partition.key, heads[0]))


def measured(read: Callable[[str], bytes], sizes: Mapping[str, int], snapshots: Iterable[Mapping[str, Any]] = ()) -> Costs:
    """Costs with the bandwidth at which this machine now reads blobs: a few of them are read.

    Args:
        read: reads and verifies a blob.
        sizes: of the blobs, by digest.
        snapshots: the journal's records.
    """
    begin, done = time.perf_counter(), 0
    for digest, size in sorted(sizes.items(), key=lambda blob: -blob[1]):
        if size < 1 << 20 or done > _PROBE_BYTES or time.perf_counter() - begin > _PROBE_SECONDS:
            break
        done += len(read(digest))
    bandwidth = done / (time.perf_counter() - begin) if done else BYTES_PER_SECOND
    return Costs(bandwidth=bandwidth, sizes=Sizes(snapshots, sizes))


@dataclass(frozen=True)
class Forecast:
    """How long a replay will take, in seconds of wall time.

    Attributes:
        seconds: the expected time; low, high: what it may be as well.
        prologue: what every worker spends before its first unit.
        restores: what all workers together spend on restoring.
        work: what all workers together spend on the script's own code in units.
        longest: the longest unit with its restore.
        bound: the part that bounds the time: "work", "prologue", "restore" or "longest segment".
    """

    seconds: float
    low: float
    high: float
    prologue: float
    restores: float
    work: float
    longest: float
    bound: str

    def as_json(self) -> dict[str, Any]:
        """Plain fields, to the millisecond."""
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}


def prologue_seconds(history: History, costs: Costs, first: RecordedActivation | None, skipped: float) -> float:
    """From a worker's start to the entry of the first partitioned activation, or the run's end where there is none."""
    recorded = first.started - stalls_before(history, first.started) if first is not None else run_seconds(history)
    return costs.process + costs.slowdown * max(recorded - skipped, 0.0)


def run_seconds(history: History) -> float:
    """How long the recorded run took without our stalls, as far as is known."""
    last = history.snapshots.get(END_OF_RUN)
    ends = [a.started + a.seconds for a in history.children(None)]
    end = last.seconds if last is not None else max(ends, default=0.0)
    return end - stalls_before(history, end)


def stalls_before(history: History, moment: float) -> float:
    """How long our snapshots had held up the script by then."""
    return sum(ref.stall for ref in history.snapshots.values() if ref.seconds <= moment)


def forecast(plan: Plan, history: History, costs: Costs, passing: Passing) -> Forecast:
    """Let simulated workers execute the plan: each takes the next unit as soon as it is free."""
    prologue = plan.prologue_seconds
    end, restores, work, longest = _makespan(plan, history, costs, passing)
    low = (1 - START_SHARE) * prologue + (1 - RESTORE_SHARE) * restores / plan.workers + (1 - WORK_SHARE) * work / plan.workers
    high = end + START_SHARE * prologue + RESTORE_SHARE * restores / plan.workers + WORK_SHARE * work / plan.workers
    bound = _bound(end, prologue, restores / plan.workers, longest, work / plan.workers)
    return Forecast(end, min(low, end), high, prologue, restores, work, longest, bound)


def _makespan(
    plan: Plan, history: History, costs: Costs, passing: Passing, spread: float = 0.0
) -> tuple[float, float, float, float]:
    """When the last worker is done, what all spend on restoring and on work, and the longest unit.

    `spread`: the last worker is slower by this share, the first faster, the others in between; the other way round if negative.
    """
    partitions = [history.activations[key] for key in plan.partitions]
    prologue = plan.prologue_seconds
    speeds = [1 + spread * (2 * n / max(plan.workers - 1, 1) - 1) for n in range(plan.workers)]
    free = [(prologue, number, -1) for number in range(plan.workers)]
    heapq.heapify(free)
    restores = work = longest = 0.0
    end = prologue
    for unit in plan.units:
        if unit.kind == PROLOGUE:
            continue
        now, number, last = heapq.heappop(free)
        moving = speeds[number] * _moving(unit, last, plan, history, partitions, costs, passing)
        working = speeds[number] * costs.slowdown * unit.seconds
        restores += moving
        work += working
        longest = max(longest, moving + working)
        now += moving + working
        end = max(end, now)
        heapq.heappush(free, (now, number, unit.index))
    return end, restores, work, longest


def expected_seconds(plan: Plan, history: History, costs: Costs, passing: Passing) -> float:
    """How long a plan takes, half of it judged by workers that are equally fast and half by ones that are not, the first or the last
    of them being the slowest: what divides evenly looks best among equals, and is worst where one of them is held up."""
    expected = plan.seconds
    if plan.workers == 1 or not costs.spread:
        return expected
    spreads = [share * costs.spread for share in UNEQUAL]
    unequal = [_makespan(plan, history, costs, passing, spread)[0] for spread in spreads]
    return (expected + sum(unequal) / len(unequal)) / 2


def _moving(
    unit: Unit, last: int, plan: Plan, history: History, partitions: list[RecordedActivation], costs: Costs, passing: Passing
) -> float:
    """What a worker whose last unit was `last` needs to get to a unit."""
    before = plan.units[unit.index - 1] if unit.index > 0 else None
    if before is not None and _joins(before, unit) and (last == before.index or (last < 0 and before.kind == PROLOGUE)):
        return 0.0
    if unit.kind == AFTER:
        return costs.skip(history, partitions[unit.partition])
    partition = partitions[unit.partition]
    if plan.sequential or plan.init == "strong":
        return partition.seconds_until(unit.start)
    moving = _to_iteration(unit, plan.units[last] if last >= 0 else None, history, partition, costs, passing)
    if unit.start_inner is not None:
        inner = history.activations.get(unit.start_inner.key)
        moving += costs.restore(history.snapshots.get(Boundary(*unit.start_inner)), Boundary(*unit.start_inner.key, 0))
        if inner is not None and plan.init == "weak":
            moving += inner.seconds / max(inner.iterations, 1)
    elif plan.init == "weak" and unit.start:
        moving += partition.seconds_until(unit.start) - partition.seconds_until(unit.start - 1)
    return moving


def _to_iteration(
    unit: Unit, last: Unit | None, history: History, partition: RecordedActivation, costs: Costs, passing: Passing
) -> float:
    """From the end of a worker's last unit to the head of the unit's first iteration: iterations are passed from an end without a
    snapshot to the first head, from which a jump can start, and again from the last head before the unit."""
    if unit.start == 0:
        return 0.0
    begin = 0
    if last is not None and last.kind == SEGMENT and last.partition == unit.partition and last.end is not None:
        begin = last.end
    head = passing.next_head(partition, begin)
    if head is None or head >= unit.start:
        return passing.between(partition, begin, unit.start)
    return passing.between(partition, begin, head) + costs.jump(history, partition) + passing.reach(partition, unit.start)


def _joins(before: Unit, unit: Unit) -> bool:
    """Whether a unit begins where the one before it ends."""
    if before.kind != SEGMENT or unit.kind != SEGMENT:
        return True
    return (before.end, before.end_inner) == (unit.start, unit.start_inner)


def _bound(end: float, prologue: float, restores: float, longest: float, work: float) -> str:
    if longest > 1.2 * (work + restores) and prologue + longest > 0.9 * end:
        return "longest segment"
    parts = {"prologue": prologue, "restore": restores}
    name = max(parts, key=lambda part: parts[part])
    return name if parts[name] > TELLING_SHARE * end else "work"
