"""Large memory is copied into slots, hashed later, and left alone where it is the same as before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flor_trace.record import stager as stagers
from flor_trace.record.stager import WORTH_STAGING_BYTES, NoRoom, Stager
from flor_trace.state.graph import STAGED
from flor_trace.state.memory import Region, bytes_digest
from flor_trace.store import layout, writer
from flor_trace.store.reader import Run

LARGE = 2 * WORTH_STAGING_BYTES


def regions(*arrays: np.ndarray) -> dict[int, Region]:
    found = {}
    for array in arrays:
        address = array.ctypes.data
        found[address] = Region(address, array.nbytes, array)
        found[address].see(address, address + array.nbytes)
    return found


def staged(run: writer.RunWriter, stager: Stager, *arrays: np.ndarray, may_skip: bool = False) -> list[str]:
    """Take a snapshot of these arrays; returns their digests, "staged" for those that are told later."""
    stager.begin(may_skip=may_skip)
    try:
        found = stager.regions(regions(*arrays))
        digests = [found[array.ctypes.data] for array in arrays]
        graph = run.put_template(bytes(16), [(0, stager.numbers[-1])]) if stager.numbers else 0
    finally:
        stager.end()
    for array, digest in zip(arrays, digests, strict=True):
        if not digest.startswith(STAGED) and not run.has_blob(digest):
            run.put_blob(digest, array.tobytes())
    known = [digest for digest in digests if not digest.startswith(STAGED)]
    run.commit_snapshot({"graph": known[0]} if not graph else {}, known, stager.numbers, graph)
    run.flush()
    return ["staged" if digest.startswith(STAGED) else digest for digest in digests]


def test_what_stays_the_same_is_no_longer_copied_until_it_changes(run: writer.RunWriter, stager: Stager) -> None:
    changing, constant, small = np.zeros(LARGE, np.uint8), np.ones(LARGE, np.uint8), np.zeros(100, np.uint8)
    first = bytes_digest(constant)
    taken = []
    for number in range(4):
        changing[number] = 7
        taken.append(staged(run, stager, changing, constant, small))
    assert [digests[0] for digests in taken] == ["staged"] * 4
    assert [digests[1] for digests in taken] == ["staged", "staged", first, first]
    assert [digests[2] for digests in taken] == [bytes_digest(small)] * 4
    constant[-1] = 2
    assert staged(run, stager, changing, constant, small)[1] == "staged"
    assert staged(run, stager, changing, constant, small)[1] == "staged"
    assert staged(run, stager, changing, constant, small)[1] == bytes_digest(constant)
    run.close(0)
    read = Run(run.folder)
    assert len(read.snapshots(verify=True)) == 7
    assert read.blob(bytes_digest(changing)) == changing.tobytes()
    assert read.blob(first) == b"\x01" * LARGE


def test_memory_of_another_extent_at_the_same_address_is_not_taken_for_the_former(run: writer.RunWriter, stager: Stager) -> None:
    array = np.zeros(2 * LARGE, np.uint8)
    for _ in range(3):
        staged(run, stager, array)
    assert staged(run, stager, array) == [bytes_digest(array)]
    assert staged(run, stager, array[:LARGE]) == ["staged"]


def test_only_the_seen_part_is_stored(run: writer.RunWriter, stager: Stager) -> None:
    array = np.arange(LARGE, dtype=np.uint8)
    (region,) = regions(array).values()
    part = Region(region.address, region.nbytes, array)
    part.see(region.address + 1000, region.address + WORTH_STAGING_BYTES + 2000)
    stager.begin(may_skip=False)
    assert stager.regions({region.address: part})[region.address].startswith(STAGED)
    graph = run.put_template(bytes(16), [(0, stager.numbers[0])])
    run.commit_snapshot({}, [], stager.numbers, graph)
    stager.end()
    run.flush()
    assert run.take_resolved()[0][1] == bytes_digest(array[1000 : WORTH_STAGING_BYTES + 2000])


def test_without_a_slot_a_snapshot_is_left_out_or_taken_in_the_ordinary_way(
    run: writer.RunWriter, stager: Stager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stagers, "WORTH_LEAVING_OUT_BYTES", LARGE)
    array = np.zeros(LARGE, np.uint8)
    with pytest.raises(NoRoom):
        staged(run, stager, array, may_skip=True)  # its pages do not exist yet; they are made in the background
    run.flush()
    assert staged(run, stager, array, may_skip=True) == ["staged"]
    busy = [run.slots.take(LARGE), run.slots.take(LARGE)]
    assert None not in busy
    array[0] += 1
    with pytest.raises(NoRoom):
        staged(run, stager, array, may_skip=True)
    assert staged(run, stager, array) == [bytes_digest(array)]
    array[0] += 1
    monkeypatch.setattr(stagers, "WORTH_LEAVING_OUT_BYTES", 2 * LARGE)
    assert staged(run, stager, array, may_skip=True) == [bytes_digest(array)], "copied as fast as it would be walked once more"


SCRIPT = """
import os, sys
import numpy as np
state = np.zeros(1_500_000)
for epoch in range(4):
    state += epoch

def opens_the_run():
    found = False
    for name in os.listdir("/proc/self/fd"):
        try:
            found |= "/runs/" in os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            pass  # that of the listing itself
    return found

import time
deadline = time.monotonic() + 20
while opens_the_run() and time.monotonic() < deadline and sys.argv[1] == "process":
    time.sleep(0.01)
print("written here:", opens_the_run())
try:
    os.wait()
except ChildProcessError:
    print("no child")
print(len(os.listdir("/proc/self/task")))
"""


@pytest.mark.parametrize("kind", ["thread", "process", "foreground"])
def test_large_state_is_written_by_another_process_that_the_script_does_not_see(tmp_path: Path, kind: str) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment["FLOR_TRACE_WRITER"] = kind
    words = [sys.executable, "-m", "flor_trace", "record", "-q", "--store", "store", "--every", "1", "train.py", kind]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    here = "False" if kind == "process" else "True"
    assert done.stdout.splitlines()[:2] == [f"written here: {here}", "no child"]
    store = str(tmp_path / "store")
    run = Run(layout.run_folder(store, layout.run_ids(store)[0]))
    assert len(run.snapshots(verify=True)) == run.count("snapshot") >= 6
    assert run.status == "finished"


KILLED = """
import os, signal
import numpy as np
state = np.zeros(1_500_000)
for epoch in range(9):
    if epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    state += 1
"""


def test_in_the_foreground_each_snapshot_is_durable_before_the_script_goes_on(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(KILLED)
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "FLOR_TRACE_WRITER": "foreground"}
    words = [sys.executable, "-m", "flor_trace", "record", "-q", "--store", "store", "--every", "1", "train.py"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL
    store = str(tmp_path / "store")
    run = Run(layout.run_folder(store, layout.run_ids(store)[0]))
    assert [record["at"][2] for record in run.snapshots(verify=True)] == [0, 1, 2, 3]
