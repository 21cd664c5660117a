"""Plan one replay: which loops run, which are skipped, and which worker executes which unit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from flor_trace.errors import UsageError
from flor_trace.replay.carry import CALLER
from flor_trace.replay.estimate import Costs, expected_seconds, forecast, prologue_seconds, run_seconds, stalls_before
from flor_trace.replay.history import ActivationKey, History, RecordedActivation
from flor_trace.replay.passing import Passing
from flor_trace.replay.stretches import Asked, Stretch, Where, cuts_within, everything
from flor_trace.replay.stretches import iterations as only_iterations
from flor_trace.replay.units import AFTER, PROLOGUE, SEGMENT, SHARES, Cut, Inner, Unit, choose, cuts
from flor_trace.runtime.position import EXIT, Boundary

__all__ = ["AFTER", "PROLOGUE", "SEGMENT", "Inner", "Plan", "Probe", "Unit", "make_plan", "probed_loops"]


# With fewer segments output is shown later, and more is lost with a worker: they must save time.
WORTH_FEWER_SEGMENTS = 0.96
# In place of a number of workers: a partitioned activation is one segment.
ONE_PIECE = 0


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
        executed: loops that are executed wherever a worker comes past them, for what hindsight statements bind in them others
            may read behind.
        prologue_seconds: estimated time from a worker's start to its first unit.
        forecast: the estimate (see `estimate.Forecast`), by name.
    """

    partitions: list[ActivationKey]
    units: list[Unit]
    probed: set[str]
    run_all: bool
    sequential: bool
    workers: int
    init: str = "jump"
    executed: set[str] = field(default_factory=set)
    prologue_seconds: float = 0.0
    forecast: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Estimated wall time."""
        return float(self.forecast.get("seconds", 0.0))

    def as_json(self) -> dict[str, Any]:
        """For `--json` and for the workers."""
        return {**asdict(self), "probed": sorted(self.probed), "executed": sorted(self.executed)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Plan:
        """The inverse of `as_json` after a passage through JSON."""
        units = [_unit(fields) for fields in data["units"]]
        partitions = [(loop, entry) for loop, entry in data["partitions"]]
        loops = {name: set(data.get(name, ())) for name in ("probed", "executed")}  # an older ledger lacks some
        return cls(**{**data, **loops, "units": units, "partitions": partitions})


def _unit(fields: dict[str, Any]) -> Unit:
    start_inner, end_inner = (Inner(*fields[name]) if fields[name] else None for name in ("start_inner", "end_inner"))
    return Unit(**{**fields, "outputs": tuple(fields["outputs"]), "start_inner": start_inner, "end_inner": end_inner})


@dataclass(frozen=True)
class Probe:
    """Where a hindsight statement stands: its function and the recorded loops around it in that function.

    `carried` names the loops between whose iterations it keeps state, `CALLER` among them if that may be any loop from
    which its function is called; `binds`: whether it binds names, that others may read behind a loop around it.
    """

    function: str
    loops: tuple[str, ...]
    carried: frozenset[str] = frozenset()
    binds: bool = False


def make_plan(
    history: History,
    probes: Iterable[Probe],
    workers: int,
    iterations: tuple[int, int | None] | None = None,
    init: str = "jump",
    costs: Costs | None = None,
    where: Where | None = None,
    reached: Asked = everything,
) -> Plan:
    """Decide what a replay does.

    Args:
        history: the recorded run.
        probes: the hindsight statements.
        workers: how many processes may be used, at least 1.
        iterations: restrict the partitioned loops to `[first, last)`.
        init: see `Plan`.
        costs: what restoring takes on this machine.
        where: restrict the replay to what a condition may be true in.
        reached: the parts of a partitioned activation in which a hindsight statement may be reached.

    Raises:
        UsageError: `iterations` or `where` selects nothing.
    """
    probes = list(probes)
    probed = probed_loops(history, probes)
    run_all = not probes
    partitions = _partitions(history, None, lambda a: run_all or a.loop in probed)
    sequential = _carries(history, probes, partitions)
    if sequential:
        workers = 1
    costs = costs or Costs()
    executed = probed if any(p.binds and (p.loops or not p.function.endswith(":<module>")) for p in probes) else set()
    passing = Passing(history, costs, executed)
    may_pass = passing if init == "jump" and workers > 1 else None
    skips = _Skips(history, probed, run_all, costs)
    asked = _asked(iterations, where, everything if sequential or run_all else reached)

    def divided(share: float, passing_to: Passing | None) -> Plan:
        units = _units(history, partitions, ONE_PIECE if sequential else workers, skips, asked, share, passing_to)
        if iterations is not None or where is not None:
            units = _restrict(units, partitions, iterations, where, probed)
        segments = sum(u.kind == SEGMENT for u in units)
        plan = Plan(
            partitions=[a.key for a in partitions],
            units=units,
            probed=probed,
            run_all=run_all,
            sequential=sequential,
            workers=max(1, min(workers, segments)),
            init=init,
            executed=executed,
        )
        first = partitions[0] if partitions else None
        plan.prologue_seconds = prologue_seconds(history, costs, first, skips.before(first))
        plan.forecast = forecast(plan, history, costs, passing).as_json()
        return plan

    def expected(each: Plan) -> float:
        return expected_seconds(each, history, costs, passing)

    def best(shares: Iterable[float]) -> Plan:
        ways = [None] if may_pass is None else [None, may_pass]
        return min((divided(share, way) for share in shares for way in ways), key=expected)

    plan = best(SHARES[:1])
    if plan.workers > 1:
        others = best(SHARES[1:])
        worth = WORTH_FEWER_SEGMENTS if costs.spread else 1.0  # nobody waits for the output of a simulation
        if expected(others) < worth * expected(plan):
            plan = others
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


class _Skips:
    """Which activations a replay skips, and what that saves."""

    def __init__(self, history: History, probed: set[str], run_all: bool, costs: Costs) -> None:
        self._history = history
        self._probed = probed
        self._run_all = run_all
        self.costs = costs

    def seconds_of(self, activation: RecordedActivation) -> float | None:
        """How long an activation takes if it is skipped; None if it is executed."""
        if self._run_all or activation.loop in self._probed or not self._history.skippable(activation.key):
            return None
        return self.costs.skip(self._history, activation)

    def saved(self, activation: RecordedActivation) -> float:
        """How much shorter an activation is than when recorded, because of what is skipped in it or of itself."""
        skipped = self.seconds_of(activation)
        if skipped is not None:
            return activation.seconds - skipped
        return sum(self.saved(child) for child in self._history.children(activation.key))

    def before(self, first: RecordedActivation | None) -> float:
        """What is saved in front of an outermost or inner activation; everything that is saved, for None."""
        outermost = self._history.children(None)
        if first is None:
            return sum(self.saved(a) for a in outermost)
        # A worker skips towards its first unit whatever it does not own.
        return sum(self.saved(a) for a in outermost if a.started + a.seconds <= first.started)


def _asked(iterations: tuple[int, int | None] | None, where: Where | None, reached: Asked) -> Asked:
    """Which parts of a partitioned activation are wanted."""
    if where is not None and iterations is not None:
        raise UsageError("--iterations and --where exclude each other: put the iterations into the condition")
    if where is not None:
        return where.stretches
    return reached if iterations is None else only_iterations(*iterations)


def _units(
    history: History, partitions: list[RecordedActivation], workers: int, skips: _Skips, asked: Asked, share: float,
    passing: Passing | None,
) -> list[Unit]:  # fmt: skip
    first = partitions[0] if partitions else None
    ended = history.snapshots[history.last].outputs if history.last else None
    units = [Unit(0, PROLOGUE, outputs=(0, first.outputs if first else ended))]
    for number, activation in enumerate(partitions):
        following = partitions[number + 1] if number + 1 < len(partitions) else None
        until = following.outputs if following else ended
        behind = history.outputs_behind(activation.key)
        # What follows an activation that was left otherwise belongs to its last segment.
        last = until if behind is None else behind
        units.extend(_segments(history, activation, number, len(units), workers, skips, asked(activation), share, passing, last))
        if activation.exit in ("exhausted", "break"):
            outputs = (-1 if behind is None else behind, until)
            seconds = _seconds_after(history, activation, following, skips)
            units.append(Unit(len(units), AFTER, number, outputs=outputs, seconds=seconds))
    return units


def _segments(
    history: History, activation: RecordedActivation, number: int, index: int, workers: int, skips: _Skips, asked: list[Stretch],
    share: float, passing: Passing | None, last_outputs: int | None,
) -> list[Unit]:  # fmt: skip
    """The segments of what is wanted of one partitioned activation."""
    key = activation.key
    total = activation.seconds - sum(skips.saved(child) for child in history.children(key))
    every = cuts(history, activation, skips.seconds_of, passing)
    parts = [cuts_within(every, stretch, history, total) for stretch in asked]
    wanted = sum((end.at if end else total) - within[0].at for within, end in parts)
    units: list[Unit] = []
    for within, until_here in parts:
        behind = until_here and _with_outputs(until_here, key, history)
        begin, seconds = within[0].at, (behind.at if behind else total) - within[0].at
        chosen = within[:1]
        if workers != ONE_PIECE:
            shifted = [replace(cut, at=cut.at - begin) for cut in within]
            sharing = max(round(workers * seconds / wanted), 1) if wanted > 0 else workers
            picked = choose(shifted, seconds, sharing, skips.costs.jump(history, activation), share)
            chosen = [replace(cut, at=cut.at + begin) for cut in picked]
        chosen = [_with_outputs(cut, key, history) for cut in chosen]
        until: list[Cut | None] = [*chosen[1:], behind]
        if activation.exit == "unfinished" and behind is None:
            chosen, until = _to_the_last(history, activation, within, chosen)
            last_outputs = history.snapshots[history.last].outputs if history.last else None
        for first, end in zip(chosen, until, strict=True):
            outputs = (first.outputs, end.outputs if end else last_outputs)
            known = first.outputs >= 0 and (end is None or end.outputs >= 0)
            units.append(
                Unit(
                    index + len(units), SEGMENT, number, first.iteration, end.iteration if end else None,
                    outputs if known else (-1, None), max((end.at if end else total) - first.at, 0.0),
                    first.inner, end.inner if end else None,
                )
            )  # fmt: skip
    return units


def _with_outputs(cut: Cut, key: ActivationKey, history: History) -> Cut:
    """A place with what is not looked up for all of them, where there is no snapshot: how many output records precede it."""
    unknown = cut.outputs < 0 and cut.inner is None
    return replace(cut, outputs=history.outputs_before(key, cut.iteration)) if unknown else cut


def _to_the_last(
    history: History, activation: RecordedActivation, every: list[Cut], chosen: list[Cut]
) -> tuple[list[Cut], list[Cut | None]]:
    """Segments of an activation in which the run was killed: one begins at its last head, and if that is the last that is
    known of the run, none does."""
    last = [cut for cut in every if cut.inner is None or cut is every[0]][-1]
    begins = [cut for cut in chosen if cut.at < last.at or cut is every[0]]
    if last is not every[0]:
        begins.append(last)
    until: list[Cut | None] = [*begins[1:], None]
    if history.last == Boundary(*activation.key, last.iteration):
        until.pop()
        begins.pop()
    return begins, until


def _seconds_after(
    history: History, activation: RecordedActivation, following: RecordedActivation | None, skips: _Skips
) -> float:
    """From the exit of a partitioned activation to the next one, or to the end of the run."""
    left = activation.started + activation.seconds + _stalls_within(history, activation)
    between = [a for a in history.children(None) if a.started >= left and (following is None or a.started < following.started)]
    if following is not None:
        recorded = following.started - left
        recorded -= stalls_before(history, following.started) - stalls_before(history, left)
    else:
        recorded = run_seconds(history) - (left - stalls_before(history, left))
    return max(recorded - sum(skips.saved(a) for a in between), 0.0)


def _stalls_within(history: History, activation: RecordedActivation) -> float:
    """An activation's seconds leave our stalls out, the times of its start and end do not."""
    exit_ref = history.snapshots.get(Boundary(*activation.key, EXIT))
    if exit_ref is not None:
        return max(exit_ref.seconds - activation.started - activation.seconds, 0.0)
    return sum(r.stall for r in history.snapshots.values() if r.seconds >= activation.started)


def _restrict(
    units: list[Unit],
    partitions: list[RecordedActivation],
    iterations: tuple[int, int | None] | None,
    where: Where | None,
    probed: set[str],
) -> list[Unit]:
    """What is asked: segments, and what lies around them if the condition may be true there."""
    around = where is not None and where.outside(partitions, probed)
    kept = [unit for unit in units if around or unit.kind == SEGMENT]
    if not kept:
        most = max((a.begun for a in partitions), default=0)
        if where is not None:
            raise UsageError(f"--where {where.condition.text!r} selects nothing: it is true in no iteration of the replayed loops")
        first, last = iterations or (0, None)
        raise UsageError(
            f"--iterations {first}:{'' if last is None else last} selects nothing: the replayed loop has {most} iterations"
        )
    return [replace(unit, index=number) for number, unit in enumerate(kept)]
