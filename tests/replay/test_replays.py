"""What replays leave in a run: each line in its place in the log, once, whatever was replayed when."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flor_trace.cli import main
from flor_trace.replay.coordinator import Outcome, Stretch
from flor_trace.replay.merge import Merger
from flor_trace.replay.placement import Placer
from flor_trace.replay.plan import Plan, Unit
from flor_trace.replay.transcript import TranscriptWriter
from flor_trace.store.replays import ReplayWriter

ROOT = Path(__file__).parents[2]
SCRIPT = """\
import random, sys
random.seed(1)
def steps(epoch):
    total = 0
    for step in range(3):
        total += random.random()
        #+step print("@@ step", epoch, step, total)
    #+inner print("@@ inner", epoch, total)
    return total
print("begin")
#+first print("@@ first")
total = 0
for epoch in range(5):
    #+head print("@@ head", epoch)
    total += steps(epoch)
    for line in ("a", "b"):
        print(epoch, end=" ")
        #+middle print("@@ middle", end=" ")
        print(line, total)
    #+tail print("@@ tail", epoch, file=sys.stderr)
    if epoch % 2:
        print("odd", file=sys.stderr)
print("end", total)
#+last print("@@ last")
"""


def with_statements(*names: str) -> str:
    lines = []
    for line in SCRIPT.splitlines(keepends=True):
        head, mark, rest = line.partition("#+")
        name, _, statement = rest.partition(" ")
        if not mark:
            lines.append(line)
        elif name in names:
            lines.append(head + statement)
    return "".join(lines)


class Run:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = folder / "train.py"
        self.script.write_text(with_statements())
        self.flor("record", "--every", "1", "train.py")

    def flor(self, *words: str, status: int = 0) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "flor_trace", *words]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == status, done.stderr
        return done.stdout

    def replay(self, *names: str, options: tuple[str, ...] = ("--workers", "2")) -> None:
        self.script.write_text(with_statements(*names))
        self.flor("replay", *options, "train.py")

    def logs(self, *words: str) -> dict[str, str]:
        texts = {"stdout": "", "stderr": ""}
        for line in self.flor("logs", "--json", *words).splitlines():
            record = json.loads(line)
            texts[record["stream"]] += record["text"]
        return texts

    def truth(self, *names: str) -> dict[str, str]:
        source = with_statements(*names)
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
        return {"stdout": done.stdout, "stderr": done.stderr}

    def files(self) -> dict[str, bytes]:
        found = {str(p): p.read_bytes() for p in (self.folder / ".flor/runs").rglob("*") if p.is_file()}
        return {path: data for path, data in found.items() if "/replays/" not in path}


def lines(log: dict[str, str], mark: str) -> list[str]:
    return [line for text in log.values() for line in text.splitlines() if mark in line]


def test_each_line_is_shown_once_and_in_its_place(tmp_path: Path) -> None:
    run = Run(tmp_path)
    before = run.files()
    run.replay("inner", "tail", options=("--workers", "1"))
    assert run.logs() == run.truth("inner", "tail")
    run.replay("middle", "first", "last")
    assert run.logs() == run.truth("inner", "tail", "middle", "first", "last")
    run.replay("middle", "inner")  # once more, and at other lines of the file
    run.replay("step", options=("--iterations", "1:3"))
    run.replay("step")
    now, truth = run.logs(), run.truth("inner", "tail", "middle", "first", "last", "step")
    for name in ("step", "inner", "tail", "middle", "first", "last"):
        assert lines(now, f"@@ {name}") == lines(truth, f"@@ {name}")
    assert run.logs("--replay", "none") == run.truth()
    assert run.logs("--replay", "2") == run.truth("middle", "first", "last")
    assert run.files() == before
    records = [json.loads(line) for line in run.flor("logs", "--json").splitlines()]
    step = [record for record in records if record["text"].startswith("@@ step 3 1")]
    assert [(r["origin"], r["at"][0], r["line"].rpartition(":")[2], r["replay"]) for r in step] == [
        ("hindsight", ["__main__:<module>:0", 0, 3], "7", "5")
    ]
    assert {r["origin"] for r in records if "@@" not in r["text"]} == {"recorded"}
    assert json.loads(run.flor("verify", "--json"))["replays"] == 5


CALLS = """\
def double(x):
    #+inside print("@@ inside", x)
    if x > 4:
        x += 1
        #+late print("@@ late", x)
    return 2 * x
def both(x):
    y = double(x)
    #+between print("@@ between", x)
    z = double(x + 1)
    return y + z
