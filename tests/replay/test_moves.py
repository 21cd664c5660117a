"""What a worker does when a restore fails."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from flor_trace.errors import CorruptRecord, HalfRestored, NotRestorable
from flor_trace.replay.avoid import Avoided
from flor_trace.replay.moves import Mover
from flor_trace.runtime.position import Boundary

AT = Boundary("m:f:0", 0, 2)
SNAPSHOTS = {at: SimpleNamespace(at=at) for at in (Boundary("m:f:0", 0, 1), AT)}
HISTORY: Any = SimpleNamespace(heads=lambda key: [1, 2], snapshots=SNAPSHOTS)
ACTIVATION: Any = SimpleNamespace(probe=SimpleNamespace(key="m:f:0"), entry=0, iteration=0)


def jump(monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[tuple[str, Any]]:
    """What is told while a worker jumps to iteration 2, whose snapshot fails with `error`."""
    told: list[tuple[str, Any]] = []

    def restore(ref: Any, *rest: Any) -> None:
        if ref.at == AT:
            raise error

    def leave(status: int) -> None:
        told.append(("exit", status))
        raise SystemExit

    check = SimpleNamespace(verdict="exact", as_json=dict)
    restorer: Any = SimpleNamespace(restore=restore, verify=lambda ref, *rest: told.append(("verified", ref.at.iteration)) or check)
    link: Any = SimpleNamespace(tell=lambda kind, **rest: told.append((kind, rest.get("why") or rest.get("text"))))
    plan: Any = SimpleNamespace(init="jump", sequential=False, run_all=False)
    mover = Mover(HISTORY, plan, restorer, link, Avoided(), list)
    monkeypatch.setattr(os, "_exit", leave)
    try:
        mover.jump(ACTIVATION, None, 2)  # type: ignore[arg-type]
    except SystemExit:
        pass
    return told


def test_an_earlier_snapshot_is_used_where_nothing_was_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    told = jump(monkeypatch, NotRestorable("x", "it is gone"))
    assert [kind for kind, _ in told] == ["note", "verified", "checked"]
    assert "it is gone" in told[0][1] and told[1] == ("verified", 1)


@pytest.mark.parametrize("error", [CorruptRecord("bytes are missing"), HalfRestored("net.x", ValueError("bytes are missing"))])
def test_the_process_ends_where_something_was(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    told = jump(monkeypatch, error)
    assert [kind for kind, _ in told] == ["avoid", "exit"]
    assert "bytes are missing" in told[0][1]
