"""Segments within long iterations, for more workers than there are iterations and for every way to get to a segment's start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """\
import random, time
random.seed(3)
history = []

def train(epoch):
    total = 0.0
    for step in range(6):
        time.sleep(0.25)
        total += random.random()
        #+ print("@@", epoch, step, repr(total), len(history))
    return total

for epoch in range(3):
    history.append(train(epoch))
    #+ print("@@", epoch, history)
    print("epoch", epoch, history[-1])
print("end", sum(history))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long")
    (path / "train.py").write_text("".join(line for line in SCRIPT.splitlines(True) if "#+" not in line))
    done = flor(path, "record", "--every", "1", "--overhead", "1.0", "train.py")
    assert done.returncode == 0, done.stderr
    (path / "train.py").write_text(SCRIPT.replace("#+ ", ""))
    return path


def flor(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(path / "cache")}
    return subprocess.run(
        [sys.executable, "-m", "flor_trace", *words], cwd=path, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
@pytest.mark.parametrize(("init", "workers"), [("jump", 8), ("weak", 2), ("weak", 8), ("strong", 2), ("strong", 8)])
def test_every_way_to_a_place_within_an_iteration_gives_the_same_bytes(folder: Path, init: str, workers: int) -> None:
    words = ("replay", "--init", init, "--workers", str(workers), "train.py")
    plan = json.loads(flor(folder, *words[:-1], "--dry-run", "--json", "train.py").stdout)
    assert plan["workers"] == workers, "three epochs"
    assert sum(unit["start_inner"] is not None for unit in plan["units"]) >= workers - 3
    done = flor(folder, *words)
    assert done.returncode == 0 and "replay exact" in done.stderr, done.stderr
    truth = subprocess.run([sys.executable, "train.py"], cwd=folder, capture_output=True, text=True).stdout
    assert done.stdout == "".join(line for line in truth.splitlines(True) if line.startswith("@@"))
