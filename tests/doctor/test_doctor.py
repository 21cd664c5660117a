"""The doctor command, from the outside: a script is examined, recorded for a moment and replayed, and nothing of it is harmed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINTS = """\
import random, sys, time
from pathlib import Path
random.seed(0)
best, total = 1.0, 0.0
for epoch in range(int(sys.argv[1])):
    for step in range(3):
        total += random.random()
        time.sleep(0.005)
    value = random.random()
    if value < best:
        best = value
        Path("best.txt").write_text(str(best))
    assert float(Path("best.txt").read_text()) == best
    print("epoch", epoch, total, flush=True)
"""
ENTROPY = """\
import ctypes, time
total = 0
for epoch in range(6):
    for step in range(3):
        time.sleep(0.005)
        total += ctypes.CDLL(None).rand() + int.from_bytes(open("/dev/urandom", "rb").read(2))
    print("epoch", epoch)
"""


def doctor(folder: Path, source: str, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "train.py").write_text(source)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "flor_trace", "doctor", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=200
    )


def test_a_script_that_is_stopped_early_is_exact_and_its_writes_are_kept_away(tmp_path: Path) -> None:
    done = doctor(tmp_path, CHECKPOINTS, "--run", "--seconds", "2", "--json", "train.py", "100000")
    report = json.loads(done.stdout)
    assert done.returncode == 0, report["findings"]
    assert report["run"]["verdict"] == "exact" and report["run"]["checks"] > 3, report
    assert report["run"]["iteration_seconds"] > 0.01 and report["run"]["snapshots_per_hour"] > 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["train.py"]


def test_what_is_not_exact_is_said_with_its_place(tmp_path: Path) -> None:
    done = doctor(tmp_path, ENTROPY, "--run", "--seconds", "2", "train.py")
    assert done.returncode == 3, done.stdout
    assert "the recorded part diverged" in done.stdout and "reading /dev/urandom" in done.stdout and "train.py:6" in done.stdout
    assert "snapshots of" in done.stdout and "Landlock" in done.stdout


def test_without_run_nothing_is_executed(tmp_path: Path) -> None:
    done = doctor(tmp_path, "raise SystemExit(9)\n", "train.py", "--lr", "1")
    assert (done.returncode, done.stderr) == (0, "") and "nothing inexact found" in done.stdout


def test_mistakes(tmp_path: Path) -> None:
    assert doctor(tmp_path, "", "missing.py").returncode == 2
    assert doctor(tmp_path, "", "--seconds", "0", "train.py").returncode == 2
    assert doctor(tmp_path, "").returncode == 2


def test_a_script_without_a_loop_or_with_an_error_is_said_to_be_unknown(tmp_path: Path) -> None:
    done = doctor(tmp_path, "print(1)\nraise ValueError('no data')\n", "--run", "--seconds", "1", "train.py")
    assert done.returncode == 3
    assert "whether it replays exactly is not known" in done.stdout and "ValueError: no data" in done.stdout


def test_what_libraries_write_by_themselves_goes_to_the_scratch_folder(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    script = "import os, torch\nos.makedirs('out')\nfor epoch in range(3):\n    torch.save(epoch, 'out/best.pt')\n    print(epoch)\n"
    done = doctor(tmp_path, script, "--run", "train.py")
    assert done.returncode == 0 and "the recorded part replays exact" in done.stdout, done.stdout + done.stderr
    assert not (tmp_path / "out").exists()
