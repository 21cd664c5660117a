"""Replaying in a worker: what happens at the boundaries of loops (jump, skip, execute, verify)."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from flor_trace.errors import NotRestorable
from flor_trace.replay.avoid import Avoided
from flor_trace.replay.history import ActivationKey, History, SnapshotRef
from flor_trace.replay.link import Link
from flor_trace.replay.plan import AFTER, PROLOGUE, SEGMENT, Plan, Unit
from flor_trace.replay.restorer import DIVERGED, Restorer
from flor_trace.replay.transcript import HINDSIGHT_NONE, TranscriptWriter
from flor_trace.runtime.engine import Runtime
from flor_trace.runtime.loops import Activation
from flor_trace.runtime.output import calling_line
from flor_trace.runtime.position import END_OF_RUN, EXIT, Boundary

CHUNKED_BELOW_SECONDS = 2e-3


class ReplaySession:
    """The driver of one worker (see `runtime.engine.Driver`).

    The worker executes the script from its start. In a partitioned activation it asks for units and jumps to them; any other
    loop is skipped if nothing in it is wanted and its snapshots allow it. Output counts while a unit is owned.
    """

    def __init__(
        self,
        runtime: Runtime,
        history: History,
        plan: Plan,
        restorer: Restorer,
        link: Link,
        transcript: TranscriptWriter,
        owns_prologue: bool,
        avoided: Avoided,
        mismatches: Callable[[], list[str]] = list,
    ) -> None:
        self.runtime = runtime
        self.history = history
        self.plan = plan
        self.restorer = restorer
        self.link = link
        self.transcript = transcript
        self.avoided = avoided
        self._mismatches = mismatches
        self._process = os.getpid()
        self.unit: Unit | None = plan.units[0] if owns_prologue and plan.units[0].kind == PROLOGUE else None
        self.owned = self.unit is not None
        # The traceback of a script that raises where nothing is owned is in no transcript.
        self._unowned_errors: deque[str] = deque(maxlen=400)
        self._partition_of = {key: number for number, key in enumerate(plan.partitions)}

    # -- boundaries ---------------------------------------------------------------------------------------------

    def entered(self, activation: Activation, frame: FrameType) -> bool:
        """See `Driver`."""
        key = (activation.probe.key, activation.entry)
        ref = self.history.snapshots.get(Boundary(*key, 0))
        exact = ref is not None and self._verify(ref, frame)
        self._stop_if_killed(ref)
        if key in self._partition_of:
            # A unit that is not owned yet lies ahead: it was asked for at the end of an earlier activation.
            if self.unit is None or self.owned:
                self._finish_unit()
                self._next_unit()
            if self._in_segment_of(key):
                assert self.unit is not None
                self.owned = self.unit.start == 0
                return True  # a jump waits until the iterable has been evaluated
            return ref is None or not self._pass_by(activation, frame, ref)
        if ref is None or self._must_run(activation.probe.key) or not exact:
            return True
        return not self._skip(activation, frame, ref)

    def begun(self, activation: Activation, frame: FrameType) -> None:
        """See `Driver`."""
        key = (activation.probe.key, activation.entry)
        if key in self._partition_of and self._in_segment_of(key) and self.history.heads(key)[0] == 0:
            self._jump(activation, frame)

    def head(self, activation: Activation, frame: FrameType) -> bool:
        """See `Driver`."""
        key = (activation.probe.key, activation.entry)
        ref = self.history.snapshots.get(Boundary(*key, activation.iteration))
        if ref is not None:
            self._verify(ref, frame)
        if key not in self._partition_of:
            self._stop_if_killed(ref)
            return True
        # An activation whose entry was not snapshotted is matched at its first snapshot, and moves begin there.
        late_base = ref if ref is not None and self.history.heads(key)[0] == activation.iteration else None
        if not self._in_segment_of(key):
            return late_base is None or not self._pass_by(activation, frame, late_base)
        if self._never_was(activation):
            self._stop_here(activation)
        unit = self.unit
        assert unit is not None
        if unit.end is None or activation.iteration < unit.end:
            if late_base is not None and activation.iteration < unit.start:
                self._jump(activation, frame)
            self.owned = activation.iteration >= unit.start
            self._stop_if_killed(ref)
            return True
        self._finish_unit()
        self._next_unit()
        if self._in_segment_of(key):
            self._jump(activation, frame)
            return True
        return ref is None or not self._pass_by(activation, frame, ref)

    def exited(self, activation: Activation, frame: FrameType) -> None:
        """See `Driver`."""
        key = (activation.probe.key, activation.entry)
        ref = self.history.snapshots.get(Boundary(*key, EXIT))
        if ref is not None and not activation.skipped:
            self._verify(ref, frame)
        self._stop_if_killed(ref)
        if activation.skipped:
            return
        number = self._partition_of.get(key)
        if number is None:
            return
        if self._in_segment_of(key):
            self._finish_unit()
            self._next_unit()
        self._own_if_after(number)

    def left(self, activation: Activation, frame: FrameType) -> None:
        """See `Driver`."""

    def chunk(self, activation: Activation) -> int:
        """See `Driver`: up to the next recorded snapshot or end of a unit; hot loops by the millisecond."""
        key = (activation.probe.key, activation.entry)
        per_iteration = activation.seconds_per_iteration
        if key in self._partition_of or per_iteration <= 0.0 or per_iteration > 50e-6:
            return 1
        size = min(int(1e-3 / per_iteration) + 1, activation.size * 8)
        due = [h for h in self.history.heads(key) if h > activation.iteration]
        return min([size, *(h - activation.iteration for h in due[:1])])

    # -- units --------------------------------------------------------------------------------------------------

    def _in_segment_of(self, key: ActivationKey) -> bool:
        """Whether the current unit is a segment of that activation."""
        unit = self.unit
        return unit is not None and unit.kind == SEGMENT and self.plan.partitions[unit.partition] == key

    def _must_run(self, loop: str) -> bool:
        """Whether a loop's output is wanted here, or its hindsight statements keep state."""
        if not self.owned and not self.plan.sequential:
            return False
        return self.plan.run_all or loop in self.plan.probed

    def _pass_by(self, activation: Activation, frame: FrameType, ref: SnapshotRef) -> bool:
        """Go to the exit of a partitioned activation, towards a unit behind it; False: by executing it."""
        if self.plan.sequential or not self._skip(activation, frame, ref):
            return False
        self._own_if_after(self._partition_of[(activation.probe.key, activation.entry)])
        return True

    def _own_if_after(self, number: int) -> None:
        unit = self.unit
        if unit is not None and unit.kind == AFTER and unit.partition == number:
            self.owned = True

    def _finish_unit(self) -> None:
        unit, self.unit = self.unit, None
        if unit is not None and self.owned:
            self.link.tell("done", unit=unit.index, end=self.transcript.position())
        self.owned = False

    def _next_unit(self) -> None:
        """Ask for the next unit; the process ends here if there is none."""
        answer = self.link.ask("want", start=self.transcript.position())
        if answer["unit"] is None:
            self._end_process()
        self.avoided.update(answer["avoid"])
        self.unit = self.plan.units[answer["unit"]]

    def _end_process(self) -> NoReturn:
        """Leave without running the rest of the script or its exit handlers: others replay those."""
        self.transcript.position()
        self.link.tell("finished", status=None)
        os._exit(0)

    def _never_was(self, activation: Activation) -> bool:
        """Whether the recorded run was ended before this iteration by what replay does not see again, such as Ctrl-C."""
        recorded = self.history.activations.get((activation.probe.key, activation.entry))
        if recorded is None or recorded.exit != "left" or not self.history.status:
            return False
        # The iterations of faster loops are counted by the chunk.
        counted = recorded.seconds > CHUNKED_BELOW_SECONDS * max(recorded.iterations, 1)
        return counted and activation.iteration > recorded.iterations

    def _stop_if_killed(self, ref: SnapshotRef | None) -> None:
        """End where the recorded run was killed, as far as is known: what follows has perhaps never been."""
        if ref is not None and ref.at == self.history.last and self.owned:
            self._finish_unit()
            self._end_process()

    def _stop_here(self, activation: Activation) -> NoReturn:
        self._finish_unit()
        last = activation.iteration - 1
        text = f"the recorded run was ended in iteration {last} of {activation.probe.key}, by Ctrl-C or another cause that is"
        self.link.tell("failed", text=f"{text} not met again: what is above goes to the end of that iteration")
        os._exit(0)

    # -- moves --------------------------------------------------------------------------------------------------

    def _jump(self, activation: Activation, frame: FrameType) -> None:
        """Restore the latest restorable snapshot up to the unit's start; iterations from there are executed."""
        unit = self.unit
        assert unit is not None
        key = (activation.probe.key, activation.entry)
        last = unit.start if self.plan.init == "jump" else unit.start - 1
        between = [h for h in self.history.heads(key) if activation.iteration < h <= last]
        refs = [self.history.snapshots[Boundary(*key, head)] for head in between]
        if self.plan.sequential or self.plan.init == "strong":
            refs = []
        told = False
        for ref in _ever_earlier([ref for ref in refs if self.avoided.allows(ref.at)]):
            try:
                self._restore(ref, frame, activation)
            except NotRestorable as reason:
                if not told:
                    self.link.tell("note", text=f"{ref.at} could not be restored ({reason}); an earlier snapshot is used")
                told = True
                continue
            break
        self.owned = activation.iteration >= unit.start

    def _skip(self, activation: Activation, frame: FrameType, begun: SnapshotRef) -> bool:
        """Restore the activation's exit; False if that is not possible and it has to be executed."""
        key = (activation.probe.key, activation.entry)
        ref = self.history.snapshots.get(Boundary(*key, EXIT))
        recorded = self.history.activations.get(key)
        if ref is None or recorded is None or not self.avoided.allows(ref.at):
            return False
        try:
            self._restore(ref, frame, leaving=activation)
        except NotRestorable as reason:
            self.link.tell("note", text=f"{ref.at} could not be restored ({reason}); the loop is executed again")
            return False
        activation.skipped = True
        activation.exhausted = recorded.exit == "exhausted"
        if self.owned:
            self.transcript.skip(begun.outputs, ref.outputs)
        return True

    def _restore(
        self, ref: SnapshotRef, frame: FrameType, jumping: Activation | None = None, leaving: Activation | None = None
    ) -> None:
        self.restorer.restore(ref, frame, jumping, lambda name: self._graph_needed(ref, name))
        if leaving is not None:
            leaving.abandon()
        if not self._verify(ref, frame, restored=True):
            self.link.tell("note", text=f"the state restored at {ref.at} is not the recorded one")

    def _graph_needed(self, ref: SnapshotRef, name: str) -> None:
        """The script uses an autograd graph from before a snapshot that was restored. What has been replayed since is lost: the
        process ends here, and another one goes on that does not restore that snapshot."""
        if os.getpid() == self._process:
            self.link.tell("avoid", at=list(ref.at), why=f"the graph of a {name} is used behind it")
            os._exit(0)

    def _verify(self, ref: SnapshotRef, frame: FrameType | None, restored: bool = False) -> bool:
        """Compare the live state with the recorded one; whether it may be restored from."""
        check = self.restorer.verify(ref, frame, restored)
        if texts := self._mismatches():
            self.link.tell("mismatch", texts=texts)
        self.link.tell("checked", **check.as_json(), restored=restored)
        return check.verdict != DIVERGED

    # -- what the streams tell, and the end ---------------------------------------------------------------------

    def wrote(self, stream: str, text: str) -> None:
        """The script has written `text`."""
        if not self.owned:
            if stream == "stderr":
                self._unowned_errors.append(text)
            return
        runtime = self.runtime
        new = runtime.hindsight[0] if runtime.hindsight else HINDSIGHT_NONE
        line = calling_line(sys._getframe(1), runtime.user_files)
        self.transcript.write(stream, text, new, [list(p) for p in runtime.position()], line)

    def finish(self, status: int) -> None:
        """The script has ended."""
        self.runtime.driver = None
        ref = self.history.snapshots.get(END_OF_RUN)
        if self.owned and ref is not None and status == self.history.status:
            self._verify(ref, None)
        self._finish_unit()
        words = "".join(self._unowned_errors)
        killed_at_end = self.history.last == END_OF_RUN
        self.link.tell("finished", status=None if killed_at_end else status, end=self.transcript.position(), words=words)


def _ever_earlier(refs: list[SnapshotRef]) -> list[SnapshotRef]:
    """The last one, then others in strides that double: what is wrong with one is often wrong with its neighbours,
    and each attempt takes time."""
    return [refs[-stride] for stride in (1 << n for n in range(len(refs).bit_length()))]
