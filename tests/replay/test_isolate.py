"""`--isolate`: hindsight statements that change the state cannot matter; without it the next comparison names them.

The truth of each execution of a statement is a run of its own, in which nothing has been executed but that one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SCRIPT = """
import random
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
random.seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))
optimizer = torch.optim.AdamW(model.parameters(), 0.05)
shuffled = torch.Generator().manual_seed(3)
data = TensorDataset(torch.randn(32, 4), torch.randint(0, 2, (32,)))
loader = DataLoader(data, batch_size=16, shuffle=True, generator=shuffled)
history = []
numbers = iter(range(1000))
log = open("train.log", "w")
state = {"best": None, "seen": np.zeros(3)}


def step(x, y):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    #* print("@@ backward", loss.backward(), model[0].weight.grad.norm().item())
    #* print("@@ update", loss.backward(retain_graph=True), optimizer.step(), model[0].weight.norm().item())
    loss.backward()
    #* print("@@ again", nn.functional.cross_entropy(model(x), y).backward(), model[0].weight.grad.norm().item())
    optimizer.step()
    return loss.item()


def train(epochs=2):
    for epoch in range(epochs):
        total = 0.0
        for x, y in loader:
            total += step(x, y)
        history.append(total)
        state["seen"][epoch % 3] += next(numbers)
        log.write(f"{epoch} {total}\\n")
        log.flush()
        #* print("@@ loader", sum(bx.sum().item() for bx, by in loader))
        #* print("@@ forward", model(data.tensors[0]).sum().item())
        #* print("@@ eval", model.eval()(data.tensors[0]).sum().item())
        #* print("@@ append", history.append(1), len(history))
        #* print("@@ numpy", state["seen"].__iadd__(1).sum(), state.update(best=1), state["best"])
        #* print("@@ file", open("notes.txt", "a").write("x"), len(open("notes.txt").read()))
        #* print("@@ log", log.write("more"), log.flush(), len(open("train.log").read()))
        #* print("@@ seed", torch.manual_seed(5) and random.seed(1), shuffled.manual_seed(9) and torch.rand(1).item())
        #* print("@@ next", next(numbers))
        #* print("@@ rebound", [total := 7.0], total)
        #* probe = [epoch]
        #* print("@@ own", probe.append(1), probe)
        print("epoch", epoch, f"{total:.4f}", random.random())
    return total


print("last", train(), torch.rand(1).item())
"""

# What a forked child cannot do (run backward), or would do to its parent (write to a file that is open in both): each execution
# has a run of its own from the start. The last run of all executes the others, in forked children.
ALONE = ("backward", "update", "again", "file", "log")
RUNS = 2 * (2 * 3 + 2)
TRUTH = f"""
import os
import torch
torch.optim.AdamW([torch.zeros(1)])  # imports most of torch, once for all
__turn, __done = 0, -1
while __turn < {RUNS} and (__child := os.fork()):
    if os.waitpid(__child, 0)[1]:
        os._exit(1)
    __turn += 1

def __alone():
    global __done
    __done += 1
    return __done == __turn

def __forked():
    return __turn == {RUNS} and (os.waitpid(child, 0) is None if (child := os.fork()) else True)

def __end():
    import sys
    sys.stdout.flush()
    if os.path.exists("notes.txt"):
        os.remove("notes.txt")
    os._exit(0)
