"""A recording that was ended by Ctrl-C: replay shows no iteration that never was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flor_trace.replay.interrupted import as_far_as

SCRIPT = """
import time
for epoch in range(60):
    time.sleep(0.1)
    print(epoch, flush=True)
"""
CAUGHT = """
import time
def train():
    total = 0
    try:
        for epoch in range(60):
            for step in range(4):
                total += step
                print("step", step, end=" ", flush=True)
                time.sleep(0.03)
            print(epoch, total, flush=True)
    except KeyboardInterrupt:
        print("stopping early")
    for last in range(2):
        print("after", last)
train()
"""
FAST = """
import time
log = open("last", "a", buffering=1)
for epoch in range(300):
    total = 0
    for step in STEPS:
        total += step
        if step % 50 == 0:
            log.write(f"{epoch} {step}\\n")
        PAUSE
        if epoch == 1 and step == 700:
            print("@700", flush=True)
    print(epoch, total, flush=True)
"""
RECORD = [sys.executable, "-m", "flor_trace", "record", "--every", "1", "train.py"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
REPLAY = [sys.executable, "-m", "flor_trace", "replay", "--workers", "2", "train.py"]


def recorded(folder: Path, source: str, until: str) -> tuple[str, int]:
    """Record, interrupt when `until` has been printed, and give what was printed and the status."""
    (folder / "train.py").write_text(source)
    output = folder / "output"
    with output.open("w") as stdout:
        recording = subprocess.Popen(RECORD, cwd=folder, env=ENVIRONMENT, stdout=stdout, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while until not in output.read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        recording.send_signal(signal.SIGINT)
        status = recording.wait(60)
    return output.read_text(), status


def replayed(folder: Path, source: str) -> subprocess.CompletedProcess[str]:
    (folder / "train.py").write_text(source)
    return subprocess.run(REPLAY, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)


def test_nothing_is_replayed_beyond_the_interruption(tmp_path: Path) -> None:
    printed, status = recorded(tmp_path, SCRIPT, "4\n")
    assert status == -signal.SIGINT
    begun = len(printed.splitlines()) + 1
    replay = replayed(tmp_path, SCRIPT.replace("    time", '    print("@@", epoch)\n    time'))
    lines = [f"@@ {epoch}" for epoch in range(begun)]
    assert replay.stdout.splitlines() in (lines, lines[:-1])
    assert replay.returncode == 0 and "replay exact" in replay.stderr, replay.stderr
    assert f"the recorded run was interrupted by Ctrl-C in iteration {begun - 1} of the loop at train.py:3: replay goes" in replay.stderr


def test_an_interruption_that_the_script_catches(tmp_path: Path) -> None:
    printed, status = recorded(tmp_path, CAUGHT, "2 18")
    assert status == 0 and "stopping early" in printed and "after 1" in printed
    done = [line.split()[-1] for line in printed.splitlines() if line.startswith("step 0 step 1 step 2 step 3")]
    replay = replayed(tmp_path, CAUGHT.replace("            print(epoch", '            print("@@", total)\n            print(epoch'))
    complete = [f"@@ {total}" for total in done if total.isdigit()]
    assert replay.stdout.splitlines() == complete and len(complete) >= 3
    assert replay.returncode == 0 and "replay exact" in replay.stderr, replay.stderr


@pytest.mark.parametrize("steps", ["range(4000)", "list(range(4000))", "iter(range(4000))"])
@pytest.mark.parametrize("pause", ["time.sleep(5e-4)", "sum(range(400))"])
def test_an_interruption_in_a_loop_of_fast_steps(tmp_path: Path, steps: str, pause: str) -> None:
    source = FAST.replace("STEPS", steps).replace("PAUSE", pause)
    recorded(tmp_path, source, "@700")
    log = replayed(tmp_path, source.replace("total += step", "total += step; print('@@', epoch, step)"))
    assert "the recorded run was interrupted by Ctrl-C " in log.stderr and "exact" in log.stderr
    noted, shown = (
        4000 * int(last[-2]) + int(last[-1])
        for last in (text.splitlines()[-1].split() for text in ((tmp_path / "last").read_text(), log.stdout))
    )
    assert noted <= shown <= noted + 50 and len(log.stdout.splitlines()) == shown + 1, log.stderr


@pytest.mark.parametrize(
    ("at", "where", "hindsight"),
    [
        (0, "before it came to the loop at train.py:5: replay goes no further", ["@@ waiting"]),
        (1, "before it came to the loop at train.py:8: replay goes no further", ["@@ 0", "@@ 1", "@@ 2", "@@ waiting"]),
        (2, "outside its loops: what replay shows goes on to the script's end", ["@@ 0", "@@ 1", "@@ 2"] * 2 + ["@@ waiting"]),
    ],
)
def test_an_interruption_outside_the_loops(tmp_path: Path, at: int, where: str, hindsight: list[str]) -> None:
    loop = "for n in range(3):\n    print('n', n, flush=True)\n"
    source = "import time\n" + loop * at + "print('now', flush=True)\ntime.sleep(4)\n" + loop * (2 - at)
    printed, status = recorded(tmp_path, source, "now")
    assert status == -signal.SIGINT and len(printed.splitlines()) == 3 * at + 1
    source = source.replace("time.sleep(4)", "print('@@ waiting')\ntime.sleep(4)")
    replay = replayed(tmp_path, source.replace("    print(", "    print('@@', n)\n    print("))
    assert replay.returncode == 0 and replay.stdout.splitlines() == hindsight, replay.stderr
    assert f"the recorded run was interrupted by Ctrl-C {where}" in replay.stderr and "replay exact" in replay.stderr


def test_as_far_as_the_recording_went() -> None:
    assert list(as_far_as(["a\n", "b"], ["a\n", "bc\n", "d\n"])) == ["a\n", "b"]
    assert list(as_far_as(["a\n"], ["x\n", "y\n"])) == ["x\n"]
    assert list(as_far_as([], ["x\n"])) == []
    assert list(as_far_as(["a\n", "b\n"], ["a\n"])) == ["a\n"]
