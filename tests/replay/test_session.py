"""Which units a worker takes up and gives back at the boundaries of loops."""

from __future__ import annotations

import sys
from typing import Any, cast

from flor_trace.replay.avoid import Avoided
from flor_trace.replay.history import History, RecordedActivation, SnapshotRef
from flor_trace.replay.plan import AFTER, PROLOGUE, SEGMENT, Plan, Unit
from flor_trace.replay.session import ReplaySession
from flor_trace.runtime.loops import Activation
from flor_trace.runtime.position import Boundary

LOOP = "m:fit:0"


class FakeLink:
    """Hands out given units, as a coordinator would that has given the others to other workers."""

    def __init__(self, units: list[int]) -> None:
        self.units = units
        self.done: list[int] = []

    def tell(self, kind: str, **fields: Any) -> None:
        if kind == "done":
            self.done.append(fields["unit"])

    def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        return {"unit": self.units.pop(0), "avoid": []}


class FakeRestorer:
    """Restores and verifies nothing, and finds everything exact."""

    def release(self, keep_matching: bool = False) -> None:
        """Nothing is kept."""

    def verify(self, ref: SnapshotRef, frame: object, restored: bool = False) -> Any:
        class Exact:
            verdict = "exact"
            only_memory = False

            def as_json(self) -> dict[str, Any]:
                return {"verdict": "exact"}

        return Exact()


class FakeTranscript:
    """Has a position and nothing else."""

    def position(self) -> int:
        return 0


class FakeActivation:
    """A live activation of the loop."""

    def __init__(self, entry: int) -> None:
        self.entry = entry
        self.iteration = 0
        self.skipped = False
        self.probe = type("Probe", (), {"key": LOOP})()


def test_a_unit_that_lies_ahead_is_kept_until_it_is_reached() -> None:
    history = History()
    for entry in (0, 1):
        history.activations[LOOP, entry] = RecordedActivation(LOOP, entry, None, entry, 1.0, 2, "exhausted")
        at = Boundary(LOOP, entry, 0)
        history.snapshots[at] = SnapshotRef(at, "", 0.0, 0.0, 0, 0, 0, {}, {})
    units = [Unit(0, PROLOGUE), Unit(1, SEGMENT, 0), Unit(2, AFTER, 0), Unit(3, SEGMENT, 1), Unit(4, AFTER, 1)]
    plan = Plan([(LOOP, 0), (LOOP, 1)], units, {LOOP}, run_all=False, sequential=False, workers=2)
    # Another worker, on its way to a unit further behind, has been given what follows the first activation.
    link = FakeLink([1, 3, 4])
    session = ReplaySession(
        cast(Any, None), history, plan, cast(Any, FakeRestorer()), cast(Any, link), cast(Any, FakeTranscript()),
        owns_prologue=True, avoided=Avoided([]),
    )  # fmt: skip
    frame = sys._getframe()
    for entry in (0, 1):
        activation = cast(Activation, FakeActivation(entry))
        assert session.entered(activation, frame)
        assert session.owned, f"the output of activation {entry} belongs to this worker"
        session.exited(activation, frame)
    assert link.done == [0, 1, 3]
