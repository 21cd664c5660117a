"""The replay command on small scripts: what it prints, what it refuses, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flor_trace.errors import EnvironmentMismatch
from flor_trace.replay.command import check_environment
from flor_trace.store.layout import FORMAT

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """\
import random
random.seed(0)
history = []

def train(epoch):
    total = 0.0
    for step in range(5):
        total += random.random()
    return total

def main(epochs=6):
    for epoch in range(epochs):
        total = train(epoch)
        history.append(total)
        print("epoch", epoch, round(total, 6))
    print("mean", sum(history) / len(history))

if __name__ == "__main__":
    main()
"""


class Folder:
    """A folder with a script, and commands run in it."""

    def __init__(self, path: Path, source: str = SCRIPT) -> None:
        self.path = path
        self.script = path / "train.py"
        self.script.write_text(source)

    def run(self, *command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(self.path / "cache"), **(env or {})}
        return subprocess.run(
            [sys.executable, *command], cwd=self.path, env=environment, capture_output=True, text=True, timeout=120
        )

    def flor(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "flor_trace", *words)

    def record(self) -> None:
        done = self.flor("record", "--every", "1", "train.py")
        assert done.returncode == 0, done.stderr

    def edit(self, old: str, new: str) -> None:
        text = self.script.read_text()
        assert text.count(old) == 1
        self.script.write_text(text.replace(old, new))

    def replay(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.flor("replay", *words, "train.py")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.record()
    return made


def test_without_hindsight_statements_the_run_is_verified(folder: Folder) -> None:
    done = folder.replay("--workers", "2")
    assert (done.returncode, done.stdout) == (0, "")
    assert "replay exact" in done.stderr
    assert re.search(r"no statement has been added to \S+ or its modules since run \S+ was recorded: this only verifies it", done.stderr)


@pytest.mark.parametrize("workers", ["1", "2", "3"])
def test_show_all_is_the_log_with_the_new_lines_in_their_places(folder: Folder, workers: str) -> None:
    folder.edit('        print("epoch"', '        print("@@", epoch, repr(total))\n        print("epoch"')
    done = folder.replay("--workers", workers, "--show", "all")
    assert done.returncode == 0, done.stderr
    assert done.stdout == folder.run("train.py").stdout


def test_only_the_asked_iterations_are_replayed(folder: Folder) -> None:
    folder.edit("        total += random", '        print("@@", epoch, step)\n        total += random')
    done = folder.replay("--iterations", "2:4")
    assert done.stdout.splitlines() == [f"@@ {epoch} {step}" for epoch in (2, 3) for step in range(5)]
    nothing = folder.replay("--iterations", "50:60")
    assert nothing.returncode == 2
    assert "has 6 iterations" in nothing.stderr


def test_a_copy_of_the_script_can_be_replayed(folder: Folder) -> None:
    copy = folder.path / "copy.py"
    copy.write_text(SCRIPT.replace("    return total", '    print("@@", repr(total))\n    return total'))
    done = folder.flor("replay", "--run", "@last", "copy.py")
    assert done.returncode == 0, done.stderr
    truth = subprocess.run([sys.executable, copy], capture_output=True, text=True).stdout
    assert done.stdout.splitlines() == [line for line in truth.splitlines() if line.startswith("@@")]


def test_json_tells_position_and_origin_of_every_line(folder: Folder) -> None:
    folder.edit('        print("epoch"', '        print("@@", epoch)\n        print("epoch"')
    done = folder.replay("--json", "--show", "all")
    *records, last = [json.loads(line) for line in done.stdout.splitlines()]
    new = [r for r in records if r["origin"] == "hindsight"]
    assert [r["text"] for r in new] == [f"@@ {epoch}\n" for epoch in range(6)]
    assert [r["position"] for r in new] == [[["__main__:main:0", 0, epoch]] for epoch in range(6)]
    assert last["report"]["verdict"] == "exact"


def test_dry_run_prints_the_plan_and_executes_nothing(folder: Folder) -> None:
    folder.edit('        print("epoch"', '        print("@@", epoch)\n        print("epoch"')
    done = folder.replay("--dry-run", "--workers", "2")
    assert done.returncode == 0
    assert "@@" in done.stdout and "__main__:main:0" in done.stdout and "prologue" in done.stdout
    plan = json.loads(folder.replay("--dry-run", "--json").stdout)
    assert plan["partitions"] == [["__main__:main:0", 0]]


def test_an_edited_log_statement_prints_anew_and_its_old_lines_are_not_missed(folder: Folder) -> None:
    folder.edit('print("epoch", epoch, round(total, 6))', 'print("epoch", epoch, repr(total), len(history))')
    done = folder.replay("--workers", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(folder.run("train.py").stdout.splitlines(keepends=True)[:-1])


def test_a_removed_log_statement_is_no_change(folder: Folder) -> None:
    folder.edit('        print("epoch", epoch, round(total, 6))\n', "")
    done = folder.replay()
    assert done.returncode == 0, done.stderr


def test_a_statement_that_draws_random_numbers_perturbs_nothing(folder: Folder) -> None:
    folder.edit('        print("epoch"', '        print("@@", random.random() < 2)\n        print("epoch"')
    done = folder.replay("--workers", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "@@ True\n" * 6


def test_a_statement_that_changes_captured_state_is_named(folder: Folder) -> None:
    folder.edit('        print("epoch"', '        history.append(0.0)\n        print("epoch"')
    done = folder.replay("--workers", "1")
    assert done.returncode == 3
    assert "history" in done.stderr and "train.py:15" in done.stderr


def test_state_kept_between_iterations_by_hindsight_statements(folder: Folder) -> None:
    folder.edit("    for epoch in range(epochs):\n", "    count = 0\n    for epoch in range(epochs):\n        count += 1\n")
    folder.edit('    print("mean"', '    print("@@ count", count)\n    print("mean"')
    done = folder.replay("--workers", "3")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "@@ count 6\n"


def test_what_a_loop_bound_last_can_be_read_behind_it(folder: Folder) -> None:
    folder.edit("        history.append(total)\n", "        history.append(total)\n        latest = epoch\n")
    folder.edit('    print("mean"', '    print("@@", latest)\n    print("mean"')
    done = folder.replay("--workers", "3")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "@@ 5\n"


def test_more_than_log_statements_is_refused_with_the_lines(folder: Folder) -> None:
    folder.edit("range(5)", "range(7)")
    done = folder.replay()
    assert done.returncode == 2
    assert "range(5)" in done.stderr and "range(7)" in done.stderr and "--accept-changes" in done.stderr


def test_a_hindsight_statement_that_raises_fails_with_its_traceback(folder: Folder) -> None:
    folder.edit('        print("epoch"', '        print("@@", epoch, 1 / (epoch - 4))\n        print("epoch"')
    done = folder.replay("--workers", "2")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert done.stdout.splitlines()[:3] == [f"@@ {e} {1 / (e - 4)}" for e in range(3)]


def test_a_worker_that_dies_is_reported_and_the_rest_is_kept(folder: Folder) -> None:
    folder.edit('        print("epoch"', '        print("@@", epoch) if epoch < 5 else __import__("os")._exit(9)\n        print("epoch"')
    # Where segments begin depends on how long each iteration took when recorded.
    plan = json.loads(folder.replay("--workers", "2", "--dry-run", "--json").stdout)
    dying = next(u["start"] for u in plan["units"] if u["kind"] == "segment" and (u["end"] is None or u["end"] > 5))
    done = folder.replay("--workers", "2")
    assert done.returncode == 1
    assert "died with status 9" in done.stderr
    assert done.stdout.splitlines() == [f"@@ {epoch}" for epoch in range(dying)]


def test_workers_that_share_cores_are_told_and_their_threads_do_not_spin(folder: Folder) -> None:
    waiting = '__import__("subprocess").run(["printenv", "OMP_WAIT_POLICY"], capture_output=True, text=True).stdout'
    statement = f'print("@@", "OMP_WAIT_POLICY" in __import__("os").environ, {waiting}, end="")'
    folder.edit('        print("epoch"', f'        {statement}\n        print("epoch"')
    one_core = [next(iter(os.sched_getaffinity(0)))]
    program = f"import os; os.sched_setaffinity(0, {one_core}); from flor_trace.cli import main; raise SystemExit(main())"
    done = folder.run("-c", program, "replay", "--workers", "3", "train.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "@@ False passive\n" * 6
    assert "3 workers with the recorded 1 thread each share 1 core: --workers 1" in done.stderr


def test_the_mistakes_of_a_new_user(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for words, said in {
        ("replay", "train.py"): "no run of train.py is recorded",
        ("replay", "missing.py"): "missing.py",
        ("replay",): "no run",
        ("record", "--no-such-option", "train.py"): "no option --no-such-option",
        ("record",): "needs a script",
        ("nonsense",): "no command",
    }.items():
        done = folder.flor(*words)
        assert (done.returncode, done.stdout) == (2, ""), (words, done)
        assert said in done.stderr and len(done.stderr.splitlines()) == 1, (words, done.stderr)
    folder.record()
    again = folder.replay("--workers", "1")
    assert again.returncode == 0
    argv = folder.flor("replay", "train.py", "--lr", "0.1")
    assert argv.returncode == 2 and "arguments from the record" in argv.stderr
    folder.script.rename(tmp_path / "moved.py")
    moved = folder.flor("replay")
    assert moved.returncode == 2 and "train.py" in moved.stderr


@pytest.mark.parametrize(
    ("written_by", "python", "versions", "said"),
    [
        (FORMAT, [3, 2, 0], {}, "recorded by Python 3.2"),
        (FORMAT, list(sys.version_info[:3]), {"numpy": "0.1"}, "recorded with numpy 0.1"),
        (FORMAT - 1, list(sys.version_info[:3]), {}, "by an earlier version of flor_trace, whose snapshots"),
    ],
)
def test_what_another_version_recorded_is_refused(written_by: int, python: list[int], versions: dict[str, str], said: str) -> None:
    class Recorded:
        id = "x"
        manifest = {"format": written_by, "python": python, "cwd": os.getcwd(), "env": {}}

        def events(self, kind: str) -> list[dict[str, object]]:
            return [{"versions": versions}] if kind == "versions" else []

    with pytest.raises(EnvironmentMismatch, match=said):
        check_environment(Recorded())  # type: ignore[arg-type]


def test_one_of_several_processes_is_refused_at_once(tmp_path: Path) -> None:
    script = "import os\nfor epoch in range(3):\n    print(epoch, os.environ['RANK'])\n"
    folder = Folder(tmp_path, script)
    recorded = folder.run("-m", "flor_trace", "record", "train.py", env={"RANK": "1", "WORLD_SIZE": "2"})
    assert recorded.returncode == 0 and recorded.stdout == "0 1\n1 1\n2 1\n"
    refused = folder.replay()
    assert refused.returncode == 2 and refused.stdout == ""
    assert "one of 2 processes of a distributed training" in refused.stderr


SLOW_SCRIPT = """\
import time, random
random.seed(1)
total = 0.0
for epoch in range(200):
    total += random.random()
    time.sleep(0.05)
    print("epoch", epoch, total, flush=True)
