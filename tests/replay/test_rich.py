"""Progress displays of rich: drawn by the clock, asked by loops, and held by Lightning's trainer."""

from __future__ import annotations

from pathlib import Path

import pytest
from exactness import case_from_marks, compare

pytest.importorskip("rich")

SCRIPT = '''"""A loop that ends when a task of rich has, and the loop that `track` makes."""
import time
from rich.progress import Progress, track

class Trainer:
    def __init__(self):
        self.progress = Progress(refresh_per_second=50)

total = 0
trainer = Trainer()
with trainer.progress as progress:
    task = progress.add_task("train", total=5)
    while not progress.finished:
        for step in range(3):
            total += step * progress.tasks[task].completed
            time.sleep(0.01)
            #+inner print("@@ in", step, total)
        progress.update(task, advance=1, description=f"total {total}")
        #+outer print("@@ out", total, progress.tasks[task].completed)
for epoch in track(range(4), description="epochs", update_period=0.01):
    for step in range(3):
        total += epoch
        time.sleep(0.01)
    #+track print("@@ track", epoch, total)
print(total, progress.finished)
'''


def test_displays_of_rich_are_no_obstacle_and_tasks_stand_where_they_stood(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    report = compare(case_from_marks(tmp_path, "train.py"), replays=[("outer", 2), ("inner", 2), ("track", 2), ("inner+outer+track", 1)])
    assert not report.failures, "\n".join(report.failures)
