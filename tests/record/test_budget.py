"""Which boundaries are worth a snapshot."""

from __future__ import annotations

import itertools

import pytest

from flor_trace.query.budget import budget_page
from flor_trace.record import budget as budgets
from flor_trace.record.budget import BURDENED_BELOW_SECONDS, LATENCY_SECONDS, LATENCY_SHARE, MANY_ITERATIONS, SEVERAL_CALLS, Budget
from flor_trace.record.decisions import CREDIT, INNER, SHORT
from flor_trace.record.worth import WORTH_SKIPPING_SECONDS
from flor_trace.runtime.engine import Runtime
from flor_trace.runtime.loops import DEMOTE_BELOW_SECONDS, Activation, LoopProbe


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def activation(key: str, iteration: int = 0, seconds: float = 0.0) -> Activation:
    made = Activation(LoopProbe(Runtime(), key), 0, 0)
    made.iteration, made.seconds_per_iteration = iteration, seconds
    return made


class Recorded:
    """An outermost loop that takes `epochs` iterations of the loops `inside`, in seconds, as the budget sees it.

    Attributes:
        heads: the iterations whose heads have snapshots.
        pairs: for each loop inside, the iterations in which its entry and exit have.
        share: what all stalls took of the run.
    """

    def __init__(self, inside: list[float], cost: float, epochs: int = 20, between: float = 0.05) -> None:
        self.clock = Clock()
        self.clock.now = 2.0  # the imports
        self.cost = cost
        self.budget = Budget(0.01, None, lambda: self.clock.now)
        self.budget.started = 0.0
        self.heads: list[int] = []
        self.pairs: list[list[int]] = [[] for _ in inside]
        self.probes = [LoopProbe(Runtime(), str(seconds)) for seconds in inside]
        self.outer = activation("outer")
        self.outer.started = self.clock.now
        assert self.budget.entry_is_due(self.outer, 1, None)
        self.snapshot(entry_of_outermost=True, once=0.1)
        self.outer.seconds_per_iteration = sum(inside) + between
        for epoch in range(epochs):
            self.outer.iteration = epoch
            if epoch and self.budget.head_is_due(self.outer, 1):
                self.snapshot()
                self.heads.append(epoch)
            for number, seconds in enumerate(inside):
                self.enter(number, seconds)
            self.clock.now += between
        self.snapshot()  # the exit
        self.snapshot()  # the end of the run
        self.share = (self.budget.spent + self.budget.spent_on_entries) / self.clock.now

    def enter(self, number: int, seconds: float) -> None:
        inner = Activation(self.probes[number], self.outer.iteration, 0)
        inner.started = self.clock.now
        due = self.budget.entry_is_due(inner, 2, self.outer)
        if due:
            self.snapshot()
            self.pairs[number].append(self.outer.iteration)
        self.clock.now += seconds
        if due and self.budget.exit_is_due(inner):
            self.snapshot()
        inner.probe.calls += 1
        inner.probe.seconds += seconds

    def snapshot(self, entry_of_outermost: bool = False, once: float = 0.0) -> None:
        self.clock.now += self.cost + once
        self.budget.pay(self.cost + once, entry_of_outermost=entry_of_outermost, once=once)


@pytest.fixture(autouse=True)
def arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "_has_arrays", lambda: True)


@pytest.mark.parametrize("inside", [[4.0, 0.2], [1.5, 0.2], [], [0.2, 4.0], [10.0], [0.01, 0.01]])
@pytest.mark.parametrize("cost", [0.005, 0.012, 0.03, 0.06])
def test_what_is_borrowed_at_the_start_is_repaid_within_a_minute(inside: list[float], cost: float) -> None:
    for seconds in (61, 90, 200):
        of_epoch = sum(inside) + 0.25
        assert Recorded(inside, cost, epochs=int(seconds / of_epoch) + 1, between=0.25).share <= 0.01


