"""Snapshots get further apart as the space for them fills, and never go beyond it."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from flor_trace.record.decisions import CREDIT, DISK, REASONS, SHORT, Decisions
from flor_trace.record.diskbudget import DiskBudget
from flor_trace.runtime.position import Boundary
from flor_trace.store import layout
from flor_trace.store.reader import Run


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Files:
    """What a writer tells; snapshots are durable `late` calls later."""

    def __init__(self, late: int) -> None:
        self.stored_bytes = self.committed = 0
        self._late = late
        self._queue: list[int] = []

    def take(self, nbytes: int) -> None:
        self._queue.append(nbytes)
        while len(self._queue) > self._late:
            self.stored_bytes += self._queue.pop(0)
            self.committed += 1


def snapshots(limit: int | None, seconds: int, size: int = 10, late: int = 0) -> list[int]:
    clock, files = Clock(), Files(late)
    budget = DiskBudget(limit, files, clock)  # type: ignore[arg-type]
    taken = []
    for second in range(1, seconds):
        clock.now = second
        if budget.allows(needed=False):
            files.take(size)
            budget.took(size)
            taken.append(second)
    assert limit is None or sum(size for _ in taken) <= limit
    return taken


def test_without_a_limit_nothing_is_passed_by() -> None:
    assert snapshots(None, 50) == list(range(1, 50))


def test_snapshots_get_further_apart_and_never_stop_nor_overrun() -> None:
    for late in (0, 3):
        taken = snapshots(200, 2000, late=late)
        gaps = [b - a for a, b in itertools.pairwise(taken)]
        assert gaps == sorted(gaps) and gaps[0] == 1
        assert max(gaps) <= 1000, "there is one in the second half of any run"
        assert 10 < len(taken) <= 20


def test_what_is_needed_has_only_to_fit() -> None:
    clock, files = Clock(), Files(0)
    budget = DiskBudget(100, files, clock)  # type: ignore[arg-type]
    for second in range(1, 4):
        clock.now = second
        files.take(30)
        budget.took(30)
    clock.now = 3.5
    assert budget.left() == 10
    assert not budget.allows(needed=False)
    assert not budget.allows(needed=True)
    files.stored_bytes = 60  # most of it was there already
    assert budget.allows(needed=True)
    assert not budget.allows(needed=False)


def test_passed_boundaries_of_one_kind_and_reason_become_one_record() -> None:
    records: list[dict[str, Any]] = []
    decisions = Decisions(lambda kind, **fields: records.append({"kind": kind, **fields}))
    for epoch in range(1, 4):
        decisions.passed(Boundary("outer", 0, epoch), CREDIT, 0.5, 0.1 * epoch)
        decisions.passed(Boundary("inner", epoch, 0), SHORT, 0.5, 0.0)
    decisions.passed(Boundary("outer", 0, 4), DISK, 0.5, 0.4)
    decisions.passed(Boundary("outer", 1, 1), DISK, 0.5, 0.4)
    assert [(r["loop"], r["why"], r["count"]) for r in records] == [("outer", CREDIT, 3), ("outer", DISK, 1)]
    decisions.close()
    decisions.close()
    inner = next(r for r in records if r["loop"] == "inner")
    assert (inner["at"], inner["entry"], inner["last_entry"], inner["count"]) == ("entry", 1, 3, 3)
    assert [(r["kind"], r["credit"]) for r in records if r["loop"] == "outer"] == [("passed", 0.3), ("passed", 0.4), ("passed", 0.4)]


SCRIPT = """
import numpy as np
state = np.arange(100_000.0)
for epoch in range(40):
    state = state + 1.0
    for step in range(3):
        state[step] -= 0.5
    print(epoch, state.sum())
"""


def test_a_run_keeps_to_its_disk_budget_says_so_and_shows_why(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}

    def flor_trace(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flor_trace", *words]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=True)

    recorded = flor_trace("record", "--every", "1", "--max-disk", "8MB", "train.py")
    assert recorded.stderr.count("the space of --max-disk is being used up") == 1
    assert "snapshots left out for --max-disk" in recorded.stderr
    store = str(tmp_path / ".flor")
    run = Run(layout.run_folder(store, layout.run_ids(store)[0]))
    assert sum(entry[4] for entry in run.index.values()) < 8_000_000
    taken = run.snapshots(verify=True)
    assert 3 <= len(taken) < 20

    shown = json.loads(flor_trace("show", "--budget", "--json").stdout)
    assert sum(item["taken"] for item in shown) == len(taken)
    passed = [item for item in shown if not item["taken"]]
    assert {item["why"] for item in passed} >= {DISK} and all(item["why"] in REASONS for item in passed)
    boundaries = [record["at"] for record in taken if record["at"][0] == "__main__:<module>:0"]
    heads = sum(item["count"] for item in passed if item["loop"] == "__main__:<module>:0")
    assert heads + len(boundaries) == 40 + 1, "the entry, 39 heads, and the exit"
    page = flor_trace("show", "--budget").stdout
    assert "taken" in page and "--max-disk: snapshots are further apart" in page

    probed = SCRIPT.replace("    print(epoch", "    print('@@', epoch, state[5])\n    print(epoch")
    (tmp_path / "train.py").write_text(probed)
    replayed = flor_trace("replay", "--workers", "1", "train.py")
    assert replayed.stdout.splitlines() == [f"@@ {epoch} {5.0 + epoch + 1}" for epoch in range(40)]
    assert "exact" in replayed.stderr