for epoch in range(4):
    #+head print("@@ head", epoch)
    a = both(
        epoch
    )
    #+middle print("@@ middle", a)
    b = double(epoch)
    for step in range(2):
        b += double(step)
        #+step print("@@ step", step)
    #+tail print("@@ tail", epoch)
#+end print("@@ end")
"""
STATEMENTS = ("inside", "late", "between", "head", "middle", "step", "tail", "end")


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 9))])
def test_replays_of_any_statements_in_any_order_add_up_to_the_truth(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In functions, between calls of them and around loops, where the recorded run printed nothing at all."""
    monkeypatch.setattr(sys.modules[__name__], "SCRIPT", CALLS)
    chance = random.Random(seed)
    run = Run(tmp_path)
    shown: set[str] = set()
    for _ in range(3):
        names = chance.sample(STATEMENTS, chance.randint(1, 4))
        run.replay(*names, options=("--workers", str(chance.randint(1, 2))))
        shown.update(names)
        assert run.logs() == run.truth(*shown), (names, shown)


BARS = """\
import logging, sys
logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
for epoch in range(3):
    for step in range(4):
        sys.stderr.write(f"\\r{epoch}: {step}/4")
        #+bar sys.stderr.write(f"\\r@@ bar {epoch} {step}")
    sys.stderr.write("\\n")
    logging.info("epoch %d", epoch)
    #+logged logging.warning("@@ logged %d", epoch)
    print("epoch", epoch)
    #+out print("@@ out", epoch, end="\\r")
"""


