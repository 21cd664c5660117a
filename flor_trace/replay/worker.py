"""A worker process: the recorded script again, with a replay session behind its probes."""

from __future__ import annotations

import json
import os
import pickle
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from flor_trace.errors import CorruptRecord
from flor_trace.instrument.cache import CodeCache
from flor_trace.instrument.compiling import Compiler
from flor_trace.instrument.importer import Importer
from flor_trace.instrument.launcher import Target, run_target
from flor_trace.instrument.policy import Policy
from flor_trace.replay.avoid import Avoided
from flor_trace.replay.cores import DEVICE_VARIABLE
from flor_trace.replay.diff import RunDiff
from flor_trace.replay.history import History
from flor_trace.replay.hooks import ReplayHooks
from flor_trace.replay.imported import Imported
from flor_trace.replay.isolate import Isolator
from flor_trace.replay.link import Link
from flor_trace.replay.plan import Plan
from flor_trace.replay.restorer import Restorer
from flor_trace.replay.session import ReplaySession
from flor_trace.replay.surroundings import Surroundings
from flor_trace.replay.transcript import TranscriptWriter
from flor_trace.replay.where import Condition, Filter
from flor_trace.runtime import guard, initial, landlock, machine
from flor_trace.runtime.engine import Runtime
from flor_trace.runtime.files import FileState
from flor_trace.runtime.guarded_imports import guard_imports
from flor_trace.runtime.headroom import RoomyDriver, with_room
from flor_trace.runtime.hindsight import HindsightProbe
from flor_trace.runtime.hindsight_files import HindsightFiles, NotedOverlay
from flor_trace.runtime.offline import offline_environment, redirect_native_temporaries
from flor_trace.runtime.output import Streams, serve_terminal_size
from flor_trace.runtime.position import Boundary
from flor_trace.runtime.probes import ProbeFactory
from flor_trace.runtime.sources import DAMAGED, Sources, paired
from flor_trace.runtime.tracked import tell_tracked
from flor_trace.runtime.tracker_reads import keep_reads
from flor_trace.state import rng
from flor_trace.store.reader import Run


def main(spec_path: str, descriptor: int) -> None:
    """Replay as the file `spec_path` says, talking to the coordinator over `descriptor`."""
    spec = json.loads(Path(spec_path).read_text())
    link = Link(descriptor)
    worker = Worker(spec, link)
    worker.run()


