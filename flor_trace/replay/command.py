"""The `replay` command: from a recorded run and today's source to a transcript and a verdict."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from flor_trace.config import ReplayOptions
from flor_trace.errors import EnvironmentMismatch, ReplayFailed, ReplayInterrupted, RunNotFound, SourceChanged, UsageError
from flor_trace.replay import cores
from flor_trace.replay.causes import Divergence, find_causes
from flor_trace.replay.coordinator import Coordinator, Outcome
from flor_trace.replay.diff import RunDiff, diff_run
from flor_trace.replay.engines.local import LocalEngine
from flor_trace.replay.estimate import measured
from flor_trace.replay.evidence import Traces, traces
from flor_trace.replay.hindsight_files import FILES, describe_gathered, describe_misread, gather
from flor_trace.replay.history import History
from flor_trace.replay.interrupts import Interrupts
from flor_trace.replay.kept import header
from flor_trace.replay.last_files import last_content
from flor_trace.replay.loopvars import LoopVariable, Values, loop_variables
from flor_trace.replay.merge import Merger, as_json, as_text
from flor_trace.replay.plan import PROLOGUE, SEGMENT, Plan, Probe, Unit, make_plan, probed_loops
from flor_trace.replay.progress import Tally, progress_for
from flor_trace.replay.reached import Reached, Statement
from flor_trace.replay.report import Report, describe_report
from flor_trace.replay.resume import Ledger, Unfinished, digest_of_sources, find_unfinished, keep_for_resume
from flor_trace.replay.stretches import Where, everything
from flor_trace.replay.table import describe_plan
from flor_trace.replay.where import Condition
from flor_trace.runtime import inputs
from flor_trace.runtime.position import Boundary
from flor_trace.store.layout import FORMAT, JOURNAL, REPLAYS
from flor_trace.store.locks import Using
from flor_trace.store.reader import Run, find_run, open_run
from flor_trace.store.replays import ReplayWriter

EXACT_STATUS = 0
DIVERGED_STATUS = 3


def replay(options: ReplayOptions) -> int:
    """Replay a run with today's log statements.

    Returns:
        0 exact or within tolerance, 3 diverged.

    Raises:
        UsageError: there is nothing to replay, today's source differs by more than log statements, or the run is being deleted or
            compacted.
        ReplayFailed: a worker failed; what the others produced has been printed.
    """
    with Using(_find(options)) as run:
        return _replay(run, options)


def _replay(run: Run, options: ReplayOptions) -> int:
    check_environment(run)
    diff = _compare_sources(run, options)
    history = History.read(run)
    _check_replayable(run, history)
    request = _request(run, diff, options)
    unfinished = _unfinished(run, options, request) if options.resume else None
    _refuse_mutations(diff, options)
    where = _where(run, history, diff, options)
    plan = _plan(run, history, diff, options, where)
    if unfinished is not None:
        request = unfinished.request
        plan = replace(unfinished.plan, workers=min(_workers(run, options), max(unfinished.plan.workers, plan.workers)))
    if options.dry_run:
        print(json.dumps(plan.as_json(), indent=1) if options.json else describe_plan(plan, history, diff))
        return EXACT_STATUS
    for note in [*_nothing_new(run, diff), *plan.notes, *damages(run)]:
        _say(note)
    changed = changed_inputs(run)
    for change in shortened(changed):
        _say(f"{change}: what is computed from it will differ")
    return _execute(run, history, diff, plan, options, changed, where, request, unfinished)


def _nothing_new(run: Run, diff: RunDiff) -> list[str]:
    """Tells the user who has forgotten to save an edit, or meant another run, that this replay has nothing to print."""
    if diff.hindsight or diff.changes:
        return []
    return [f"no statement has been added to {run.script} or its modules since run {run.id} was recorded: this only verifies it"]


def changed_inputs(run: Run) -> list[str]:
    """The data files that are not what the run read, each as a clause."""
    touched = {path for event in run.events("files_before") for path in event["files"]}
    return inputs.changes([event["files"] for event in run.events("inputs")], touched)


def damages(run: Run) -> list[str]:
    """What of the recording has turned out to be damaged, as one clause at most."""
    found = [damage for damage in run.damage if not damage.cut]
    if not found:
        return []
    more = f" and {len(found) - 1} more places" if len(found) > 1 else ""
    return [f"the recording is damaged in {found[0].file} at byte {found[0].offset} ({found[0].reason}){more}: snapshots that need it are "
            f"not used, and `flor_trace verify {run.id}` tells all"]  # fmt: skip


def shortened(texts: list[str], most: int = 5) -> list[str]:
    """The first ones, and how many more there are."""
    more = len(texts) - most
    return texts if more <= 0 else [*texts[:most], f"{more} more data files have changed likewise"]


def _find(options: ReplayOptions) -> Run:
    if options.run is not None and options.run != "@last":
        return open_run(options.store, options.run)
    if options.file is not None:
        try:
            return find_run(options.store, options.file)
        except RunNotFound:
            if options.run is None:
                raise
    return open_run(options.store, "@last")


def check_environment(run: Run) -> None:
    """Refuse to replay with another interpreter, library or format of snapshots than the recorded, or without the processes that it
    worked with.

    Raises:
        EnvironmentMismatch: that is so.
        UsageError: the folder that the run worked in is gone.
    """
    if run.manifest["format"] < FORMAT:
        raise EnvironmentMismatch(
            f"run {run.id} was recorded by an earlier version of flor_trace, whose snapshots this one cannot read: replay it with that "
            "version, or record the script again (flor_trace logs shows what it has printed)"
        )
    others = _fellow_processes(run.manifest["env"])
    if others:
        raise EnvironmentMismatch(
            f"run {run.id} is one of {others} processes of a distributed training, and replay executes one alone, which would wait for "
            "the others for ever: record the script with one process to replay it (flor_trace logs shows what each has printed)"
        )
    python = ".".join(str(part) for part in sys.version_info[:2])
    recorded = ".".join(str(part) for part in run.manifest["python"][:2])
    if python != recorded:
        raise EnvironmentMismatch(
            f"run {run.id} was recorded by Python {recorded} and this is {python}: replay it with Python {recorded}"
        )
    versions: dict[str, str] = {}
    for event in run.events("versions"):
        versions.update(event["versions"])
    for library in versions.keys() & {"torch", "numpy"}:
        version = versions[library]
        try:
            present = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            present = "not installed"
        if _minor(present) != _minor(version):
            raise EnvironmentMismatch(
                f"run {run.id} was recorded with {library} {version} and here it is {present}: install that version"
            )
    if not os.path.isdir(run.manifest["cwd"]):
        raise UsageError(f"the working directory of the recorded run, {run.manifest['cwd']}, is gone")


def _fellow_processes(environment: dict[str, str]) -> int:
    """How many processes a launcher started together (torchrun sets these variables, and what goes through it); 0 for one alone."""
    size = environment.get("WORLD_SIZE", "")
    return int(size) if "RANK" in environment and size.isdecimal() and int(size) > 1 else 0


def _minor(version: str) -> str:
    """A later patch release replays, within tolerance; another minor release may do anything."""
    return ".".join(version.partition("+")[0].split(".")[:2])


def _compare_sources(run: Run, options: ReplayOptions) -> RunDiff:
    recorded = {e["name"]: (e["path"], run.source(e["source"])) for e in run.events("module")}
    diff = diff_run(recorded, _present_source(run, options))
    if diff.changes and not options.accept_changes:
        raise SourceChanged(
            "the source differs from the recorded one by more than log statements (undo it, record again, or give "
            "--accept-changes):\n" + diff.render_changes()
        )
    return diff


def _refuse_mutations(diff: RunDiff, options: ReplayOptions) -> None:
    """Raises SourceChanged for statements that certainly change what the recorded program goes on to use."""
    if diff.mutations and not (options.isolate or options.accept_changes):
        raise SourceChanged(
            "a new statement would change the state of the recorded training, so what is replayed behind it would be another one:\n  "
            + "\n  ".join(diff.mutations)
            + "\nLet it only look: give what it computes a name of its own, or work on a copy (copy.deepcopy). --isolate runs it as "
            "it stands and undoes what it changes right behind it; --accept-changes lets the change last, and the replay diverge"
        )


def _present_source(run: Run, options: ReplayOptions) -> Callable[[str], bytes | None]:
    """Reads a recorded path today; None if there is no such file."""
    main = {e["name"]: e for e in run.events("module")}.get("__main__")
    substitute = _substitute(run, options, main["path"] if main else None)

    def present(path: str) -> bytes | None:
        if main and path == main["path"]:
            if run.manifest["target_kind"] == "code":
                return run.source(main["source"])
            path = substitute or path
        try:
            return Path(run.manifest["cwd"], path).read_bytes()
        except FileNotFoundError:
            return None

    return present


def _request(run: Run, diff: RunDiff, options: ReplayOptions) -> dict[str, Any]:
    """What makes one replay the same as another; None where nothing was said."""
    present = _present_source(run, options)
    return {
        "sources": digest_of_sources({module: present(path) for module, path in diff.paths.items()}),
        "iterations": None if options.iterations is None else list(options.iterations),
        "where": options.where,
        "init": None if options.init == "jump" else options.init,
        "allow_writes": _allowed(options) or None,
        "isolate": options.isolate or None,
    }


def _unfinished(run: Run, options: ReplayOptions, request: dict[str, Any]) -> Unfinished:
    """The replay to go on with, whose options are those of this one from now on."""
    found = find_unfinished(Path(run.folder, REPLAYS), run.id, request)
    then = found.request
    options.iterations = tuple(then["iterations"]) if then["iterations"] else None
    options.where, options.init = then["where"], then["init"] or "jump"
    options.allow_writes, options.isolate = tuple(then["allow_writes"] or ()), bool(then["isolate"])
    return found


def _workers(run: Run, options: ReplayOptions) -> int:
    return options.workers or cores.default_workers(cores.recorded_threads(_facts(run)), cores.usable_cores(), _gpus(run))


def _facts(run: Run) -> list[dict[str, Any]]:
    """What is known of the machine and the libraries of the recording."""
    return [event["facts"] for event in run.events("machine")]


def _gpus(run: Run) -> list[str]:
    return cores.gpus_to_share(_facts(run), cores.present_gpus(os.environ))


def _sharing(run: Run, workers: int) -> tuple[str | None, dict[str, str]]:
    """A remark for the user if workers have to share cores, and how their threads wait then."""
    remark = cores.oversubscription(workers, cores.recorded_threads(_facts(run)), cores.usable_cores())
    return remark, cores.PASSIVE_WAITING if remark else {}


def _where(run: Run, history: History, diff: RunDiff, options: ReplayOptions) -> Where | None:
    """The condition under which output is wanted; raises UsageError if it cannot be decided."""
    if options.where is None:
        return None
    condition = Condition(options.where)
    if diff.identical:
        raise UsageError("--where chooses among the lines of hindsight statements, and there is none: add one, or use --iterations A:B")
    present = _present_source(run, options)
    variables: list[LoopVariable] = []
    for module, difference in diff.modules.items():
        source = present(diff.paths[module])
        if source is not None:
            variables += loop_variables(ast.parse(source), module, difference.loops)
    return Where(condition, variables, Values(history, run.blob), history)


def _substitute(run: Run, options: ReplayOptions, main: str | None) -> str | None:
    """The file given on the command line where it is not the recorded one (a copy with hindsight statements)."""
    if options.file is None or main is None:
        return None
    if not os.path.isfile(options.file):
        raise UsageError(f"{options.file} does not exist")
    given = os.path.realpath(options.file)
    return None if given == os.path.realpath(os.path.join(run.manifest["cwd"], main)) else given


def _check_replayable(run: Run, history: History) -> None:
    if history.status is None and not history.snapshots:
        raise UsageError(f"run {run.id} ended before its first snapshot: there is nothing to replay yet")


def _plan(run: Run, history: History, diff: RunDiff, options: ReplayOptions, where: Where | None) -> Plan:
    probes = [
        Probe(statement.function, tuple(statement.enclosing_loops), frozenset(statement.carried) | leftovers, bool(statement.binds))
        for (_, statement), leftovers in zip(diff.hindsight, _read_behind(diff), strict=True)
    ]
    iterations = None
    if options.iterations is not None:
        first, last = options.iterations
        iterations = (first or 0, last)
    workers = _workers(run, options)
    sizes = {digest: entry[3] for digest, entry in run.index.items()}
    shared = 1.0 if _gpus(run) else cores.slowdown(workers, cores.recorded_threads(_facts(run)), cores.usable_cores())
    costs = replace(measured(run.blob, sizes, run.events("snapshot")), slowdown=shared)
    # The recorded log between the parts that are executed is shown by no worker.
    reached = everything if options.show == "all" else _reached(run, history, diff, probes).stretches
    return make_plan(history, probes, workers, iterations, options.init, costs, where, reached)


def _reached(run: Run, history: History, diff: RunDiff, probes: list[Probe]) -> Reached:
    """What the record tells of the iterations in which hindsight statements were reached."""
    statements = [
        Statement(
            diff.paths[module], probe.loops, frozenset(probed_loops(history, [probe])), probe.function in history.observed,
            statement.witnesses,
        )
        for (module, statement), probe in zip(diff.hindsight, probes, strict=True)
    ]  # fmt: skip
    trees = (ast.parse(run.source(event["source"])) for event in run.events("module"))
    return Reached(statements, history, traces(trees) if any(s.witnesses for s in statements) else Traces())


def _read_behind(diff: RunDiff) -> list[frozenset[str]]:
    """For each hindsight statement: the loops that it must have been executed in to the end, because a hindsight
    statement behind them reads what it has bound there."""
    statements = diff.hindsight
    found: list[frozenset[str]] = []
    for module, binder in statements:
        loops: set[str] = set()
        for other_module, reader in statements:
            if (other_module, reader.function) != (module, binder.function):
                continue
            if (binder.binds - binder.rebinds) & reader.reads:
                loops.update(set(binder.enclosing_loops) - set(reader.enclosing_loops))
        found.append(frozenset(loops))
    return found


def _execute(
    run: Run, history: History, diff: RunDiff, plan: Plan, options: ReplayOptions, changed: list[str], where: Where | None,
    request: dict[str, Any], unfinished: Unfinished | None,
) -> int:  # fmt: skip
    folder = unfinished.folder if unfinished else Path(run.new_replay_folder())
    diff_file = folder / "diff.pickle"
    diff_file.write_bytes(pickle.dumps(diff))
    manifest = run.manifest
    paths = {e["name"]: e["path"] for e in run.events("module")}
    spec: dict[str, Any] = {
        "run": run.folder,
        "plan": plan.as_json(),
        "diff": str(diff_file),
        "substitute": _substitute(run, options, paths.get("__main__")),
        "allow": _allowed(options),
        "where": None if where is None else {"condition": where.condition.text, "places": where.places},
        "isolate": options.isolate,
    }
    environment = dict(manifest["env"])
    if manifest["hash_seed"] is not None:
        environment["PYTHONHASHSEED"] = str(manifest["hash_seed"])
    remark, spec["for_c"] = _sharing(run, plan.workers)
    if remark:
        _say(remark)
    engine = LocalEngine(folder, manifest["cwd"], environment, manifest["interpreter_flags"], _gpus(run))
    progress = progress_for(_tally(plan), sys.stderr, sys.stdout)
    emit = progress.around(as_json(sys.stdout) if options.json else as_text(sys.stdout, sys.stderr))
    (folder / JOURNAL).unlink(missing_ok=True)  # all that had been finished is shown and kept once more
    keeper = ReplayWriter(str(folder), header(run.id, diff, options.where))
    merger = Merger(
        plan, run, _replaced_lines(diff).__contains__, options.show == "all", _renumbering(diff), emit,
        partial(_first_output, history, plan), keeper,
    )  # fmt: skip
    earlier = unfinished.messages if unfinished else []
    ledger = Ledger(folder, request, plan, earlier)
    interrupts = Interrupts()
    coordinator = Coordinator(
        plan, engine, folder, spec, history.status, interrupts.deferring(merger.completed), progress, ledger.note, earlier,
        unfinished.workers if unfinished else 0,
    )  # fmt: skip
    try:
        with interrupts:
            outcome = coordinator.run()
        merger.rest(outcome)
    except KeyboardInterrupt:
        merger.rest(coordinator.outcome)
        raise ReplayInterrupted(_interrupted(folder, len(coordinator.outcome.stretches), len(plan.units))) from None
    else:
        report = Report.of(outcome, merger.verdict, diff)
        gathered = None
        if not outcome.failures:
            places = [f"{diff.paths[module]}:{s.lineno}" for module, s in diff.hindsight]
            units = sorted(outcome.stretches)
            gathered = gather(folder, manifest["cwd"], units, options.isolate, partial(last_content, run, history), places)
        if gathered is not None and gathered.misread:
            report.misread(describe_misread(gathered))
        whole = options.iterations is None and options.where is None
        keeper.end({"verdict": report.verdict, "complete": not outcome.failures and whole})
    finally:
        ledger.close()
        keeper.close()
    if report.verdict == "diverged" and diff.changes:
        report.causes = [f"the edits that --accept-changes has let pass: {', '.join(diff.changed_lines)}"]
    elif report.verdict == "diverged" and not report.failures and not report.misread_files:
        report.causes = find_causes(Divergence(run, history, plan, report, report.unit or 0, changed, diff.loop_places), _say)
    if gathered is not None:
        report.notes += describe_gathered(gathered, report.verdict == "diverged")
    (folder / "report.json").write_text(json.dumps(report.as_json()))
    if outcome.failures:
        keep_for_resume(folder)
    else:
        _clear(folder)
    if options.json:
        print(json.dumps({"report": report.as_json()}))
    _say(describe_report(report))
    _fail_if_failed(outcome, folder)
    return DIVERGED_STATUS if report.verdict == "diverged" else EXACT_STATUS


def _tally(plan: Plan) -> Tally:
    return Tally({u.index: plan.prologue_seconds if u.kind == PROLOGUE else u.seconds for u in plan.units}, plan.workers)


def _first_output(history: History, plan: Plan, unit: Unit) -> int:
    """The number of the first recorded output record of a unit, -1 if that is unknown."""
    if unit.outputs[0] >= 0 or unit.kind != SEGMENT:
        return unit.outputs[0]
    ref = history.snapshots.get(Boundary(*plan.partitions[unit.partition], unit.start))
    return -1 if ref is None else ref.outputs


def _clear(folder: Path) -> None:
    """Leave of a replay what it found, and not what its workers needed: scratch folders hold all that the script wrote."""
    for entry in folder.iterdir():
        if entry.is_dir():
            if entry.name != FILES:
                shutil.rmtree(entry)
        elif entry.name not in (JOURNAL, "report.json"):
            entry.unlink()


def _allowed(options: ReplayOptions) -> list[str]:
    """The absolute paths that the user lets the script change."""
    for path in options.allow_writes:
        if not os.path.exists(path):
            raise UsageError(f"--allow-writes {path}: there is no such file or folder; make it first")
    return [os.path.realpath(path) for path in options.allow_writes]


def _replaced_lines(diff: RunDiff) -> set[str]:
    """`file:line` of every recorded line of a log statement that has been edited or removed since."""
    found: set[str] = set()
    for module, difference in diff.modules.items():
        ranges = [s.recorded_lines for s in difference.hindsight if s.recorded_lines]
        ranges += [log.recorded_lines for log in difference.removed_logs]
        for first, last in ranges:
            found.update(f"{diff.paths[module]}:{line}" for line in range(first, last + 1))
    return found


def _renumbering(diff: RunDiff) -> Callable[[str], str]:
    """Tracebacks and warnings tell line numbers, which inserted statements have moved."""
    lines = {diff.paths[module]: difference.lines for module, difference in diff.modules.items() if difference.marks}
    if not lines:
        return lambda text: text
    paths = "|".join(re.escape(path) for path in lines)
    pattern = re.compile(rf'({paths})(", line |:)(\d+)')

    def renumbered(match: re.Match[str]) -> str:
        path, between, number = match.groups()
        return f"{path}{between}{lines[path].get(int(number), int(number))}"

    return lambda text: pattern.sub(renumbered, text)


def _interrupted(folder: Path, done: int, units: int) -> str:
    """Leave what can be gone on with; a sentence for the user."""
    if not done:
        shutil.rmtree(folder)
        return "interrupted before anything was finished"
    keep_for_resume(folder)
    return (
        f"interrupted; {done} of {units} units are finished and kept in {folder}, and shown as far as none before them is missing: "
        "`replay --resume` goes on from there"
    )


def _fail_if_failed(outcome: Outcome, folder: Path) -> None:
    if not outcome.failures:
        return
    told = "; ".join(dict.fromkeys(outcome.failures))
    if outcome.stretches:
        told += (
            f"\nWhat was finished is kept in {folder}: `replay --resume` executes the rest if the script stays as it is; "
            "once you have mended a statement, replay without it"
        )
    raise ReplayFailed(told)


def _say(text: str) -> None:
    print(f"flor_trace: {text}", file=sys.stderr)
