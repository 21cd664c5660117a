"""Only iterations in which the record does not rule a hindsight statement out are executed, and none is missed."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flor_trace.replay.evidence import Traces, traces

ROOT = Path(__file__).parents[2]
HEAD = """\
import time, contextlib, sys, io

def pause():
    time.sleep(0.004)

def evaluate(k):
    return sum(k * i for i in range(3))
"""
# Each loop has twelve iterations, of which every fourth is told apart by its `if`; "few": those alone are executed.
LOOPS = {
    "a print behind": """
for i in range(12):
    pause()
    if i % 4 == 0:
        loss = evaluate(i)
        #+ print("@@", i, loss)
        print("loss", loss)
""",
    "a print before, and much in between": """
i = 0
while i < 12:
    pause()
    if i % 4 == 0 and i >= 0:
        print("loss", i)
        for k in range(2):
            if k:
                continue
            with contextlib.nullcontext():
                #+ print("@@", i, k)
                pass
    i += 1
""",
    "a loop": """
for i in range(12):
    pause()
    if i % 4 == 0:
        for k in range(3):
            pause()
            #+ print("@@", i, k)
""",
    "an edited print": """
for i in range(12):
    pause()
    if i % 4 == 0:
        print("loss", i)  #= print("@@ loss", i, loss)
""",
    "a function": """
def fit(n):
    for i in range(n):
        pause()
        if i % 4:
            pass
        else:
            with open("/dev/null") as file:
                print("loss", i)
            #+ print("@@", i, n)
            file = None

fit(12)
""",
    "a function that is called": """
def inspect(i):
    for k in range(2):
        pause()
    #+ print("@@ inspect", i)
    return k

def estimate(i):
    if i < 0:
        return inspect(i)
    print("estimate")
    for k in range(2):
        #+ print("@@ estimate", i, k)
        pause()

for i in range(12):
    pause()
    if i % 4 == 0:
        estimate(i)
    if i == 8:
        inspect(i)
""",
    "left by an exception": """
try:
    for i in range(12):
        pause()
        if i % 4 == 0 or i == 6:
            #+ print("@@", i)
            if i == 6:
                raise KeyError(i)
            print("loss", i)
except KeyError:
    pass
""",
}
ALL = {
    "the print may be left out": """
for i in range(12):
    pause()
    if i % 4 == 0:
        #+ print("@@", i)
        if i == 4:
            continue
        print("loss", i)
""",
    "an exception is caught": """
for i in range(12):
    pause()
    with contextlib.suppress(KeyError):
        if i % 4 == 0:
            #+ print("@@", i)
            if i == 4:
                raise KeyError(i)
            print("loss", i)
""",
    "another one is caught": """
for i in range(12):
    pause()
    try:
        if i % 4 == 0:
            #+ print("@@", i)
            [][i - 4 if i else -1 - i :][0:1] or {0: 0}[i - 4]
            print("loss", i)
    except KeyError:
        pass
""",
    "it prints elsewhere": """
for i in range(12):
    pause()
    if i % 4 == 0:
        #+ print("@@", i)
        print("loss", i, file=io.StringIO() if i == 4 else sys.stdout)
""",
    "before the loop": """
def fit(n):
    if n:
        print("fit", n)
        for i in range(n):
            pause()
            #+ print("@@ fit", i)

fit(12)
""",
    "nothing tells": """
for i in range(12):
    pause()
    if i % 4 == 0:
        #+ print("@@", i)
        pass
""",
    "one of two": """
for i in range(12):
    pause()
    #+ print("@@ all", i)
    if i % 4 == 0:
        #+ print("@@", i)
        print("loss", i)