"""


def test_a_killed_run_is_replayable_up_to_its_last_snapshot(tmp_path: Path) -> None:
    folder = Folder(tmp_path, SLOW_SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "flor_trace", "record", "--every", "1", "train.py"],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(12)]
    time.sleep(0.3)
    process.kill()
    process.wait()
    folder.edit("    time.sleep", '    print("@@", repr(total))\n    time.sleep')
    done = folder.replay("--workers", "2")
    assert done.returncode == 0, done.stderr
    found = [float(line.split()[1]) for line in done.stdout.splitlines()]
    truth = [float(line.split()[2]) for line in lines]
    assert len(found) >= 6
    assert found[: len(truth)] == truth[: len(found)]


KILLED_SCRIPT = """\
import os, signal, time
total = 0
for stage in range(STAGES):
    for epoch in range(3):
        total += epoch
        if os.path.exists("kill") and (stage, epoch) == AT:
            time.sleep(1.5)  # let what was committed reach the disk
            os.kill(os.getpid(), signal.SIGKILL)
        print("epoch", stage, epoch, total, flush=True)
for late in range(3):
    total += late
    if os.path.exists("kill"):
        time.sleep(1.5)
        os.kill(os.getpid(), signal.SIGKILL)
    print("late", late, total)
print("end", total)
"""


@pytest.mark.parametrize(("stages", "at", "least"), [(2, (0, 0), 0), (2, (0, 2), 0), (2, (1, 1), 3), (2, (9, 9), 6), (1, (9, 9), 3)])
def test_replay_of_a_killed_run_ends_where_that_ended(tmp_path: Path, stages: int, at: tuple[int, int], least: int) -> None:
    folder = Folder(tmp_path, KILLED_SCRIPT.replace("STAGES", str(stages)).replace("AT", str(at)))
    folder.edit("        print(\"epoch", '        print("@@", repr(total))\n        print("epoch')
    folder.edit("    print(\"late", '    print("@@", repr(total))\n    print("late')
    truth = [line for line in folder.run("train.py").stdout.splitlines() if line.startswith("@@")]
    edited = (tmp_path / "train.py").read_text()
    (tmp_path / "train.py").write_text("".join(x for x in edited.splitlines(True) if "@@" not in x))
    (tmp_path / "kill").touch()
    command = [sys.executable, "-m", "flor_trace", "record", "--every", "1", "train.py"]
    killed = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    (tmp_path / "kill").unlink()
    (tmp_path / "train.py").write_text(edited)
    done = folder.replay("--workers", "2")
    found = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert "was killed or is still running" in done.stderr and "replay exact" in done.stderr
    assert found == truth[: len(found)] and len(found) == least


CLASSES = """\
class Net:
    def __init__(self):
        self.w = 1.0

    def step(self, epoch):
        for i in range(4):
            self.w *= 1.1 + epoch * 0.01
        return self.w
    #methods

