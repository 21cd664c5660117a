"""A run without any snapshot is executed again, and finds the files as they were before the run, not as it has left them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os

print(sorted(os.listdir(".")), open("count.txt").read())
os.makedirs("out", exist_ok=False)
for name in ("out/first.txt", "count.txt"):
    with open(name, "w") as file:
        file.write("written")
os.remove("old.txt")
#+ print("@@", sorted(os.listdir("out")), os.path.exists("old.txt"), open("count.txt").read())
"""


def _flor(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flor_trace", *command], cwd=folder, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip


def test_a_run_without_snapshots_begins_with_the_files_from_before(tmp_path: Path) -> None:
    (tmp_path / "count.txt").write_text("7")
    (tmp_path / "old.txt").write_text("old")
    (tmp_path / "train.py").write_text(SCRIPT)
    recorded = _flor(tmp_path, "record", "train.py")
    assert recorded.returncode == 0 and ": 0 snapshots" in recorded.stderr, recorded.stderr
    assert recorded.stdout == "['.flor', 'count.txt', 'old.txt', 'train.py'] 7\n"
    (tmp_path / "train.py").write_text(SCRIPT.replace("#+ ", ""))
    replayed = _flor(tmp_path, "replay", "train.py")
    assert replayed.stdout == "@@ ['first.txt'] False written\n", replayed.stderr
    assert "replay exact" in replayed.stderr and replayed.returncode == 0
    assert (tmp_path / "count.txt").read_text() == "written" and not (tmp_path / "old.txt").exists()
