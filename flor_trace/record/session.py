"""Recording: what happens at the boundaries of loops while the script runs."""

from __future__ import annotations

import gc
import os
import pickle
import sys

# A script may put others in their places, as tests do with `len`.
from builtins import int, len, min, sum  # noqa: UP029
from collections.abc import Callable
from time import perf_counter
from types import FrameType
from typing import TYPE_CHECKING, Any

from flor_trace.record.budget import DEEPEST
from flor_trace.record.decisions import CAPTURING, DISK, LONG, QUEUE, Decisions
from flor_trace.record.diskbudget import DiskBudget
from flor_trace.record.interference import Interference
from flor_trace.runtime.engine import Runtime
from flor_trace.runtime.inputs import SECONDS_PER_SNAPSHOT, InputNotes
from flor_trace.runtime.loops import Activation
from flor_trace.runtime.output import Joiner, Streams, calling_line
from flor_trace.runtime.position import END, END_OF_RUN, EXIT, Boundary

if TYPE_CHECKING:
    from flor_trace.record.budget import Budget
    from flor_trace.record.stager import Stager
    from flor_trace.runtime.files import FileState, FileTracker
    from flor_trace.runtime.sources import Sources
    from flor_trace.state import Scope, TokenTable
    from flor_trace.state.graph import LiveGraph
    from flor_trace.store.writer import RunWriter

# An activation shorter than this, with nothing stored for it, is not worth a line in the journal.
WORTH_NOTING_SECONDS = 0.001
# Iterations at least this long have their times recorded one by one.
SLOW_ITERATION_SECONDS = 0.001


