"""`doctor --run`: record the first seconds of a script, replay a sample of them, and tell what was found.

The recording is stopped as a crash would stop it, which every recording survives; what it costs and what it holds is read from it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import flor_trace
from flor_trace.doctor.findings import INEXACT, REMARK, Finding
from flor_trace.errors import FlorTraceError, RunNotFound
from flor_trace.query.opaque import opaque_objects
from flor_trace.replay.again import Execution, execute_again, restricted
from flor_trace.replay.causes import suspected
from flor_trace.replay.history import History
from flor_trace.replay.plan import SEGMENT, Plan, make_plan
from flor_trace.store.reader import Run, open_run

DEFAULT_SECONDS = 20.0
PATIENCE = 6.0
"""A script that has reached no second snapshot may run this many times longer."""
OVERHEAD = 0.01
WANTED_SNAPSHOTS = 4
SHOWN_OPAQUE = 12

# As `replay.engines.local._BOOT`.
_BOOT = """\
import sys
if sys.flags.safe_path: sys.path.insert(0, {root!r})
else: sys.path[0] = {root!r}
from flor_trace.doctor.child import main
if sys.flags.safe_path: del sys.path[0]
sys.exit(main({spec!r}))
"""


def examine(folder: Path, kind: str, target: str, args: list[str], seconds: float) -> tuple[list[Finding], dict[str, Any]]:
    """Findings from the first `seconds` of a script, and figures about them; everything is kept below `folder`."""
    store, status = _record(folder, kind, target, args, seconds)
    try:
        run = open_run(store)
    except RunNotFound:
        return [_nothing(f"the script could not be recorded: {_last_line(folder)}")], {}
    history = History.read(run)
    snapshots = run.snapshots()
    figures = _figures(run, history, snapshots)
    found = _ended_badly(status, folder)
    if not any(ref.at.iteration != 0 for ref in history.snapshots.values()):
        return [*found, _nothing("no iteration of an outermost loop was completed in that time")], figures
    found += _opaque(opaque_objects(run, snapshots[-1:]))
    try:
        plan = make_plan(history, [], 2)
        chosen = _affordable(plan, seconds)
        execution = execute_again(run, history, restricted(plan, chosen), witness=True)
    except FlorTraceError as error:
        return [*found, _nothing(f"the recorded part could not be replayed: {error}")], figures
    figures |= {"verdict": execution.report.verdict, "checks": execution.report.checks, "replayed_segments": len(chosen)}
    return [*found, *_replayed(execution)], figures


# -- recording ----------------------------------------------------------------------------------------------------------


def _record(folder: Path, kind: str, target: str, args: list[str], seconds: float) -> tuple[str, int | None]:
    """Record until the time is up; returns the store, and the script's exit status (None: it was stopped)."""
    store, scratch, spec = folder / "store", folder / "scratch", folder / "spec.json"
    scratch.mkdir(parents=True)
    store.mkdir()
    fields = {"store": str(store), "scratch": str(scratch), "kind": kind, "target": target, "args": args}
    spec.write_text(json.dumps(fields))
    root = str(Path(flor_trace.__file__).resolve().parent.parent)
    with (folder / "output").open("wb") as output, (folder / "errors").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", _BOOT.format(root=root, spec=str(spec))],
            stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True,
        )  # fmt: skip
    begun = time.monotonic()
    try:
        while process.poll() is None:
            elapsed = time.monotonic() - begun
            if elapsed > seconds and (elapsed > PATIENCE * seconds or _snapshots(str(store)) >= WANTED_SNAPSHOTS):
                break
            time.sleep(0.05 if elapsed < 2 else 0.25)
        return str(store), process.poll()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _snapshots(store: str) -> int:
    try:
        return open_run(store).count("snapshot")
    except FlorTraceError:
        return 0


# -- what it says -------------------------------------------------------------------------------------------------------


