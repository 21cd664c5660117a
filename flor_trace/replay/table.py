"""A plan as a table, for `--dry-run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flor_trace.replay.diff import RunDiff
from flor_trace.replay.history import History
from flor_trace.replay.units import PROLOGUE, SEGMENT, Inner, Unit

if TYPE_CHECKING:
    from flor_trace.replay.plan import Plan


def describe_plan(plan: Plan, history: History, diff: RunDiff) -> str:
    """What is replayed, unit by unit, how long it will take and what bounds that."""
    expected = plan.forecast
    lines = [
        f"{len(diff.hindsight)} hindsight statements, {plan.workers} worker{'s' * (plan.workers != 1)}, "
        f"about {expected['seconds']:.1f} s ({expected['low']:.1f} to {expected['high']:.1f}), bounded by {_BOUNDS[expected['bound']]}",
    ]
    for module, statement in diff.hindsight:
        lines.append(f"  {diff.paths[module]}:{statement.lineno}  {statement.text.strip().splitlines()[0]}")
    lines.append(f"{'unit':>4} {'seconds':>9}  what")
    for unit in plan.units:
        seconds = plan.prologue_seconds if unit.kind == PROLOGUE else unit.seconds
        lines.append(f"{unit.index:4d} {seconds:9.2f}  {describe_unit(unit, plan)}")
    lines.append(
        f"every worker starts and executes the prologue in {expected['prologue']:.2f} s; all together execute "
        f"{expected['work']:.2f} s and restore for {expected['restores']:.2f} s"
    )
    skipped = sorted({a.loop for a in history.activations.values() if history.skippable(a.key) and a.loop not in plan.probed})
    if not plan.run_all and skipped:
        lines.append("skipped where possible: " + ", ".join(skipped))
    lines.extend(plan.notes)
    return "\n".join(lines)


_BOUNDS = {
    "work": "the script's own work",
    "prologue": "the prologue, which every worker executes",
    "restore": "restoring snapshots",
    "longest segment": "the longest segment, for no snapshot divides it",
}


def describe_unit(unit: Unit, plan: Plan) -> str:
    """A unit in words: what is executed, up to but without its end."""
    if unit.kind == PROLOGUE:
        return "the prologue"
    loop, entry = plan.partitions[unit.partition]
    name = f"{loop} (entry {entry})"
    if unit.kind != SEGMENT:
        return f"what follows {name}"
    begin = _place(unit.start, unit.start_inner)
    if unit.end is None:
        return f"{name}, from {begin} on"
    if unit.start_inner is None and unit.end_inner is None:
        last = unit.end - 1
        return f"{name}, iteration{'s' * (last > unit.start)} {unit.start}" + (f" to {last}" if last > unit.start else "")
    return f"{name}, from {begin} to before {_place(unit.end, unit.end_inner)}"


def _place(iteration: int, inner: Inner | None) -> str:
    return f"iteration {iteration}" + (f", step {inner.iteration} of {inner.loop}" if inner else "")
