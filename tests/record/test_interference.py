"""What writing takes from the training is its processor time, as far as no core was idle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flor_trace.record.budget import Budget
from flor_trace.record.interference import SHORTEST_SECONDS, WORTH_LOOKING_SECONDS, Interference, idle_seconds
from flor_trace.store.reader import Run


class Machine:
    now = idle = 0.0

    def __call__(self) -> float:
        return self.now

    def idle_seconds(self) -> float:
        return self.idle

    def passes(self, seconds: float, idle: float) -> None:
        self.now += seconds
        self.idle += idle


@pytest.mark.parametrize(
    ("idle", "lost"),
    [
        (2.0, 0.0),  # a core was to spare all the time
        (0.0, 0.5 * 0.75),  # all cores were busy, one of them with us for a quarter of the time
        (1.0, 0.5 * 0.25),
        (1.5, 0.0),
    ],
)
def test_only_what_no_idle_core_could_do_is_lost(idle: float, lost: float) -> None:
    machine = Machine()
    interference = Interference(machine.idle_seconds, machine)
    machine.passes(2.0, idle)
    assert interference.since_last(0.5) == pytest.approx(lost)
    assert interference.since_last(0.5) == 0.0, "it is told once"


def test_little_is_added_up_until_it_is_worth_a_look() -> None:
    machine = Machine()
    interference = Interference(machine.idle_seconds, machine)
    machine.passes(2.0, 0.0)
    assert interference.since_last(0.9 * WORTH_LOOKING_SECONDS) == 0.0
    machine.passes(2.0, 0.0)
    used = 2.0 * WORTH_LOOKING_SECONDS
    assert interference.since_last(used) == pytest.approx(used * (1 - used / 4.0))
    machine.passes(0.5 * SHORTEST_SECONDS, 0.0)
    assert interference.since_last(10.0) == 0.0, "the kernel's counts are too coarse for so short a time"


def test_nothing_is_claimed_where_the_kernel_does_not_tell() -> None:
    machine = Machine()
    interference = Interference(lambda: None, machine)
    machine.passes(9.0, 0.0)
    assert interference.since_last(3.0) == 0.0


def test_idle_time_is_that_of_the_cores_of_this_process() -> None:
    first = idle_seconds()
    assert first is not None and first > 0.0
    alone = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    alone += "from flor_trace.record.interference import idle_seconds; print(idle_seconds())"
    of_one = float(subprocess.run([sys.executable, "-c", alone], capture_output=True, text=True, check=True).stdout)
    later = idle_seconds()
    assert later is not None and of_one <= later


def test_it_is_paid_from_the_credit() -> None:
    machine = Machine()
    budget = Budget(0.01, None, machine)
    machine.passes(100.0, 0.0)
    assert budget.credit() == pytest.approx(1.0)
    budget.interference += 0.75
    assert budget.credit() == pytest.approx(0.25)


SCRIPT = """
import time
import numpy as np
rows = np.random.default_rng(0).random((1 << 20, 4))
for epoch in range(6):
    rows += 1.0
    end = time.perf_counter() + 0.3
    while time.perf_counter() < end:
        pass
print(rows.sum())
"""


@pytest.mark.parametrize("writer", ["process", "thread"])
def test_a_recording_counts_what_its_writer_uses_on_the_only_core(writer: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    command = "import os, sys; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); os.execv(sys.executable, sys.argv[1:])"
    words = [sys.executable, "-m", "flor_trace", "record", "--every", "1", "train.py"]
    result = subprocess.run(
        [sys.executable, "-c", command, *words], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={"PATH": "/usr/bin:/bin", "FLOR_TRACE_WRITER": writer, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    (folder,) = [journal.parent for journal in (tmp_path / ".flor").rglob("journal")]
    lost = [record["interference"] for record in Run(str(folder)).events() if record["kind"] == "snapshot"]
    assert lost == sorted(lost) and lost[-1] > 0.0, result.stderr
