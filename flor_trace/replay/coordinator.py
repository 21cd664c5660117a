"""Hand out the units of a plan to workers, and collect what they tell."""

from __future__ import annotations

import json
import selectors
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from flor_trace.errors import ReplayFailed
from flor_trace.replay.avoid import Avoided
from flor_trace.replay.engines import Engine, WorkerHandle
from flor_trace.replay.hindsight_files import put_aside
from flor_trace.replay.interrupted import Interruption
from flor_trace.replay.link import Inbox
from flor_trace.replay.plan import PROLOGUE, Plan
from flor_trace.replay.progress import Progress, Tally
from flor_trace.replay.table import describe_unit
from flor_trace.runtime.position import Boundary


@dataclass
class Stretch:
    """Where the transcript of a finished unit is."""

    file: Path
    start: int
    end: int


@dataclass
class Outcome:
    """What the workers have told.

    `failures` are sentences for the user; `checks` the comparisons with snapshots; `notes` are remarks; `mismatches` are
    clauses that tell in what this machine differs from the recording one (see `runtime.machine`);
    `seen` is what witnesses saw; `interrupted` says of a unit where the recorded run was interrupted in it, and `beyond` holds
    the units that it therefore never came to; `prologues` are the seconds of each worker from its start to its first unit.
    """

    stretches: dict[int, Stretch] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    mismatches: list[str] = field(default_factory=list)
    passed: int = 0
    seen: list[dict[str, Any]] = field(default_factory=list)
    interrupted: dict[int, Interruption] = field(default_factory=dict)
    beyond: set[int] = field(default_factory=set)
    prologues: list[float] = field(default_factory=list)


@dataclass
class _Worker:
    number: int
    handle: WorkerHandle
    inbox: Inbox
    transcript: Path
    begun: float
    unit: int | None = None
    start: int = 0
    last: int = -1
    finished: bool = False
    replaced: bool = False
    served: bool = False


