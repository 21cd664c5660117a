"""The two moves of a worker, both within a live activation: jump to the head of a later iteration, skip to the exit; and the
comparisons with the recorded state that go with them."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from types import FrameType

from flor_trace.errors import CorruptRecord, FlorTraceError, NotRestorable
from flor_trace.replay.avoid import Avoided
from flor_trace.replay.history import History, SnapshotRef
from flor_trace.replay.link import Link
from flor_trace.replay.plan import Plan
from flor_trace.replay.restorer import DIVERGED, Restorer
from flor_trace.replay.sampling import Sampler
from flor_trace.replay.withheld import Withheld
from flor_trace.runtime.loops import Activation
from flor_trace.runtime.position import EXIT, Boundary

# So many skips of a loop show what one takes.
SKIPS_TO_JUDGE_BY = 8


class Mover:
    """Restores, compares, and tells the coordinator what came of it. `buries`: whether the script has finalizers, so that what a
    restore has replaced is looked for and dies at once."""

    def __init__(
        self, history: History, plan: Plan, restorer: Restorer, link: Link, avoided: Avoided, mismatches: Callable[[], list[str]]
    ) -> None:
        self.history = history
        self.plan = plan
        self.restorer = restorer
        self.link = link
        self.avoided = avoided
        self.buries = False
        self._mismatches = mismatches
        self._sampler = Sampler(everything=plan.run_all)
        self._withheld = Withheld(link, lambda: restorer.runtime.executed)
        self._process = os.getpid()
        self._skips: dict[str, tuple[int, float]] = {}

    def jump(self, activation: Activation, frame: FrameType, iteration: int) -> None:
        """Restore the latest restorable head up to `iteration`; what lies between is left to be executed."""
        key = (activation.probe.key, activation.entry)
        last = iteration if self.plan.init == "jump" else iteration - 1
        between = [h for h in self.history.heads(key) if activation.iteration < h <= last]
        refs = [self.history.snapshots[Boundary(*key, head)] for head in between]
        if self.plan.sequential or self.plan.init == "strong":
            return
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

    def skip(self, activation: Activation, frame: FrameType) -> SnapshotRef | None:
        """Restore the activation's exit; None if that is not possible and it has to be executed."""
        key = (activation.probe.key, activation.entry)
        ref = self.history.snapshots.get(Boundary(*key, EXIT))
        recorded = self.history.activations.get(key)
        if ref is None or recorded is None or not self.avoided.allows(ref.at):
            return None
        begin = time.perf_counter()
        try:
            self._restore(ref, frame, leaving=activation)
        except NotRestorable as reason:
            self.link.tell("note", text=f"{ref.at} could not be restored ({reason}); the loop is executed again")
            return None
        count, seconds = self._skips.get(key[0], (0, 0.0))
        self._skips[key[0]] = (count + 1, seconds + time.perf_counter() - begin)
        activation.skipped = True
        activation.exhausted = recorded.exit == "exhausted"
        return ref

    def sooner_executed(self, key: tuple[str, int]) -> bool:
        """Whether skips of this loop have turned out to take longer than executing it: `for group in optimizer.param_groups` in a
        run that was recorded with `--every 1`."""
        count, seconds = self._skips.get(key[0], (0, 0.0))
        recorded = self.history.activations.get(key)
        return count >= SKIPS_TO_JUDGE_BY and recorded is not None and 2 * recorded.seconds < seconds / count

    def _restore(
        self, ref: SnapshotRef, frame: FrameType, jumping: Activation | None = None, leaving: Activation | None = None
    ) -> None:
        try:
            self.restorer.restore(ref, frame, jumping, lambda name: self._graph_needed(ref, name))
        except NotRestorable:
            raise
        except CorruptRecord as damage:
            self._give_up(ref, str(damage), alone=True)
        except Exception as error:  # the state may be half the recorded one: the script must not go on with it
            self._give_up(ref, _words(error))
        if leaving is not None:
            leaving.abandon()
        if self.buries:
            # Objects in cycles that the restore has replaced die now, and not in the middle of what comes.
            gc.collect()
        self.verify(ref, frame, restored=True)

    def _graph_needed(self, ref: SnapshotRef, name: str) -> None:
        """The script uses an autograd graph from before a snapshot that was restored. What has been replayed since is lost."""
        if os.getpid() == self._process:
            self._give_up(ref, f"the graph of a {name} is used behind it")

    def _give_up(self, ref: SnapshotRef, why: str, alone: bool = False) -> None:
        """The process ends here, and another one goes on that does not restore that snapshot."""
        self.link.tell("avoid", at=list(ref.at), why=why, alone=alone)
        os._exit(0)

    def verify(self, ref: SnapshotRef, frame: FrameType | None, restored: bool = False) -> bool:
        """Compare the live state with the recorded one; whether it may be restored from. Right after a restore (`restored`) the
        process ends here if it is another one, for it is our doing and not the script's."""
        try:
            check = self.restorer.verify(ref, frame, restored)
        except Exception as error:
            if restored:
                self._give_up(ref, f"what was restored cannot be compared: {_words(error)}", isinstance(error, CorruptRecord))
            self.link.tell("note", text=f"nothing is compared or restored at {ref.at}: {_words(error)}")
            return False
        if restored and check.verdict == DIVERGED:
            self._give_up(ref, f"what was restored is not what was recorded: {check.differences[0]}")
        if texts := self._mismatches():
            self.link.tell("mismatch", texts=texts)
        if check.only_memory:
            self._withheld.take(check)
            return False
        if check.verdict != DIVERGED:
            self._withheld.settle()
        self.link.tell("checked", **check.as_json(), restored=restored)
        return check.verdict != DIVERGED

    def verify_in_passing(self, ref: SnapshotRef, frame: FrameType | None) -> None:
        """Compare if time allows, at a snapshot from which nothing is about to be restored."""
        if self._withheld or self._sampler.due():
            begin = time.perf_counter()
            self.verify(ref, frame)
            self._sampler.paid(time.perf_counter() - begin)

    def tell_withheld(self) -> None:
        """No comparison follows."""
        self._withheld.tell()

    def take_passed(self) -> int:
        """How many snapshots have been passed without a comparison since this was asked last."""
        passed, self._sampler.passed = self._sampler.passed, 0
        return passed


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, FlorTraceError) else f"{type(error).__name__}: {error}"


def _ever_earlier(refs: list[SnapshotRef]) -> list[SnapshotRef]:
    """The last one, then others in strides that double: what is wrong with one is often wrong with its neighbours,
    and each attempt takes time."""
    return [refs[-stride] for stride in (1 << n for n in range(len(refs).bit_length()))]
