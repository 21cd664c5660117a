"""What a replay does is decided from what was recorded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

from flor_trace.errors import UsageError
from flor_trace.replay.carry import CALLER
from flor_trace.replay.history import History
from flor_trace.replay.plan import AFTER, PROLOGUE, SEGMENT, Plan, Probe, make_plan, probed_loops

MAIN, INNER, OTHER = "__main__:main:0", "__main__:train:0", "__main__:main:1"


class FakeRun:
    """A run of `epochs` epochs of a second each, with an inner loop, and another loop behind."""

    def __init__(self, epochs: int = 8, exit: str = "exhausted", status: int | None = 0) -> None:
        self.records: list[dict[str, Any]] = []
        self.journal: list[tuple[str, dict[str, Any]]] = []
        outputs = 1
        for epoch in range(epochs):
            self.snapshot((MAIN, 0, epoch), epoch, outputs, [[MAIN, 0, epoch]])
            self.snapshot((INNER, epoch, 0), epoch, outputs, [[MAIN, 0, epoch], [INNER, epoch, 0]])
            outputs += 2
            self.snapshot((INNER, epoch, "exit"), epoch, outputs, [[MAIN, 0, epoch], [INNER, epoch, 9]])
            self.activation(INNER, epoch, [MAIN, 0, epoch], epoch, 0.9, 10, "exhausted")
        if status is not None:
            if exit != "left":
                self.snapshot((MAIN, 0, "exit"), epochs, outputs, [])
            self.activation(MAIN, 0, None, 0, float(epochs), epochs, exit, [1.0] * epochs)
            self.snapshot((OTHER, 0, 0), epochs, outputs, [])
            self.snapshot((OTHER, 0, "exit"), epochs + 1, outputs + 1, [])
            self.activation(OTHER, 0, None, epochs, 1.0, 5, "exhausted")
            self.journal.append(("end", {"status": status}))
        functions = [{"key": "__main__:train", "probed": True}, {"key": "__main__:main", "probed": True}]
        self.journal.append(("module", {"functions": [*functions, {"key": "__main__:f", "probed": False}]}))
        self.journal.append(("functions", {"loop": MAIN, "ran": ["__main__:train"]}))

    def snapshot(self, at: tuple[Any, ...], seconds: float, outputs: int, stack: list[Any]) -> None:
        meta = {"outputs": outputs, "sources": 0, "entries": {}, "files": {}}
        record = {"at": list(at), "graph": "", "seconds": seconds, "stall": 0.0, "nbytes": 1, "meta": meta, "stack": stack}
        self.records.append(record)

    def activation(
        self, loop: str, entry: int, parent: Any, started: float, seconds: float, iterations: int, exit: str,
        ticks: list[float] | None = None,
    ) -> None:  # fmt: skip
        fields = {"loop": loop, "entry": entry, "parent": parent, "started": started, "seconds": seconds, "outputs": 1}
        self.journal.append(("activation", {**fields, "iterations": iterations, "exit": exit, "ticks": ticks or []}))

    def events(self, kind: str) -> Iterable[Mapping[str, Any]]:
        return [fields for name, fields in self.journal if name == kind]

    def outputs(self, first: int = 0, last: int | None = None) -> Iterator[Mapping[str, Any]]:
        return iter(())

    def snapshots(self) -> Iterable[Mapping[str, Any]]:
        return self.records


def kinds(plan: Plan) -> list[tuple[str, int, int | None]]:
    return [(u.kind, u.start, u.end) for u in plan.units]


IN_TRAIN = Probe("__main__:train", (INNER,))
IN_MAIN = Probe("__main__:main", (MAIN,))
BEHIND = Probe("__main__:main", ())


def test_a_probe_in_a_function_reaches_the_loops_that_called_it() -> None:
    history = History.read(FakeRun())
    assert probed_loops(history, [IN_TRAIN]) == {MAIN, INNER}
    assert probed_loops(history, [IN_MAIN]) == {MAIN}
    assert probed_loops(history, [BEHIND]) == set()


def test_a_function_that_was_not_observed_may_have_run_anywhere() -> None:
    history = History.read(FakeRun())
    assert probed_loops(history, [Probe("__main__:f", ())]) == {MAIN, INNER, OTHER}


def test_segments_start_at_snapshots_and_cover_every_iteration_once() -> None:
    plan = make_plan(History.read(FakeRun()), [IN_MAIN], workers=2)
    assert kinds(plan) == [
        (PROLOGUE, 0, None), (SEGMENT, 0, 2), (SEGMENT, 2, 4), (SEGMENT, 4, 5), (SEGMENT, 5, 6), (SEGMENT, 6, 7),
        (SEGMENT, 7, None), (AFTER, 0, None),
    ]  # fmt: skip
    assert plan.partitions == [(MAIN, 0)]
    bounds = [u.outputs for u in plan.units]
    assert [end for _, end in bounds[:-1]] == [start for start, _ in bounds[1:]]


def test_one_worker_needs_no_jumps() -> None:
    plan = make_plan(History.read(FakeRun()), [IN_MAIN], workers=1)
    assert kinds(plan) == [(PROLOGUE, 0, None), (SEGMENT, 0, None), (AFTER, 0, None)]


def test_carried_state_is_replayed_in_one_piece() -> None:
    plan = make_plan(History.read(FakeRun()), [Probe("__main__:main", (MAIN,), carried=frozenset({MAIN}))], workers=4)
    assert plan.sequential and plan.workers == 1
    assert kinds(plan) == [(PROLOGUE, 0, None), (SEGMENT, 0, None), (AFTER, 0, None)]


def test_state_carried_within_an_inner_loop_does_not_hinder_jumps() -> None:
    probe = Probe("__main__:train", (INNER,), carried=frozenset({INNER}))
    assert not make_plan(History.read(FakeRun()), [probe], workers=4).sequential


def test_state_that_may_be_carried_by_any_caller_does() -> None:
    probe = Probe("__main__:train", (INNER,), carried=frozenset({CALLER}))
    assert make_plan(History.read(FakeRun()), [probe], workers=4).sequential


def test_a_loop_without_probes_is_not_divided() -> None:
    plan = make_plan(History.read(FakeRun()), [BEHIND], workers=4)
    assert plan.partitions == [] and kinds(plan) == [(PROLOGUE, 0, None)]


def test_without_hindsight_statements_everything_is_executed() -> None:
    plan = make_plan(History.read(FakeRun()), [], workers=2)
    assert plan.run_all and plan.partitions == [(MAIN, 0)]


def test_asked_iterations_are_cut_out() -> None:
    plan = make_plan(History.read(FakeRun()), [IN_MAIN], workers=2, iterations=(3, 5))
    assert kinds(plan) == [(SEGMENT, 3, 4), (SEGMENT, 4, 5)]
    with pytest.raises(UsageError, match="selects nothing"):
        make_plan(History.read(FakeRun()), [IN_MAIN], workers=2, iterations=(30, None))


def test_a_killed_run_is_replayable_up_to_its_last_snapshot() -> None:
    plan = make_plan(History.read(FakeRun(status=None)), [IN_MAIN], workers=1)
    assert kinds(plan) == [(PROLOGUE, 0, None), (SEGMENT, 0, 7), (SEGMENT, 7, None)]


def test_what_follows_a_loop_left_by_return_belongs_to_its_last_segment() -> None:
    plan = make_plan(History.read(FakeRun(exit="left")), [IN_MAIN], workers=1)
    assert kinds(plan) == [(PROLOGUE, 0, None), (SEGMENT, 0, None)]


def test_a_plan_survives_json() -> None:
    plan = make_plan(History.read(FakeRun()), [IN_MAIN], workers=2)
    assert Plan.from_json(json.loads(json.dumps(plan.as_json()))) == plan
