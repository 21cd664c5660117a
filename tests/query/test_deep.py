"""`verify --deep`: a sample is executed again from the recorded sources, whatever today's say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flor_trace.query.deep import sampled

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """\
import random
random.seed(0)
total = 0.0
for epoch in range(8):
    for step in range(3):
        total += random.random()
    print("epoch", epoch, total)
print("end")
"""


def flor(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, "-m", "flor_trace", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def record(folder: Path, source: str) -> None:
    (folder / "train.py").write_text(source)
    done = flor(folder, "record", "--every", "1", "train.py")
    assert done.returncode == 0, done.stderr


def test_a_run_that_repeats_is_exact_whatever_has_become_of_the_source(tmp_path: Path) -> None:
    record(tmp_path, SCRIPT)
    (tmp_path / "train.py").write_text(SCRIPT.replace("random.random()", "1.0") + 'print("@@")\n')
    done = flor(tmp_path, "verify", "--deep", "--sample", "2", "--workers", "1", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["verdict"] == "exact" and result["checks"] > 0 and result["compared_lines"] > 0
    assert 1 <= len(result["segments"]) <= min(2, result["of"])
    assert "re-execution exact" in done.stderr and "@@" not in done.stdout


def test_a_run_that_does_not_repeat_is_told_with_its_cause(tmp_path: Path) -> None:
    record(tmp_path, SCRIPT.replace("random.random()", "int.from_bytes(open('/dev/urandom', 'rb').read(2))"))
    done = flor(tmp_path, "verify", "--deep")
    assert done.returncode == 3, done.stderr
    assert "diverged" in done.stdout and "reading /dev/urandom" in done.stderr and "train.py:6" in done.stderr


def test_mistakes(tmp_path: Path) -> None:
    assert flor(tmp_path, "verify", "--deep").returncode == 2
    done = flor(tmp_path, "verify", "--deep", "--sample", "0")
    assert done.returncode == 2 and "--sample" in done.stderr


@pytest.mark.parametrize(("count", "expected"), [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (99, list(range(10)))])
def test_a_sample_is_spread_over_the_run(count: int, expected: list[int]) -> None:
    assert sampled(list(range(10)), count) == expected