class Worker:
    """Everything that one replaying process consists of, put together."""

    def __init__(self, spec: dict[str, Any], link: Link) -> None:
        self._spec = spec
        self._link = link
        self._run = Run(spec["run"])
        self._history = History.read(self._run)
        self._plan = Plan.from_json(spec["plan"])
        # Written by the coordinator of this very replay.
        self._diff = pickle.loads(Path(spec["diff"]).read_bytes())
        self._numbers = {(module, s.index): n for n, (module, s) in enumerate(self._diff.hindsight)}
        self._runtime = Runtime()
        self._keeper = rng.Keeper()
        self._sources = Sources("replay")
        self._sources.load(_recorded_values(self._run, self._history))
        self._sources.watch_libraries()
        self._sources.on_damage = self._value_is_damaged
        self._overlay = NotedOverlay(Path(spec["overlay"]), [Path(self._run.folder), *map(Path, spec["allow"])])
        self._files_before = _files_before(self._run)
        self._machine = Surroundings([event["facts"] for event in self._run.events("machine")], self._run.manifest["env"])
        self._process = os.getpid()
        restorer = self._restorer = Restorer(
            self._runtime, self._run.blob, self._run.blob_into, self._sources, self._install_files, hindsight_names(self._diff),
            {module for module, each in self._diff.modules.items() if not each.identical},
            hindsight_attributes(self._diff, [self._run.source(e["source"]) for e in self._run.events("module")]),
        )
        self._imported = Imported()
        restorer.imported = self._imported.roots
        self._session = ReplaySession(
            self._runtime,
            self._history,
            self._plan,
            restorer,
            link,
            TranscriptWriter(Path(spec["transcript"])),
            owns_prologue=spec["prologue"],
            avoided=Avoided(spec["avoid"]),
            mismatches=self._machine.mismatches,
        )
        sources = (self._run.source(event["source"]) for event in self._run.events("module"))
        self._session.mover.buries = any(re.search(rb"__del__|weakref", source) for source in sources)
        if spec.get("where"):
            self._session.shows = Filter(Condition(spec["where"]["condition"]), spec["where"]["places"]).shows
        self._files: HindsightFiles | None = None
        if not self._diff.identical:
            first = self._plan.units[0].index if self._plan.units else 0
            self._files = HindsightFiles(self._runtime, self._overlay, frozenset(self._files_before), first)
            self._session.follow_files(self._files)
        self._isolator = self._make_isolator() if spec.get("isolate") else None

    def _make_isolator(self) -> Isolator:
        def refuse(text: str) -> NoReturn:
            self._link.tell("failed", text=text)
            os._exit(0)

        def note(text: str) -> None:
            self._link.tell("note", text=text)

        return Isolator(self._runtime, self._overlay, hindsight_names(self._diff), frozenset(self._diff.modules), refuse, note)

    def run(self) -> None:
        """Execute the script; returns to the interpreter for its ordinary shutdown."""
        manifest = self._run.manifest
        gpu = os.environ.get(DEVICE_VARIABLE)
        _restore_environment({**manifest["env"], **offline_environment(Path(self._spec["overlay"]), manifest["env"])})
        self._machine.prepare()
        self._keep_gpu(gpu, manifest["env"].get(DEVICE_VARIABLE))
        machine.set_for_c({k: v for k, v in self._spec.get("for_c", {}).items() if k not in manifest["env"]})
        self._install_files({})
        probes = ProbeFactory(self._runtime, self._sources.clock, self._history.demoted)
        hooks = ReplayHooks(self._runtime, probes, self._diff, self._hindsight, self._recorded_sources())
        importer = Importer(Compiler(hooks, Policy(manifest["instrument"]), CodeCache(None)))
        recorded = {event["library"]: event["value"] for event in self._run.events("initial_rng")}
        for library, value in recorded.items():
            importer.on_import(library, lambda args=(library, value): initial.apply_initial_rng(*args))  # type: ignore[misc]
        importer.on_import("torch", self._machine.torch_imported)
        importer.on_import("numpy", self._machine.numpy_imported)
        guard_imports(importer.on_import, Path(self._overlay.scratch))
        wrote = with_room(self._runtime, self._session.wrote)
        tell_tracked(importer.on_import, self._runtime, wrote)
        keep_reads(importer.on_import, self._runtime, self._sources)
        Streams().replay(wrote, manifest["tty"])
        serve_terminal_size(manifest["terminal"])
        guard.install(self._overlay)
        self._restrict()
        self._runtime.driver = RoomyDriver(self._runtime, self._session)
        if self._spec.get("witness"):
            self._watch(importer)
        target = Target(manifest["target_kind"], manifest["target"], manifest["args"], self._spec["substitute"])
        run_target(target, hooks, importer=importer, finish=self._session.finish)

    def _keep_gpu(self, own: str | None, recorded: str | None) -> None:
        """See the GPU that this worker was given, where the script's environment names another or none."""
        if own is None or own == recorded:
            return
        if recorded is not None:
            machine.set_for_c({DEVICE_VARIABLE: own})
            return
        os.environ[DEVICE_VARIABLE] = own  # torch counts the GPUs by this, too
        self._runtime.own_variables.add(DEVICE_VARIABLE)

    def _recorded_sources(self) -> dict[str, bytes]:
        """What is to be run in the place of today's sources."""
        if not self._spec.get("recorded_sources"):
            return {}
        return {event["name"]: self._run.source(event["source"]) for event in self._run.events("module")}

    def _watch(self, importer: Importer) -> None:
        """Tell at the end what was seen that may give another result another time."""
        from flor_trace.runtime.witness import Witness

        # A dispatch mode makes torch import more than the script does, which adds loggers and warning filters.
        self._restorer.passed_over = frozenset(("logging", "warnings"))
        witness = Witness()
        importer.on_import("torch", witness.torch_imported)

        def tell() -> None:
            sets = [{"kind": "order", "what": path, "where": "", "times": 1} for path in self._restorer.unordered]
            self._link.tell("seen", seen=[*witness.as_json(), *sets])

        self._session.at_end = tell
        witness.start()

    def _restrict(self) -> None:
        """Let the kernel refuse what gets around the guard: native code, and other programs."""
        redirect_native_temporaries(Path(self._overlay.scratch))
        try:
            if landlock.restrict_writes([self._overlay.scratch, *self._spec["allow"]]):
                return
            why = "this kernel has no Landlock"
        except OSError as error:
            why = str(error)
        self._link.tell(
            "note", text=f"programs and native code that the script starts are not kept from changing files ({why})"
        )

    def _hindsight(self, module: str, index: int) -> HindsightProbe:
        number = self._numbers[module, index]
        statement = self._diff.hindsight[number][1]
        if statement.shared_calls:
            # An edited log statement that draws random numbers drew them when it was recorded, too.
            return HindsightProbe(self._runtime, number, lambda frame: None, lambda _: None)

        keeper, isolator, files, imported = self._keeper, self._isolator, self._files, self._imported
        assert files is not None  # there are hindsight statements

        def capture(frame: FrameType) -> object:
            self._sources.suspend()
            marks = files.before_statement()
            before = None if isolator is None else isolator.keep(frame)
            return keeper.capture(), before, marks, imported.before()

        def apply(values: Any) -> None:
            drawn, before, marks, libraries = values
            files.after_statement(marks, number)
            imported.after(libraries)
            if before is not None:
                assert isolator is not None
                isolator.put_back(before)
            keeper.apply(drawn)
            self._sources.resume()

        return HindsightProbe(self._runtime, number, capture, apply)

    def _install_files(self, states: Mapping[str, Any]) -> None:
        """Show the script the files as they were: what it had written by then, and what lay there before."""
        then = {path: FileState.from_json(fields) for path, fields in states.items()}
        self._overlay.install_state(then, self._files_before, self._file_content)

    def _file_content(self, digest: str) -> bytes:
        """A part of a recorded file, which is read when the script asks for it. Where it is damaged the process ends here, and another
        one goes on that does not restore the snapshot."""
        try:
            return self._run.blob(digest)
        except CorruptRecord as damage:
            if os.getpid() != self._process:
                raise
            if self._restorer.restored is None:
                self._link.tell("failed", text=f"a file that the script reads is not as it was before the run: {damage}")
            else:
                self._link.tell("avoid", at=list(self._restorer.restored), why=str(damage), alone=True)
            os._exit(0)

    def _value_is_damaged(self, why: str) -> None:
        """The script reads the clock or entropy where what it read then is lost: no other value is right, so the process ends here."""
        if os.getpid() != self._process:
            return
        loops = [str(Boundary(*place)) for place in self._runtime.position()]
        place = loops[0] if loops else "a place before the first loop"
        self._link.tell("failed", text=f"what the script read from the clock or entropy at {place} is lost ({why}), so "
                        "that iteration cannot be replayed; --iterations asks for others")  # fmt: skip
        os._exit(0)


