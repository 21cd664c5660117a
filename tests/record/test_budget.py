"""Which boundaries are worth a snapshot."""

from __future__ import annotations

import itertools

from flor_trace.record.budget import LATENCY_SECONDS, LATENCY_SHARE, MANY_ITERATIONS, SEVERAL_CALLS, Budget
from flor_trace.record.decisions import CREDIT
from flor_trace.runtime.engine import Runtime
from flor_trace.runtime.loops import Activation, LoopProbe


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def activation(key: str, iteration: int = 0, seconds: float = 0.0) -> Activation:
    made = Activation(LoopProbe(Runtime(), key), 0, 0)
    made.iteration, made.seconds_per_iteration = iteration, seconds
    return made


def test_an_inner_loop_that_proves_short_does_not_stop_the_heads_for_good() -> None:
    clock = Clock()
    budget = Budget(0.01, None, clock)
    outer, inner = activation("outer", 1, 0.1), activation("inner")
    budget.pay(0.01, entry_of_outermost=True)
    budget.heads = 1
    assert not budget.entry_is_due(inner, 2, outer), "too early to pay for a pair"
    clock.now = 100.0
    assert not budget.head_is_due(outer, 1), "saves for the loop inside"
    inner.probe.calls, inner.probe.seconds = 1000, 1.0
    assert not budget.entry_is_due(inner, 2, outer)
    assert budget.head_is_due(outer, 1)


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
