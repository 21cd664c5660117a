"""What a worker does when a restore fails."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from exactness import case_from_marks, compare

from flor_trace.errors import CorruptRecord, HalfRestored, NotRestorable
from flor_trace.replay.avoid import Avoided
from flor_trace.replay.moves import Mover
from flor_trace.runtime.position import Boundary

AT = Boundary("m:f:0", 0, 2)
SNAPSHOTS = {at: SimpleNamespace(at=at) for at in (Boundary("m:f:0", 0, 1), AT)}
HISTORY: Any = SimpleNamespace(heads=lambda key: [1, 2], snapshots=SNAPSHOTS)
ACTIVATION: Any = SimpleNamespace(probe=SimpleNamespace(key="m:f:0"), entry=0, iteration=0)


def jump(monkeypatch: pytest.MonkeyPatch, error: Exception | None, found: Any = "exact") -> list[tuple[str, Any]]:
    """What is told while a worker jumps to iteration 2, whose snapshot fails with `error`; `found`: what comparing then says."""
    told: list[tuple[str, Any]] = []

    def restore(ref: Any, *rest: Any) -> None:
        if ref.at == AT and error is not None:
            raise error

    def verify(ref: Any, *rest: Any) -> Any:
        if isinstance(found, Exception):
            raise found
        told.append(("verified", ref.at.iteration))
        return SimpleNamespace(verdict=found, as_json=dict, differences=["net is no net"])

    def leave(status: int) -> None:
        told.append(("exit", status))
        raise SystemExit

    restorer: Any = SimpleNamespace(restore=restore, verify=verify)
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


@pytest.mark.parametrize(
    "error",
    [CorruptRecord("bytes are missing"), HalfRestored("net.x", ValueError("bytes are missing")), OSError("bytes are missing")],
)
def test_the_process_ends_where_something_was(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    told = jump(monkeypatch, error)
    assert [kind for kind, _ in told] == ["avoid", "exit"]
    assert "bytes are missing" in told[0][1]


@pytest.mark.parametrize(("found", "why"), [(RuntimeError("no"), "no"), (CorruptRecord("no"), "no"), ("diverged", "net is no net")])
def test_the_process_ends_where_another_state_than_the_recorded_was_restored(
    monkeypatch: pytest.MonkeyPatch, found: Any, why: str
) -> None:
    told = [each for each in jump(monkeypatch, None, found) if each[0] != "verified"]
    assert [kind for kind, _ in told] == ["avoid", "exit"]
    assert why in told[0][1]


HOSTILE = '''"""A script that lets nobody set what a restore must set."""
import numpy as np

def forbidden(**options):
    raise RuntimeError("nobody may do this")

np.seterr = forbidden
total = 0.0
for epoch in range(4):
    for step in range(3):
        total += float(np.sqrt(epoch + step))
        #+inner print("@@ inner", epoch, step, total)
    #+outer print("@@ outer", epoch, total)
print(total)
'''


def test_the_script_never_sees_a_restore_that_fails(tmp_path: Path) -> None:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "hostile.py").write_text(HOSTILE)
    report = compare(case_from_marks(folder, "hostile.py"), workers=(2,))
    assert not report.failures, "\n".join(report.failures)
