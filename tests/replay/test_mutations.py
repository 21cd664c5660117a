"""New statements that certainly change the recorded state are told before anything is executed; those that may not are let pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flor_trace.replay.diff import diff

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys
import torch

model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
optimizer.zero_grad()
history = []
factor = 0.9
stats = {"best": 0.0}

class Trainer:
    def __init__(self, rate):
        self.rate = rate
        self.best = None

    def fit(self, batches):
        for batch in batches:
            loss = self.rate * batch["x"]
            #method
            self.best = loss
            print(self.best, self.rate)

    def decay(self):
        self.rate = scale(self.rate)

def scale(x):
    #function
    result = x * factor
    return result

def evaluate(batches, opt):
    correct = 0
    for batch in batches:
        total = 0.0
        out = model(batch["x"])
        log = {"n": 1}
        #inner
        correct += out.sum()
        if correct > 3:
            continue
        print(log)
        #after
    #last
    return correct

def decayed(values):
    step = 1.0
    for value in values:
        print(value * step)
        #turn
    return values

def halved(values):
    step = 1.0
    while values:
        print(values.pop() * step)
        #ahead
    step = step if values is None else 0
    return step

def unseen():
    global stats_again
    stats_again = {}

for epoch in range(3):
    seen = {"loss": 1}
    loss = evaluate([], optimizer)
    loss = loss + 1
    #main
    loss.backward()
    history.append(loss)
    print(seen)
    norm = 3.0
    #behind
#end
print(history)
"""


def changes(place: str, *lines: str) -> list[str]:
    """What the statements at a place of SCRIPT are found to change; `\\n` begins a line deeper."""
    found = next(line for line in SCRIPT.splitlines() if line.strip() == f"#{place}")
    indent = found[: len(found) - len(found.lstrip())]
    text = "\n".join(indent + line.replace("\n", f"\n{indent}    ") for line in lines)
    result = diff(SCRIPT.encode(), SCRIPT.replace(found, text).encode(), "m")
    assert not result.changes, result.changes
    assert result.hindsight
    return [statement.changes for statement in result.hindsight if statement.changes]


@pytest.mark.parametrize(("place", "statement", "what"), [
    ("main", "loss = loss * 2", "loss"),
    ("main", "loss *= 2", "loss"),
    ("main", "loss: object = 2", "loss"),
    ("main", "del loss", "loss"),
    ("main", "del seen, norm", "seen"),
    ("main", "seen = {}", "seen"),
    ("main", "factor *= 0.5", "factor"),
    ("behind", "factor = 0.5", "factor"),
    ("main", "optimizer.param_groups[0]['lr'] *= 0.99", "optimizer.param_groups[0]['lr']"),
    ("inner", "opt.param_groups[0]['lr'] = 0.01", "opt.param_groups[0]['lr']"),
    ("main", "for group in optimizer.param_groups:\n    group['lr'] *= 0.5", "group['lr']"),
    ("main", "with torch.no_grad():\n    model.weight[0] = 0", "model.weight[0]"),
    ("main", "model.bias.data += 1", "model.bias.data"),
    ("main", "stats['best'] = 1", "stats['best']"),
    ("main", "history += [1]", "history"),
    ("main", "history[-1] += 1", "history[-1]"),
    ("main", "del history[0]", "history[0]"),
    ("end", "stats['more'] = 1", "stats['more']"),
    ("inner", "correct += 1", "correct"),
    ("inner", "batch['x'] *= 2", None),
    ("after", "correct = 1", "correct"),
    ("after", "correct /= 2", "correct"),
    ("method", "loss = -loss", "loss"),
    ("method", "self.rate *= 0.5", "self.rate"),
    ("method", "batch['x'] += 1", None),
    ("function", "x += 1", "x"),
    ("ahead", "step *= 0.5", "step"),
    ("last", "correct = correct / 10", "correct"),
])  # fmt: skip
def test_certain_changes_are_found(place: str, statement: str, what: str | None) -> None:
    assert changes(place, statement) == ([] if what is None else [what])