def test_a_snapshot_that_was_held_up_does_not_stop_those_that_follow() -> None:
    budget = Budget(0.01, None, Clock())
    for stall in (0.02, 0.01, 0.5, 0.01):
        budget.pay(stall, entry_of_outermost=False)
    assert budget.cost == 0.01
    for _ in range(3):
        budget.pay(0.1, entry_of_outermost=False)
    assert budget.cost == 0.1, "the state has grown"


def test_the_page_shows_what_is_borrowed_and_what_a_pair_needs() -> None:
    taken = {"loop": "m:0", "entry": 0, "first": 0, "taken": True, "stall": 0.1, "added": 10, "owed": 0.09, "seconds": 1.0}
    taken["interference"] = 0.0125
    budget = Budget(0.01, None, lambda: 50.0)
    budget.started, budget.cost = 0.0, 0.2
    assert not budget.entry_is_due(activation("inner"), 2, activation("outer", 1))
    passed = {"loop": "inner", "entry": 0, "first": 0, "last": 0, "last_entry": 0, "count": 1, "why": budget.why, "taken": False}
    page = budget_page([taken, {**taken, "owed": 0.0}, {**passed, "needs": budget.needs, "credit": budget.had}])
    lines = page.splitlines()
    assert lines[1].endswith("taken, 90.0 ms borrowed by now")
    assert lines[2].endswith("taken")
    assert lines[3].endswith("500.0 ms of 800.0 ms"), "a pair, and the last two snapshots of the run"
    assert lines[4].endswith("200.0 ms of stall, and 12.5 ms that writing took from the script, since no core was idle")


def test_short_runs_get_their_first_snapshots_all_the_same() -> None:
    short = Recorded([1.0], 0.03, epochs=3)
    assert short.pairs == [[0]]
    assert short.heads


@pytest.mark.parametrize("inside", [[4.0, 0.2], [0.2, 4.0]])
def test_the_long_loop_comes_before_the_short_one_and_before_heads(inside: list[float]) -> None:
    scarce = Recorded(inside, 0.012)
    long = inside.index(4.0)
    assert len(scarce.pairs[long]) >= 19
    assert len(scarce.pairs[1 - long]) < 10
    plenty = Recorded(inside, 0.003)
    assert len(plenty.pairs[long]) == 20
    assert len(plenty.pairs[1 - long]) > 10


def test_where_not_even_the_long_loop_can_always_be_paid_for_the_short_one_waits() -> None:
    poor = Recorded([4.0, 0.9], 0.052)
    assert len(poor.pairs[0]) >= 4
    assert not poor.pairs[1]


def test_the_only_epoch_of_a_run_has_its_long_loop_skippable_though_short_ones_come_first() -> None:
    assert Recorded([0.2, 60.0], 0.052, epochs=1).pairs == [[0], [0]]
    assert Recorded([60.0, 0.5], 0.052, epochs=1).pairs[0] == [0]


def test_loops_that_only_prepare_data_leave_enough_for_the_entry_of_the_long_one() -> None:
    clock = Clock()
    budget = Budget(0.01, None, lambda: clock.now)
    budget.started = 0.0
    for number, once in enumerate((0.25, 0.0, 0.0)):
        prepares = activation(f"prepares:{number}")
        prepares.started = clock.now
        assert budget.entry_is_due(prepares, 1, None)
        budget.pay(0.05 + once, entry_of_outermost=True, once=once)
        clock.now += 0.15
        assert not budget.exit_is_due(prepares), "it is executed again as fast"
    epochs, steps = activation("epochs"), activation("steps")
    assert budget.entry_is_due(epochs, 1, None)
    budget.pay(0.05, entry_of_outermost=True)
    epochs.started = clock.now
    assert budget.entry_is_due(steps, 2, epochs)


def test_a_short_outermost_loop_that_runs_again_and_again_is_borrowed_for_once() -> None:
    clock = Clock()
    budget = Budget(0.01, None, lambda: clock.now)
    budget.started = 0.0
    helper, taken = activation("helper"), 0
    for _ in range(1000):
        if budget.entry_is_due(helper, 1, None):
            taken += 1
            budget.pay(0.02, entry_of_outermost=True)
        helper.probe.calls += 1
        helper.probe.seconds += 0.0005
        clock.now += 0.0005
    assert (taken, budget.why) == (1, SHORT)
    assert budget.entry_is_due(activation("epochs"), 1, None)


