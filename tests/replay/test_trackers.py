"""Trainings that report to an experiment tracker, whose objects are threads, sockets and processes of this run."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Shaped as W&B is: a run with a thread, a clock, settings that name folders, and a configuration; the summary is kept elsewhere, by a
# service that a replay's worker has its own of.
WANDB = {
    "wandb/__init__.py": "from wandb.sdk.wandb_run import Run, init\n",
    "wandb/sdk/__init__.py": "",
    "wandb/sdk/wandb_config.py": """
        class Config:
            def __init__(self, items, run):
                object.__setattr__(self, "_items", {"_wandb": {"pid": run._init_pid}, **items})
                object.__setattr__(self, "_callback", run._config_callback)
            def __getattr__(self, key):
                return self._items[key]
            def update(self, items):
                self._items.update(items)
        """,
    "wandb/sdk/wandb_run.py": """
        import os, sys, threading, time
        from wandb.sdk.wandb_config import Config
        _service = {}
        class Summary:
            def __init__(self, get, put):
                self._get, self._put = get, put
            def __getitem__(self, key):
                return self._get()[key]
            def __setitem__(self, key, value):
                self._put({key: value})
        class Run:
            def __init__(self, config, dir):
                self._init_pid, self._start_time, self._dir = os.getpid(), time.time(), dir
                self._thread = threading.Thread(target=threading.Event().wait, daemon=True)
                self._thread.start()
                self._config = Config(config, self)
                self.summary = Summary(self._summary_get_current_summary_callback, _service.update)
            def _config_callback(self):
                pass
            def _summary_get_current_summary_callback(self):
                return dict(_service)
            @property
            def config(self):
                return self._config
            @property
            def step(self):
                return _service.get("_step", 0)
            def log(self, data, step=None):
                _service.update(data, _step=self.step + 1)
        def init(config=None, mode=None, dir=None):
            os.environ["WANDB_SERVICE"] = str(os.getpid())
            sys.stderr.write(f"wandb: Run data is saved locally in {dir}/{os.getpid()}\\n")
            return Run(config or {}, dir)
        """,
}
SCRIPT = """
import wandb

class Trainer:
    def __init__(self):
        self.run = wandb.init(config={"lr": 0.5})
        self.config = self.run.config

def main():
    trainer, weight = Trainer(), 1.0
    for epoch in range(6):
        for step in range(4):
            weight -= trainer.config.lr * weight * 0.1
            #in print("@@ in", epoch, step, weight)
            trainer.run.log({"weight": weight})
        if trainer.run.summary["weight"] < 0.3:
            trainer.config.update({"lr": trainer.config.lr * 0.9})
        trainer.run.summary["epochs"] = trainer.run.step
        #out print("@@ out", epoch, weight, trainer.config.lr)
        #read print("@@ read", trainer.run.summary["weight"])
        print(epoch, weight, trainer.run.step)
main()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, source in WANDB.items():
        path = tmp_path / "site-packages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
    made = tmp_path / "work"
    made.mkdir()
    (made / "train.py").write_text(SCRIPT)
    done = flor(made, "-m", "flor_trace", "record", "--every", "1", "train.py")
    assert done.returncode == 0, done.stderr
    assert "wandb: Run data is saved locally" in done.stderr
    return made


def flor(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{folder.parent / 'site-packages'}"}
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def insert(folder: Path, mark: str) -> list[str]:
    """Put a statement in; gives the lines that it prints in a plain run."""
    (folder / "train.py").write_text(SCRIPT.replace(f"#{mark} ", ""))
    return [line for line in flor(folder, "train.py").stdout.splitlines() if line.startswith("@@")]


@pytest.mark.parametrize("mark", ["in", "out"])
def test_a_run_held_by_the_script_is_no_obstacle_and_what_is_read_of_it_is_as_recorded(folder: Path, mark: str) -> None:
    truth = insert(folder, mark)
    done = flor(folder, "-m", "flor_trace", "replay", "--workers", "2", "train.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == truth
    assert "replay exact" in done.stderr


def test_a_statement_that_reads_what_only_the_tracker_knows_is_refused(folder: Path) -> None:
    insert(folder, "read")
    done = flor(folder, "-m", "flor_trace", "replay", "train.py")
    assert done.returncode not in (0, 3)
    assert "cannot read W&B's summary or step" in done.stderr
    assert "@@" not in done.stdout
