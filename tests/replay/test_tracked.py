"""What hindsight statements send to a tracker is shown, and nothing of recorded calls is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from flor_trace.runtime import tracked
from flor_trace.runtime.engine import Runtime
from flor_trace.runtime.tracked import CALLS, TRACKER, tell_tracked

WRITER = """
class SummaryWriter:
    def __init__(self):
        self.sent = []
    def add_scalar(self, tag, scalar_value, global_step=None, walltime=None, new_style=False):
        self.sent.append((tag, float(scalar_value), global_step))
    def add_scalars(self, main_tag, tag_scalar_dict, global_step=None, walltime=None):
        for tag, value in tag_scalar_dict.items():
            self.sent.append((f"{main_tag}/{tag}", float(value), global_step))
"""
SCRIPT = """
from tensorboardX import SummaryWriter

def main():
    writer = SummaryWriter()
    weight, step = 1.0, 0
    for epoch in range(4):
        for _ in range(2):
            weight, step = weight * 0.5, step + 1
            writer.add_scalar("loss", weight, step)
        print(epoch, len(writer.sent))

main()
"""


def _flor_trace(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(__file__).resolve().parents[2]), str(folder / "site-packages")])
    command = [sys.executable, "-m", "flor_trace", *words]
    return subprocess.run(command, cwd=folder / "work", env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=120)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    library = tmp_path / "site-packages" / "tensorboardX"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text("from .writer import SummaryWriter\n")
    (library / "writer.py").write_text(WRITER)
    (tmp_path / "work").mkdir()
    return tmp_path


def test_a_scalar_added_in_hindsight_is_shown_for_all_epochs(folder: Path) -> None:
    script = folder / "work" / "train.py"
    script.write_text(SCRIPT)
    recorded = _flor_trace(folder, "record", "-q", "--every", "1", "train.py")
    assert recorded.returncode == 0, recorded.stderr
    anchor = 'writer.add_scalar("loss", weight, step)\n'
    script.write_text(SCRIPT.replace(anchor, anchor + '            writer.add_scalar("half", weight / 2, global_step=step)\n'))
    done = _flor_trace(folder, "replay", "--workers", "2", "train.py")
    expected = "".join(f"half {0.5 ** (step + 1)} (step {step})\n" for step in range(1, 9))
    assert done.stdout == expected, done.stderr
    shown = [json.loads(line) for line in _flor_trace(folder, "replay", "--json", "train.py").stdout.splitlines()[:-1]]
    assert [(record["stream"], record["position"][-1][2]) for record in shown] == [(TRACKER, n % 2) for n in range(8)]
    logged = _flor_trace(folder, "logs", "--replay", "1").stdout
    assert logged.splitlines()[:4] == ["half 0.25 (step 1)", "half 0.125 (step 2)", "0 2", "half 0.0625 (step 3)"]


def _told(monkeypatch: pytest.MonkeyPatch, calls: dict[str, object], hindsight: bool = True) -> tuple[type, list[tuple[str, str]]]:
    class Sent:
        def one(self, name: str, value: object, step: object = None) -> str:
            return "result"

        def several(self, values: dict[str, object], within: str | None = None, step: object = None) -> None:
            return None

    class Library:
        Class = Sent

    monkeypatch.setitem(sys.modules, "a_tracker", Library)  # type: ignore[arg-type]
    monkeypatch.setattr(tracked, "CALLS", {"a_tracker": calls})
    runtime, lines = Runtime(), list[tuple[str, str]]()
    if hindsight:
        runtime.hindsight.append(0)
    tell_tracked(lambda _, then: then(), runtime, lambda stream, text: lines.append((stream, text)))
    return Sent, lines


ONE, SEVERAL = tracked._One("name", "value", "step"), tracked._Several("values", "step", "within")


@pytest.mark.parametrize("value", [0.1, np.float64(0.1), np.array([0.1]), torch.tensor(0.1, dtype=torch.float64)])
def test_values_are_shown_as_python_writes_them(monkeypatch: pytest.MonkeyPatch, value: object) -> None:
    kind, lines = _told(monkeypatch, {"Class.one": ONE, "Class.gone": ONE})
    assert kind().one("loss", value) == "result"
    kind().one(value=value, step=torch.tensor(3), name="loss")
    assert lines == [(TRACKER, "loss 0.1\n"), (TRACKER, "loss 0.1 (step 3)\n")]


def test_several_values_have_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    kind, lines = _told(monkeypatch, {"Class.several": SEVERAL})
    kind().several({"a": 1, "b": "text"}, step=2)
    kind().several({"a": torch.zeros(2)}, "losses")
    assert lines == [(TRACKER, "a 1 (step 2)\nb text (step 2)\n"), (TRACKER, "losses/a tensor([0., 0.])\n")]


def test_recorded_calls_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    kind, lines = _told(monkeypatch, {"Class.one": ONE}, hindsight=False)
    assert kind().one("loss", 1.0) == "result" and lines == []


def test_the_calls_of_installed_trackers_take_these_arguments() -> None:
    """A library that is not installed here is passed over; torch's own writer needs tensorboard."""
    import importlib
    import inspect

    found = 0
    for library, calls in CALLS.items():
        try:
            module = importlib.import_module(library)
        except ImportError:
            continue
        for path, sent in calls.items():
            call = module
            for part in path.split("."):
                call = getattr(call, part)
            found += 1
            assert {name for name in sent if name} <= set(inspect.signature(call).parameters), path
    if not found:
        pytest.skip("no tracker is installed")
