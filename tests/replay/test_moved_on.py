"""Code that moved on since it was recorded: what means the same still replays, what may mean something else is refused and shown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flor_trace.replay.diff import SourceDiff, diff

ROOT = Path(__file__).parents[2]

RECORDED = '''\
import sys
import random
import json
from collections import deque

# how far
RATE = 0.5
EPOCHS = 6


def scale(x, rate=RATE):
    """Smaller."""
    return x * rate


def noise():
    return random.random()


class Model:
    width = 2

    def __init__(self):
        self.weight = 1.0

    def step(self, x):
        self.weight -= scale(x)
        return self.weight


class Optimizer:
    def __init__(self, model):
        self.model = model


def train(model, optimizer):
    losses = deque(json.loads("[]"), maxlen=3)
    for epoch in range(EPOCHS):
        loss = model.step(noise())
        losses.append(loss)
        if epoch % 2 == 0:
            print("epoch", epoch, round(loss, 6))
        print("loss %.4f" % loss, file=sys.stderr)
    return losses


random.seed(1)
model = Model()
optimizer = Optimizer(model)
print("end", len(train(model, optimizer)))
'''

SAME = {
    "comment": ("# how far", "# how far it goes\n\n"),
    "docstring": ('"""Smaller."""', '"""Makes `x` smaller.\n\n    By `rate`.\n    """'),
    "format": ("self.weight -= scale(x)", "self.weight -= scale(\n            x,\n        )"),
    "quotes and parentheses": ('print("end", len(train(model, optimizer)))', "print('end', (len(train(model, optimizer))))"),
    "imports sorted": ("import sys\nimport random\nimport json\nfrom collections import deque\n",
                       "from collections import deque\nimport json\nimport random\nimport sys\n"),
    "annotated parameters": ("def scale(x, rate=RATE):", "def scale(x: float, rate: float = RATE) -> float | None:"),
    "annotated method": ("def step(self, x):", "def step(self, x: 'list[int] | float') -> float:"),
    "annotated variable": ("RATE = 0.5", "RATE: float = 0.5"),
    "annotated local": ("        loss = model.step", "        loss: float = model.step"),
    "annotated attribute": ("        self.weight = 1.0", "        self.weight: float = 1.0"),
    "functions reordered": ('def noise():\n    return random.random()\n\n\nclass Model:', "class Model:"),
}  # fmt: skip

LOGS = {
    "renamed variable in a log line": ('print("loss %.4f" % loss, file=sys.stderr)', 'print("loss %.4f" % model.weight, file=sys.stderr)'),
    "f-string": ('print("loss %.4f" % loss, file=sys.stderr)', 'print(f"loss {loss:.4f}", file=sys.stderr)'),
    "format": ('print("loss %.4f" % loss, file=sys.stderr)', 'print("loss {:.4f}".format(loss), file=sys.stderr)'),
    "guard removed": ('        if epoch % 2 == 0:\n            print("epoch", epoch, round', '        print("epoch", epoch, round'),
    "moved up": ('        losses.append(loss)\n        if epoch % 2 == 0:\n            print("epoch", epoch, round(loss, 6))\n',
                 '        if epoch % 2 == 0:\n            print("epoch", epoch, round(loss, 6))\n        losses.append(loss)\n'),
    "helper module": ("import sys\n", "import sys\nfrom mylog import note\n"),
    "helper called": ("        losses.append(loss)\n", "        losses.append(loss)\n        note(epoch, loss)\n"),
}  # fmt: skip

REFUSED = {
    "hyper-parameter": ("RATE = 0.5", "RATE = 0.25", ["statement was changed", "- RATE = 0.5", "+ RATE = 0.25"]),
    "default": ("rate=RATE):", "rate=0.1):", ["defaults", "- def scale(x, rate=RATE):", "+ def scale(x, rate=0.1):"]),
    "model": ("        self.weight = 1.0", "        self.weight = 2.0", ["changed", "- self.weight = 1.0", "+ self.weight = 2.0"]),
    "optimizer": ("optimizer = Optimizer(model)", "optimizer = Optimizer(Model())", ["changed", "+ optimizer = Optimizer(Model())"]),
    "order of statements": ("random.seed(1)\nmodel = Model()", "model = Model()\nrandom.seed(1)", ["moved", "random.seed(1)"]),
    "order of assignments": ("RATE = 0.5\nEPOCHS = 6", "EPOCHS = 6\nRATE = 0.5", ["moved"]),
    "annotation that calls": ("def noise():", "def noise() -> print(1):", ["decorators, parameters or defaults"]),
    "annotated field": ("    width = 2\n", "    width: int = 2\n", ["statement was removed", "- width = 2"]),
}  # fmt: skip


def edited(old: str, new: str) -> str:
    assert RECORDED.count(old) == 1, RECORDED.count(old)
    return RECORDED.replace(old, new)


def compare(present: str) -> SourceDiff:
    return diff(RECORDED.encode(), present.encode(), "__main__")


@pytest.mark.parametrize("name", SAME)
def test_what_means_the_same_is_the_same(name: str) -> None:
    present = edited(*SAME[name])
    if name == "functions reordered":
        present = present.replace("\n\nrandom.seed(1)", "\n\ndef noise():\n    return random.random()\n\n\nrandom.seed(1)")
    found = compare(present)
    assert found.identical, found.changes + found.hindsight  # type: ignore[operator]


@pytest.mark.parametrize("name", LOGS)
def test_changed_log_statements_are_hindsight_statements(name: str) -> None:
    found = compare(edited(*LOGS[name]))
    assert not found.changes
    assert found.hindsight


@pytest.mark.parametrize("name", REFUSED)
def test_what_may_mean_something_else_is_refused_and_shown(name: str) -> None:
    from flor_trace.replay.diff import render_changes

    old, new, words = REFUSED[name]
    found = compare(edited(old, new))
    assert found.changes
    shown = render_changes(found.changes, "train.py")
    assert all(word in shown for word in words), shown
    assert "train.py, line " in shown


@pytest.mark.parametrize("word", ["import inspect", "from typing import get_type_hints", "import typer", "x = model.__annotations__"])
def test_annotations_are_compared_where_something_may_read_them(word: str) -> None:
    recorded = f"{word}\n{RECORDED}"
    present = recorded.replace("def step(self, x):", "def step(self, x: float):")
    assert diff(recorded.encode(), present.encode(), "m").changes


@pytest.mark.parametrize("decorator", ["@register", "@app.command()"])
def test_annotations_of_decorated_functions_are_compared(decorator: str) -> None:
    recorded = f"{decorator}\ndef f(x):\n    return x\n"
    assert diff(recorded.encode(), recorded.replace("(x)", "(x: int)").encode(), "m").changes


@pytest.mark.parametrize(
    ("recorded", "present"),
    [
        ("import os\nos.environ['A'] = '1'\nimport json\n", "import json\nimport os\nos.environ['A'] = '1'\n"),  # over a statement
        ("import patches\nimport torch\n", "import torch\nimport patches\n"),  # a module that may do anything
        ("import random\nimport json\n", "import json\nimport random\n"),  # `random.py` is the program's own
        ("from math import pow\nfrom operator import pow\n", "from operator import pow\nfrom math import pow\n"),  # the last one counts
        ("from math import *\nimport json\n", "import json\nfrom math import *\n"),
    ],
)
def test_imports_whose_order_may_matter_are_refused(recorded: str, present: str) -> None:
    assert diff(recorded.encode(), present.encode(), "m", own_modules=frozenset({"random"})).changes


def test_imports_are_sorted_around_new_ones() -> None:
    found = diff(b"import sys\nimport torch\nimport json\nx = 1\n", b"import json\nimport mylog\nimport sys\nimport torch\nx = 1\n", "m")
    assert not found.changes
    assert [statement.text for statement in found.hindsight] == ["import mylog"]


class Folder:
    """A recorded run of RECORDED, and today's source."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "train.py").write_text(RECORDED)
        assert self.run("-m", "flor_trace", "record", "--every", "1", "train.py").returncode == 0

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(self.path / "cache")}
        return subprocess.run([sys.executable, *command], cwd=self.path, env=environment, capture_output=True, text=True, timeout=120)

    def replay(self, source: str) -> subprocess.CompletedProcess[str]:
        (self.path / "train.py").write_text(source)
        return self.run("-m", "flor_trace", "replay", "--workers", "2", "--show", "all", "train.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("moved"))


def test_everything_at_once_still_replays_as_the_script_of_today_prints(folder: Folder) -> None:
    (folder.path / "mylog.py").write_text("seen = []\ndef note(*words):\n    seen.append(words)\n    print('@@', *words)\n")
    present = RECORDED
    for old, new in [*(SAME[name] for name in SAME if name != "functions reordered"), *(LOGS[n] for n in ("f-string", "guard removed"))]:
        assert present.count(old) == 1, old
        present = present.replace(old, new)
    present = present.replace("import sys\n", "import sys\nfrom mylog import note\n").replace(*LOGS["helper called"])
    done = folder.replay(present)
    assert done.returncode == 0, done.stderr
    assert "replay exact" in done.stderr
    assert done.stdout == folder.run("train.py").stdout


def test_a_changed_line_is_refused_with_a_readable_diff(folder: Folder) -> None:
    done = folder.replay(edited("RATE = 0.5", "RATE = 0.25"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert "train.py, line 7 today, line 7 as recorded: the statement was changed\n  - RATE = 0.5\n  + RATE = 0.25" in done.stderr
    assert "Traceback" not in done.stderr
