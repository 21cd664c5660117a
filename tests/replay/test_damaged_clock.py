"""Recorded values of the clock that are damaged in the store: replay says so, and what does not need them is replayed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flor_trace.store import layout
from flor_trace.store.reader import Run

SCRIPT = """
import time
w = 0.0
for epoch in range(6):
    for step in range(2):
        w += time.time() % 1
    print(epoch, w)
"""
PROBED = SCRIPT.replace("    print", "    print('@@', epoch, repr(w))\n    print").replace("  w +=", "  print('@', step)\n        w +=")


def _flor(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-m", "flor_trace", *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A folder with a recording in which the values read in epoch 2 are lost, and the script with hindsight statements."""
    (tmp_path / "train.py").write_text(SCRIPT)
    assert _flor(tmp_path, "record", "--every", "1", "train.py").returncode == 0
    (run_id,) = layout.run_ids(str(tmp_path / ".flor"))
    run = Run(layout.run_folder(str(tmp_path / ".flor"), run_id))
    heads = [s for s in run.snapshots() if s["at"][0] == "__main__:<module>:0"]
    (before,) = [s["meta"]["sources"] for s in heads if s["at"][2] == 2]
    events = [e for e in run.events("source_values") if before <= e["offset"] < before + 2]
    assert events
    for event in events:
        _, pack, offset, _, stored, _ = run.index[event["blob"]]
        path = Path(run.folder, layout.PACKS, f"{pack:04}.pack")
        data = bytearray(path.read_bytes())
        data[offset + stored // 2] ^= 4
        path.write_bytes(data)
    (tmp_path / "train.py").write_text(PROBED)
    return tmp_path


def test_the_damage_is_told_and_no_statement_is_blamed(damaged: Path) -> None:
    replay = _flor(damaged, "replay", "--workers", "1", "train.py")
    assert replay.returncode == 1
    assert re.search(r"what the script read from the clock or entropy at .*iteration 2.* is lost \(.*damaged.*\)", replay.stderr)
    assert "hindsight statement" not in replay.stderr
    assert "diverged" not in replay.stderr
    assert "@@ 2" not in replay.stdout


def test_what_lies_before_and_behind_the_damage_is_replayed(damaged: Path) -> None:
    for wanted in ("01", "345"):
        replay = _flor(damaged, "replay", "--workers", "1", "--iterations", f"{wanted[0]}:{int(wanted[-1]) + 1}", "train.py")
        assert replay.returncode == 0, replay.stderr
        assert "replay exact" in replay.stderr
        assert [line.split()[1] for line in replay.stdout.splitlines() if line.startswith("@@")] == list(wanted)
