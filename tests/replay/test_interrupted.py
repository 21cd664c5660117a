"""A recording that was ended by Ctrl-C: replay shows no iteration that never was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SCRIPT = """
import time
for epoch in range(60):
    time.sleep(0.1)
    print(epoch, flush=True)
"""
RECORD = [sys.executable, "-m", "flor_trace", "record", "--every", "1", "train.py"]
REPLAY = [sys.executable, "-m", "flor_trace", "replay", "--workers", "2", "train.py"]


def test_nothing_is_replayed_beyond_the_interruption(tmp_path: Path) -> None:
    script, output = tmp_path / "train.py", tmp_path / "output"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with output.open("w") as stdout:
        recording = subprocess.Popen(RECORD, cwd=tmp_path, env=environment, stdout=stdout, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(output.read_text().splitlines()) < 5 and time.monotonic() < deadline:
            time.sleep(0.02)
        recording.send_signal(signal.SIGINT)
        assert recording.wait(60) == -signal.SIGINT
    begun = len(output.read_text().splitlines()) + 1
    script.write_text(SCRIPT.replace("    time", '    print("@@", epoch)\n    time'))
    replay = subprocess.run(REPLAY, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    lines = [f"@@ {epoch}" for epoch in range(begun)]
    assert replay.stdout.splitlines() in (lines, lines[:-1])
    assert replay.returncode == 1
    assert "Ctrl-C" in replay.stderr
