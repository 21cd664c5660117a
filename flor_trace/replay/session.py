"""Replaying in a worker: what happens at the boundaries of loops (jump, skip, execute, verify)."""

from __future__ import annotations

import gc
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from flor_trace.errors import UsageError
from flor_trace.replay.avoid import Avoided
from flor_trace.replay.history import ActivationKey, History, RecordedActivation, SnapshotRef
from flor_trace.replay.interrupted import KEYBOARD_INTERRUPT
from flor_trace.replay.link import Link
from flor_trace.replay.moves import Mover
from flor_trace.replay.plan import AFTER, PROLOGUE, SEGMENT, Plan, Unit
from flor_trace.replay.restorer import Restorer
from flor_trace.replay.transcript import HINDSIGHT_NONE, TranscriptWriter
from flor_trace.runtime.engine import Runtime
from flor_trace.runtime.hindsight_files import HindsightFiles
from flor_trace.runtime.loops import Activation
from flor_trace.runtime.output import calling_line, calling_lines
from flor_trace.runtime.position import END_OF_RUN, EXIT, Boundary


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
        self.mover = Mover(history, plan, restorer, link, avoided, mismatches)
        self._jumped = False
        self._at_work = False
        # The last unit ended where there is no snapshot: a move waits for the next one.
        self._ended_between = False
        self.at_end: Callable[[], None] = lambda: None
        # Whether the output of a hindsight statement is asked for (see `where.Filter`).
        self.shows: Callable[[FrameType], bool] = lambda frame: True
        self.unit: Unit | None = plan.units[0] if owns_prologue and plan.units[0].kind == PROLOGUE else None
        self._owned = self.unit is not None
        self.files: HindsightFiles | None = None
        # The traceback of a script that raises where nothing is owned is in no transcript.
        self._unowned_errors: deque[str] = deque(maxlen=400)
        self._partition_of = {key: number for number, key in enumerate(plan.partitions)}

    @property
    def owned(self) -> bool:
        """Whether what happens belongs to the unit."""
        return self._owned

    @owned.setter
    def owned(self, value: bool) -> None:
        begins, self._owned = value and not self._owned, value
        if begins and self.files is not None and self.unit is not None:
            self.files.begin(self.unit.index)

    def follow_files(self, files: HindsightFiles) -> None:
        """Keep what hindsight statements write to files."""
        self.files = files
        if self._owned and self.unit is not None:
            files.begin(self.unit.index)

    # -- boundaries ---------------------------------------------------------------------------------------------

    def entered(self, activation: Activation, frame: FrameType) -> bool:
        """See `Driver`."""
        with self._at_boundary(entering=True):
            executed = self._entered(activation, frame)
            if not executed:
                self.restorer.release()
        return executed

    def begun(self, activation: Activation, frame: FrameType) -> None:
        """See `Driver`."""
        with self._at_boundary():
            self._begun(activation, frame)

    def head(self, activation: Activation, frame: FrameType) -> bool:
        """See `Driver`."""
        with self._at_boundary():
            key = (activation.probe.key, activation.entry)
            ref = self.history.snapshots.get(Boundary(*key, activation.iteration))
            if key in self._partition_of:
                return self._head_of_partition(activation, frame, ref)
            return self._head_inside(activation, frame, ref)

    def exited(self, activation: Activation, frame: FrameType) -> None:
        """See `Driver`."""
        with self._at_boundary():
            self._exited(activation, frame)

    def left(self, activation: Activation, frame: FrameType) -> None:
        """See `Driver`."""

    @contextmanager
    def _at_boundary(self, entering: bool = False) -> Iterator[None]:
        """While we are at work: what is written then comes from finalizers of objects that a restore has put others in the
        place of, and is not the script's. Nothing that has been walked may outlive the boundary, or its end would come late;
        only what `begun` needs is kept, while the script evaluates the iterable.

        The garbage collector waits until then: it would look through all that was walked, which takes longer than the walk."""
        self._at_work = True
        collecting = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            self.restorer.release(keep_matching=entering)
            if collecting:
                gc.enable()
            self._at_work = False

    def chunk(self, activation: Activation) -> int:
        """See `Driver`: up to the next recorded snapshot or end of a unit; hot loops by the millisecond."""
        key = (activation.probe.key, activation.entry)
        if key in self._partition_of:
            return 1
        size = activation.fast_chunk()
        due = [h for h in self.history.heads(key) if h > activation.iteration][:1]
        recorded = self.history.activations.get(key)
        if recorded is not None and recorded.error == KEYBOARD_INTERRUPT and recorded.begun > activation.iteration:
            due.append(recorded.begun)
        unit = self.unit
        if unit is not None:
            inner = [i.iteration for i in (unit.start_inner, unit.end_inner) if i is not None and i.key == key]
            due += [i for i in inner if i > activation.iteration]
        return min([size, *(h - activation.iteration for h in due)])

    def _entered(self, activation: Activation, frame: FrameType) -> bool:
        self._stop_if_never_entered(activation, frame)
        key = (activation.probe.key, activation.entry)
        ref = self.history.snapshots.get(Boundary(*key, 0))
        if key in self._partition_of:
            if ref is not None:
                self.mover.verify(ref, frame)
            self._stop_if_killed(ref)
            return self._entered_partition(key, activation, frame, ref)
        if self._ends_inside(key) or self._begins_inside(key) or ref is None or self._must_run(key):
            if ref is not None and self._begins_inside(key):
                self.mover.verify(ref, frame)
            elif ref is not None:
                self.mover.verify_in_passing(ref, frame)
            self._stop_if_killed(ref)
            return True
        exact = self.mover.verify(ref, frame)
        self._stop_if_killed(ref)
        return not exact or not self._skip(activation, frame, ref)

    def _entered_partition(
        self, key: ActivationKey, activation: Activation, frame: FrameType, ref: SnapshotRef | None
    ) -> bool:
        # A unit that is not owned yet lies ahead: it was asked for at the end of an earlier activation.
        if self.unit is None or self.owned:
            self._finish_unit()
            self._next_unit()
        if self._in_segment_of(key):
            assert self.unit is not None
            self.owned = self.unit.has_begun(0)
            return True  # a jump waits until the iterable has been evaluated
        return ref is None or not self._pass_by(activation, frame, ref)

    def _begun(self, activation: Activation, frame: FrameType) -> None:
        key = (activation.probe.key, activation.entry)
        heads = self.history.heads(key)
        if not heads or heads[0] != 0:
            return
        if key in self._partition_of and self._in_segment_of(key):
            self._jump(activation, frame)
        elif self._begins_inside(key):
            self._jump_inside(activation, frame)

    def _head_of_partition(self, activation: Activation, frame: FrameType, ref: SnapshotRef | None) -> bool:
        key = (activation.probe.key, activation.entry)
        # An activation whose entry was not snapshotted is matched at its first snapshot, and moves begin there.
        late_base = ref if ref is not None and self.history.heads(key)[0] == activation.iteration else None
        if not self._in_segment_of(key):
            self._verify_head(ref, frame, moving=True)
            base = ref if self._ended_between else late_base
            self._ended_between = self._ended_between and ref is None
            return base is None or not self._pass_by(activation, frame, base)
        if self._never_was(activation):
            self._stop_here(activation, frame)
        unit = self.unit
        assert unit is not None
        if not unit.is_over(activation.iteration):
            ahead = ref is not None and activation.iteration < unit.start and (not self._jumped or late_base is not None)
            self._verify_head(ref, frame, moving=ahead)
            if ahead:
                self._jump(activation, frame)
            self.owned = unit.has_begun(activation.iteration)
            self._stop_if_killed(ref)
            return True
        self._finish_unit()
        self._next_unit()
        staying = self._in_segment_of(key) and self.unit is not None and self.unit.start == activation.iteration
        self._verify_head(ref, frame, moving=not staying)
        if self._in_segment_of(key):
            if ref is not None:  # else iterations are passed until one comes whose head can be compared
                self._jump(activation, frame)
            self.owned = self.unit is not None and self.unit.has_begun(activation.iteration)
            return True
        self._ended_between = ref is None
        return ref is None or not self._pass_by(activation, frame, ref)

    def _verify_head(self, ref: SnapshotRef | None, frame: FrameType, moving: bool) -> None:
        if ref is None:
            return
        if moving:
            self.mover.verify(ref, frame)
        else:
            self.mover.verify_in_passing(ref, frame)

    def _head_inside(self, activation: Activation, frame: FrameType, ref: SnapshotRef | None) -> bool:
        key = (activation.probe.key, activation.entry)
        unit = self.unit
        ends = unit.end_inner if unit is not None and self.owned and self._ends_inside(key) else None
        if ends is not None and activation.iteration >= ends.iteration:
            return self._end_inside(activation, frame, ref)
        if self._never_was(activation):
            self._stop_here(activation, frame)
        self._verify_head(ref, frame, moving=False)
        if unit is not None and self._begins_inside(key) and unit.start_inner is not None:
            self.owned = self.owned or activation.iteration >= unit.start_inner.iteration
        self._stop_if_killed(ref)
        return True

    def _end_inside(self, activation: Activation, frame: FrameType, ref: SnapshotRef | None) -> bool:
        """A unit ends at the head of an iteration of an inner loop; False if that loop has been left for the next one."""
        key = (activation.probe.key, activation.entry)
        self._finish_unit()
        self._next_unit()
        unit = self.unit
        assert unit is not None
        if self._begins_inside(key) and unit.start_inner is not None:
            self._verify_head(ref, frame, moving=unit.start_inner.iteration != activation.iteration)
            self._jump_inside(activation, frame)
            return True
        self._verify_head(ref, frame, moving=True)
        return ref is None or self.mover.skip(activation, frame) is None

    def _exited(self, activation: Activation, frame: FrameType) -> None:
        key = (activation.probe.key, activation.entry)
        self._stop_if_interrupted(activation, frame)
        ref = self.history.snapshots.get(Boundary(*key, EXIT))
        if ref is not None and not activation.skipped:
            if key in self._partition_of:
                self.mover.verify(ref, frame)
            else:
                self.mover.verify_in_passing(ref, frame)
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

    # -- units --------------------------------------------------------------------------------------------------

    def _in_segment_of(self, key: ActivationKey) -> bool:
        """Whether the current unit is a segment of that activation."""
        unit = self.unit
        return unit is not None and unit.kind == SEGMENT and self.plan.partitions[unit.partition] == key

    def _begins_inside(self, key: ActivationKey) -> bool:
        """Whether the current unit begins in that activation, which lies in an iteration of the partitioned one."""
        return self.unit is not None and self.unit.start_inner is not None and self.unit.start_inner.key == key

    def _ends_inside(self, key: ActivationKey) -> bool:
        """Whether the current unit ends in that activation."""
        return self.unit is not None and self.unit.end_inner is not None and self.unit.end_inner.key == key

    def _must_run(self, key: ActivationKey) -> bool:
        """Whether a loop's output is wanted here, or its hindsight statements keep state, or skipping it would take longer."""
        if self.mover.sooner_executed(key) or key[0] in self.plan.executed:
            return True
        if not self.owned and not self.plan.sequential:
            return False
        return self.plan.run_all or key[0] in self.plan.probed

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

    def _finish_unit(self, broken: bool = False) -> None:
        """The unit is done; or, where it is `broken` off, what it has printed is all that there is of it."""
        unit, self.unit = self.unit, None
        if unit is not None and self.owned:
            if self.files is not None:
                self.files.end(unit.index)
            self.link.tell("broken" if broken else "done", unit=unit.index, end=self.transcript.position())
        self.owned = False
        self._jumped = False
        if passed := self.mover.take_passed():
            self.link.tell("passed", count=passed)

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
        self.at_end()
        self.mover.tell_withheld()
        self.link.tell("finished", status=None)
        os._exit(0)

    def _never_was(self, activation: Activation) -> bool:
        """Whether the recorded run was ended before this iteration by what replay does not see again, such as Ctrl-C."""
        recorded = self.history.activations.get((activation.probe.key, activation.entry))
        if recorded is None or recorded.exit != "left" or not (self.history.status or recorded.error == KEYBOARD_INTERRUPT):
            return False
        return recorded.counted and activation.iteration >= recorded.begun

    def _stop_if_killed(self, ref: SnapshotRef | None) -> None:
        """End where the recorded run was killed, as far as is known: what follows has perhaps never been."""
        if ref is not None and ref.at == self.history.last and self.owned:
            self._finish_unit()
            self._end_process()

    def _stop_here(self, activation: Activation, frame: FrameType) -> NoReturn:
        """End where the recorded run has not come to: an iteration, or the exit of the loop."""
        recorded = self.history.activations[(activation.probe.key, activation.entry)]
        iteration = "" if activation.exited else f"iteration {activation.iteration - 1} of "
        where = f"{iteration}the loop at {_place(frame)}"
        if recorded.error == KEYBOARD_INTERRUPT:
            unknown = "" if recorded.counted else " (how many of its fast iterations had begun is not known)"
            self._stop_interrupted(f"in {where}: replay goes to the end of that, and no further{unknown}", recorded)
        self._finish_unit()
        text = f"the recorded run was ended in {where}, by a cause that is not met again: what is above goes to the end of that"
        self.link.tell("failed", text=text)
        os._exit(0)

    def _stop_if_never_entered(self, activation: Activation, frame: FrameType) -> None:
        """End where a loop is entered behind the place at which the recorded run was interrupted."""
        before, loop = self.history.interrupted, activation.probe.key
        if before is None or loop in self.history.demoted or activation.entry < before.get(loop, 0):
            return
        around = (self.history.activations.get((each.probe.key, each.entry)) for each in reversed(self.runtime.stack))
        recorded = next((each for each in around if each is not None and each.error == KEYBOARD_INTERRUPT), None)
        if recorded is not None or self.history.outputs_interrupted is not None:
            self._stop_interrupted(f"before it came to the loop at {_place(frame)}: replay goes no further", recorded)

    def _stop_interrupted(self, where: str, around: RecordedActivation | None) -> NoReturn:
        """End where a Ctrl-C has ended the recorded run: `around` this activation, or outside of all."""
        self._tell_interrupted(where, around)
        self._finish_unit()
        self._end_process()

    def _tell_interrupted(self, where: str, around: RecordedActivation | None) -> None:
        outputs = around.outputs if around is not None else self.history.outputs_interrupted
        loop, entry = around.key if around is not None else ("", 0)
        unit = self.unit.index if self.unit is not None and self.owned else None
        text = f"the recorded run was interrupted by Ctrl-C {where}"
        self.link.tell("interrupted", unit=unit, loop=loop, entry=entry, outputs=outputs, text=text)

    def _stop_if_interrupted(self, activation: Activation, frame: FrameType) -> None:
        """End where a loop comes to its exit that was interrupted before when recorded."""
        recorded = self.history.activations.get((activation.probe.key, activation.entry))
        if recorded is not None and recorded.error == KEYBOARD_INTERRUPT and not activation.skipped:
            self._stop_here(activation, frame)

    # -- moves --------------------------------------------------------------------------------------------------

    def _jump(self, activation: Activation, frame: FrameType) -> None:
        """Go to the unit's first iteration."""
        unit = self.unit
        assert unit is not None
        self._jumped = True
        self.mover.jump(activation, frame, unit.start)
        self.owned = unit.has_begun(activation.iteration)

    def _jump_inside(self, activation: Activation, frame: FrameType) -> None:
        """Go to where the unit begins in the inner loop."""
        unit = self.unit
        assert unit is not None and unit.start_inner is not None
        self.mover.jump(activation, frame, unit.start_inner.iteration)
        self.owned = activation.iteration >= unit.start_inner.iteration

    def _skip(self, activation: Activation, frame: FrameType, begun: SnapshotRef) -> bool:
        """Go to the activation's exit; False if it has to be executed."""
        ref = self.mover.skip(activation, frame)
        if ref is not None and self.owned:
            self.transcript.skip(begun.outputs, ref.outputs)
        return ref is not None

    # -- what the streams tell, and the end ---------------------------------------------------------------------

    def wrote(self, stream: str, text: str) -> None:
        """The script has written `text`."""
        if self._at_work:
            return
        if not self.owned:
            if stream == "stderr":
                self._unowned_errors.append(text)
            return
        runtime = self.runtime
        new = runtime.hindsight[0] if runtime.hindsight else HINDSIGHT_NONE
        if new != HINDSIGHT_NONE and not self._is_asked_for(sys._getframe(1)):
            return
        line = calling_line(sys._getframe(1), runtime.user_files)
        inside = runtime.hindsight_frame if new != HINDSIGHT_NONE else None
        calls = calling_lines(inside.f_back, runtime.user_files) if inside is not None else []
        self.transcript.write(stream, text, new, [list(p) for p in runtime.position()], line, calls)

    def _is_asked_for(self, frame: FrameType) -> bool:
        try:
            return self.shows(frame)
        except UsageError as error:  # must not be raised into the script
            self.link.tell("failed", text=str(error))
            os._exit(0)

    def finish(self, status: int) -> None:
        """The script has ended."""
        self.runtime.driver = None
        ref = self.history.snapshots.get(END_OF_RUN)
        if self.owned and ref is not None and status == self.history.status:
            self.mover.verify(ref, None)
        self.mover.tell_withheld()
        killed_at_end = self.history.last == END_OF_RUN
        ended_early = self.unit is not None and self.unit.index != self.plan.units[-1].index
        if self.history.outputs_interrupted is not None and status == 0 and not ended_early:
            self._tell_interrupted("outside its loops: what replay shows goes on to the script's end", None)
            killed_at_end = True
        self._finish_unit(broken=ended_early or (status != self.history.status and not killed_at_end))
        self.at_end()
        words = "".join(self._unowned_errors)
        self.link.tell("finished", status=None if killed_at_end else status, end=self.transcript.position(), words=words)


def _place(frame: FrameType) -> str:
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