def main():
    class Meter:
        total = 0.0
        def add(self, x):
            self.total += x
        #inner
    net, meter = Net(), Meter()
    for epoch in range(5):
        loss = net.step(epoch)
        meter.add(loss)
        #print
        print(epoch, loss)

main()
"""
METHODS = """
    def norm(self):
        return abs(self.w)
    @property
    def half(self):
        return self.w / 2
    @staticmethod
    def twice(x):
        return 2 * x
    @classmethod
    def name(cls):
        return cls.__name__
    unit = "cm"
    def __format__(self, spec):
        return f"net {self.w}"
"""
PRINT = "print(net.norm(), net.half, net.twice(2), net.name(), net.unit, f'{net}', meter.mean())"


def test_methods_that_only_log_statements_use_may_be_added(tmp_path: Path) -> None:
    folder = Folder(tmp_path, CLASSES)
    assert folder.run("-m", "flor_trace", "record", "--every", "1", "train.py").returncode == 0
    today = CLASSES.replace("    #methods\n", METHODS).replace("        #inner\n", "        def mean(self): return self.total / 5\n")
    folder.script.write_text(today.replace("#print", PRINT))
    truth = folder.run("train.py").stdout.splitlines()
    for workers in ("1", "2"):
        done = folder.replay("--workers", workers)
        assert done.returncode == 0 and "replay exact" in done.stderr, done.stderr
        assert done.stdout.splitlines() == truth[::2]


def test_a_statement_that_is_wrong_is_named_with_its_file(folder: Folder) -> None:
    folder.edit('        print("epoch"', '        print("@@", (epoch)\n        print("epoch"')
    done = folder.replay()
    assert done.returncode == 2 and re.search(r"not valid Python: .*train\.py, line \d+", done.stderr), done.stderr
    folder.edit('        print("@@", (epoch)\n', '        print("@@", no_such_name)\n')
    done = folder.replay("--workers", "1")
    assert done.returncode == 1 and "NameError: name 'no_such_name'" in done.stderr
    assert "replay incomplete" in done.stderr and "diverged" not in done.stderr


def test_an_accepted_edit_is_the_cause_of_the_divergence(folder: Folder) -> None:
    line = next(line for line in folder.script.read_text().splitlines() if "random.random()" in line)
    folder.edit(line, line.replace("random.random()", "2 * random.random()"))
    done = folder.replay("--workers", "1", "--accept-changes")
    assert done.returncode == 3, done.stderr
    assert re.search(r"cause: the edits that --accept-changes has let pass: .*train\.py:\d+", done.stderr), done.stderr


def test_the_log_leaves_out_what_a_diverged_replay_added(folder: Folder) -> None:
    folder.edit('        print("epoch"', '        print("@@", history.append(0))\n        print("epoch"')
    assert folder.replay("--workers", "1").returncode == 3
    log = folder.flor("logs")
    assert log.returncode == 0 and "@@" not in log.stdout and "epoch 5" in log.stdout
    assert "without what replay 1 added, which diverged (--replay 1 shows it)" in log.stderr
    assert "@@ None" in folder.flor("logs", "--replay", "1").stdout
