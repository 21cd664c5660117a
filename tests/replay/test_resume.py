"""A replay that was interrupted, or in which a worker died, is gone on with; nothing stays behind of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flor_trace.errors import UsageError
from flor_trace.replay.interrupts import Interrupts
from flor_trace.replay.plan import Plan, Unit
from flor_trace.replay.resume import LEDGER, Ledger, find_unfinished

ROOT = Path(__file__).parents[2]
SCRIPT = """\
import os, random, subprocess, time
random.seed(3)
total = 0.0
helper = subprocess.Popen(["sleep", "1000"])
print("begin")
for epoch in range(8):
    total += random.random()
    time.sleep(0.02)
    print("epoch", epoch, total)
helper.kill()
helper.wait()
print("end", total)
"""
STATEMENT = """\
    print("@@", epoch, repr(total), os.path.exists("die") and epoch == 5 and getattr(os, "_exit")(9), end=" ")
    print("@@", os.path.exists("wait") and epoch > 4 and time.sleep(600))
    print("epoch\""""


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.script = path / "train.py"
        self.script.write_text(SCRIPT)
        self.flor("record", "--every", "1", "train.py")
        self.script.write_text(SCRIPT.replace('    print("epoch"', STATEMENT))
        self.replays = next((path / ".flor/runs").iterdir()) / "replays"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(self.path / "cache")}

    def flor(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flor_trace", *words]
        done = subprocess.run(command, cwd=self.path, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == status, done.stderr
        return done

    def logs(self) -> list[str]:
        return self.flor("logs").stdout.splitlines()

    def processes(self) -> list[str]:
        """The command lines of all processes that work in this folder."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and os.readlink(entry / "cwd").startswith(str(self.path)):
                    found.append((entry / "cmdline").read_text())
            except OSError:
                continue  # it has ended, or is not ours to look at
        return found


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_an_interrupted_replay_is_gone_on_with(folder: Folder, number: int) -> None:
    (folder.path / "wait").touch()
    command = [sys.executable, "-m", "flor_trace", "replay", "--workers", "2", "train.py"]
    output, errors = folder.path / "output", folder.path / "errors"
    with output.open("w") as stdout, errors.open("w") as stderr:
        process = subprocess.Popen(command, cwd=folder.path, env=folder.environment, stdout=stdout, stderr=stderr)
    deadline = time.monotonic() + 60
    while len(output.read_text().splitlines()) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(folder.processes()) > 2
    if number != signal.SIGKILL:
        running = subprocess.run(
            [sys.executable, "-m", "flor_trace", "replay", "--resume", "train.py"],
            cwd=folder.path, env=folder.environment, capture_output=True, text=True,
        )  # fmt: skip
        assert running.returncode == 2 and "replay 1 is still running" in running.stderr
    process.send_signal(number)
    process.wait(60)
    shown, error = output.read_text(), errors.read_text()
    if number != signal.SIGKILL:
        assert process.returncode == 130 and "interrupted" in error and "--resume" in error and "Traceback" not in error
        left = {entry.name for entry in (folder.replays / "1").iterdir()}
        assert {LEDGER, "journal"} <= left and not any(name.startswith("files-") or name.endswith(".out") for name in left)
        assert folder.processes() == []
        assert [line for line in folder.logs() if "@@" in line] == shown.splitlines()
    (folder.path / "wait").unlink()
    resumed = folder.flor("replay", "--resume", "--workers", "1", "train.py")
    plain = subprocess.run([sys.executable, "train.py"], cwd=folder.path, capture_output=True, text=True).stdout
    truth = [line for line in plain.splitlines() if "@@" in line]
    assert resumed.stdout.splitlines() == truth
    assert shown.splitlines() == truth[: len(shown.splitlines())]
    assert "replay exact" in resumed.stderr
    assert folder.logs() == plain.splitlines()
    assert sorted(entry.name for entry in (folder.replays / "1").iterdir()) == ["journal", "report.json"]
    assert "no replay that was interrupted" in folder.flor("replay", "--resume", "train.py", status=2).stderr


def test_what_a_dead_worker_leaves_is_done_by_a_resumed_replay(folder: Folder) -> None:
    (folder.path / "die").touch()
    failed = folder.flor("replay", "--workers", "2", "train.py", status=1)
    assert "died with status 9" in failed.stderr and "it is tried again" not in failed.stdout and "--resume" in failed.stderr
    assert (folder.replays / "1" / "report.json").exists()
    folder.script.write_text(folder.script.read_text() + "#\n")
    changed = folder.flor("replay", "--resume", "train.py", status=2)
    assert "the script has changed" in changed.stderr
    folder.script.write_text(folder.script.read_text()[:-2])
    other = folder.flor("replay", "--resume", "--iterations", "1:2", "train.py", status=2)
    assert "--iterations was not what it was asked" in other.stderr
    (folder.path / "die").unlink()
    resumed = folder.flor("replay", "--resume", "--show", "all", "train.py")
    assert resumed.stdout == subprocess.run([sys.executable, "train.py"], cwd=folder.path, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("epoch", "end", "said"),
    [
        (3, "total / 0", "the replayed script ended with status 1 where the recorded one ended with 0"),
        (1, 'getattr(sys, "ex" + "it")()', "the replayed script ended before it came to the end of"),
    ],
    ids=["raises in the last iteration", "ends the script before that"],
)
def test_a_unit_in_which_a_new_statement_ends_the_script_is_not_done(tmp_path: Path, epoch: int, end: str, said: str) -> None:
    script = "import os, sys\ntotal = 0\nfor epoch in range(4):\n    total += epoch\n    #HERE\nprint(total)\n"
    statement = f'print("new", epoch)\n    if epoch == {epoch} and not os.path.exists("mended"): {end}'

    def flor(*words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "flor_trace", *words, "x.py"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == status, done.stderr
        return done

    (tmp_path / "x.py").write_text(script)
    flor("record", "-q", "--every", "1")
    (tmp_path / "x.py").write_text(script.replace("#HERE", statement))
    failed = flor("replay", "--workers", "1", status=1)
    assert said in failed.stderr
    assert failed.stdout.splitlines() == [f"new {number}" for number in range(epoch + 1)]
    (tmp_path / "mended").touch()
    resumed = flor("replay", "--resume")
    assert resumed.stdout.splitlines() == [f"new {number}" for number in range(4)]
    assert "replay exact" in resumed.stderr


def test_a_ledger_that_was_cut_off_holds_what_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "3"
    folder.mkdir()
    plan = Plan([], [Unit(0, "prologue"), Unit(1, "segment", 0)], set(), False, False, 1)
    ledger = Ledger(folder, {"where": None, "init": "weak"}, plan)
    ledger.note({"kind": "checked", "unit": 0, "verdict": "exact"})
    ledger.note({"kind": "checked", "unit": 1, "verdict": "diverged"})
    ledger.note({"kind": "done", "unit": 0, "file": "worker-4.jsonl", "start": 0, "end": 7})
    with pytest.raises(UsageError, match="still running"):
        find_unfinished(tmp_path, "r", {})
    ledger.close()
    (folder / "worker-4.jsonl").touch()
    with (folder / LEDGER).open("a") as file:
        file.write('{"kind": "do')
    found = find_unfinished(tmp_path, "r", {"init": "weak", "where": None})
    assert found.plan == plan and found.workers == 5
    assert [(m["kind"], m["unit"]) for m in found.messages] == [("checked", 0), ("done", 0)]
    with pytest.raises(UsageError, match="--init was not what it was asked"):
        find_unfinished(tmp_path, "r", {"init": "strong"})
    (folder / LEDGER).write_text("")
    with pytest.raises(UsageError, match="run r has no replay that was interrupted"):
        find_unfinished(tmp_path, "r", {})


def test_an_interruption_waits_for_the_end_of_a_section() -> None:
    done = []
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt), interrupts.deferred():
            signal.raise_signal(signal.SIGINT)
            done.append(time.monotonic())
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt), interrupts.deferred():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            done.append(0.0)
    assert len(done) == 1 and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
