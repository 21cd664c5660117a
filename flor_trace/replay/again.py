"""Execute units of a run again from its recorded sources: no hindsight statement, nothing printed, only compared."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flor_trace.replay.coordinator import Coordinator, Outcome
from flor_trace.replay.diff import diff_run
from flor_trace.replay.engines.local import LocalEngine
from flor_trace.replay.history import History
from flor_trace.replay.merge import Merger
from flor_trace.replay.plan import Plan
from flor_trace.replay.report import Report
from flor_trace.store.reader import Run


@dataclass(frozen=True)
class Execution:
    """The report of a re-execution, and what its witness saw (see `runtime.witness.Witness.as_json`)."""

    report: Report
    outcome: Outcome
    seen: list[dict[str, Any]]


def restricted(plan: Plan, units: list[int], workers: int = 1) -> Plan:
    """A plan of some of a plan's units, in which every loop is executed."""
    kept = [replace(plan.units[old], index=new) for new, old in enumerate(units)]
    return replace(plan, units=kept, probed=set(), run_all=True, sequential=False, workers=min(workers, len(kept)), notes=[])


def execute_again(run: Run, history: History, plan: Plan, *, witness: bool = False) -> Execution:
    """Carry out a plan without hindsight statements, in which `run_all` is set.

    Args:
        witness: watch what is executed, which takes several times as long.
    """
    folder = Path(run.new_replay_folder())
    sources = {e["name"]: (e["path"], run.source(e["source"])) for e in run.events("module")}
    recorded = dict(sources.values())
    diff = diff_run(sources, recorded.get)
    (folder / "diff.pickle").write_bytes(pickle.dumps(diff))
    main = folder / "main.py"
    if "__main__" in sources:
        main.write_bytes(sources["__main__"][1])
    spec: dict[str, Any] = {
        "run": run.folder, "plan": plan.as_json(), "diff": str(folder / "diff.pickle"), "allow": [], "recorded_sources": True,
        "substitute": str(main) if run.manifest["target_kind"] == "file" and main.exists() else None, "witness": witness,
    }  # fmt: skip
    environment = dict(run.manifest["env"])
    if run.manifest["hash_seed"] is not None:
        environment["PYTHONHASHSEED"] = str(run.manifest["hash_seed"])
    engine = LocalEngine(folder, run.manifest["cwd"], environment, run.manifest["interpreter_flags"])
    merger = Merger(plan, run, lambda line: False, False, lambda text: text, lambda record: None)
    outcome = Coordinator(plan, engine, folder, spec, history.status, merger.completed).run()
    merger.rest(outcome)
    report = Report.of(outcome, merger.verdict, diff)
    (folder / "report.json").write_text(json.dumps(report.as_json()))
    return Execution(report, outcome, outcome.seen)