def _figures(run: Run, history: History, snapshots: list[dict[str, Any]]) -> dict[str, Any]:
    """Cost and size per snapshot, and what follows for a long training."""
    if not snapshots:
        return {"snapshots": 0}
    stall = statistics.median(record["stall"] for record in snapshots[1:] or snapshots)
    figures: dict[str, Any] = {
        "snapshots": len(snapshots),
        "stall_ms": round(1000 * stall, 3),
        "state_bytes": snapshots[-1]["nbytes"],
        "objects": snapshots[-1]["objects"],
        "stored_bytes": run.disk_bytes(),
        "stored_bytes_per_snapshot": run.disk_bytes() // len(snapshots),
    }
    heads = sorted(
        (ref.seconds, ref.stall) for ref in history.snapshots.values() if isinstance(ref.at.iteration, int) and ref.at.iteration > 0
    )
    gaps = [b[0] - a[0] - b[1] for a, b in itertools.pairwise(heads)]
    if gaps:
        iteration = statistics.median(gaps)
        rate = min(OVERHEAD / stall, 1 / max(iteration, 1e-9))
        figures |= {
            "iteration_seconds": round(iteration, 6),
            "snapshots_per_hour": round(3600 * rate),
            "expected_overhead": round(rate * stall, 6),
            "overhead_of_every_1": round(stall / max(iteration, 1e-9), 6),
        }
    return figures


def _replayed(execution: Execution) -> list[Finding]:
    report = execution.report
    found: list[Finding] = []
    if report.failures:
        found.append(Finding("replay", INEXACT, "", "the recorded part could not be replayed to its end",
                             report.failures[0].strip().splitlines()[-1], "see the reason"))  # fmt: skip
    elif report.verdict == "diverged":
        found.append(Finding("replay", INEXACT, "", "replayed at once, on the same machine, the recorded part diverged",
                             report.first, "see the other findings for the cause"))  # fmt: skip
    elif report.verdict == "tolerance":
        found.append(Finding("replay", INEXACT, "", f"the recorded part replays within tolerance (up to {report.largest:g})",
                             "bits differ from one execution to the next", "see the other findings for the cause"))  # fmt: skip
    exact = report.verdict == "exact"
    for item in execution.seen:
        if item["kind"] in ("entropy", "operation"):
            effect = "it changed nothing in the part that was replayed" if exact else "replay gets another result"
            advice = "use a generator that is captured, or an operation that is deterministic"
            found.append(Finding("witness", REMARK if exact else INEXACT, item["where"], suspected([item])[0], effect, advice))
    for note in report.notes:
        effect = "replay goes back to an earlier snapshot, or executes that loop again: slower, and as exact"
        found.append(Finding("not-restorable", REMARK, "", note, effect, "nothing need be done"))
    return found


def _opaque(listed: list[tuple[str, str]]) -> list[Finding]:
    """The live objects that are kept and not captured, the first ones by their paths."""
    if not listed:
        return []
    shown = ", ".join(f"{path} ({kind})" for path, kind in listed[:SHOWN_OPAQUE])
    more = f" and {len(listed) - SHOWN_OPAQUE} more" if len(listed) > SHOWN_OPAQUE else ""
    return [
        Finding("opaque", REMARK, "", f"objects that are kept as they are, and not captured: {shown}{more}",
                "if their inside changes during training, a snapshot that depends on it is not used",
                "keep what changes in ordinary objects, arrays and tensors")
    ]  # fmt: skip


def _ended_badly(status: int | None, folder: Path) -> list[Finding]:
    if status in (None, 0):
        return []
    return [Finding("status", REMARK, "", f"the script ended with status {status}: {_last_line(folder)}",
                    "what it did until then was examined", "run it without doctor first")]  # fmt: skip


def _nothing(why: str) -> Finding:
    return Finding("not-examined", INEXACT, "", why, "whether it replays exactly is not known", "give it longer with --seconds")


def _last_line(folder: Path) -> str:
    lines = (folder / "errors").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _affordable(plan: Plan, seconds: float) -> list[int]:
    """Some segments from the last one backwards, which is restored; together they took about `seconds` at most."""
    segments = [unit for unit in plan.units if unit.kind == SEGMENT]
    chosen: list[int] = []
    left = seconds / 2
    for unit in reversed(segments):
        if chosen and unit.seconds > left:
            break
        left -= unit.seconds
        chosen.insert(0, unit.index)
    return chosen or [0]
