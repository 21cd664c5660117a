"""`verify --deep`: execute a sample of a run's segments again, from its recorded sources, and compare."""

from __future__ import annotations

import os
from typing import Any

from flor_trace.errors import ReplayFailed, UsageError
from flor_trace.replay.again import execute_again, restricted
from flor_trace.replay.causes import Divergence, find_causes
from flor_trace.replay.command import changed_inputs, check_environment
from flor_trace.replay.history import History
from flor_trace.replay.plan import SEGMENT, Plan, make_plan
from flor_trace.replay.report import describe_report
from flor_trace.store.reader import Run

# A plan is made for that many workers per segment of the sample, so that segments are short.
FINENESS = 2


def verify_deep(run: Run, sample: int, workers: int | None, say: Any) -> dict[str, Any]:
    """Re-execute up to `sample` segments, the first and the last among them.

    Args:
        sample: how many segments, at least 1.
        workers: how many processes; None: one per processor.
        say: called with each remark for the user.

    Returns:
        The report as JSON, with `segments` (which iterations of which loop), `of` (how many there are) and `verdict`.

    Raises:
        UsageError: the run cannot be replayed here.
        ReplayFailed: a worker failed.
    """
    check_environment(run)
    history = History.read(run)
    if history.status is None and not history.snapshots:
        raise UsageError(f"run {run.id} ended before its first snapshot: there is nothing to execute again")
    changed = changed_inputs(run)
    plan = make_plan(history, [], FINENESS * sample)
    chosen = sampled([unit.index for unit in plan.units if unit.kind == SEGMENT], sample) or [0]
    execution = execute_again(run, history, restricted(plan, chosen, workers or os.cpu_count() or 1))
    report = execution.report
    if report.failures:
        raise ReplayFailed("; ".join(report.failures))
    if report.verdict == "diverged":
        at = chosen[report.unit or 0]
        report.causes = find_causes(Divergence(run, history, plan, report, at, changed), say)
    say(describe_report(report).replace("replay ", "re-execution ", 1))
    return {
        "run": run.id, **report.as_json(), "segments": [_described(plan, index) for index in chosen],
        "of": max(1, sum(unit.kind == SEGMENT for unit in plan.units)),
    }  # fmt: skip


def sampled(items: list[int], count: int) -> list[int]:
    """`count` of the items at even distances, the first and the last among them."""
    if count >= len(items):
        return items
    if count == 1:
        return items[:1]
    return [items[round(place * (len(items) - 1) / (count - 1))] for place in range(count)]


def _described(plan: Plan, index: int) -> str:
    unit = plan.units[index]
    if unit.kind != SEGMENT:
        return "the whole script"
    loop, entry = plan.partitions[unit.partition]
    return f"{loop} (entry {entry}), iterations {unit.start}..{'' if unit.end is None else unit.end - 1}"