class RecordSession:
    """The driver of a recording (see `runtime.engine.Driver`); never raises into the script."""

    def __init__(
        self,
        runtime: Runtime,
        writer: RunWriter,
        budget: Budget,
        sources: Sources,
        files: FileTracker,
        streams: Streams,
        warn: Callable[[str], None],
        max_disk: int | None = None,
    ) -> None:
        self.runtime = runtime
        self.writer = writer
        self.budget = budget
        self.sources = sources
        self.files = files
        self.outputs = 0
        self.printed = False  # anything on stdout
        self.snapshots = 0
        self._objects = 0  # met by the last walk that was given up
        self.decisions = Decisions(writer.event)
        self.disk = DiskBudget(max_disk, writer, perf_counter)
        self._streams = streams
        self._warn = warn
        self._tokens: TokenTable | None = None
        self._scope: Scope | None = None
        self._stager: Stager | None = None
        self._interference = Interference()
        self._once = 0.0  # seconds of the present stall that will not come again
        # For measuring what writing in the background saves: the training thread waits for the disk at each snapshot.
        self._waits = os.environ.get("FLOR_TRACE_WRITER") == "foreground"
        self._reported: dict[str, int] = {}
        self._joiner = Joiner(self._note_output)
        self._initial_files: dict[str, FileState] = {}
        self._inputs = InputNotes(files.inputs)
        self._imported: frozenset[str] | None = None
        self._referred: set[str] = set()  # what the snapshots so far refer to is the writer's already
        self._started = perf_counter()
        self._stopped = False
        self._not_begun = ""

    # -- boundaries ---------------------------------------------------------------------------------------------

    def entered(self, activation: Activation, frame: FrameType) -> bool:
        """See `Driver`; recording never skips."""
        try:
            depth = len(self.runtime.stack)
            parent = self.runtime.stack[-2] if depth > 1 else None
            self._joiner.flush()
            activation.outputs = self.outputs
            if depth > DEEPEST:
                activation.unasked = True
                return True
            boundary = Boundary(activation.probe.key, activation.entry, 0)
            if depth == 2:
                self.budget.rhythm.happened()
            if self.budget.entry_is_due(activation, depth, parent):
                activation.data = self._snapshot(boundary, frame, depth == 1)
                activation.last = perf_counter()
            else:
                self._passed(boundary, self.budget.why)
        except KeyboardInterrupt:  # the loop is left before its first iteration, and without `left`
            self._not_begun = activation.probe.key
            raise
        except Exception:
            self._fail()
        return True

    def begun(self, activation: Activation, frame: FrameType) -> None:
        """See `Driver`."""

    def head(self, activation: Activation, frame: FrameType) -> bool:
        """See `Driver`."""
        try:
            depth = len(self.runtime.stack)
            if activation.data:
                boundary = Boundary(activation.probe.key, activation.entry, activation.iteration)
                if self.budget.head_is_due(activation, depth, self.runtime.stack[-2] if depth > 1 else None):
                    self._snapshot(boundary, frame)
                else:
                    self._passed(boundary, self.budget.why)
            elif depth == 1 and self.budget.base_is_due(activation):
                boundary = Boundary(activation.probe.key, activation.entry, activation.iteration)
                activation.data = self._snapshot(boundary, frame, True)
        except Exception:
            self._fail()
        return True

    def exited(self, activation: Activation, frame: FrameType) -> None:
        """See `Driver`."""
        try:
            if activation.data:
                boundary = Boundary(activation.probe.key, activation.entry, EXIT)
                if self.budget.exit_is_due(activation):
                    self._snapshot(boundary, frame)
                else:
                    self._passed(boundary, self.budget.why)
        except Exception:
            self._fail()

    def left(self, activation: Activation, frame: FrameType) -> None:
        """See `Driver`."""
        probe = activation.probe
        seconds = perf_counter() - activation.started - activation.stalled
        probe.calls += 1
        probe.seconds += seconds
        try:
            if seconds >= WORTH_NOTING_SECONDS or activation.data or not self.runtime.stack:
                self._note_activation(activation, seconds)
            if probe.demote_if_small(WORTH_NOTING_SECONDS if activation.unasked else self.budget.demotes_below(probe)):
                self.writer.event("demoted", loop=probe.key)
            if len(probe.ran) != self._reported.get(probe.key, 0):
                self._reported[probe.key] = len(probe.ran)
                self.writer.event("functions", loop=probe.key, ran=sorted(probe.ran))
        except Exception:
            self._fail()

    def chunk(self, activation: Activation) -> int:
        """See `Driver`: about a millisecond's worth of iterations, aligned to forced snapshots."""
        if activation.iteration < 4:
            return 1
        size = activation.fast_chunk()
        every = self.budget.every
        if every is not None and len(self.runtime.stack) == 1:
            size = min(size, every - activation.iteration % every)
        return size

    # -- what the streams tell ----------------------------------------------------------------------------------

    def wrote(self, stream: str, text: str) -> None:
        """The script has written `text`; never raises into it."""
        if not self._stopped:
            try:
                line = calling_line(sys._getframe(1), self.runtime.user_files)
                self._joiner.add(text, stream=stream, at=self.runtime.position(), line=line)
                if stream == "stdout":
                    self.budget.rhythm.happened()
            except Exception:
                self._fail()

    def _note_output(self, record: dict[str, Any]) -> None:
        self.outputs += 1
        self.printed = self.printed or record["stream"] == "stdout"
        self.writer.event("output", **{**record, "at": [list(place) for place in record["at"]]})

    # -- snapshots ----------------------------------------------------------------------------------------------

    def _snapshot(self, boundary: Boundary, frame: FrameType | None, entry_of_outermost: bool = False) -> bool:
        """Walk the state and hand it to the writer; False if it was left out, which is noted with its reason."""
        if self._stopped or self.writer.failed:
            return False
        if self.writer.backlog_bytes > self.writer.backlog_limit:
            return self._passed(boundary, QUEUE)
        if not self.disk.allows(needed=entry_of_outermost or boundary.iteration in (EXIT, END)):
            return self._passed(boundary, DISK)
        collecting = gc.isenabled()
        # Walking, and the imports before the first walk, make many objects; a collection would run the script's finalizers early, and one
        # of all that torch has made takes longer than most snapshots.
        gc.disable()
        try:
            why = self._try_to_take(boundary, frame, entry_of_outermost)
        finally:
            if collecting:
                gc.enable()
        return not why or self._passed(boundary, why)

    def _try_to_take(self, boundary: Boundary, frame: FrameType | None, entry_of_outermost: bool) -> str:
        """Take a snapshot and pay for it; why it was left out, empty if it was not."""
        started = perf_counter()
        record, why = self._attempt(boundary, frame, started)
        if why == CAPTURING:
            return why
        assert self._stager is not None
        if self._waits:
            self.writer.flush()  # what is left after this is the commit's record
        stall = perf_counter() - started
        if record is not None:
            self._commit(record, stall)
        if self._waits:
            self.writer.flush()
            stall = perf_counter() - started
        self.budget.pay(stall, entry_of_outermost, self._once + self._stager.once)
        if not self._waits:
            self.budget.interference += self._interference.since_last(self.writer.written_seconds)
        for activation in self.runtime.stack:
            activation.stalled += stall
            activation.last += stall
        if why == LONG:
            self._gave_up(stall)
        return why

    def _attempt(self, boundary: Boundary, frame: FrameType | None, started: float) -> tuple[dict[str, Any] | None, str]:
        """Take a snapshot: its record, or why it was left out."""
        # Imported here because a script that never reaches a boundary need not pay for it at start-up.
        from flor_trace.record.stager import NoRoom, Stager
        from flor_trace.state.devices import is_capturing

        if is_capturing():
            return None, CAPTURING
        if self._stager is None:
            self._stager = Stager(self.writer)
        self._once = perf_counter() - started
        self.sources.suspend()
        try:
            # Without its entry nothing of a loop can be jumped over, and without its exit it cannot be skipped.
            may_skip = self.budget.every is None and boundary.iteration not in (0, EXIT, END)
            self._stager.begin(may_skip=may_skip, room=self.disk.left())
            return self._take(boundary, frame, self._stager), ""
        except NoRoom as left_out:
            return None, str(left_out)
        finally:
            self._stager.end()
            self.sources.resume()

    def _commit(self, record: dict[str, Any], stall: float) -> None:
        """A snapshot has been taken, in `stall` seconds: what it consists of has gone to the writer, and it exists with this record."""
        assert self._stager is not None
        self.decisions.close()
        self.disk.took(record["added"])
        record["stall"] = stall
        record["seconds"] = perf_counter() - self._started
        record["interference"] = self.budget.interference
        record["owed"] = max(stall - self.budget.credit(), 0.0) if self.budget.every is None else 0.0
        graph = record.pop("template")
        self.writer.commit_snapshot(record, record.pop("digests"), self._stager.numbers, graph)
        self.snapshots += 1

    def _passed(self, boundary: Boundary, why: str) -> bool:
        """A boundary gets no snapshot. Returns False."""
        if why:
            self.decisions.passed(boundary, why, self.budget.needs, self.budget.had)
        if why == DISK:
            self.disk.thinned += 1
        if why == DISK and self.disk.thinned == 1:
            self._warn("the space of --max-disk is being used up: from now on snapshots are further apart, and replays slower")
        return False

    def _patience(self) -> Callable[[int], None]:
        """What a walk asks whether to go on; it raises NoRoom when the walk has taken too long."""
        from flor_trace.record.stager import NoRoom

        until = perf_counter() + self.budget.patience()

        def go_on(objects: int) -> None:
            if perf_counter() > until:
                self._objects = objects
                raise NoRoom(LONG)

        return go_on

    def _gave_up(self, stall: float) -> None:
        self.budget.gave_up(stall)
        self._warn(
            f"a snapshot was given up after {stall:.1f} s, at {self._objects} objects, and no loop can be jumped over until one succeeds; "
            f"the next is tried when --overhead allows for {self.budget.cost:.1f} s (--every 1 takes them at any cost)"
        )

    def _take(self, boundary: Boundary, frame: FrameType | None, stager: Stager) -> dict[str, Any]:
        from flor_trace.record.roots import collect_roots
        from flor_trace.state import Scope, TokenTable, walk
        from flor_trace.state.kinds import registry_for

        if self._tokens is None or self._scope is None:
            self._tokens = TokenTable()
            self._scope = Scope(self.runtime.user_modules.__contains__)
        self._joiner.flush()
        roots, _ = collect_roots(self.runtime, frame)
        began = perf_counter()
        registry_for(self._scope)  # not before the roots are collected: it imports modules whose state is one
        self._once += perf_counter() - began
        live = walk(
            roots, self._scope, self._tokens, stager=stager, wanted=lambda digest: not self.writer.has_blob(digest), go_on=self._patience()
        )
        digests, added = self._put_buffers(live)
        encoded, holes = live.graph.encode()
        graph = self._put_graph(encoded, holes, digests)
        start, values = self.sources.drain()
        if values:
            blob = self._put(pickle.dumps(values))
            digests.add(blob)
            self.writer.event("source_values", offset=start, blob=blob)
        files = self._files(digests)
        digests -= self._referred
        self._referred |= digests
        self._note_machine()
        self._note_inputs(SECONDS_PER_SNAPSHOT)
        return {
            "at": list(boundary),
            "stack": [list(place) for place in self.runtime.position()],
            **graph,
            "digests": sorted(digests),
            "nbytes": sum(buffer.nbytes for buffer in live.graph.buffers.values()) + len(encoded),
            "added": stager.staged_bytes + added + len(encoded),
            "objects": len(live.objects),
            "meta": {
                "entries": dict(self.runtime.entries),
                "sources": self.sources.offset,
                "outputs": self.outputs,
                "files": files,
            },
        }

    def _put_buffers(self, live: LiveGraph) -> tuple[set[str], int]:
        """Store the content of all buffers that are not staged; returns the digests that no earlier snapshot refers to, and how many
        bytes are new."""
        from flor_trace.state.graph import STAGED

        buffers = live.graph.buffers
        digests = {buffer[1] for buffer in buffers.values()} - self._referred
        added = 0
        for token, buffer in buffers.items() if digests else ():
            if buffer.digest in digests and not buffer.digest.startswith(STAGED) and not self.writer.has_blob(buffer.digest):
                added += buffer.nbytes
                self.writer.put_blob(buffer.digest, bytes(live.buffer(token)))
        return {digest for digest in digests if not digest.startswith(STAGED)}, added

    def _put_graph(self, encoded: bytes, holes: list[tuple[int, int]], digests: set[str]) -> dict[str, Any]:
        """Store a graph; returns how the snapshot's record names it. Its digest is known only where no digest is missing in it."""
        if holes:
            return {"template": self.writer.put_template(encoded, holes)}
        digest = self._put(encoded)
        digests.add(digest)
        return {"template": 0, "graph": digest}

    def _put(self, data: bytes) -> str:
        from flor_trace.store.blobs import digest_of

        digest = digest_of(data)
        self.writer.put_blob(digest, data)
        return digest

    def _files(self, digests: set[str]) -> dict[str, Any]:
        """The state of the files written so far; their content has gone to the writer through the tracker."""
        self._note_files_before()
        states = self.files.state()
        for state in (*states.values(), *self._initial_files.values()):
            digests.update(digest for digest, _ in state.chunks if self.writer.has_blob(digest))
        return {path: state.as_json() for path, state in states.items()}

    def _note_files_before(self) -> None:
        """What was at the paths touched since the last call, before the script touched them."""
        initial = self.files.initial()
        new = {path: state for path, state in initial.items() if path not in self._initial_files}
        if new:
            self._initial_files.update(new)
            self.writer.event("files_before", files={path: state.as_json() for path, state in new.items()})

    def _note_machine(self) -> None:
        """What the numbers depend on beside the program, once the libraries that make them have been imported."""
        from flor_trace.runtime import machine

        imported = machine.imported()
        if imported != self._imported:
            self._imported = imported
            self.writer.event("versions", versions=machine.versions())
            self.writer.event("machine", facts=machine.capture())

    def _note_inputs(self, seconds: float) -> None:
        """The data files that the script has opened, looked at for `seconds`."""
        if new := self._inputs.news(seconds):
            self.writer.event("inputs", files=new)

    # -- the rest -----------------------------------------------------------------------------------------------

    def _note_activation(self, activation: Activation, seconds: float) -> None:
        stack = self.runtime.stack
        parent = stack[-1] if stack else None
        kind = "left"
        if activation.exited:
            kind = "exhausted" if activation.exhausted else "break"
        ticks = activation.ticks
        slow = bool(ticks) and sum(ticks) >= SLOW_ITERATION_SECONDS * len(ticks)
        error = _raised() if kind == "left" else ""
        # Which loops had begun by then is where a replay, which meets no Ctrl-C, has to end.
        interrupted: dict[str, dict[str, int]] = {}
        if error == KeyboardInterrupt.__name__:
            interrupted["entries"] = self._begun_so_far()
        self.writer.event(
            "activation",
            loop=activation.probe.key,
            entry=activation.entry,
            parent=[parent.probe.key, parent.entry, parent.iteration] if parent else None,
            started=activation.started - self._started,
            error=error,
            seconds=seconds,
            outputs=activation.outputs,
            iterations=activation.iteration,
            begun=activation.taken,
            exit=kind,
            ticks=[round(t, 6) for t in ticks[:100_000]] if slow else [],
            **interrupted,
        )

    def _begun_so_far(self) -> dict[str, int]:
        """How often each loop has begun."""
        return {key: count - (key == self._not_begun) for key, count in self.runtime.entries.items()}

    def interrupted(self) -> None:
        """A Ctrl-C is about to end the script: note how far it has come. Never raises."""
        if self._stopped:
            return
        try:
            self._joiner.flush()
            self.writer.event("interrupted", outputs=self.outputs, entries=self._begun_so_far())
        except Exception:
            self._fail()

    def finish(self, status: int) -> None:
        """The script has ended with `status`: take the last snapshot, write what is pending, close the run."""
        if self._stopped:
            return
        try:
            self.runtime.driver = None
            if self.snapshots:  # else replay executes everything, and its output is all there is to compare
                self._snapshot(END_OF_RUN, None)
            # A run without snapshots has noted none yet, and one whose last snapshot was not taken not all.
            self._note_files_before()
            self._note_inputs(0.1)
            self.decisions.close()
            self._joiner.flush()
            self.writer.event("end", status=status, seconds=perf_counter() - self._started)
        except Exception:
            self._fail()
        self._stopped = True
        self._streams.release()
        self.writer.close(status)
        if self._stager is not None:
            self._stager.close()
        # What is known about the script's classes would keep its globals alive through the interpreter's teardown.
        self._tokens = self._scope = None

    def forked(self) -> None:
        """In a forked child: nothing of ours goes on."""
        self._stopped = True
        self.runtime.disable()
        self._streams.release()

    def summary(self) -> str:
        """One line for the user at the end."""
        seconds = perf_counter() - self._started
        share = 100 * (self.budget.spent + self.budget.spent_on_entries) / max(seconds, 1e-9)
        if self.writer.failed:
            return f"run {self.writer.run_id} is recorded up to the failure, {self.writer.committed} snapshots"
        return (
            f"recorded run {self.writer.run_id}: {self.writer.committed} snapshots, "
            f"{_size(self.writer.stored_bytes)}, stalled {share:.2f} % of {seconds:.1f} s"
            + (" (the first snapshots may go beyond --overhead; a run of a minute makes up for it)" if self._is_beyond(share) else "")
            + (f", {self.disk.thinned} snapshots left out for --max-disk" if self.disk.thinned else "")
        )

    def _is_beyond(self, share: float) -> bool:
        return self.budget.every is None and share > 100 * self.budget.overhead

    def _fail(self) -> None:
        """Stop recording, say so once, and leave the script alone."""
        if self._stopped:
            return
        self._stopped = True
        import traceback

        reason = traceback.format_exc(limit=-2).strip().splitlines()
        self.runtime.disable()
        self.sources.suspend()
        self._streams.release()
        self._warn(f"recording stopped, the script goes on: {reason[-1]} ({' '.join(reason[-3:-1]).strip()})")
        self.writer.stop(reason[-1])
        self.writer.close(None)


def _size(nbytes: int) -> str:
    """For people."""
    amount = float(nbytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"


def _raised() -> str:
    """The name of the exception by which a loop is being left, empty if there is none."""
    raised = sys.exc_info()[0]
    return "" if raised is None else raised.__name__
