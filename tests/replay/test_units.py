"""Where a run is cut into segments, how long that will take, and how often a worker compares."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from flor_trace.replay.avoid import Avoided
from flor_trace.replay.estimate import Costs, Sizes
from flor_trace.replay.history import History
from flor_trace.replay.plan import SEGMENT, Plan, Unit, make_plan
from flor_trace.replay.sampling import ALLOWANCE_SECONDS, SHARE, Sampler
from flor_trace.replay.units import Cut, Inner, choose
from flor_trace.runtime.position import EXIT, Boundary

EPOCHS, STEPS, STEP_SECONDS = 3, 10, 1.0
MAIN, INNER = "__main__:main:0", "__main__:train:0"


class LongEpochs:
    """Three epochs of ten steps of a second, with snapshots at every head; `inner_heads` False: of the epochs alone."""

    def __init__(self, inner_heads: bool = True, outer_heads: tuple[int, ...] = (0, 1, 2)) -> None:
        self.records = []
        self.journal = []
        for epoch in range(EPOCHS):
            if epoch in outer_heads:
                self._snapshot((MAIN, 0, epoch), epoch * STEPS)
            steps = range(STEPS) if inner_heads else range(1)
            for step in steps:
                self._snapshot((INNER, epoch, step), epoch * STEPS + step)
            self._snapshot((INNER, epoch, EXIT), (epoch + 1) * STEPS)
            self._activation(INNER, epoch, [MAIN, 0, epoch], epoch * STEPS, float(STEPS), STEPS)
        self._snapshot((MAIN, 0, EXIT), EPOCHS * STEPS)
        self._activation(MAIN, 0, None, 0, float(EPOCHS * STEPS), EPOCHS)
        self._snapshot(("", 0, "end"), EPOCHS * STEPS)
        self.journal.append(("end", {"status": 0}))

    def _snapshot(self, at: tuple[object, ...], outputs: int) -> None:
        meta = {"outputs": outputs, "sources": 0, "entries": {}, "files": {}}
        record = {"at": list(at), "graph": "", "seconds": float(outputs), "stall": 0.0, "nbytes": 1, "meta": meta, "stack": []}
        self.records.append(record)

    def _activation(self, loop: str, entry: int, parent: object, started: float, seconds: float, iterations: int) -> None:
        fields = {"loop": loop, "entry": entry, "parent": parent, "started": started, "seconds": seconds, "outputs": 0}
        ticks = [seconds / iterations] * iterations
        self.journal.append(("activation", {**fields, "iterations": iterations, "exit": "exhausted", "ticks": ticks}))

    def events(self, kind):
        return [fields for name, fields in self.journal if name == kind]

    def outputs(self, first=0, last=None):
        return iter(())

    def snapshots(self):
        return self.records


def segments(plan: Plan) -> list[Unit]:
    return [unit for unit in plan.units if unit.kind == SEGMENT]


def test_eight_workers_share_three_long_epochs() -> None:
    plan = make_plan(History.read(LongEpochs()), [], workers=8)
    assert plan.workers == 8
    assert plan.forecast["seconds"] < 1.35 * (plan.forecast["prologue"] + EPOCHS * STEPS * STEP_SECONDS / 8)
    assert any(unit.start_inner is not None for unit in segments(plan))


@pytest.mark.parametrize("workers", [1, 2, 3, 5, 8, 64])
def test_segments_join_without_gaps_or_overlaps(workers: int) -> None:
    units = segments(make_plan(History.read(LongEpochs()), [], workers=workers))
    assert (units[0].start, units[0].start_inner, units[-1].end) == (0, None, None)
    for unit, following in pairwise(units):
        assert (unit.end, unit.end_inner, unit.outputs[1]) == (following.start, following.start_inner, following.outputs[0])
    assert sum(unit.seconds for unit in units) == pytest.approx(EPOCHS * STEPS * STEP_SECONDS)


def test_without_heads_inside_no_more_workers_are_started_than_epochs() -> None:
    plan = make_plan(History.read(LongEpochs(inner_heads=False)), [], workers=8)
    assert plan.workers == EPOCHS and all(unit.start_inner is None for unit in segments(plan))
    assert plan.forecast["bound"] != "restore"


def test_no_segment_begins_within_an_iteration_whose_own_head_cannot_be_restored() -> None:
    units = segments(make_plan(History.read(LongEpochs(outer_heads=(0, 2))), [], workers=8))
    inside = {unit.start for unit in units if unit.start_inner is not None}
    assert inside == {0, 2}


def test_a_plan_with_segments_within_iterations_survives_json() -> None:
    plan = make_plan(History.read(LongEpochs()), [], workers=8)
    assert Plan.from_json(json.loads(json.dumps(plan.as_json()))) == plan


def test_asked_iterations_keep_what_lies_within_them() -> None:
    units = segments(make_plan(History.read(LongEpochs()), [], workers=8, iterations=(1, 2)))
    assert (units[0].start, units[0].start_inner) == (1, None)
    assert (units[-1].end, units[-1].end_inner) == (2, None)
    assert all(unit.start == 1 for unit in units)


def test_many_workers_that_are_equally_fast_share_evenly() -> None:
    """Guided scheduling would spend a tenth of the time on restores that an even division does without."""
    history = History.read(LongEpochs())
    costs = Costs(spread=0.0)
    for workers in (2, 3, 5, 6, 10, 15, 30):
        plan = make_plan(history, [], workers, costs=costs)
        ideal = plan.forecast["prologue"] + EPOCHS * STEPS * STEP_SECONDS / workers
        assert plan.forecast["seconds"] < ideal / 0.95, workers


def test_workers_that_differ_in_speed_get_segments_that_grow_shorter() -> None:
    history = History.read(LongEpochs())
    history.snapshots.update({at: replace(ref, nbytes=0, objects=0) for at, ref in history.snapshots.items()})
    units = segments(make_plan(history, [], 2, costs=Costs(spread=0.3)))
    assert units[0].seconds >= 3 * units[-1].seconds and len(units) > 6


def test_segments_are_not_shorter_than_restoring_is_worth() -> None:
    every = [Cut(i, None, float(i), 0) for i in range(100)]
    lengths = {restore: len(choose(every, 100.0, 4, restore)) for restore in (0.0, 1.0, 4.0)}
    assert lengths[0.0] > lengths[1.0] > lengths[4.0] > 1


def test_dearer_restores_make_a_longer_forecast() -> None:
    history = History.read(LongEpochs())
    history.snapshots.update({at: replace(ref, nbytes=10**8) for at, ref in history.snapshots.items()})
    slow, fast = (make_plan(history, [], 2, costs=Costs(bandwidth=b)).forecast for b in (1e8, 1e10))
    assert slow["seconds"] > fast["seconds"] + 1.0 and slow["restores"] > fast["restores"] > 0


def test_what_a_snapshot_shares_with_the_state_before_it_is_not_read() -> None:
    at, base = Boundary(INNER, 0, EXIT), Boundary(INNER, 0, 0)
    records = [{"at": list(base), "blobs": ["data", "old"]}, {"at": list(at), "blobs": ["data", "new", "graph"]}]
    sizes = Sizes(records, {"data": 10**9, "old": 10**8, "new": 10**8, "graph": 100})
    assert sizes.fresh(at, base) == 10**8 + 100
    assert sizes.fresh(at, Boundary(INNER, 1, 0)) is None
    ref = replace(History.read(LongEpochs()).snapshots[at], nbytes=1_100_000_000)
    costs = Costs(bandwidth=1e9, sizes=sizes)
    assert costs.restore(ref) - costs.restore(ref, base) == pytest.approx(1.0, abs=0.01)


def test_every_worker_asked_for_gets_work_however_dear_restoring_is() -> None:
    history = History.read(LongEpochs())
    history.snapshots.update({at: replace(ref, nbytes=10**10) for at, ref in history.snapshots.items()})
    assert make_plan(history, [], 8, costs=Costs(bandwidth=1e8)).workers == 8


def test_a_unit_begins_and_ends_at_its_places() -> None:
    unit = Unit(1, SEGMENT, 0, 2, 4, start_inner=Inner(INNER, 2, 5), end_inner=Inner(INNER, 4, 3))
    assert [unit.has_begun(i) for i in (1, 2, 3)] == [False, False, True]
    assert [unit.is_over(i) for i in (3, 4, 5)] == [False, False, True]


def test_comparing_in_passing_takes_its_share_and_no_more() -> None:
    now = 0.0
    sampler = Sampler(clock=lambda: now)
    cost, spent = 0.1, 0.0
    for _ in range(1000):
        now += 0.1
        if sampler.due():
            now += cost
            spent += cost
            sampler.paid(cost)
    assert ALLOWANCE_SECONDS / 2 < spent <= ALLOWANCE_SECONDS + SHARE * now
    assert sampler.passed == 1000 - round(spent / cost)
    assert all(Sampler(everything=True, clock=lambda: 0.0).due() for _ in range(3))


def test_a_damaged_exit_is_avoided_alone() -> None:
    avoided = Avoided()
    assert avoided.add(Boundary(INNER, 3, EXIT), alone=True)
    assert not avoided.allows(Boundary(INNER, 3, EXIT)) and avoided.allows(Boundary(INNER, 4, EXIT))
    copy = Avoided(avoided.as_json())
    assert not copy.allows(Boundary(INNER, 3, EXIT)) and copy.allows(Boundary(INNER, 4, EXIT))
