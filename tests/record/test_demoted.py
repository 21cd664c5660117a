"""Loops so short that their probes are taken out of the way while the script runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from exactness import case_from_marks, compare

from flor_trace.store.reader import open_run

# The loop in `forward` takes some tenths of a millisecond.
SCRIPT = """
import sys
def forward(x):
    for layer in range(3):
        x = (x * 31 + sum(range(4000)) + layer) % 10007
        #+inner print("@@ layer", step, layer, x)
    return x
x = 1
for step in range(2000):
    x = forward(x)
    if step % 500 == 0:
        for round in range(2):
            x += sum(range(20_000 * (round + 1))) % 7
            #+rare print("@@ rare", step, round, x)
        print(step, x)
print(x)
"""


def test_statements_in_and_around_demoted_loops_replay_exactly(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(f'"""A short loop that is executed often, and one that is not."""\n{SCRIPT}')
    report = compare(case_from_marks(tmp_path, "train.py"), replays=[("inner", 2), ("rare", 2), ("inner+rare", 1)], every="auto")
    assert not report.failures, "\n".join(report.failures)


def test_only_loops_that_are_felt_are_demoted(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    subprocess.run([sys.executable, "-m", "flor_trace", "record", "train.py"], cwd=tmp_path, check=True, capture_output=True)
    demoted = {event["loop"] for event in open_run(str(tmp_path / ".flor")).events("demoted")}
    assert demoted == {"__main__:forward:0"}