"""


def probed(statements: list[str] | None = None) -> str:
    """The script with statements inserted: all, or the marked ones that contain one of `statements`."""
    lines = []
    for line in SCRIPT.splitlines():
        if "#* " not in line:
            lines.append(line)
        elif statements is None or any(word in line for word in statements):
            lines.append(line.replace("#* ", ""))
    return "\n".join(lines) + "\n"


def truth() -> str:
    """The script that prints what each statement prints if it alone is executed; what only statements bind is bound where it is read."""
    out = []
    for line in SCRIPT.splitlines():
        indent, mark, statement = line.partition("#* ")
        if not mark:
            out.append(line)
        elif statement.startswith("probe ="):
            continue
        else:
            bound = "probe = [epoch]; " if "probe" in statement else ""
            begin = "__alone" if statement.split()[1][:-2] in ALONE else "__forked"
            out += [f"{indent}if {begin}():", f"{indent}    {bound}{statement}; __end()"]
    return TRUTH + "\n".join(out) + "\n"


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def replay(folder: Path, source: str, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "probed.py").write_text(source)
    return run(folder, "-m", "flor_trace", "replay", "--run", "@last", "--workers", "2", *words, "probed.py")


def by_statement(output: str) -> dict[str, list[str]]:
    """The lines that each statement has printed."""
    found: dict[str, list[str]] = {}
    for line in output.splitlines():
        if line.startswith("@@"):
            found.setdefault(line.split()[1], []).append(line)
    return dict(sorted(found.items(), key=lambda item: (item[0] not in ("backward", "update", "again"), item[0])))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("isolate")
    (folder / "train.py").write_text(probed([]))
    done = run(folder, "-m", "flor_trace", "record", "--every", "1", "train.py")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_isolated_statements_print_what_each_prints_alone_and_change_nothing(recorded: Path) -> None:
    (recorded / "truth.py").write_text(truth())
    alone = run(recorded, "truth.py")
    assert alone.returncode == 0, alone.stderr
    expected = by_statement(alone.stdout)
    assert [len(lines) for lines in expected.values()] == [4] * 3 + [2] * 11
    done = replay(recorded, probed(), "--isolate")
    assert done.returncode == 0, done.stderr
    assert "replay exact" in done.stderr
    assert by_statement(done.stdout) == expected
    assert not (recorded / "notes.txt").exists()


CAUGHT = {
    "again": "grad", "forward": "running_mean|num_batches_tracked|running_var", "eval": "training", "append": "history",
    "numpy": "seen", "seed": "shuffled", "next": "numbers", "loader": "shuffled", "rebound": "total",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("word", CAUGHT)
def test_without_isolation_each_is_caught_and_named(recorded: Path, word: str) -> None:
    done = replay(recorded, probed([f"@@ {word}"]))
    assert done.returncode == 3, done.stderr
    assert re.search(f"replay diverged at .*({CAUGHT[word]})", done.stderr), done.stderr
    line = probed([f"@@ {word}"]).splitlines().index(next(row for row in probed([f"@@ {word}"]).splitlines() if f"@@ {word}" in row)) + 1
    assert f"train.py:{line}" in done.stderr


PLAIN = """
import hashlib
digest = hashlib.sha256()
total, history = 0, []
for epoch in range(4):
    total += epoch
    history.append(total)
    digest.update(b"x")
    #HERE
    print(epoch, total, digest.hexdigest()[:4])
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    (folder / "train.py").write_text(PLAIN)
    assert run(folder, "-m", "flor_trace", "record", "--every", "1", "train.py").returncode == 0
    return folder


def test_what_changed_a_list_is_named_and_isolation_makes_it_harmless(plain: Path) -> None:
    source = PLAIN.replace("#HERE", "print('@@', history.append(7), len(history))")
    done = replay(plain, source)
    assert done.returncode == 3, done.stderr
    assert "history (length): 1 when recorded, 2 now" in done.stderr
    assert "train.py:9" in done.stderr
    assert "--isolate" in done.stderr
    isolated = replay(plain, source, "--isolate")
    assert (isolated.returncode, isolated.stdout) == (0, "".join(f"@@ None {n}\n" for n in (2, 3, 4, 5))), isolated.stderr


def test_what_cannot_be_put_back_is_refused_in_one_sentence(plain: Path) -> None:
    done = replay(plain, PLAIN.replace("#HERE", "digest.update(b'y')"), "--isolate")
    assert done.returncode == 1
    assert "the hindsight statement at train.py:9 has changed the state, which cannot be put back (" in done.stderr
    assert "digest" in done.stderr


def test_a_statement_that_raises_is_undone_too(plain: Path) -> None:
    source = PLAIN.replace("#HERE", "try:\n        history.append(history[99])\n    except IndexError: total = print('@@', epoch)")
    done = replay(plain, source, "--isolate")
    assert (done.returncode, done.stdout) == (0, "@@ 0\n@@ 1\n@@ 2\n@@ 3\n"), done.stderr


def test_a_statement_in_a_generator_is_undone(tmp_path: Path) -> None:
    source = """
def numbers():
    total = 0
    while True:
        total += 1
        #HERE
        yield total

endless = numbers()
for epoch in range(3):
    print(epoch, next(endless))
"""
    (tmp_path / "train.py").write_text(source)
    assert run(tmp_path, "-m", "flor_trace", "record", "--every", "1", "train.py").returncode == 0
    done = replay(tmp_path, source.replace("#HERE", "print('@@', [total := total + 5])"), "--isolate")
    assert (done.returncode, done.stdout) == (0, "@@ [6]\n@@ [7]\n@@ [8]\n"), done.stderr
