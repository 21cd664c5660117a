"""Decides at which boundaries a snapshot is worth its cost.

The base is Flor's joint invariant (Garcia et al., VLDB 2021, §5.3): what recording costs stays under a fixed share of the time
that has passed, and a loop is snapshotted only if restoring it pays. Here the share is a credit that grows with time
and that each snapshot's stall is paid from. Where it is scarce, it goes to what saves replay most (see `worth`): pairs of snapshots around
the longest loops inside, then around shorter ones. Heads of iterations save nothing but let workers share a run, so some are enough.
"""

from __future__ import annotations

import sys

# As in `record.session`.
from builtins import len, max, min, sorted  # noqa: UP029
from typing import TYPE_CHECKING

from flor_trace.record.decisions import BEAT, CREDIT, EARLY, EVERY, INNER, SHORT
from flor_trace.record.rhythm import Rhythm
from flor_trace.record.worth import WORTH_SKIPPING_SECONDS, LoopsInside, is_worth_skipping, mean_seconds
from flor_trace.runtime.loops import DEMOTE_BELOW_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from flor_trace.runtime.loops import Activation, LoopProbe

# Loops further inside than this get no snapshots.
DEEPEST = 2
# What may be spent at once, before any time has passed, on the entries of outermost loops: without the snapshot at
# its entry nothing of a loop can be jumped over. It is repaid out of the credit of this many seconds.
ENTRY_ALLOWANCE_SECONDS = 0.3
REPAID_AFTER_SECONDS = 45.0
# The median of so many stalls is what the next snapshot is expected to cost: one that was held up by other processes does not count.
STALLS = 5
# What a run ends with, at its last outermost loop's exit and at its end, is kept in hand.
LAST_SNAPSHOTS = 2.0
# Heads are far enough apart for workers to share a run when no stretch between two of them is longer than this share of it; these
# come before pairs around loops, but may take only so much of what may be spent until then.
HEADS_APART = 1 / 8
HEADS_SHARE = 1 / 6
# A loop that has taken this share of the time is what the run is about, and others need not be borrowed for.
MOST = 0.5
# What saves less than pairs do (more heads, and those inside inner loops) may bring all stalls to this share of `--overhead`.
LESSER_SHARE = 0.5
# A walk that nothing has been saved up for takes no longer than this: some two million objects.
LONGEST_FIRST_WALK_SECONDS = 3.0
# An iteration this long is worth a snapshot inside the inner loop.
LONG_STEP_SECONDS = 0.25
# Inside an inner loop of shorter ones there is a snapshot as often as this, or as this share of an iteration of the loop around it: so long
# at most a replay takes from a snapshot to any place.
LATENCY_SECONDS = 60.0
LATENCY_SHARE = 0.1
# `--every` takes no heed of cost, except for loops of more iterations than this, each shorter than that (such as reading a
# file line by line): there a snapshot is taken when the loop has run for as long as one takes.
MANY_ITERATIONS = 32
SHORT_ITERATION_SECONDS = 0.002
# Nor does it take snapshots around loops that have proved, this many times, to be shorter than that.
SEVERAL_CALLS = 16
NOT_WORTH_SKIPPING_SECONDS = 0.001

# What the boundaries of one execution of a loop cost, and which share of what `--overhead` allows those of one short loop may take.
BOUNDARIES_SECONDS = 45e-6
BOUNDARIES_SHARE = 0.1

# A loop may grow longer in the first seconds of a run (a list that fills, a buffer of samples); until then only those go whose
# boundaries are a large part of them.
SETTLED_SECONDS = 20.0
BURDENED_BELOW_SECONDS = 3e-4

# A script without arrays may have short loops only: the entries of those that it begins with are passed by, since the first
# snapshot costs more than a loop of a million trivial iterations may.
EARLY_SECONDS = 1.0
LATE_BASE_SECONDS = 1.0


