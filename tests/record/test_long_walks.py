"""A walk that takes too long is given up, told of, and tried again when time has been saved up."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from state.world import World

from flor_trace.record import session as recording
from flor_trace.record.budget import LONGEST_FIRST_WALK_SECONDS, Budget
from flor_trace.record.decisions import LONG, REASONS
from flor_trace.record.session import RecordSession
from flor_trace.record.stager import NoRoom
from flor_trace.runtime.engine import Runtime
from flor_trace.runtime.loops import Activation, LoopProbe
from flor_trace.state import walk
from flor_trace.state.walk import ASK_EVERY


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_walk_asks_now_and_then_and_leaves_nothing_behind_when_given_up() -> None:
    world = World(many=[[i] for i in range(3 * ASK_EVERY)])
    asked: list[int] = []
    live = walk(world.roots(), world.scope, world.tokens, go_on=asked.append)
    assert asked == [ASK_EVERY, 2 * ASK_EVERY, 3 * ASK_EVERY]

    def refuse(objects: int) -> None:
        raise NoRoom(LONG)

    assert gc.isenabled()
    with pytest.raises(NoRoom):
        walk(world.roots(), world.scope, world.tokens, go_on=refuse)
    assert gc.isenabled()
    assert walk(world.roots(), world.scope, world.tokens).graph.nodes == live.graph.nodes


def test_the_next_attempt_is_saved_up_for_and_may_take_twice_as_long() -> None:
    clock = Clock()
    budget = Budget(0.01, None, clock)
    loop = Activation(LoopProbe(Runtime(), "loop"), 0, 0)
    assert budget.entry_is_due(loop, 1, None) or budget.why == "early"
    assert budget.patience() == LONGEST_FIRST_WALK_SECONDS
    budget.pay(3.0, entry_of_outermost=True)
    budget.gave_up(3.0)
    loop.started, clock.now = 0.0, 300.0
    assert not budget.base_is_due(loop)
    clock.now = 899.0
    assert not budget.base_is_due(loop), "what the first took is repaid before"
    clock.now = 901.0
    assert budget.base_is_due(loop)
    assert budget.patience() == 12.0
    assert Budget(0.01, 1, clock).patience() == float("inf"), "--every takes no heed of cost"


def test_it_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(recording, "perf_counter", clock)
    told: list[str] = []
    session: Any = RecordSession.__new__(RecordSession)
    session.budget, session._objects, session._warn = Budget(0.01, None, clock), 0, told.append
    go_on = session._patience()
    go_on(10)
    clock.now = LONGEST_FIRST_WALK_SECONDS + 1
    with pytest.raises(NoRoom) as given_up:
        go_on(70_000)
    session._gave_up(clock.now)
    assert str(given_up.value) == LONG and "given up" in REASONS[LONG]
    assert told == [
        "a snapshot was given up after 4.0 s, at 70000 objects, and no loop can be jumped over until one succeeds; the next is tried "
        "when --overhead allows for 8.0 s (--every 1 takes them at any cost)"
    ]
