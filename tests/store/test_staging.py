"""Staging slots, and the process that writes from them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flor_trace.store import layout
from flor_trace.store.blobs import CHUNK, CHUNKED_FROM, LIST, digest_of
from flor_trace.store.reader import Run
from flor_trace.store.staging import MOST_SLOTS, SlotPool, memory_room

HEAD = """
import ctypes, os, random, sys, time
from flor_trace.store import writer

children = os.path.join("/proc", str(os.getpid()), "task", str(os.getpid()), "children")
run = writer.create(sys.argv[1], script="train.py", argv=[], on_failure=lambda why: print("stopped:", why, file=sys.stderr))
if sys.argv[2] == "process":
    run.stand_by()
    assert run._standby is not None

def snapshot(number, content):
    while (slot := run.slots.take(len(content))) is None:
        run.backlog_bytes
        time.sleep(0.001)
    offset = slot.place(len(content))
    ctypes.memmove(slot.address + offset, content, len(content))
    staged = run.put_staged(slot, [(offset, len(content))])
    graph = run.put_template(b"graph" + bytes(16), [(5, staged)])
    run.event("output", text=str(number))
    run.commit_snapshot({"id": number}, [], [staged], graph)
    run.release(slot)

def content(number, size=3_000_000):
    return random.Random(number).randbytes(size)

def writer_pid():
    return next(int(pid) for pid in os.listdir("/proc") if pid.isdigit() and int(pid) != os.getpid() and run.run_id in opened(pid))

def opened(pid):
    found = ""
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            found += os.readlink(f"/proc/{pid}/fd/{name}")
    except OSError:
        pass
    return found
"""


def start(store: Path, kind: str, program: str) -> subprocess.Popen[str]:
    root = str(Path(__file__).resolve().parents[2])
    words = [sys.executable, "-c", HEAD + program, str(store), kind]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
    )


def carry_out(store: Path, kind: str, program: str) -> str:
    with start(store, kind, program) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    return out


def only_run(store: Path) -> Run:
    (run_id,) = layout.run_ids(str(store))
    return Run(layout.run_folder(str(store), run_id))


def check(run: Run, contents: list[bytes]) -> None:
    """The run holds snapshots of these contents, and its graphs name them."""
    taken = run.snapshots(verify=True)
    assert [record["id"] for record in taken] == list(range(len(contents)))
    for record, content in zip(taken, contents, strict=True):
        digest = digest_of(content)
        assert run.blob(record["graph"]) == b"graph" + bytes.fromhex(digest)
        assert run.blob(digest) == content
        assert {digest, record["graph"]} == set(record["blobs"])


def contents(count: int) -> list[bytes]:
    import random

    return [random.Random(number).randbytes(3_000_000) for number in range(count)]


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_staged_buffers_are_stored_and_named_in_the_graph(tmp_path: Path, kind: str) -> None:
    program = """
for number in range(4):
    snapshot(number, content(number))
run.flush()
resolved = run.take_resolved()
print(len(resolved), run.committed, bool(open(children).read()))
for number in (4, 5):
    snapshot(number, content(0))
run.close(0)
"""
    assert carry_out(tmp_path, kind, program) == "8 4 False\n"
    run = only_run(tmp_path)
    first = contents(4)
    check(run, [*first, first[0], first[0]])
    assert (run.status, run.damage, run.count("output")) == ("finished", [], 6)
    assert run.disk_bytes() < 4.1 * 3_000_000


def test_a_writer_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    program = """
import signal
for number in range(12):
    snapshot(number, content(number))
    if number == 5:
        deadline = time.monotonic() + 20
        while run.committed < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(writer_pid(), signal.SIGKILL)
run.close(0)
"""
    carry_out(tmp_path, "process", program)
    run = only_run(tmp_path)
    check(run, contents(12))
    assert (run.status, run.count("output")) == ("finished", 12)
    assert [record["text"] for record in run.events("output")] == [str(number) for number in range(12)]


def test_a_writer_that_cannot_take_a_slot_leaves_the_work_to_the_thread(tmp_path: Path) -> None:
    program = """
from flor_trace.store import writer_process
run.close()
def refuse(descriptor, size):
    raise OSError(12, "Cannot allocate memory")
writer_process._Mapped = refuse
run = writer.create(sys.argv[1] + "/other", script="train.py", argv=[])
run.stand_by()
for number in range(4):
    snapshot(number, content(number))
run.close(0)
"""
    carry_out(tmp_path, "process", program)
    run = only_run(tmp_path / "other")
    check(run, contents(4))
    assert (run.status, run.damage, run.count("output")) == ("finished", [], 4)


def test_what_a_killed_writer_told_last_is_not_done_again(tmp_path: Path) -> None:
    program = """
import signal
from flor_trace.store.process_sink import ProcessSink
from flor_trace.store.reader import Run

snapshot(0, content(0))
run.flush()
send = ProcessSink._send
deadline = time.monotonic() + 20