class Budget:
    """The credit of one run.

    Args:
        overhead: the share of elapsed time that stalls may take, such as 0.01.
        every: a number N takes snapshots at every N-th iteration of outermost loops and around the loops in
            these, whatever it costs; None leaves it to the credit.
        clock: seconds since some fixed moment.
        latency: for how long the inside of a long inner loop may go without a snapshot, in seconds; None: `LATENCY_SHARE` of the
            iteration around it, and at most `LATENCY_SECONDS`.

    Attributes:
        spent, spent_on_entries: seconds of stall; the latter at entries that may be borrowed for.
        rhythm: is told what happens in the iterations of outermost loops.
        interference: seconds that writing in the background has taken from the training.
        why: the reason of the last refusal (see `decisions`); empty where snapshots are never taken.
        needs, had: the seconds that were asked for at the last decision on credit, and that were there.
    """

    # Not a dataclass: importing `dataclasses` would be felt at the start of every recorded script.
    def __init__(self, overhead: float, every: int | None, clock: Callable[[], float], latency: float | None = None) -> None:
        self.overhead = overhead
        self.every = every
        self.clock = clock
        self.spent = 0.0
        self.spent_on_entries = 0.0
        self.interference = 0.0
        self._lent = 0.0  # the same without what will not come again: imports should not use the allowance up
        self.cost = 0.01
        self.taken = 0
        self._stalls: list[float] = []
        self.needs = self.had = 0.0
        self._inside = LoopsInside()
        self.rhythm = Rhythm()
        self._beat = -1  # the last iteration with a snapshot at its head for what was expected in it
        self._heads = 0
        self._last_head = 0.0
        self._unpaired = False  # the longest loop inside has gone without a pair since the last head
        self.forced_iteration = 0
        self.forced_at = 0.0
        self.started = self.last = clock()
        self.latency = latency
        self._borrowed = False  # the next snapshot is paid as the entries of outermost loops are
        self.why = ""

    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self.clock() - self.started

    def credit(self) -> float:
        """Seconds that may be spent now; negative while what was borrowed for entries is not repaid."""
        return self.overhead * self.elapsed() - self.spent - self.spent_on_entries - self.interference

    def pay(self, stall: float, entry_of_outermost: bool, once: float = 0.0) -> None:
        """A snapshot has stalled the training for `stall` seconds, of which `once` will not come again (imports, say)."""
        self.taken += 1
        self.last = self.clock()
        borrowed, self._borrowed = self._borrowed, False
        if entry_of_outermost or borrowed:
            self.spent_on_entries += stall
            self._lent += max(stall - once, 0.0)
        else:
            self.spent += stall
        self._stalls = [*self._stalls, max(stall - once, 0.0)][-STALLS:]
        self.cost = sorted(self._stalls)[(len(self._stalls) - 1) // 2]

    def patience(self) -> float:
        """How many seconds a walk through the state may take now before it is given up; `--every` takes no heed of it."""
        if self.every is not None:
            return float("inf")
        return max(LONGEST_FIRST_WALK_SECONDS, 2 * self.cost, self.credit())

    def gave_up(self, stall: float) -> None:
        """A walk was given up after so many seconds: the next one is to be saved up for, and may take twice as long."""
        self.cost = max(self.cost, 2 * stall)
        self._stalls = [self.cost]

    def entry_is_due(self, activation: Activation, depth: int, parent: Activation | None) -> bool:
        """Whether to snapshot the entry of an activation, which its exit snapshot and all jumps in it need."""
        self.why = ""
        if depth > DEEPEST:
            return False
        if self.every is not None:
            if parent is None:
                self._force(0)
                return True
            probe = activation.probe
            if probe.calls >= SEVERAL_CALLS and probe.seconds < NOT_WORTH_SKIPPING_SECONDS * probe.calls:
                return self._no(SHORT)
            return parent.iteration == self.forced_iteration or self._no(EVERY)
        if depth == 1:
            if not _has_arrays() and self.elapsed() < EARLY_SECONDS:
                return self._no(EARLY)  # see `base_is_due`
            seconds = mean_seconds(activation.probe)
            if seconds is not None and not is_worth_skipping(seconds, self.cost):
                return self._no(SHORT)  # a helper's loop, called a thousand times, would use up what may be borrowed
            return self._may_borrow() or self._affords(1.0, last=0.0)
        assert parent is not None
        self._inside.met(activation.probe, parent)
        return self._pair_is_due(activation.probe, parent)

    def _pair_is_due(self, probe: LoopProbe, parent: Activation) -> bool:
        """Whether entry and exit of a loop inside an outermost one are worth their snapshots."""
        seconds = mean_seconds(probe)
        if seconds is not None and not is_worth_skipping(seconds, self.cost):
            return self._no(SHORT)
        longer = self._inside.longer(probe, parent, self.cost)
        due = self._pair_is_afforded(probe, parent, seconds, longer)
        self._unpaired = self._unpaired or not (due or longer)
        return due

    def _pair_is_afforded(self, probe: LoopProbe, parent: Activation, seconds: float | None, longer: int) -> bool:
        # A run of one epoch has no other entry, and nothing is saved up when it comes to it; without it there are no jumps in that loop.
        first = seconds is None and parent.iteration == 0 and _has_arrays()
        minor = self._inside.longest(parent) <= MOST * (self.clock() - parent.started)
        self._borrowed = first and minor and self._may_borrow()
        may_owe = first or (not longer and self._earns(seconds or 0.0))
        beat = seconds is not None and seconds < self._gap()
        return self._borrowed or self._affords(2.0, 2.0 * (longer + beat), loan=self._loan() if may_owe and not beat else 0.0)

    def _earns(self, seconds: float) -> bool:
        """Whether a loop that takes so long earns what a pair around it costs while it runs."""
        return self.overhead * seconds >= 2.0 * self.cost

    def head_is_due(self, activation: Activation, depth: int, parent: Activation | None = None) -> bool:
        """Whether to snapshot the head of iteration `activation.iteration`."""
        self.why = ""
        if self.every is not None:
            if depth == 1:
                return self._is_forced(activation, self.every) or self._no(EVERY)
            return depth == 2 and activation.seconds_per_iteration >= LONG_STEP_SECONDS
        if depth > DEEPEST or (depth == 2 and activation.seconds_per_iteration < LONG_STEP_SECONDS and not self._is_late(parent)):
            return False
        if depth == 2:
            ahead = max(2.0 * self._inside.longer(None, parent, self.cost), 1.0)  # its own exit is to be paid as well
            return self._affords(1.0, ahead, share=LESSER_SHARE if self.latency is None else 1.0)
        self.rhythm.head(activation, self.clock())
        self.needs, self.had = self.cost, self.credit() + self._loan()
        if self.had < self.needs:  # told in a microsecond, which matters where iterations are fast
            return self._no(CREDIT)
        ahead = 2.0 * self._inside.longer(None, activation, self.cost)
        gap = self._gap()
        on_beat = gap > 0.0 and self.rhythm.is_on_beat
        behind = gap > 0.0 and activation.iteration == self._beat + 1
        if 0.0 < gap < LATENCY_SECONDS and not (on_beat or behind):
            return self._no(BEAT)
        if on_beat or behind:
            due = self._affords(1.0, last=0.0) if behind else self._affords(2.0)
            self._beat = activation.iteration if on_beat and due else -1
        elif self._shares_the_run(ahead):
            # Where each iteration has its pair workers share a run without heads, since they skip to where they begin.
            first = 2.0 if self._earns(self._inside.longest(activation)) and not self._unpaired else 0.0
            # For steps nothing is borrowed: what lies between two of them, at the start of a run, is executed as fast as it is shared.
            may_owe = not first and activation.seconds_per_iteration >= LONG_STEP_SECONDS
            due = self._affords(1.0, first, loan=self._loan() if may_owe else 0.0)
        else:
            due = self._affords(1.0, ahead, share=LESSER_SHARE)
        if due:
            self._heads += 1
            self._last_head = self.elapsed()
            self._unpaired = False
        return due

    def _gap(self) -> float:
        """How many seconds of the present outermost loop a replay saves by heads around what is expected; 0 if there is no such place, or
        if these seconds are executed again as fast."""
        gap = self.rhythm.seconds if self.rhythm.period else 0.0
        return gap if is_worth_skipping(gap, self.cost) else 0.0

    def _shares_the_run(self, ahead: float) -> bool:
        """Whether the last head is so long ago that workers could not share the run evenly without another.

        `ahead`: snapshots around loops inside that wait for what heads leave of the credit.
        """
        elapsed = self.elapsed()
        if elapsed - self._last_head < HEADS_APART * elapsed:
            return False
        return not ahead or self._heads * self.cost <= HEADS_SHARE * self.overhead * elapsed

    def _is_late(self, parent: Activation | None) -> bool:
        """Whether the inside of an iteration has been without a snapshot for too long."""
        latency = self.latency
        if latency is None:
            around = parent.seconds_per_iteration if parent is not None else 0.0
            latency = min(LATENCY_SHARE * around, LATENCY_SECONDS) if around else LATENCY_SECONDS
        return self.clock() - self.last >= latency

    def base_is_due(self, activation: Activation) -> bool:
        """Whether to snapshot the head of an outermost activation whose entry was passed by, once it has proved long: jumps
        begin there then, and what lies before is executed."""
        return (
            self.every is None
            and self.clock() - activation.started >= LATE_BASE_SECONDS
            and (self._may_borrow() or self._affords(1.0, last=0.0))
        )

    def exit_is_due(self, activation: Activation) -> bool:
        """Whether to snapshot the exit of an activation whose entry was, since each is useless without the other; not
        of one that is executed again as fast."""
        seconds = self.clock() - activation.started - activation.stalled
        return self.every is not None or is_worth_skipping(seconds, self.cost) or self._no(SHORT)

    def demotes_below(self, probe: LoopProbe) -> float:
        """Shorter executions, in seconds, are not worth their boundaries: where these are felt, all that never get a snapshot. Of a loop
        that is seldom executed, replay should know when it was."""
        felt = probe.calls * BOUNDARIES_SECONDS > BOUNDARIES_SHARE * self.overhead * self.elapsed()
        if not felt or self.every is not None:
            return DEMOTE_BELOW_SECONDS
        return WORTH_SKIPPING_SECONDS if self.elapsed() > SETTLED_SECONDS else BURDENED_BELOW_SECONDS

    def _is_forced(self, activation: Activation, every: int) -> bool:
        """Whether `--every` wants a snapshot of this iteration of an outermost loop."""
        iteration = activation.iteration
        if iteration % every:
            return False
        many_short = iteration > MANY_ITERATIONS * every and activation.seconds_per_iteration < SHORT_ITERATION_SECONDS
        if many_short and self._training_seconds() - self.forced_at < self.cost:
            return False
        self._force(iteration)
        return True

    def _force(self, iteration: int) -> None:
        self.forced_iteration = iteration
        self.forced_at = self._training_seconds()

    def _training_seconds(self) -> float:
        """What has passed without the stalls."""
        return self.clock() - self.started - self.spent - self.spent_on_entries

    def _may_borrow(self) -> bool:
        """Whether entries of outermost loops are taken before there is credit for them."""
        return self._lent < ENTRY_ALLOWANCE_SECONDS and self.elapsed() < REPAID_AFTER_SECONDS

    def _loan(self) -> float:
        """How far below nothing the credit may be now: it is repaid by and by."""
        return ENTRY_ALLOWANCE_SECONDS * (1.0 - min(self.elapsed() / REPAID_AFTER_SECONDS, 1.0))

    def _affords(self, price: float, ahead: float = 0.0, *, share: float = 1.0, loan: float = 0.0, last: float = LAST_SNAPSHOTS) -> bool:
        """Whether the credit suffices.

        Args:
            price: in snapshots.
            ahead: what must be left for others that are worth more, in snapshots.
            share: of the overhead that may be used for this.
            loan: seconds that may be owed.
            last: what is kept in hand besides, in snapshots, once the run is that long.
        """
        self.had = self.credit() - (1.0 - share) * self.overhead * self.elapsed() + loan
        self.needs = (price + last * min(self.elapsed() / REPAID_AFTER_SECONDS, 1.0)) * self.cost
        if self.had < self.needs:
            return self._no(CREDIT)
        return self.had >= self.needs + ahead * self.cost or self._no(INNER)

    def _no(self, why: str) -> bool:
        self.why = why
        return False


def _has_arrays() -> bool:
    return "torch" in sys.modules or "numpy" in sys.modules