def test_a_short_loop_gets_what_the_long_one_leaves() -> None:
    rich = Recorded([20.0, 1.0], 0.012, epochs=6)
    assert rich.pairs == [[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5]] or rich.pairs == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize("cost", [0.012, 0.052])
def test_heads_let_workers_share_the_run(cost: float) -> None:
    for recorded in (Recorded([], cost, 400, between=0.25), Recorded([4.0, 0.2], cost, 20)):
        epochs = recorded.outer.iteration + 1
        ends = [0, *recorded.heads, epochs]
        assert max(b - a for a, b in itertools.pairwise(ends)) <= (0.5 if cost < 0.05 else 0.65) * epochs
        assert len(recorded.heads) <= 40


class Steps(Recorded):
    """A loop of 400 steps, `every` so many of which print something and enter a loop of 0.2 seconds."""

    def __init__(self, every: int, step: float = 0.1) -> None:
        super().__init__([0.2], 0.02, epochs=0)
        self.outer = activation("steps")
        self.outer.started = self.clock.now
        assert self.budget.entry_is_due(self.outer, 1, None)
        self.snapshot(entry_of_outermost=True)
        for number in range(400):
            self.outer.iteration = number
            if number and self.budget.head_is_due(self.outer, 1):
                self.snapshot()
                self.heads.append(number)
            if number % every == every - 1:
                self.budget.rhythm.happened()
                self.enter(0, 0.2)
            self.clock.now += step
        self.share = (self.budget.spent + self.budget.spent_on_entries) / self.clock.now


@pytest.mark.parametrize("every", [20, 25])
def test_where_something_happens_at_regular_distances_heads_lie_there(every: int) -> None:
    recorded = Steps(every)
    known = [head for head in recorded.heads if head > 3 * every]
    assert len(known) > 5 and all(head % every in (every - 1, 0) for head in known)
    assert all(head + 1 in known for head in known if head % every == every - 1 and head < 399), "to jump from there to the next"
    assert len(known) > len(recorded.pairs[0]), "a head saves more than what is entered there takes"
    assert recorded.share < 0.012


def test_where_something_happens_in_every_iteration_no_head_is_better_than_another() -> None:
    assert len(Steps(1).heads) > 5


def test_nothing_is_saved_for_a_loop_that_proves_short_or_is_not_met_again() -> None:
    clock = Clock()
    budget = Budget(0.01, None, clock)
    outer, inner = activation("outer", 1, 0.1), activation("inner")
    budget.pay(0.01, entry_of_outermost=True)
    inner.probe.calls, inner.probe.seconds = 1, 10.0
    clock.now = 60.0
    assert budget.entry_is_due(inner, 2, outer)
    budget.pay(0.22, entry_of_outermost=False)
    budget.cost = 0.02
    clock.now, budget._last_head = 62.0, 60.0
    assert not budget.head_is_due(outer, 1)
    assert budget.why == INNER
    outer.iteration = 3
    assert budget.head_is_due(outer, 1), "it is not met in every iteration"
    outer.iteration, budget._last_head = 1, 60.0
    inner.probe.calls = 1000
    assert budget.head_is_due(outer, 1), "it is short"


def test_forced_snapshots_of_many_short_iterations_cost_at_most_what_the_loop_does() -> None:
    clock = Clock()
    budget = Budget(0.01, 1, clock)
    lines = activation("lines", seconds=0.0001)
    assert budget.entry_is_due(lines, 1, None)
    taken = 0
    for iteration in range(1, 2001):
        clock.now += 0.0001
        lines.iteration = iteration
        if budget.head_is_due(lines, 1):
            taken += 1
            clock.now += 0.02
            budget.pay(0.02, entry_of_outermost=False)
    assert MANY_ITERATIONS <= taken <= MANY_ITERATIONS + 2000 * 0.0001 / 0.02 + 1
    lines.seconds_per_iteration = 0.05
    assert budget.head_is_due(lines, 1), "long iterations are never thinned"


