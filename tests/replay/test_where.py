"""`--where`: exactly the lines for which a condition on loop variables is true, and only what is needed is executed."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from flor_trace.cli import main
from flor_trace.errors import UsageError
from flor_trace.replay.loopvars import LoopVariable, loop_variables
from flor_trace.replay.where import ANY, Condition

ROOT = Path(__file__).parents[2]
SCRIPT = """\
import random
random.seed(0)
history = []

def train(epoch):
    total = 0.0
    for step, _ in enumerate([None] * 6, 1):
        total += random.random()
        #+ print("@@", epoch, step, total)
    return total

def evaluate(epoch, total):
    worst = 0.0
    for split in ("dev", "test"):
        worst = max(worst, total * random.random())
        #+ print("@@", epoch, None, split, worst)
    return worst

def fit(first, last):
    for epoch in range(first, last, 2):
        total = train(epoch)
        evaluate(epoch, total)
        history.append(total)
        #+ print("@@", epoch, None, total)
        print("epoch", epoch, total)

fit(4, 16)
#+ print("@@ end")
for again in range(2):
    train(-1)
print("end")
"""
CONDITIONS = [
    "epoch == 8",
    "epoch == 8 and step < 3",
    "epoch > 10 and step >= 5 or split == 'test'",
    "epoch in (4, 14) and step % 2 == 0",
    "again == 1 and 4 <= step <= 5",
]


class Recorded:
    def __init__(self, folder: Path, script: str = SCRIPT) -> None:
        self.folder = folder
        self.script = folder / "train.py"
        self.script.write_text("".join(line for line in script.splitlines(True) if "#+" not in line))
        self.flor("record", "--every", "1", "train.py")
        self.script.write_text(script.replace("#+ ", ""))

    def flor(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(self.folder / "cache")}
        command = [sys.executable, "-m", "flor_trace", *words]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == status, done.stderr
        return done


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return Recorded(tmp_path_factory.mktemp("where"))


def truth(condition: str) -> list[str]:
    """The script with each of its lines asked for by Python itself, in the loops that it lies in."""
    source = SCRIPT.replace("#+ ", "").replace('print("@@"', 'show("@@"').replace('print("@@ end")', "pass")
    shown: list[str] = []

    def show(*words: object) -> None:
        frame: object = sys._getframe(1)
        names: dict[str, object] = {}
        where = {"train": ("step",), "evaluate": ("split",), "fit": ("epoch",), "<module>": ("again",)}
        while frame is not None and frame.f_code.co_filename == "truth":  # type: ignore[attr-defined]
            for name in where[frame.f_code.co_name]:  # type: ignore[attr-defined]
                names.setdefault(name, frame.f_locals.get(name))  # type: ignore[attr-defined]
            frame = frame.f_back  # type: ignore[attr-defined]
        names = {name: value for name, value in names.items() if value is not None}
        if Condition(condition).holds(names):
            shown.append(" ".join(map(str, words)))

    exec(compile(source, "truth", "exec"), {"show": show, "print": lambda *words: None})
    return shown


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_lines_are_those_for_which_it_is_true(recorded: Recorded, condition: str) -> None:
    done = recorded.flor("replay", "--workers", "2", "--where", condition, "train.py")
    assert done.stdout.splitlines() == truth(condition)
    assert done.stdout


def test_only_the_needed_iterations_are_executed(recorded: Recorded) -> None:
    def units(condition: str) -> list[tuple[str, int, int, object, object]]:
        plan = json.loads(recorded.flor("replay", "--dry-run", "--json", "--workers", "1", "--where", condition, "train.py").stdout)
        return [(u["kind"], u["start"], u["end"], u["start_inner"], u["end_inner"]) for u in plan["units"]]

    assert units("epoch == 8") == [("segment", 2, 3, None, None)]
    assert units("epoch in (4, 6, 10)") == [("segment", 0, 2, None, None), ("segment", 3, 4, None, None)]
    # Three steps of the third epoch: nothing else binds both names.
    assert units("epoch == 8 and 2 <= step < 4") == [
        ("segment", 2, 2, ["__main__:train:0", 2, 1], ["__main__:train:0", 2, 3])
    ]


def test_what_was_kept_of_some_lines_hides_no_others(recorded: Recorded) -> None:
    recorded.flor("replay", "train.py")
    recorded.flor("replay", "--where", "epoch == 8 and step < 3", "train.py")
    shown = [line for line in recorded.flor("logs").stdout.splitlines() if line.startswith("@@")]
    plain = subprocess.run([sys.executable, "train.py"], cwd=recorded.folder, capture_output=True, text=True).stdout
    assert shown == [line for line in plain.splitlines() if line.startswith("@@")]


EARLY = """\
import time

def search(names):
    for place, name in enumerate(names):
        time.sleep(0.01)
        if name == "d":
            break
    return place

for epoch in range(100):
    found = search("abcde")
    time.sleep(0.002)
    #+ print("@@", epoch)
    if epoch == 6:
        break