""",
}


def today(source: str) -> str:
    """The source with its hindsight statements: `#+` lines, and `#=` lines in the place of what stands before."""
    lines = []
    for line in source.replace("#+ ", "").splitlines():
        old, _, new = line.partition("#= ")
        lines.append(old[: len(old) - len(old.lstrip())] + new if new else line)
    return "\n".join(lines) + "\n"


def recorded(source: str) -> str:
    return "".join(line.partition("  #=")[0].rstrip("\n") + "\n" for line in source.splitlines(True) if "#+" not in line)


def python(folder: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def truth(folder: Path) -> list[str]:
    return [line for line in python(folder, "train.py").splitlines() if line.startswith("@@")]


def replayed(folder: Path, *words: str) -> str:
    return python(folder, "-m", "flor_trace", "replay", *words, "train.py")


def record(folder: Path, source: str) -> None:
    (folder / "train.py").write_text(recorded(source))
    python(folder, "-m", "flor_trace", "record", "-q", "--every", "1", "train.py")
    (folder / "train.py").write_text(today(source))


def executed(folder: Path, iterations: int = 12) -> list[set[int]]:
    """For each partitioned loop the iterations that the plan has executed."""
    plan = json.loads(replayed(folder, "--dry-run", "--json", "--workers", "1"))
    found: list[set[int]] = [set() for _ in plan["partitions"]]
    for unit in plan["units"]:
        if unit["kind"] == "segment":
            found[unit["partition"]].update(range(unit["start"], iterations if unit["end"] is None else unit["end"]))
    return found


def test_all_lines_come_and_only_what_may_hold_one_is_executed(tmp_path: Path) -> None:
    record(tmp_path, HEAD + "".join([*LOOPS.values(), *ALL.values()]))
    every_fourth = {0, 4, 8}
    expected = dict.fromkeys(LOOPS, every_fourth) | {"left by an exception": {0, 4, *range(6, 12)}} | {name: set(range(12)) for name in ALL}
    assert dict(zip(expected, executed(tmp_path), strict=False)) == expected
    lines = truth(tmp_path)
    assert len(lines) > 30
    for workers in "1", "2":
        assert replayed(tmp_path, "--workers", workers).splitlines() == lines
    whole = replayed(tmp_path, "--workers", "1", "--show", "all")
    assert whole == python(tmp_path, "train.py")
    (tmp_path / "train.py").write_text(recorded(HEAD + "".join([*LOOPS.values(), *ALL.values()])))
    assert executed(tmp_path) == [set(range(12))] * len(expected), "without a hindsight statement the whole run is verified"


GENERATOR = """
def numbers():
    for n in range(12):
        if n % 4 == 0:
            print("here")
            if n == 8:
                yield n
            #+ print("@@", n)
        yield n

source = numbers()
for i in range(12):
    pause()
    next(source)
"""


def test_what_a_generator_does_first_may_have_been_done_for_an_earlier_iteration(tmp_path: Path) -> None:
    record(tmp_path, HEAD + GENERATOR)
    assert executed(tmp_path) == [set(range(12))]
    assert replayed(tmp_path, "--workers", "1").splitlines() == truth(tmp_path) == ["@@ 0", "@@ 4", "@@ 8"]


@pytest.mark.parametrize(
    "prelude",
    [
        "sys.stdout = io.StringIO() if 'io' == 'o' else sys.stdout",
        "import builtins\nplain = print\nbuiltins.print = lambda *words: plain(*words)",
        "def print(*words):\n    sys.stdout.write(' '.join(map(str, words)) + '\\n')",
    ],
)
def test_a_print_that_may_be_another_tells_nothing(tmp_path: Path, prelude: str) -> None:
    record(tmp_path, HEAD + prelude + LOOPS["a print behind"])
    assert executed(tmp_path) == [set(range(12))]
    assert replayed(tmp_path, "--workers", "1").splitlines() == truth(tmp_path)


def test_a_loop_whose_executions_are_not_all_on_record_tells_nothing(tmp_path: Path) -> None:
    short = "for i in range(40):\n    pause()\n    if i % 2:\n        for k in ():\n            pass\n        #+ print('@@', i)\n"
    record(tmp_path, HEAD + short)
    assert executed(tmp_path, 40) == [set(range(40))]
    assert len(truth(tmp_path)) == 20
    assert replayed(tmp_path, "--workers", "1").splitlines() == truth(tmp_path)


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("print(sys.stdout.isatty())", True),
        ("sys.stdout, sys.stderr = a, b", False),
        ("with contextlib.redirect_stdout(f): pass", False),
        ("from contextlib import redirect_stdout as r", False),
        ("setattr(sys, 'stdout', f)", False),
        ("os.dup2(1, 2)", False),
        ("logging.print = log", False),
        ("subprocess.run(command, stdout=f, capture_output=True)", False),
        ("subprocess.run(command, stdout=f)", True),
    ],
)
def test_what_may_divert_prints(source: str, seen: bool) -> None:
    assert traces([ast.parse(source)]) == Traces(prints=seen)


@pytest.mark.parametrize(
    "source",
    [
        "import threading",
        "from threading import Thread as T",
        "from concurrent import futures",
        "x.Thread(target=f)",
        "import concurrent.futures as c",
    ],
)
def test_loops_in_threads_leave_no_trace(source: str) -> None:
    assert traces([ast.parse(source)]) == Traces(loops=False)
