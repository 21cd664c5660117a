"""What libraries take from the clock and from the system's entropy, and keep in objects of the script's, is as recorded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

WRAPPERS = """
import random, time

class RecordEpisodeStatistics:
    def __init__(self):
        self.state = random.SystemRandom().random()
    def reset(self):
        self.began = time.perf_counter()
    def step(self):
        self.state = (self.state * 3.7 + random.SystemRandom().random()) % 1
        return self.state, time.perf_counter() - self.began
"""
SCRIPT = """
from gymnasium.wrappers.common import RecordEpisodeStatistics
environment, total = RecordEpisodeStatistics(), 0.0
for epoch in range(4):
    environment.reset()
    for step in range(3):
        state, seconds = environment.step()
        total += state
    print(epoch, total, seconds)
"""
PROBED = SCRIPT.replace("    print", "    print('@@', epoch, total, seconds)\n    print")


def _flor(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder / "site-packages"), str(Path(__file__).parents[2])])
    return subprocess.run(
        [sys.executable, "-m", "flor_trace", *command], cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip


def test_environment_that_times_its_episodes_and_seeds_itself(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "gymnasium" / "wrappers"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package.parent / "__init__.py").touch()
    (package / "common.py").write_text(WRAPPERS)
    (tmp_path / "train.py").write_text(SCRIPT)
    recorded = _flor(tmp_path, "record", "--every", "1", "train.py")
    assert recorded.returncode == 0, recorded.stderr
    (tmp_path / "train.py").write_text(PROBED)
    replayed = _flor(tmp_path, "replay", "--workers", "2", "train.py")
    assert replayed.stdout == "".join(f"@@ {line}\n" for line in recorded.stdout.splitlines())
    assert "replay exact" in replayed.stderr and replayed.returncode == 0
