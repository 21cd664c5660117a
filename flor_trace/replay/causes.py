"""Why a replay diverged, as far as that can be tested: the machine, data files, the clock, hindsight statements, torch's operations.

What is known from the comparison alone comes first. Where that explains nothing, the first unit that diverged is executed once more from
the recorded sources, with a witness (`runtime.witness`): if it diverges again, the hindsight statements are innocent and what the witness
saw is suspected; if not, they are guilty, or, where there are none, the program gives other results each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flor_trace.errors import FlorTraceError
from flor_trace.replay.again import Execution, execute_again, restricted
from flor_trace.replay.history import History
from flor_trace.replay.plan import SEGMENT, Plan, Unit
from flor_trace.replay.report import Report
from flor_trace.replay.restorer import DIVERGED
from flor_trace.replay.unwritten import unwritten_memory
from flor_trace.store.reader import Run

EXAMINED_SECONDS = 120.0
"""A unit that took longer when recorded is not executed again unasked."""

_WEIGHTY = ("operation", "entropy")
_ORDER = ("operation", "entropy", "order", "collector", "clock", "network", "process", "identity")
_MEANING = {
    "operation": "{what} ({where}, {times} times)",
    "entropy": "random numbers that no seed governs: {what} at {where}",
    "order": "{what} is a set of objects that hash by their addresses, which differ from process to process, so it iterates in "
             "another order; a list, or a dict with None as values, keeps the order of insertion",
    "collector": "the garbage collector ran a finalizer, elsewhere than when recorded: {what} at {where}; call gc.disable(), and "
                 "gc.collect() at fixed places",
    "clock": "the clock is read where it is not recorded: {what} at {where}",
    "network": "what comes over the network is not recorded: a connection is made at {where}",
    "identity": "what differs from process to process is read: {what} at {where}",
    "process": "what runs beside the script is not repeated in step with it: a {what} is started at {where}",
}
SHOWN = 3


@dataclass(frozen=True)
class Divergence:
    """A replay that diverged, and what is known about it.

    Attributes:
        unit: the index in `plan` of the first unit that diverged.
        changed: clauses about data files that are not what the run read.
        loops: where each loop stands today, by name, as `file:line`.
    """

    run: Run
    history: History
    plan: Plan
    report: Report
    unit: int
    changed: Sequence[str]
    loops: Mapping[str, str] = field(default_factory=dict)


def find_causes(divergence: Divergence, say: Callable[[str], None]) -> list[str]:
    """The likely causes, likeliest first, each as a sentence without its stop; `say` tells the user what is being done."""
    found = _find_causes(divergence, say)
    damage = next((damage for damage in divergence.run.damage if not damage.cut), None)
    if damage is not None:
        found.append(f"perhaps the damage in {damage.file}: `flor_trace verify {divergence.run.id}` tells all of it")
    return found


def _find_causes(divergence: Divergence, say: Callable[[str], None]) -> list[str]:
    known = known_causes(divergence)
    if known:
        return known
    unit = divergence.plan.units[divergence.unit]
    stretch = _described(unit, divergence)
    if unit.seconds > EXAMINED_SECONDS:
        hint = "`flor_trace verify --deep` tells whether the run itself repeats"
        return [f"not looked for, since {stretch} took {unit.seconds:.0f} s: {hint}"]
    say(f"executing {stretch} once more as recorded, to find the cause")
    try:
        plan = restricted(divergence.plan, [divergence.unit])
        execution = execute_again(divergence.run, divergence.history, plan, witness=True)
        modules = [(path, divergence.run.source(path)) for path in divergence.run.sources]
    except FlorTraceError as error:
        return [f"not found, for executing {stretch} once more failed: {error}"]
    found = examined_causes(divergence.report, execution, stretch)
    # Also where that repetition was exact: without statements in between, such memory is no divergence (see `withheld`).
    unwritten = unwritten_memory(divergence.report.first, modules)
    return found if unwritten is None else [unwritten, *(cause for cause in found if not cause.startswith("not found"))]


def _described(unit: Unit, divergence: Divergence) -> str:
    """A unit in words that can stand in a sentence."""
    if unit.kind != SEGMENT:
        return "that part of the script"
    loop, _ = divergence.plan.partitions[unit.partition]
    last = unit.end if unit.end is None or unit.end_inner else unit.end - 1
    which = f"from iteration {unit.start} on" if last is None else f"iteration {unit.start}"
    if last is not None and last > unit.start:
        which = f"iterations {unit.start} to {last}"
    return f"the loop at {divergence.loops.get(loop, loop)}, {which} (counted from 0),"


def known_causes(divergence: Divergence) -> list[str]:
    """What the comparison itself has brought to light."""
    report = divergence.report
    found = [*report.mismatches, *divergence.changed]
    if "torch.num_threads" in report.first:
        found.append("another number of threads of torch gives other bits")
    if "clock and entropy values" in report.first or "() was called" in report.first:
        if report.hindsight:
            found.append("a hindsight statement, or what it calls, has changed how often the clock or entropy is read")
        else:
            found.append("a branch that depends on the clock, or on something else outside the program, was taken otherwise than recorded")
    return found


def examined_causes(report: Report, execution: Execution, stretch: str) -> list[str]:
    """What executing the diverging stretch again, as recorded, has shown."""
    if execution.report.failures:
        return [f"not found: executing {stretch} once more failed ({execution.report.failures[0].splitlines()[0]})"]
    suspects = suspected(execution.seen)
    if execution.report.verdict != DIVERGED:
        if report.hindsight:
            # That the clock is read does not tell against them.
            suspects = suspected([item for item in execution.seen if item["kind"] in _WEIGHTY])
            return [f"these hindsight statements changed the state or its course, for without them {stretch} replays exactly: "
                    + ", ".join(report.hindsight) + " (--isolate undoes what each changes)", *suspects]  # fmt: skip
        return [f"the program does not give the same results each time: executed once more, {stretch} did not diverge", *suspects]
    if report.hindsight:
        suspects.append("not the hindsight statements: without them it diverges as well")
    return suspects or ["not found: it diverges again when executed once more, and nothing nondeterministic that can be seen is used"]


def suspected(seen: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a witness saw, as sentences, the likeliest first; clock and processes only if nothing weightier was seen."""
    ordered = sorted(seen, key=lambda item: _ORDER.index(item["kind"]))
    strong = [item for item in ordered if item["kind"] in _WEIGHTY]
    return [_MEANING[item["kind"]].format(**item) for item in (strong or ordered)[:SHOWN]]
