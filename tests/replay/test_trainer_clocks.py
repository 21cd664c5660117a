"""A trainer of an installed package that keeps what the clock said in its log, and says at its import that a tracker is offline.

The package has the shape of `transformers`, whose `Trainer` keeps the seconds of each evaluation in `state.log_history`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PACKAGE = {
    "__init__.py": """
import os
if os.getenv("WANDB_MODE") == "offline":
    print("[INFO] Running in WANDB offline mode")
""",
    "trainer_utils.py": """
import time

def speed_metrics(start_time):
    runtime = time.time() - start_time
    return {"runtime": round(runtime, 9), "per_second": 1 / (runtime + 1e-9)}
""",
    "trainer.py": """
import time
from transformers.trainer_utils import speed_metrics

class Trainer:
    def __init__(self, callback):
        self.callback, self.weight, self.log_history = callback, 1.0, []

    def train(self):
        for epoch in range(4):
            start_time = time.time()
            for step in range(3):
                self.weight = self.weight * 0.9 + step
            self.log_history.append(speed_metrics(start_time))
            self.callback(self, epoch)
""",
}
SCRIPT = """
from transformers.trainer import Trainer

def on_epoch_end(trainer, epoch):
    print("epoch", epoch, trainer.log_history[-1]["runtime"] >= 0)
    #+ print("@@", epoch, trainer.weight)

trainer = Trainer(on_epoch_end)
for _ in range(2):
    trainer.train()
print(len(trainer.log_history))
"""


def test_what_a_trainer_keeps_of_the_clock_is_recorded(tmp_path: Path) -> None:
    for name, source in PACKAGE.items():
        file = tmp_path / "site-packages" / "transformers" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    path = os.pathsep.join([str(tmp_path / "site-packages"), str(Path(__file__).parents[2])])
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_MODE"} | {"PYTHONPATH": path}

    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )

    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    recorded = python("-m", "flor_trace", "record", "--every", "1", "train.py")
    assert recorded.returncode == 0 and recorded.stdout.endswith("\n8\n"), recorded.stderr
    script.write_text(SCRIPT.replace("#+ ", ""))
    truth = [line for line in python("train.py").stdout.splitlines() if line.startswith("@@")]
    replayed = python("-m", "flor_trace", "replay", "--workers", "1")
    assert replayed.stdout.splitlines() == truth and len(truth) == 8
    assert replayed.returncode == 0 and "replay exact" in replayed.stderr, replayed.stderr