for number in range(100_000):
    #+ print("@@", number) if number > 4990 else None
    if number == 5000:
        break
print("end", epoch, found, number)
"""


@pytest.fixture(scope="module")
def left_early(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return Recorded(tmp_path_factory.mktemp("early"), EARLY)


@pytest.mark.parametrize(
    ("words", "epochs"),
    [
        (("--where", "epoch == 6"), [6]),
        (("--where", "epoch in (2, 6)"), [2, 6]),
        (("--where", "epoch <= 5"), range(6)),
        (("--iterations", "6"), [6]),
        (("--iterations", "5:7"), [5, 6]),
        (("--iterations", "2:6"), range(2, 6)),
        (("--where", "number > 4998"), [4999, 5000]),
    ],
)
def test_the_iteration_in_which_a_loop_is_left_counts(left_early: Recorded, words: tuple[str, ...], epochs: Iterable[int]) -> None:
    done = left_early.flor("replay", "--workers", "1", *words, "train.py")
    assert done.stdout.splitlines() == [f"@@ {epoch}" for epoch in epochs]


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("loss < 3", "no recorded `for` loop binds `loss` (loop variables: _, again, epoch, split, step)"),
        ("epoch == ", "not a Python expression"),
        ("1 < 2", "names no loop variable"),
        ("len(epoch) == 1", "`len(epoch)` is neither a loop variable"),
        ("epoch == 5", "selects nothing"),
        ("epoch < 'a'", "'<' not supported"),
        ("epoch ** 2 == 4", "only + - * / // % can be used"),
    ],
)
def test_what_cannot_be_decided_is_refused_in_one_sentence(
    recorded: Recorded, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, condition: str, said: str
) -> None:
    monkeypatch.chdir(recorded.folder)
    assert main(["replay", "--where", condition, "train.py"]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1


def test_conditions_know_three_values() -> None:
    condition = Condition("a == 1 and b < 3 or c == 'x'")
    assert condition.names == {"a", "b", "c"}
    assert condition.possible({"a": 1, "b": 2, "c": "y"}) == {True}
    assert condition.possible({"a": 1}) == {None}
    assert condition.possible({"a": 0, "c": "y"}) == {False}
    assert condition.possible({"a": 1, "b": ANY, "c": "y"}) == {True, False, None}
    assert condition.possible({"a": 2, "b": ANY, "c": "y"}) == {False}
    assert Condition("not a == 1").possible({}) == {None}
    assert Condition("1 < a < 5").holds({"a": 3}) and not Condition("1 < a < 5").holds({"a": 5})


def variables(source: str) -> dict[str, LoopVariable]:
    tree = ast.parse(source)
    loops = {(n.lineno, n.col_offset): f"m:<module>:{i}" for i, n in enumerate(ast.walk(tree)) if isinstance(n, (ast.For, ast.While))}
    return {variable.name: variable for variable in loop_variables(tree, "m", loops)}


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("for a in range(9):", (True, 0, 1)),
        ("for a in range(2, 9, -3):", (True, 2, -3)),
        ("for a in range(n, 9):", (True, None, 1)),
        ("for a in range(0, 9, n):", (True, 0, None)),
        ("for a, b in enumerate(x):", (True, 0, 1)),
        ("for a, (b, c) in enumerate(x, start=n):", (True, None, 1)),
        ("for b, a in enumerate(x):", (False, None, None)),
        ("for a in tqdm(range(9)):", (False, None, None)),
        ("range = list\nfor a in range(9):", (False, None, None)),
        ("from m import *\nfor a in range(9):", (False, None, None)),
    ],
)
def test_counters_are_known_from_the_source(head: str, expected: tuple[object, ...]) -> None:
    found = variables(f"{head}\n    pass")["a"]
    assert (found.counts, found.start, found.step) == expected


@pytest.mark.parametrize("body", ["a += 1", "a = 3", "del a", "for a in x: pass", "(a := 2)", "import a", "def a(): pass"])
def test_a_variable_that_something_else_binds_is_marked(body: str) -> None:
    assert any_rebound(f"for a in range(9):\n    {body}")
    assert not variables(f"for b in range(9):\n    {body}")["b"].rebound


def any_rebound(source: str) -> bool:
    tree = ast.parse(source)
    loops = {(n.lineno, n.col_offset): "m:<module>:0" for n in ast.walk(tree) if isinstance(n, ast.For)}
    return any(variable.rebound for variable in loop_variables(tree, "m", loops))


def test_a_condition_refuses_what_is_rebound() -> None:
    from flor_trace.replay.history import History
    from flor_trace.replay.loopvars import Values
    from flor_trace.replay.stretches import Where

    found = list(variables("for a in range(9):\n    a += 1").values())
    with pytest.raises(UsageError, match="bound by more than its loop, in line 2 of m; use --iterations"):
        Where(Condition("a == 1"), found, Values(History(), lambda digest: b""), History())