class Coordinator:
    """Runs a plan.

    Args:
        plan: what to do.
        engine: starts workers.
        scratch: the folder of this replay.
        spec: what every worker is told, beside its number.
        recorded_status: the exit status of the recorded script, None if it was killed.
        completed: called with a unit's number as soon as its transcript is complete.
        progress: is told what goes on, and shows it; None: nobody is.
        note: is given what must be known to go on with the plan later (see `resume.Ledger`).
        earlier: what was noted of a replay that this one goes on with; started: how many workers that had.
    """

    def __init__(
        self,
        plan: Plan,
        engine: Engine,
        scratch: Path,
        spec: dict[str, Any],
        recorded_status: int | None,
        completed: Callable[[int, Outcome], None],
        progress: Progress | None = None,
        note: Callable[[dict[str, Any]], None] = lambda message: None,
        earlier: Sequence[Mapping[str, Any]] = (),
        started: int = 0,
    ) -> None:
        self._plan = plan
        self._engine = engine
        self._scratch = scratch
        self._spec = spec
        self._recorded_status = recorded_status
        self._completed = completed
        self._progress = progress or Progress(Tally({}, 1))
        self._pending = [u.index for u in plan.units]
        self._attempts: dict[int, int] = {}
        self._workers: dict[int, _Worker] = {}
        self._selector = selectors.DefaultSelector()
        self._started = started
        self._avoided = Avoided()
        self._note = note
        self._earlier = earlier
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Execute the plan to its end; workers are gone when this returns or raises."""
        try:
            self._take_up_earlier()
            for _ in range(min(self._plan.workers, len(self._pending))):
                self._start_worker()
            while self._workers:
                for key, _ in self._selector.select(self._progress.interval):
                    self._serve(self._workers[key.data])
                self._progress.redraw()
                if not self._workers and self._pending and not self.outcome.failures:
                    self._start_worker()
        finally:
            self._progress.clear()
            for worker in self._workers.values():
                worker.handle.kill()
        replayed = self.outcome.stretches.keys() | self.outcome.beyond
        missing = [u.index for u in self._plan.units if u.index not in replayed]
        if missing and not self.outcome.failures:
            raise ReplayFailed(f"units {missing} were never replayed")  # a defect of ours, not of the script
        return self.outcome

    def _take_up_earlier(self) -> None:
        """Begin where an interrupted replay has ended."""
        done = {message["unit"] for message in self._earlier if message["kind"] == "done"}
        for message in self._earlier:
            kind, fields = message["kind"], {key: value for key, value in message.items() if key != "kind"}
            if kind == "done":
                self._pending.remove(message["unit"])
                self.outcome.stretches[message["unit"]] = Stretch(self._scratch / message["file"], message["start"], message["end"])
            elif kind == "checked" and message["unit"] in done:
                self.outcome.checks.append(fields)
            elif kind == "avoid":
                self._avoided.add(Boundary(*message["at"]), message["alone"])
            elif kind != "checked":
                self._remark(kind, fields)
        for unit in sorted(done):
            self._completed(unit, self.outcome)

    def _start_worker(self) -> None:
        number = self._started
        self._started += 1
        first = self._plan.units[0]
        owns_prologue = first.kind == PROLOGUE and first.index in self._pending
        if owns_prologue:
            self._pending.remove(first.index)
        transcript = self._scratch / f"worker-{number}.jsonl"
        spec = self._scratch / f"worker-{number}.json"
        overlay = self._scratch / f"files-{number}"
        spec.write_text(
            json.dumps(
                {
                    **self._spec,
                    "transcript": str(transcript),
                    "overlay": str(overlay),
                    "prologue": owns_prologue,
                    "avoid": self._avoided.as_json(),
                }
            )
        )
        begun = perf_counter()
        handle = self._engine.start(spec, number)
        worker = _Worker(number, handle, Inbox(handle.connection), transcript, begun)
        worker.unit = first.index if owns_prologue else None
        self._workers[number] = worker
        self._selector.register(handle.connection, selectors.EVENT_READ, number)
        self._begins(worker)

    def _begins(self, worker: _Worker) -> None:
        if worker.unit is not None:
            self._progress.tally.begins(worker.number, worker.unit, self._describe(worker.unit))

    def _serve(self, worker: _Worker) -> None:
        messages = worker.inbox.receive()
        if messages is None:
            self._ended(worker)
            return
        for message in messages:
            kind = message.pop("kind")
            if kind == "want":
                self._give(worker, message["start"])
            elif kind == "done":
                self._done(worker, message)
            elif kind == "broken":
                self._broken(worker, message)
            elif kind == "checked":
                check = {**message, "unit": worker.unit}
                self.outcome.checks.append(check)
                self._note({"kind": kind, **check})
            elif kind in ("note", "passed", "mismatch", "seen"):
                self._remark(kind, message)
                self._note({"kind": kind, **message})
            elif kind == "avoid":
                self._note({"kind": kind, **message})
                self._avoid(worker, Boundary(*message["at"]), message["why"], message["alone"])
            elif kind == "interrupted":
                self._interrupted(worker, message)
            elif kind == "failed":
                self.outcome.failures.append(message["text"])
                worker.finished = True
            elif kind == "finished":
                self._finished(worker, message["status"], message.get("words", ""))

    def _remark(self, kind: str, message: Mapping[str, Any]) -> None:
        """What a worker tells beside its units and comparisons."""
        if kind == "note":
            if message["text"] not in self.outcome.notes:
                self.outcome.notes.append(message["text"])
        elif kind == "passed":
            self.outcome.passed += message["count"]
        elif kind == "mismatch":
            self.outcome.mismatches += [text for text in message["texts"] if text not in self.outcome.mismatches]
        elif kind == "seen":
            self.outcome.seen += message["seen"]

    def _give(self, worker: _Worker, start: int) -> None:
        if not worker.served:
            worker.served = True
            self.outcome.prologues.append(perf_counter() - worker.begun)
        unit = next((u for u in self._pending if u > worker.last), None)
        if unit is not None:
            self._pending.remove(unit)
        worker.unit, worker.start = unit, start
        self._begins(worker)
        worker.inbox.answer({"unit": unit, "avoid": self._avoided.as_json()})

    def _done(self, worker: _Worker, message: dict[str, Any]) -> None:
        unit = message["unit"]
        self.outcome.stretches[unit] = Stretch(worker.transcript, worker.start, message["end"])
        worker.unit, worker.last = None, unit
        put_aside(self._scratch / f"files-{worker.number}", self._scratch, unit)
        self._note({"kind": "done", "unit": unit, "file": worker.transcript.name, "start": worker.start, "end": message["end"]})
        self._progress.tally.ends(worker.number, done=True)
        self._completed(unit, self.outcome)

    def _broken(self, worker: _Worker, message: dict[str, Any]) -> None:
        """The script has ended within a unit: what it has printed is shown, and a resumed replay executes the unit again."""
        unit = message["unit"]
        self.outcome.stretches[unit] = Stretch(worker.transcript, worker.start, message["end"])
        self._completed(unit, self.outcome)

    def _avoid(self, worker: _Worker, boundary: Boundary, why: str, alone: bool) -> None:
        """The worker ends itself, for it has restored a snapshot that it should not have; another one does its unit."""
        if self._avoided.add(boundary, alone):
            self.outcome.notes.append(f"{boundary} is not restored ({why}); what precedes it is executed again")
        worker.finished = worker.replaced = True
        if worker.unit is not None:
            self._pending = sorted([*self._pending, worker.unit])

    def _interrupted(self, worker: _Worker, message: dict[str, Any]) -> None:
        """The worker ends itself, for it has come to where the recorded run was interrupted; nothing lies behind."""
        if message["text"] not in self.outcome.notes:
            self.outcome.notes.append(message["text"])
        unit = message["unit"]
        if unit is not None:
            self.outcome.interrupted[unit] = Interruption(message["loop"], message["entry"], message["outputs"])
            self.outcome.beyond |= {u.index for u in self._plan.units if u.index > unit}
        elif worker.unit is not None:
            self.outcome.beyond.add(worker.unit)
            worker.unit = None
        self._pending = [index for index in self._pending if index not in self.outcome.beyond]

    def _finished(self, worker: _Worker, status: int | None, words: str) -> None:
        worker.finished = True
        if status is not None and status != self._recorded_status:
            recorded = "was killed" if self._recorded_status is None else f"ended with {self._recorded_status}"
            self.outcome.failures.append(
                f"the replayed script ended with status {status} where the recorded one {recorded}"
                + _with_advice(self._last_words(worker) or _traceback(words))
            )
        elif worker.unit is not None and worker.unit not in self.outcome.beyond:
            where = self._describe(worker.unit)
            self.outcome.failures.append(f"the replayed script ended before it came to the end of {where}")

    def _last_words(self, worker: _Worker) -> str:
        """What the script said on stderr at its end: the traceback, if it raised."""
        if not worker.transcript.exists():
            return ""
        texts = []
        for line in worker.transcript.read_text().splitlines()[-400:]:
            record = json.loads(line)
            if record.get("stream") == "stderr":
                texts.append(record["text"])
        return _traceback("".join(texts))

    def _ended(self, worker: _Worker) -> None:
        self._selector.unregister(worker.handle.connection)
        worker.handle.connection.close()
        del self._workers[worker.number]
        self._progress.tally.ends(worker.number, done=False)
        status = worker.handle.wait()
        if worker.replaced:
            self._start_worker()
        if worker.finished:
            return
        unit = worker.unit
        if unit is not None:
            attempts = self._attempts[unit] = self._attempts.get(unit, 0) + 1
            if attempts < 2:
                self._pending = sorted([*self._pending, unit])
                self.outcome.notes.append(f"worker {worker.number} died in {self._describe(unit)}; it is tried again")
                self._start_worker()
                return
        where = self._describe(unit) if unit is not None else "the prologue"
        words = worker.handle.errors().strip()
        self.outcome.failures.append(
            f"worker {worker.number} died with status {status} in {where}" + (f":\n{words}" if words else "")
        )

    def _describe(self, index: int) -> str:
        return describe_unit(self._plan.units[index], self._plan)


def _traceback(text: str) -> str:
    """The last traceback in what was written to stderr, ready to follow a sentence; empty if there is none."""
    at = text.rfind("Traceback (most recent call last)")
    return ":\n" + text[at:].rstrip() if at >= 0 else ""


def _with_advice(traceback: str) -> str:
    """A traceback, and what to do where it comes of what replay keeps from happening."""
    if "CalledProcessError" in traceback or "PermissionError" in traceback:
        return f"{traceback}\nIn replay, programs that the script starts may write where --allow-writes PATH says so, and nowhere else."
    return traceback
