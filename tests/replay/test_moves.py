"""Which loops a worker skips."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = """\
import random
random.seed(5)
state = {str(n): [n] for n in range(3000)}
total = 0.0
for epoch in range(14):
    for group in state["1"], state["2"]:
        total += random.random()
        print("group", round(total, 9))
    print("epoch", epoch)
"""


def flor(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-m", "flor_trace", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


def test_a_loop_that_takes_longer_to_skip_than_to_execute_is_executed(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    flor(tmp_path, "record", "--every", "1", "train.py")
    script.write_text(SCRIPT.replace('    print("epoch"', '    print("@@", epoch, repr(total))\n    print("epoch"'))
    done = flor(tmp_path, "replay", "--workers", "1", "--show", "all", "train.py")
    assert done.stdout == subprocess.run([sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True).stdout
    # Eight of the inner loop's fourteen executions are skipped, and their lines are not compared: three lines stand in each epoch.
    assert "replay exact" in done.stderr and f"{14 + 2 * 6} recorded lines compared" in done.stderr