@pytest.mark.parametrize(("place", "statements"), [
    ("main", ["norms = []", "norms.append(loss)", "norms[0] = 1", "norms += [2]", "del norms[0]", "print(norms)", "del norms"]),
    ("main", ["history.append(1)"]),  # a call may do anything, also nothing
    ("main", ["model.fc.weight.data.zero_()", "optimizer.step()"]),
    ("main", ["model.probes = []", "model.probes += [1]", "print(model.probes)"]),
    ("main", ["model.count = 0", "model.count += 1"]),
    ("main", ["setattr(model, 'count', 0)", "model.count += 1"]),
    ("main", ["model.training = False", "print(model)", "model.training = True"]),  # put right again
    ("main", ["loss = 2 * loss", "print(loss)", "loss = loss / 2"]),
    ("main", ["loss = loss.cpu()"]),  # the same object
    ("main", ["loss = loss"]),
    ("main", ["loss = loss + 1"]),  # as recorded: the value may be the same
    ("main", ["factor = 0.9"]),
    ("turn", ["step = step / 2"]),  # read in the next iteration only, and there may be none
    ("turn", ["step *= 0.5"]),
    ("main", ["norm = 4.0", "print(norm)"]),  # bound anew before it is read
    ("main", ["if epoch == 7:\n    loss = 0"]),
    ("main", ["for k in range(0):\n    loss = 0"]),
    ("main", ["if 1:\n    loss = 0"]),
    ("main", ["for loss in [1]:\n    print(loss)"]),
    ("main", ["def probe(loss):\n    loss *= 2\n    return loss", "print(probe(1.0))"]),
    ("main", ["class Probe:\n    loss = 1", "print(Probe.loss)"]),
    ("main", ["[loss for loss in history]"]),
    ("main", ["other = torch.optim.SGD(model.parameters(), 1)", "other.param_groups[0]['lr'] *= 2"]),
    ("main", ["for group in torch.optim.SGD([], 1).param_groups:\n    group['lr'] = 0"]),
    ("main", ["history[:][0] = 1", "model.weight[model.weight > 0][0] = 1"]),  # copies
    ("main", ["scale(history)[0] = 1"]),
    ("main", ["seen['norm'] = 1", "print(seen)"]),  # one more value in what is logged and forgotten
    ("main", ["sys.probe = 1", "torch.probe += 1"]),
    ("inner", ["log['norm'] = 1"]),
    ("inner", ["total = 1.0", "total += 1"]),  # nothing reads it
    ("after", ["total /= 2", "print(total)"]),
    ("after", ["out *= 2", "print(out)"]),
    ("after", ["log = {}"]),
    ("method", ["self.best = 3"]),
    ("method", ["self.norms = []"]),
    ("function", ["result = 3", "print(result)"]),
    ("end", ["loss = loss * 2", "print(loss)"]),
    ("end", ["factor *= 3"]),
])  # fmt: skip
def test_what_may_be_harmless_is_let_pass(place: str, statements: list[str]) -> None:
    assert changes(place, *statements) == []


TRAINING = """
import random

rates = [0.5]
value = 1.0
for epoch in range(3):
    for step in range(2):
        value = value * rates[0] + random.random()
    #
    print("epoch", epoch, value)
"""


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-m", "flor_trace", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_it_is_refused_before_any_work_and_isolate_makes_it_possible(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(TRAINING)
    assert run(tmp_path, "record", "--every", "1", "train.py").returncode == 0
    script.write_text(TRAINING.replace("#\n", "print('new', rates.__imul__(2), value); rates[0] *= 0.5\n"))
    refused = run(tmp_path, "replay", "--workers", "1")
    assert refused.returncode == 2 and refused.stdout == ""
    assert "train.py:9: `rates[0] *= 0.5` changes `rates[0]`" in refused.stderr
    assert "--isolate" in refused.stderr and "a name of its own" in refused.stderr
    assert run(tmp_path, "replay", "--dry-run").returncode == 2
    isolated = run(tmp_path, "replay", "--workers", "1", "--isolate")
    assert isolated.returncode == 0, isolated.stderr
    assert isolated.stdout.count("new [0.5, 0.5]") == 3
    accepted = run(tmp_path, "replay", "--workers", "1", "--accept-changes")
    assert accepted.returncode == 3 and "diverged" in accepted.stderr
