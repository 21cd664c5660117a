"""Runs recorded in processes of their own: killed, forking, several at once, at their limits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flor_trace.store import layout
from flor_trace.store.blobs import digest_of
from flor_trace.store.reader import Run, open_run

HEAD = """
import os, sys, time
from flor_trace.store import writer
from flor_trace.store.blobs import digest_of

run = writer.create(sys.argv[1], script="train.py", argv=["train.py"], on_failure=lambda why: print("stopped:", why, file=sys.stderr))

def snapshot(number, size=300_000):
    content = os.urandom(size)
    run.put_blob(digest_of(content), content)
    run.event("output", text=f"{number}\\n")
    run.commit_snapshot({"id": number}, [digest_of(content)])
"""


def start(store: Path, program: str, *options: str) -> subprocess.Popen[str]:
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    words = [sys.executable, *options, "-c", HEAD + program, str(store)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def carry_out(store: Path, program: str, *options: str) -> tuple[str, str]:
    with start(store, program, *options) as process:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    return out, err


def only_run(store: Path) -> Run:
    (run_id,) = layout.run_ids(str(store))
    return Run(layout.run_folder(str(store), run_id))


def test_a_killed_run_is_readable_up_to_its_last_committed_snapshot(tmp_path: Path) -> None:
    program = """
number = 0
while True:
    if run.has_room(300_000):
        snapshot(number)
        number += 1
    print(run.committed, flush=True)
"""
    with start(tmp_path, program) as process:
        assert process.stdout is not None
        committed = 0
        while committed < 20:
            committed = int(process.stdout.readline())
        assert only_run(tmp_path).status == "running"
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate(timeout=60)
        # The last line may itself be cut.
        committed = max([committed, *map(int, rest.split("\n")[:-1])])
    run = only_run(tmp_path)
    assert run.status == "killed"
    taken = run.snapshots(verify=True)
    assert len(taken) >= committed
    assert [record["id"] for record in taken] == list(range(len(taken)))
    for record in taken:
        assert digest_of(run.blob(record["blobs"][0])) == record["blobs"][0]
    assert all(damage.cut for damage in run.damage)


def test_what_was_committed_survives_an_abrupt_exit(tmp_path: Path) -> None:
    carry_out(tmp_path, "snapshot(0)\nrun.flush()\nsnapshot(1, 30_000_000)\nos._exit(0)\n")
    run = only_run(tmp_path)
    assert run.status == "killed"
    assert run.snapshots(verify=True)[0]["id"] == 0


def test_closing_at_interpreter_exit_writes_out_a_full_queue(tmp_path: Path) -> None:
    program = """
import atexit
atexit.register(lambda: run.close("ok"))
for number in range(10):
    snapshot(number, 3_000_000)
"""
    _, err = carry_out(tmp_path, program)
    assert err == ""
    run = only_run(tmp_path)
    assert (len(run.snapshots(verify=True)), run.count("output"), run.status) == (10, 10, "finished")


def test_recorders_in_one_store_do_not_meet(tmp_path: Path) -> None:
    program = """
for number in range(30):
    snapshot(number, 20_000)
run.close("ok")
print(run.run_id)
"""
    processes = [start(tmp_path, program) for _ in range(4)]
    ids = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert sorted(ids) == layout.run_ids(str(tmp_path))
    assert len(ids) == 4
    for run_id in ids:
        run = open_run(str(tmp_path), run_id)
        assert (len(run.snapshots(verify=True)), run.damage) == (30, [])


@pytest.mark.parametrize("limit", [10_000, 1_000_000, 1_000_100])
def test_a_file_size_limit_stops_the_recording_not_the_script(tmp_path: Path, limit: int) -> None:
    program = f"""
import resource
run.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
for number in range(8):
    snapshot(number)
    time.sleep(0.05)