def hindsight_names(diff: RunDiff) -> dict[tuple[str, str], set[str]]:
    """By module and qualified function or class: the names that only hindsight statements bind."""
    found: dict[tuple[str, str], set[str]] = {}
    for module, statement in diff.hindsight:
        own = {name for name in statement.binds - statement.rebinds if "." not in name}
        found.setdefault((module, statement.class_name or statement.qualname), set()).update(own)
    return found


def hindsight_attributes(diff: RunDiff, sources: Iterable[bytes]) -> frozenset[str]:
    """The attributes that hindsight statements give to objects, and that no recorded source names: no recorded code can have made them."""
    names = {name.rpartition(".")[2] for _, statement in diff.hindsight for name in statement.binds - statement.rebinds if "." in name}
    if names:
        for source in sources:
            names.difference_update(re.findall(r"\w+", source.decode("utf-8", "replace")))
    return frozenset(names)


def _restore_environment(recorded: Mapping[str, str]) -> None:
    """The environment as the script saw it: the hash seed was not part of it unless the user had set it."""
    for name in set(os.environ) - set(recorded):
        del os.environ[name]
    for name, value in recorded.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _recorded_values(run: Run, history: History) -> list[Any]:
    """What the script read from clock and entropy. What cannot be read is told when it is asked for: what is jumped over is not missed."""
    values: list[Any] = []
    why = "its record in the journal is damaged"
    for event in run.events("source_values"):
        try:
            read = paired(pickle.loads(run.blob(event["blob"])))
        except CorruptRecord as damage:
            why = str(damage)
            continue
        values.extend([(DAMAGED, why)] * (event["offset"] - len(values)))
        if event["offset"] == len(values):
            values.extend(read)
    known = max((ref.sources for ref in history.snapshots.values()), default=0)
    return values + [(DAMAGED, why)] * (known - len(values))


def _files_before(run: Run) -> dict[str, FileState]:
    found: dict[str, FileState] = {}
    for event in run.events("files_before"):
        for path, fields in event["files"].items():
            found.setdefault(path, FileState.from_json(fields))
    return found


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