def kill_before_the_third(sink, item):
    if item[0] == "staged" and item[1] == 5:
        while Run(run.folder).count("snapshot") < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)  # it has told that these are done, and nobody has listened yet
        pid = writer_pid()
        os.kill(pid, signal.SIGKILL)
        while opened(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        ProcessSink._send = send
    send(sink, item)

ProcessSink._send = kill_before_the_third
with run._lock:  # the main thread asks for nothing meanwhile
    for number in (1, 2):
        slot = run.slots.take(3_000_000)
        ctypes.memmove(slot.address, content(number), 3_000_000)
        staged = run.put_staged(slot, [(0, 3_000_000)])
        graph = run.put_template(b"graph" + bytes(16), [(5, staged)])
        run.event("output", text=str(number))
        run.commit_snapshot({"id": number}, [], [staged], graph)
        run.release(slot)
while run._queue:
    time.sleep(0.01)
snapshot(3, content(3))
run.close(0)
"""
    carry_out(tmp_path, "process", program)
    run = only_run(tmp_path)
    assert [record["text"] for record in run.events("output")] == [str(number) for number in range(4)]
    check(run, contents(4))
    assert run.damage == []


def test_what_was_handed_over_is_committed_after_the_trainer_was_killed(tmp_path: Path) -> None:
    program = """
snapshot(0, content(0))
run.flush()
snapshot(1, content(1))
while run._queue:
    time.sleep(0.0005)
time.sleep(0.05)  # the thread is sending the last of them
print("sent", flush=True)
time.sleep(60)
"""
    with start(tmp_path, "process", program) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "sent\n"
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
    deadline = time.monotonic() + 20
    while len(only_run(tmp_path).snapshots()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    run = only_run(tmp_path)
    check(run, contents(2))
    assert run.status == "killed"


def test_a_fork_does_not_disturb_the_writer(tmp_path: Path) -> None:
    program = """
for number in range(6):
    snapshot(number, content(number))
    child = os.fork()
    if child == 0:
        run.event("output", text="of the child")
        run.close("child")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
try:
    os.wait()
except ChildProcessError:
    print("no other child")
run.close(0)
"""
    assert carry_out(tmp_path, "process", program) == "no other child\n"
    run = only_run(tmp_path)
    check(run, contents(6))
    assert (run.status, run.count("output"), run.damage) == ("finished", 6, [])


def test_a_failure_in_the_writer_ends_the_recording_with_its_reason(tmp_path: Path) -> None:
    program = """
snapshot(0, content(0))
run.flush()
import resource
resource.prlimit(writer_pid(), resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))
snapshot(1, content(1))
deadline = time.monotonic() + 20
while not run.failed and time.monotonic() < deadline:
    run.backlog_bytes
    time.sleep(0.01)
run.close(0)
print("the script goes on")
"""
    with start(tmp_path, "process", program) as process:
        out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("the script goes on\n", "stopped: file too large\n", 0)
    run = only_run(tmp_path)
    check(run, contents(1))
    assert run.status == "stopped"


def test_of_a_large_blob_only_changed_chunks_are_stored_again(tmp_path: Path) -> None:
    program = f"""
size = {CHUNKED_FROM}
data = bytearray(content(0, size))
snapshot(0, bytes(data))
data[size // 2] ^= 1
snapshot(1, bytes(data))
run.close(0)
"""
    carry_out(tmp_path, "thread", program)
    run = only_run(tmp_path)
    assert len(run.snapshots(verify=True)) == 2
    assert sum(entry[5] == LIST for entry in run.index.values()) == 2
    assert run.disk_bytes() < CHUNKED_FROM + 2 * CHUNK
    (first, second) = (entry[0] for entry in run.index.values() if entry[5] == LIST)
    read, other = run.blob(first), bytearray(CHUNKED_FROM)
    run.blob_into(second, memoryview(other))
    assert [place for place in range(0, CHUNKED_FROM, CHUNK) if read[place : place + CHUNK] != other[place : place + CHUNK]] == [
        CHUNKED_FROM // 2
    ]


def test_slots_are_reused_bounded_and_given_back_when_memory_is_scarce() -> None:
    free = 1 << 30
    dropped: list[int] = []
    pool = SlotPool(dropped.append, room=lambda: (free, 1 << 30))
    first = pool.take(5_000_000)
    assert first is not None
    second = pool.take(1_000)
    assert second is not None
    assert (pool.take(1), pool.idle) == (None, False)
    pool.release(first)
    assert pool.take(4_000_000) is first, "reused, not made anew"
    pool.release(first)
    grown = pool.take(50_000_000)
    assert grown is not None
    assert (grown.number, dropped) == (3, [first.number])
    assert pool.nbytes <= 50_000_000 * 1.2 + (4 << 20)
    pool.release(grown)
    free = 1 << 20
    pool._looked = 0.0
    assert pool.take(1_000) is None
    assert dropped == [1, 3]
    assert pool.take(1 << 30) is None
    pool.clear()
    assert (pool.nbytes, MOST_SLOTS) == (0, 2)


def test_buffers_in_a_slot_do_not_overlap_and_populating_keeps_the_content() -> None:
    pool = SlotPool()
    slot = pool.take(1 << 20)
    assert slot is not None
    offsets = [slot.place(100), slot.place(64), slot.place(1)]
    assert offsets == [0, 128, 192]
    ctypes.memmove(slot.address + offsets[1], b"x" * 64, 64)
    for _ in slot.populate():
        assert not slot.ready
    assert slot.ready
    assert bytes(slot.view(offsets[1], 64)) == b"x" * 64
    pool.clear()


def test_memory_room_is_that_of_this_machine() -> None:
    free, total = memory_room()
    assert 0 < free <= total