run.close("ok")
print("the script goes on")
"""
    out, err = carry_out(tmp_path, program)
    assert out == "the script goes on\n"
    assert err == "stopped: file too large\n"
    run = only_run(tmp_path)
    assert [record["id"] for record in run.snapshots(verify=True)] == list(range((limit - 100) // 300_100))
    assert run.status == "stopped"


FORKS = """
import threading
children = []
for number in range(20):
    snapshot(number, 2_000_000)
    assert len(os.listdir("/proc/self/task")) <= 2
    child = os.fork()
    if child == 0:
        # Whatever a child does with the writer that it inherited changes nothing.
        snapshot(1000 + number)
        run.flush()
        run.close("child")
        os._exit(0 if len(os.listdir("/proc/self/task")) == 1 else 9)
    children.append(child)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
run.close("ok")
"""


def test_forks_while_writing_leave_one_writer(tmp_path: Path) -> None:
    _, err = carry_out(tmp_path, FORKS, "-W", "error::DeprecationWarning")
    assert err == ""
    run = only_run(tmp_path)
    assert [record["id"] for record in run.snapshots(verify=True)] == list(range(20))
    assert (run.count("output"), run.status, run.damage) == (20, "finished", [])


def test_no_thread_is_alive_while_the_script_forks(tmp_path: Path) -> None:
    program = """
threads = []
for number in range(30):
    snapshot(number, 5_000_000)
    time.sleep(0.003)
    read, write = os.pipe()
    run._before_fork()
    threads.append(len(os.listdir("/proc/self/task")))
    run._after_fork_in_parent()
print(max(threads))
run.close("ok")
"""
    out, _ = carry_out(tmp_path, program)
    assert out == "1\n"
    assert len(only_run(tmp_path).snapshots()) == 30


def test_writing_goes_on_after_a_fork(tmp_path: Path) -> None:
    program = """
snapshot(0, 40_000_000)
if os.fork() == 0:
    os._exit(0)
os.wait()
deadline = time.monotonic() + 30
while run.backlog_bytes and time.monotonic() < deadline:
    time.sleep(0.01)
print(run.committed, flush=True)
os._exit(0)
"""
    out, _ = carry_out(tmp_path, program)
    assert len(only_run(tmp_path).snapshots(verify=True)) == 1
    assert out == "1\n"


def test_fork_method_pools_work_beside_a_writer(tmp_path: Path) -> None:
    program = """
import multiprocessing
with multiprocessing.get_context("fork").Pool(2) as pool:
    for number in range(5):
        snapshot(number)
        assert pool.map(abs, range(-5, 0)) == [5, 4, 3, 2, 1]
run.close("ok")
"""
    carry_out(tmp_path, program)
    assert len(only_run(tmp_path).snapshots(verify=True)) == 5


def test_signals_reach_the_main_thread_while_writing(tmp_path: Path) -> None:
    program = """
import signal
signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
snapshot(0, 1_000)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    time.sleep(60)
    print("slept to the end")
except KeyboardInterrupt:
    print("interrupted")
run.close("ok")
"""
    out, _ = carry_out(tmp_path, program)
    assert out == "interrupted\n"


def test_a_daemonised_script_ends_only_its_recording(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    program = f"""
snapshot(0)
run.flush()
if os.fork():
    os._exit(0)
os.setsid()
os.closerange(3, 2000)
with open({str(marker)!r}, "w") as file:
    run.event("output", text="from the daemon")
    run.close("ok")
    file.write("done")
"""
    carry_out(tmp_path / "s", program)
    deadline = time.monotonic() + 30
    while not (marker.exists() and marker.read_text()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert marker.read_text() == "done"
    run = only_run(tmp_path / "s")
    assert (len(run.snapshots(verify=True)), run.count("output"), run.status) == (1, 1, "killed")


def test_importing_the_writer_loads_nothing_heavy() -> None:
    program = "import sys; import flor_trace.store.writer; print(sorted(sys.modules))"
    root = str(Path(__file__).resolve().parents[2])
    words = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {root!r}); {program}"]
    loaded = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    for name in ("torch", "numpy", "xxhash", "lz4", "psutil", "sqlite3", "dataclasses", "typing", "threading", "signal", "pathlib"):
        assert f"'{name}'" not in loaded