def test_forced_snapshots_leave_loops_out_that_are_short_again_and_again() -> None:
    budget = Budget(0.01, 1, Clock())
    outer, inner = activation("outer"), activation("inner")
    assert budget.entry_is_due(outer, 1, None) and budget.entry_is_due(inner, 2, outer)
    inner.probe.calls, inner.probe.seconds = SEVERAL_CALLS, 0.0001
    assert not budget.entry_is_due(inner, 2, outer)
    inner.probe.seconds = 1.0
    assert budget.entry_is_due(inner, 2, outer)


def test_pairs_that_some_iterations_have_leave_enough_for_heads() -> None:
    # What one iteration earns is a pair's cost, just so: each pair that can be afforded is taken before a head could be.
    for seconds, cost in [(9.8, 0.048), (10.5, 0.0495)]:
        heads = Recorded([seconds, 0.3], cost, epochs=11).heads
        assert len(heads) >= 4
        assert max(gaps([float(head) for head in heads])) <= 4


def test_short_loops_keep_their_probes_only_where_these_are_not_felt() -> None:
    clock = Clock()
    probe = LoopProbe(Runtime(), "layers")
    for seconds, calls, every, expected in [
        (100.0, 1_000, None, DEMOTE_BELOW_SECONDS),  # 45 ms of 100 s
        (100.0, 10_000, None, WORTH_SKIPPING_SECONDS),
        (10.0, 1_000, None, BURDENED_BELOW_SECONDS),  # it may grow longer yet
        (100.0, 10_000, 1, DEMOTE_BELOW_SECONDS),  # whatever it costs
    ]:
        clock.now = seconds
        budget = Budget(0.01, every, clock)
        budget.started, probe.calls = 0.0, calls
        assert budget.demotes_below(probe) == expected


def due_inside(latency: float | None, epoch_seconds: float, cost: float = 0.01, seconds: int = 300) -> list[float]:
    """When the heads of a long inner loop of short steps get snapshots, from the moment on at which it is entered."""
    clock = Clock()
    budget = Budget(0.01, None, clock, latency)
    epoch, step = activation("epochs", 1, epoch_seconds), activation("steps", seconds=0.01)
    budget.pay(cost, entry_of_outermost=True)
    taken = []
    for second in range(1, seconds):
        clock.now = second
        step.iteration = 100 * second
        if budget.head_is_due(step, 2, epoch):
            taken.append(second)
            budget.pay(cost, entry_of_outermost=False)
    return taken


def gaps(taken: list[float]) -> set[float]:
    return {b - a for a, b in itertools.pairwise([0.0, *taken])}


def test_a_long_inner_loop_of_short_steps_gets_snapshots_as_often_as_replay_is_to_reach_a_place() -> None:
    assert gaps(due_inside(None, 0.0)) == {LATENCY_SECONDS}, "nothing is known of epochs yet"
    assert gaps(due_inside(None, 200.0)) == {LATENCY_SHARE * 200.0}
    assert gaps(due_inside(None, 10_000.0)) == {LATENCY_SECONDS}
    assert gaps(due_inside(7.0, 200.0)) == {7.0}


def test_replay_latency_does_not_go_beyond_the_overhead() -> None:
    taken = due_inside(5.0, 200.0, cost=1.0)
    assert not taken
    taken = due_inside(5.0, 200.0, cost=0.2)
    assert len(taken) * 0.2 <= 0.01 * 300
    assert taken
    budget = Budget(0.01, None, Clock(), 5.0)
    budget.cost = 1.0
    budget.clock.now = 6.0  # type: ignore[attr-defined]
    assert not budget.head_is_due(activation("steps", 9, 0.01), 2, None)
    assert budget.why == CREDIT
