"""Plan one replay: which loops run, which are skipped, and which worker executes which unit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from flor_trace.errors import UsageError
from flor_trace.replay.carry import CALLER
from flor_trace.replay.history import ActivationKey, History, RecordedActivation
from flor_trace.runtime.position import EXIT, Boundary

PROLOGUE = "prologue"
SEGMENT = "segment"
AFTER = "after"

# More segments than workers, so that one slow segment does not leave the others idle.
SEGMENTS_PER_WORKER = 2


@dataclass(frozen=True)
class Unit:
    """A stretch of the run that one worker executes and whose output it owns.

    Attributes:
        index: its place in the transcript.
        kind: "prologue", "segment" or "after".
        partition: the number of the partitioned activation, -1 for the prologue.
        start, end: the iterations of a segment; `end` None means until the loop is left.
        outputs: the first recorded output record of the stretch and the one after its last (None: unknown).
        seconds: how long it took when recorded, estimated.
    """

    index: int
    kind: str
    partition: int = -1
    start: int = 0
    end: int | None = None
    outputs: tuple[int, int | None] = (0, None)
    seconds: float = 0.0


@dataclass
class Plan:
    """One replay.

    Attributes:
        partitions: the activations whose iterations are divided, in order of time.
        units: in the order of the transcript.
        probed: names of the loops that contain a hindsight statement.
        run_all: no loop is skipped (there is no hindsight statement: the replay verifies the run).
        init: how a worker gets to its first iteration: "jump" to its snapshot, "weak" (to the snapshot before it, executing
            the rest) or "strong" (through all iterations before it, skipping the loops in them); Flor's two modes.
        sequential: state made by hindsight statements flows between iterations, so that nothing is jumped over.
        seconds: estimated wall time.
    """

    partitions: list[ActivationKey]
    units: list[Unit]
    probed: set[str]
    run_all: bool
    sequential: bool
    workers: int
    init: str = "jump"
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For `--json` and for the workers."""
        return {**asdict(self), "probed": sorted(self.probed)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Plan:
        """The inverse of `as_json` after a passage through JSON."""
        units = [Unit(**{**u, "outputs": tuple(u["outputs"])}) for u in data["units"]]
        partitions = [(loop, entry) for loop, entry in data["partitions"]]
        return cls(**{**data, "units": units, "partitions": partitions, "probed": set(data["probed"])})


@dataclass(frozen=True)
class Probe:
    """Where a hindsight statement stands: its function and the recorded loops around it in that function.

    `carried` names the loops between whose iterations it keeps state, `CALLER` among them if that may be any loop from
    which its function is called.
    """

    function: str
    loops: tuple[str, ...]
    carried: frozenset[str] = frozenset()


def make_plan(
    history: History,
    probes: Iterable[Probe],
    workers: int,
    iterations: tuple[int, int | None] | None = None,
    init: str = "jump",
) -> Plan:
    """Decide what a replay does.

    Args:
        history: the recorded run.
        probes: the hindsight statements.
        workers: how many processes may be used, at least 1.
        iterations: restrict the partitioned loops to `[first, last)`.
        init: see `Plan`.

    Raises:
        UsageError: `iterations` selects nothing.
    """
    probes = list(probes)
    probed = probed_loops(history, probes)
    run_all = not probes
    partitions = _partitions(history, None, lambda a: run_all or a.loop in probed)
    sequential = _carries(history, probes, partitions)
    if sequential:
        workers = 1
    units = _units(history, partitions, workers)
    if iterations is not None:
        units = _restrict(units, partitions, iterations)
    segments = sum(u.kind == SEGMENT for u in units)
    plan = Plan(
        partitions=[a.key for a in partitions],
        units=units,
        probed=probed,
        run_all=run_all,
        sequential=sequential,
        workers=max(1, min(workers, segments)),
        init=init,
    )
    plan.seconds = _estimate(history, plan)
    if history.last is not None:
        plan.notes.append(f"the recorded run was killed or is still running: its last snapshot, {history.last}, is where replay ends")
    if sequential:
        plan.notes.append(
            "a hindsight statement keeps state from one iteration to the next, so the run is replayed in one piece"
        )
    return plan


def _carries(history: History, probes: list[Probe], partitions: list[RecordedActivation]) -> bool:
    """Whether hindsight state flows between iterations that a replay could jump over."""
    jumped: set[str] = set()
    for activation in partitions:
        jumped.add(activation.loop)
        parent = activation.parent
        while parent is not None:
            jumped.add(parent[0])
            outer = history.activations.get(parent[:2])
            parent = outer.parent if outer else None
    return any(p.carried and (CALLER in p.carried or not jumped.isdisjoint(p.carried)) for p in probes)


def probed_loops(history: History, probes: Iterable[Probe]) -> set[str]:
    """The loops that contain a hindsight statement, lexically or through the functions that ran in them.

    A function that could not be observed (a generator, `forward`) may have run in any loop.
    """
    every_loop = {a.loop for a in history.activations.values()} | set(history.ran)
    found: set[str] = set()
    for probe in probes:
        found.update(probe.loops)
        if probe.function.endswith(":<module>"):
            continue
        if probe.function not in history.observed:
            return found | every_loop
        found.update(loop for loop, ran in history.ran.items() if probe.function in ran)
    return found


def _partitions(history: History, parent: ActivationKey | None, wanted: Any) -> list[RecordedActivation]:
    """The main loops: the outermost ones with several iterations that snapshots divide."""
    found: list[RecordedActivation] = []
    for activation in history.children(parent):
        if not wanted(activation) or activation.loop in history.demoted:
            continue
        heads = history.heads(activation.key)
        # of an unfinished one the last iteration is not replayed
        several = activation.iterations > 1 or activation.exit == "unfinished"
        if several and heads and heads[-1] > 0:
            found.append(activation)
        else:
            found.extend(_partitions(history, activation.key, wanted))
    return found


def _units(history: History, partitions: list[RecordedActivation], workers: int) -> list[Unit]:
    first = partitions[0] if partitions else None
    ended = history.snapshots[history.last].outputs if history.last else None
    units = [
        Unit(0, PROLOGUE, outputs=(0, first.outputs if first else ended), seconds=first.started if first else 0.0)
    ]
    for number, activation in enumerate(partitions):
        key = activation.key
        exit_ref = history.snapshots.get(Boundary(*key, EXIT))
        bounds = _bounds(history, activation, workers)
        ends: list[int | None] = [*bounds[1:], None]
        unfinished = activation.exit == "unfinished"
        if unfinished and history.last == Boundary(*key, bounds[-1]):
            # Nothing is known of what came after the last snapshot.
            ends.pop()
        for start, end in zip(bounds, ends, strict=False):
            begun = history.snapshots[Boundary(*key, start)].outputs if start else activation.outputs
            finish = history.snapshots[Boundary(*key, end)] if end is not None else exit_ref
            seconds = activation.seconds if end is None else activation.seconds_until(end)
            outputs = (begun, finish.outputs if finish else ended if unfinished else None)
            seconds -= activation.seconds_until(start)
            units.append(Unit(len(units), SEGMENT, number, start, end, outputs, seconds))
        if activation.exit in ("exhausted", "break"):
            following = partitions[number + 1] if number + 1 < len(partitions) else None
            outputs = (exit_ref.outputs if exit_ref else -1, following.outputs if following else ended)
            units.append(Unit(len(units), AFTER, number, outputs=outputs))
    return units


def _bounds(history: History, activation: RecordedActivation, workers: int) -> list[int]:
    """The iterations at which segments start: at snapshots, at about equal distances in time."""
    heads = [h for h in history.heads(activation.key) if h < activation.iterations or h == 0]
    if activation.exit == "unfinished":
        heads = history.heads(activation.key)
    wanted = 1 if workers == 1 else SEGMENTS_PER_WORKER * workers
    bounds = [0]
    for number in range(1, wanted):
        due = activation.seconds * number / wanted
        candidates = [h for h in heads if h > bounds[-1]]
        if not candidates:
            break
        nearest = min(candidates, key=lambda h: abs(activation.seconds_until(h) - due))
        if activation.seconds_until(nearest) < due - activation.seconds / wanted:
            continue
        bounds.append(nearest)
    if activation.exit == "unfinished" and heads[-1] not in bounds:
        bounds.append(heads[-1])
    return bounds


def _restrict(
    units: list[Unit], partitions: list[RecordedActivation], iterations: tuple[int, int | None]
) -> list[Unit]:
    """Only the asked iterations: their segments, cut to size."""
    first, last = iterations
    kept: list[Unit] = []
    for unit in units:
        if unit.kind != SEGMENT:
            continue
        total = partitions[unit.partition].iterations
        start = max(unit.start, first)
        end = total if unit.end is None else unit.end
        if last is not None:
            end = min(end, last)
        if start >= end:
            continue
        until = unit.end if end == (total if unit.end is None else unit.end) else end
        whole = start == unit.start and until == unit.end
        outputs = unit.outputs if whole else (-1, None)
        kept.append(Unit(len(kept), SEGMENT, unit.partition, start, until, outputs, unit.seconds))
    if not kept:
        most = max((a.iterations for a in partitions), default=0)
        raise UsageError(
            f"--iterations {first}:{'' if last is None else last} selects nothing: the replayed loop has {most} iterations"
        )
    return kept


def _estimate(history: History, plan: Plan) -> float:
    """Wall seconds: one prologue, the segments over the workers, and what loops that are skipped take off them."""
    skipped = 0.0
    if not plan.run_all:
        partitioned = set(plan.partitions)
        skipped = sum(
            a.seconds
            for a in history.activations.values()
            if a.loop not in plan.probed
            and a.key not in partitioned
            and history.skippable(a.key)
            and (a.parent is None or a.parent[0] in plan.probed)
        )
    prologue = sum(u.seconds for u in plan.units if u.kind == PROLOGUE)
    work = sum(u.seconds for u in plan.units if u.kind == SEGMENT)
    return prologue + max(work - skipped, 0.0) / plan.workers
