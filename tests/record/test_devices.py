"""The memory of devices, as far as that can be tried without one: a CPU tensor stands for it, and `torch.cuda` is asked to wait."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from flor_trace.query.budget import decisions
from flor_trace.record.decisions import REASONS
from flor_trace.record.stager import LARGE_BYTES, WORTH_STAGING_BYTES, Stager
from flor_trace.state import devices
from flor_trace.state.graph import STAGED
from flor_trace.state.memory import Memory, Region, bytes_digest
from flor_trace.store import layout, writer
from flor_trace.store.reader import Run

WHERE = 1 << 40  # an address that nothing in this process has: reading it there would end the test


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices that have been waited for."""
    found: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", found.append)
    return found


def on_device(tensor: torch.Tensor, address: int = WHERE, device: str = "cuda:0") -> Region:
    region = Region(address, tensor.numel(), tensor, device=device)
    region.see(address, address + tensor.numel())
    return region


def test_large_memory_of_devices_is_copied_once_into_a_slot_and_waited_for(run: writer.RunWriter, stager: Stager, waits: list[str]) -> None:
    first = torch.arange(2 * WORTH_STAGING_BYTES, dtype=torch.int64).to(torch.uint8)
    second = torch.full((100,), 7, dtype=torch.uint8)
    host = torch.full((LARGE_BYTES,), 3, dtype=torch.uint8)
    regions = {
        WHERE: on_device(first),
        2 * WHERE: on_device(second, 2 * WHERE, "cuda:1"),
        host.data_ptr(): Region(host.data_ptr(), host.numel(), host, low=host.data_ptr(), high=host.data_ptr() + host.numel()),
    }
    regions[WHERE].low += 10  # only what is seen is copied
    stager.begin(may_skip=False)
    found = stager.regions(regions)
    assert all(digest.startswith(STAGED) for digest in found.values())
    assert set(waits) == {"cuda:0", "cuda:1"}
    graph = run.put_template(bytes(16), [(0, stager.numbers[0])])
    run.commit_snapshot({}, [], stager.numbers, graph)
    stager.end()
    run.close(0)
    read = Run(run.folder)
    assert len(read.snapshots(verify=True)) == 1
    for content in (first[10:], second, host):
        assert read.blob(bytes_digest(content.numpy())) == content.numpy().tobytes()


def test_memory_of_devices_is_never_taken_for_unchanged(run: writer.RunWriter, stager: Stager, waits: list[str]) -> None:
    memory = torch.zeros(2 * WORTH_STAGING_BYTES, dtype=torch.uint8)
    for _ in range(4):
        stager.begin(may_skip=False)
        assert stager.regions({WHERE: on_device(memory)})[WHERE].startswith(STAGED)
        graph = run.put_template(bytes(16), [(0, stager.numbers[0])])
        run.commit_snapshot({}, [], stager.numbers, graph)
        stager.end()
        run.flush()
    assert len(waits) == 4


def test_little_memory_of_devices_is_read_as_it_is(stager: Stager) -> None:
    memory, empty = torch.full((1000,), 5, dtype=torch.uint8), torch.empty(0, dtype=torch.uint8)
    stager.begin(may_skip=False)
    found = stager.regions({WHERE: on_device(memory), 2 * WHERE: on_device(empty, 2 * WHERE)})
    assert found == {WHERE: bytes_digest(memory.numpy()), 2 * WHERE: bytes_digest(b"")}


def test_each_device_is_waited_for_before_any_memory_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of the script's that is not the current one may still write it."""
    memory = Memory()
    tensors = [torch.zeros(1000, dtype=torch.uint8) for _ in range(3)]
    for number, tensor in enumerate(tensors, start=1):
        address = memory.add(number * WHERE, 1000, tensor, device=f"cuda:{number // 2}")
        memory.regions[address].see(address, address + 1000)
    waited: list[str] = []

    def finish(device: str) -> None:
        waited.append(device)
        for number, tensor in enumerate(tensors, start=1):
            if device == f"cuda:{number // 2}":
                tensor.fill_(number)

    monkeypatch.setattr(torch.cuda, "synchronize", finish)
    buffers = memory.buffers({})
    assert sorted(waited) == ["cuda:0", "cuda:1"]
    assert [buffers[n * WHERE].digest for n in (1, 2, 3)] == [bytes_digest(bytes([n]) * 1000) for n in (1, 2, 3)]


def test_how_devices_are_waited_for(monkeypatch: pytest.MonkeyPatch, waits: list[str]) -> None:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(torch.mps, "synchronize", lambda *words: calls.append(words))
    devices.wait_for(["cuda:3", "mps:0", "meta"])
    assert (waits, calls) == (["cuda:3"], [()])


def test_nothing_is_read_while_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not devices.is_capturing(), "without CUDA"
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert devices.is_capturing()


CAPTURING = """
import torch
torch.cuda.is_initialized = lambda: True
torch.cuda.is_current_stream_capturing = lambda: epoch == 2
epoch = 0
for epoch in range(5):
    print(epoch)
"""


def test_a_boundary_within_a_capture_gets_no_snapshot_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(CAPTURING)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "flor_trace", "record", "-q", "--store", "store", "--every", "1", "train.py"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n1\n2\n3\n4\n", "")
    store = str(tmp_path / "store")
    run = Run(layout.run_folder(store, layout.run_ids(store)[0]))
    assert [item["at"][2] for item in run.snapshots()] == [0, 1, 2, 4, "exit", "end"], "the head of 3 comes after the body of 2"
    (passed,) = [item for item in decisions(run) if not item["taken"]]
    assert (passed["first"], REASONS[passed["why"]]) == (3, "a CUDA graph was being captured, and nothing may be read meanwhile")


def test_memory_that_two_storages_of_a_device_look_at_is_read_through_the_larger(waits: list[str]) -> None:
    whole = torch.arange(100, dtype=torch.uint8)
    memory = Memory()
    for start, end in ((0, 50), (0, 100), (20, 40)):
        address = memory.add(WHERE + start, end - start, whole[start:end], device="cuda:0")
        memory.regions[address].see(address, address + end - start)
    assert memory.joined() == {WHERE + 20: WHERE}
    (buffer,) = memory.buffers({}).values()
    assert (buffer.nbytes, buffer.digest) == (100, bytes_digest(whole.numpy()))
    memory.add(WHERE + 90, 20, whole[:20], device="cuda:0")
    with pytest.raises(RuntimeError, match="two allocations of cuda:0 overlap in part"):
        memory.joined()
