"""Decides at which boundaries a snapshot is worth its cost.

The base is Flor's joint invariant (Garcia et al., VLDB 2021, §5.3): what recording costs stays under a fixed share of the time
that has passed, and a loop is snapshotted only if restoring it pays. Here the share is a credit that grows with time
and that each snapshot's stall is paid from.
"""

from __future__ import annotations

import sys

# As in `record.session`.
from builtins import max, min  # noqa: UP029
from typing import TYPE_CHECKING

from flor_trace.record.decisions import CREDIT, EARLY, EVERY, INNER, SHORT

if TYPE_CHECKING:
    from collections.abc import Callable

    from flor_trace.runtime.loops import Activation

# What may be spent at once, before any time has passed, on the entries of outermost loops: without the snapshot at
# its entry nothing of a loop can be jumped over.
ENTRY_ALLOWANCE_SECONDS = 0.3
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
# Below this a loop is executed again as fast as it is restored.
WORTH_SKIPPING_SECONDS = 0.005


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
        why: the reason of the last refusal (see `decisions`); empty where snapshots are never taken.
    """

    # Not a dataclass: importing `dataclasses` would be felt at the start of every recorded script.
    def __init__(self, overhead: float, every: int | None, clock: Callable[[], float], latency: float | None = None) -> None:
        self.overhead = overhead
        self.every = every
        self.clock = clock
        self.spent = 0.0
        self.spent_on_entries = 0.0
        self.cost = 0.01
        self.taken = 0
        self.passed = 0
        self.heads = 0
        self.pairs = 0
        self.denied: str | None = None  # the inner loop that would have been worth a pair of snapshots
        self.forced_iteration = 0
        self.forced_at = 0.0
        self.started = self.last = clock()
        self.latency = latency
        self._borrowed = False  # the next snapshot is paid as the entries of outermost loops are
        self.why = ""

    def credit(self) -> float:
        """Seconds that may be spent now."""
        return self.overhead * (self.clock() - self.started) - self.spent

    def pay(self, stall: float, entry_of_outermost: bool, once: float = 0.0) -> None:
        """A snapshot has stalled the training for `stall` seconds, of which `once` will not come again (imports, say)."""
        self.taken += 1
        self.last = self.clock()
        borrowed, self._borrowed = self._borrowed, False
        if entry_of_outermost or borrowed:
            self.spent_on_entries += stall
        else:
            self.spent += stall
        steady = max(stall - once, 0.0)
        self.cost = steady if self.taken == 1 else 0.5 * (self.cost + steady)

    def patience(self) -> float:
        """How many seconds a walk through the state may take now before it is given up; `--every` takes no heed of it."""
        if self.every is not None:
            return float("inf")
        return max(LONGEST_FIRST_WALK_SECONDS, 2 * self.cost, self.credit())

    def gave_up(self, stall: float) -> None:
        """A walk was given up after so many seconds: the next one is to be saved up for, and may take twice as long."""
        self.cost = max(self.cost, 2 * stall)

    def entry_is_due(self, activation: Activation, depth: int, parent: Activation | None) -> bool:
        """Whether to snapshot the entry of an activation, which its exit snapshot and all jumps in it need."""
        self.why = ""
        if depth > 2:
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
            if not _has_arrays() and self.clock() - self.started < EARLY_SECONDS:
                return self._no(EARLY)  # see `base_is_due`
            return self.spent_on_entries < ENTRY_ALLOWANCE_SECONDS or self.credit() > self.cost or self._no(CREDIT)
        probe = activation.probe
        if probe.calls and probe.seconds / probe.calls < max(WORTH_SKIPPING_SECONDS, 2 * self.cost):
            if self.denied == probe.key:
                self.denied = None  # it was not worth it after all, so nothing need be saved for it
            return self._no(SHORT)
        # A run of one epoch has no other entry, and nothing is saved up when it comes to it; without it there are no jumps in that loop.
        first = not probe.calls and not _is_beyond_first(parent)
        self._borrowed = first and _has_arrays() and self.spent_on_entries < ENTRY_ALLOWANCE_SECONDS
        due = self._borrowed or self._affords(2.0)
        self.denied = None if due else probe.key
        self.pairs += due
        return due

    def head_is_due(self, activation: Activation, depth: int, parent: Activation | None = None) -> bool:
        """Whether to snapshot the head of iteration `activation.iteration`."""
        self.why = ""
        if self.every is not None:
            if depth == 1:
                return self._is_forced(activation, self.every) or self._no(EVERY)
            return depth == 2 and activation.seconds_per_iteration >= LONG_STEP_SECONDS
        if depth > 2 or (depth == 2 and activation.seconds_per_iteration < LONG_STEP_SECONDS and not self._is_late(parent)):
            return False
        if self.denied is not None and self.heads > self.pairs:
            return self._no(INNER)  # save for the loops inside: skipping them serves outer probes, heads only parallelism
        due = self._affords(1.0 if depth == 1 else 3.0)
        self.heads += due
        return due

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
            and (self.spent_on_entries < ENTRY_ALLOWANCE_SECONDS or self.credit() > self.cost)
        )

    def exit_is_due(self, activation: Activation) -> bool:
        """Whether to snapshot the exit of an activation whose entry was, since each is useless without the other; not
        of one that is executed again as fast."""
        return self.every is not None or self.clock() - activation.started >= WORTH_SKIPPING_SECONDS or self._no(SHORT)

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

    def _affords(self, price: float) -> bool:
        if self.credit() >= price * self.cost:
            return True
        self.passed += 1
        return self._no(CREDIT)

    def _no(self, why: str) -> bool:
        self.why = why
        return False


def _is_beyond_first(parent: Activation | None) -> bool:
    """Whether the loop around is beyond its first iteration."""
    return parent is None or parent.iteration > 0


def _has_arrays() -> bool:
    return "torch" in sys.modules or "numpy" in sys.modules
