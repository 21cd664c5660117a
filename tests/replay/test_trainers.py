"""Scripts that leave the loop to a trainer of an installed package: its loops are recorded as the script's own would be, with no option.

The package here has the shape of Lightning: loops in methods of objects that the trainer holds, which advance an iterator held by hand
and end by StopIteration, a metric that keeps a function's signature, a callback that keeps what the clock said, a file system object that
keeps a token made of the process's number.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = {
    "fsspec/implementations/local.py": """
import os, uuid

class LocalFileSystem:
    def __init__(self):
        self._fs_token_ = f"{os.getpid()} {uuid.uuid1()}"
""",
    "lightning/pytorch/callbacks/model_checkpoint.py": """
import os, time
from fsspec.implementations.local import LocalFileSystem

class ModelCheckpoint:
    def __init__(self, folder):
        self.folder, self.last, self.fs = folder, None, LocalFileSystem()

    def on_train_epoch_end(self, trainer):
        for name in ("one", "two"):  # not a loop over epochs or steps
            pass
        if not os.path.isdir(self.folder):
            os.makedirs(self.folder)
        self._last_time_checked = time.monotonic()
        path = os.path.join(self.folder, f"{trainer.fit_loop.epoch}.ckpt")
        with open(path, "w") as file:
            file.write(repr(trainer.model.weight))
        if self.last is not None:
            os.remove(self.last)
        self.last = path
""",
    "torchmetrics/metric.py": """
import inspect
from typing import Any, Callable, Optional, Union

class Metric:
    def __init__(self):
        self.signature = inspect.signature(self.update)

    def update(self, value: Union[float, str], weight: Optional[list[int]] = None, *more: Callable[[int], Any] | None) -> None:
        pass
""",
    "lightning/pytorch/loops/training_epoch_loop.py": """
from torchmetrics.metric import Metric

class _TrainingEpochLoop:
    def __init__(self, trainer):
        self.trainer, self.step, self.metrics = trainer, 0, []

    @property
    def done(self):
        return self.trainer.should_stop

    def run(self, fetcher):
        self.metrics.append(Metric())
        while not self.done:
            try:
                self.advance(fetcher)
            except StopIteration:
                break
            finally:
                self._restarting = False

    def advance(self, fetcher):
        batch = next(fetcher)
        self.trainer.model.training_step(batch, self.step)
        self.step += 1
""",
    "lightning/pytorch/loops/fit_loop.py": """
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

class _FitLoop:
    def __init__(self, trainer):
        self.trainer, self.epoch, self.epoch_loop = trainer, 0, _TrainingEpochLoop(trainer)

    @property
    def done(self):
        return self.epoch >= self.trainer.max_epochs

    def run(self):
        while not self.done:
            try:
                self.fetcher = iter(self.trainer.loader)
                self.advance()
                self.on_advance_end()
            except StopIteration:
                break
            finally:
                self._restarting = False

    def advance(self):
        self.epoch_loop.run(self.fetcher)

    def on_advance_end(self):
        for callback in self.trainer.callbacks:
            callback.on_train_epoch_end(self.trainer)
        self.epoch += 1
""",
    "lightning/pytorch/__init__.py": """
from lightning.pytorch.callbacks.model_checkpoint import ModelCheckpoint
from lightning.pytorch.loops.fit_loop import _FitLoop

class Trainer:
    def __init__(self, max_epochs, callbacks):
        self.max_epochs, self.callbacks, self.should_stop, self.fit_loop = max_epochs, callbacks, False, _FitLoop(self)

    def fit(self, model, loader):
        self.model, self.loader = model, loader
        self.fit_loop.run()
""",
}
SCRIPT = """
import random
from lightning.pytorch import ModelCheckpoint, Trainer

class Model:
    def __init__(self):
        self.weight = [random.random() for _ in range(3)]

    def training_step(self, batch, index):
        self.weight = [0.9 * w + 0.1 * random.gauss(batch, 1) for w in self.weight]
        #+step print("@@", index, batch, self.weight[0])

class Printer:
    def on_train_epoch_end(self, trainer):
        print("epoch", trainer.fit_loop.epoch, sum(trainer.model.weight))
        #+epoch print("@@", trainer.fit_loop.epoch, trainer.model.weight, random.getstate()[1][-1])

random.seed(4)
model = Model()
trainer = Trainer(6, [Printer(), ModelCheckpoint("checkpoints")])
trainer.fit(model, [random.random() for _ in range(40)])
#+behind print("@@", trainer.fit_loop.epoch, trainer.fit_loop.epoch_loop.step, model.weight)
print("end", trainer.callbacks[1].last)
"""


def _python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder / "site-packages"), str(Path(__file__).parents[2])])
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=60
    )


def _with(*probes: str) -> str:
    return re.sub(rf"#\+({'|'.join(probes)}) ", "", SCRIPT)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recorded run of the script and the truth of all statements."""
    folder = tmp_path_factory.mktemp("trainer")
    for name, source in PACKAGE.items():
        file = folder / "site-packages" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    (folder / "train.py").write_text(SCRIPT)
    run = _python(folder, "-m", "flor_trace", "record", "--every", "1", "train.py")
    assert run.returncode == 0 and run.stdout.endswith(f"end {Path('checkpoints/5.ckpt')}\n"), run.stderr
    return folder


def _truth(folder: Path, tmp_path: Path, probe: str) -> str:
    """What the statements print in a plain run elsewhere."""
    (tmp_path / "site-packages").symlink_to(folder / "site-packages")
    (tmp_path / "train.py").write_text(_with(probe))
    lines = _python(tmp_path, "train.py").stdout.splitlines(keepends=True)
    return "".join(line for line in lines if line.startswith("@@"))


@pytest.mark.parametrize(("probe", "workers", "lines"), [("step", "2", 240), ("epoch", "1", 6), ("behind", "1", 1)])
def test_statements_in_hooks_and_behind_fit(recorded: Path, tmp_path: Path, probe: str, workers: str, lines: int) -> None:
    (recorded / "train.py").write_text(_with(probe))
    replayed = _python(recorded, "-m", "flor_trace", "replay", "--workers", workers)
    assert replayed.stdout == _truth(recorded, tmp_path, probe) and replayed.stdout.count("\n") == lines
    assert "replay exact" in replayed.stderr and replayed.returncode == 0, replayed.stderr
    assert sorted(os.listdir(recorded / "checkpoints")) == ["5.ckpt"]


def test_an_outer_statement_needs_no_steps(recorded: Path) -> None:
    (recorded / "train.py").write_text(_with("epoch"))
    plan = _python(recorded, "-m", "flor_trace", "replay", "--dry-run").stdout
    assert "skipped where possible: lightning.pytorch.loops.training_epoch_loop:_TrainingEpochLoop.run:0" in plan
    assert "lightning.pytorch.loops.fit_loop:_FitLoop.run:0 (entry 0), " in plan


def test_only_the_loops_over_epochs_and_steps_are_recorded(recorded: Path) -> None:
    shown = _python(recorded, "-m", "flor_trace", "show", "--budget").stdout
    assert set(re.findall(r"lightning\.\S+", shown)) == {
        "lightning.pytorch.loops.fit_loop:_FitLoop.run:0", "lightning.pytorch.loops.training_epoch_loop:_TrainingEpochLoop.run:0"
    }  # fmt: skip