def test_progress_bars_and_logging_keep_to_their_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "SCRIPT", BARS)
    run = Run(tmp_path)
    run.script.write_text(with_statements("bar", "logged", "out"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "flor_trace", "replay", "--workers", "2", "train.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=120)
    assert done.stdout == b"@@ out 0\r@@ out 1\r@@ out 2\r"
    bars = [b"".join(b"\r@@ bar %d %d" % (epoch, step) for step in range(4)) for epoch in range(3)]
    assert b"".join(bar + b"WARNING @@ logged %d\n" % epoch for epoch, bar in enumerate(bars)) in done.stderr
    assert b"replay exact" in done.stderr
    shown = {stream: text.replace("\r", "\n") for stream, text in run.logs().items()}
    assert shown == run.truth("bar", "logged", "out")  # which reads a carriage return as the end of a line


def test_a_part_of_the_run_adds_its_part(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.replay("head", options=("--iterations", "1:3"))
    whole, part = run.truth("head")["stdout"].splitlines(), run.logs()["stdout"].splitlines()
    assert part == [line for line in whole if line not in ("@@ head 0", "@@ head 3", "@@ head 4")]
    journal = next((tmp_path / ".flor/runs").glob("*/replays/1/journal"))
    assert sorted(entry.name for entry in journal.parent.iterdir()) == ["journal", "report.json"]
    data = bytearray(journal.read_bytes())
    data[-40] ^= 1
    journal.write_bytes(data)
    assert "damaged: replays/1/journal at byte" in run.flor("verify", status=1)


def test_there_must_be_such_a_replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Run(tmp_path)
    assert main(["logs", "--store", str(tmp_path / ".flor"), "--replay", "3"]) == 2
    assert "has no replay 3 (it has: none)" in capsys.readouterr().err


def output(text: str, line: str = "a:1", stream: str = "stdout", at: tuple[Any, ...] = ()) -> dict[str, Any]:
    return {"stream": stream, "text": text, "at": list(at), "line": line}


def placer(*recorded: dict[str, Any], start: int = 0) -> Placer:
    def outputs(first: int, last: int | None) -> Iterator[dict[str, Any]]:
        return iter(recorded[first:last])

    return Placer(outputs, start, lambda text: text)


def test_places_within_what_was_joined_when_recorded() -> None:
    follow = placer(output("one\ntwo\n"), output("x\n", "a:2"))
    assert follow.place(()) == [0, 0]
    follow.passed(output("one\n"))
    assert follow.place(()) == [0, 4]
    follow.passed(output("two\n"))
    assert follow.place(()) == [1, 0]
    follow.passed(output("x\n", "a:2"))
    assert follow.place(()) == [2, 0]


def test_places_behind_lines_that_tell_the_time_and_redrawn_bars() -> None:
    bar = output("\r 10%", "a:5", "stderr")
    follow = placer(output("took 9.5 s\ndone\n"), bar, bar, output("next\n", "a:2"), output("last\n", "a:3"))
    follow.passed(output("took 10.1 s\n"))
    assert follow.place(()) == [0, 11]
    follow.passed(output("done\n"))
    follow.passed(output("\r 20%", "a:5", "stderr"))
    follow.passed(output("next\n", "a:2"))
    assert follow.place(()) == [4, 0]


def test_a_part_that_begins_nowhere_known_is_found_by_its_position() -> None:
    recorded = [output(f"{epoch}\n", at=(["loop", 0, epoch],)) for epoch in range(4)]
    assert placer(*recorded, start=-1).place([["loop", 0, 2]]) == [2, 0]


class Many:
    """A recorded log of very many lines, and the transcript of its replay."""

    def __init__(self, count: int) -> None:
        self.count = count

    def outputs(self, first: int = 0, last: int | None = None) -> Iterator[dict[str, Any]]:
        for number in range(first, self.count if last is None else last):
            yield output(f"{number}\n" if number % 2 else f"\r{number}%|##| {number}/9 [00:01<00:01, 1it/s]", f"a:{number % 2}")


def test_memory_does_not_grow_with_the_output(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        many = Many(count)
        folder = tmp_path / str(count)
        folder.mkdir()
        transcript = TranscriptWriter(folder / "t")
        for record in many.outputs():
            transcript.write(record["stream"], record["text"], -1, [], record["line"])
            transcript.write("stdout", "@@\n", 0, [], "a:3")
        end = transcript.position()
        plan = Plan([], [Unit(0, "prologue", outputs=(0, None))], set(), False, False, 1)
        shown: list[int] = [0]
        keeper = ReplayWriter(str(folder), {"statements": [{"id": "x"}]})

        def emit(record: Any) -> None:
            shown[0] += 1

        merger = Merger(plan, many, lambda line: False, False, lambda text: text, emit, keeper=keeper)
        tracemalloc.start()
        merger.completed(0, Outcome(stretches={0: Stretch(folder / "t", 0, end)}))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        keeper.close()
        assert shown == [count] and not merger.verdict.differences
        return most

    assert peak(6_000) < peak(2_000) + 100_000


class Warned:
    """A recorded log of a warning and `count` lines on stderr, all different, read one at a time."""

    def __init__(self, count: int) -> None:
        self.count = count

    def outputs(self, first: int = 0, last: int | None = None) -> Iterator[dict[str, Any]]:
        for number in range(first, self.count + 1 if last is None else last):
            text = f"line {number} of many\n" if number else "/a.py:3: UserWarning: once\n  warn()\n"
            yield output(text, "a:1") | {"stream": "stderr"}


def merging_peak(folder: Path, count: int) -> int:
    """The most memory that Python holds while a unit of `count` lines on stderr, and as many new ones, is merged behind a warning."""
    recorded = Warned(count)
    folder.mkdir()
    transcript = TranscriptWriter(folder / "t")
    ends = [0]
    for first, last in ((0, 1), (1, count + 1)):
        for record in recorded.outputs(first, last):
            transcript.write(record["stream"], record["text"], -1, [], record["line"])
            transcript.write("stderr", f"@@{record['text']}", 0, [], "a:3")
        if first:
            transcript.write("stderr", "/a.py:3: UserWarning: once\n  warn()\n", -1, [], "a:1")
        ends.append(transcript.position())
    plan = Plan([], [Unit(0, "prologue", outputs=(0, 1)), Unit(1, "after", outputs=(1, None))], set(), False, False, 1)
    shown: list[int] = [0]

    def emit(record: Any) -> None:
        shown[0] += 1

    merger = Merger(plan, recorded, lambda line: False, False, lambda text: text, emit)
    outcome = Outcome(stretches={number: Stretch(folder / "t", ends[number], ends[number + 1]) for number in (0, 1)})
    tracemalloc.start()
    merger.completed(0, outcome)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert shown == [count + 1] and not merger.verdict.differences
    assert merger.verdict.repeated_warnings == 1
    return most


def test_memory_does_not_grow_with_stderr_behind_a_warning(tmp_path: Path) -> None:
    assert merging_peak(tmp_path / "more", 6_000) < merging_peak(tmp_path / "few", 2_000) + 100_000


@pytest.mark.slow
def test_memory_of_merging_very_many_lines(tmp_path: Path) -> None:
    assert merging_peak(tmp_path / "many", 150_000) < merging_peak(tmp_path / "few", 2_000) + 300_000
