"""What the tracker knows of the files that a script writes, and what replay can rebuild from it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from flor_trace.runtime.files import FileState, FileTracker


class Record:
    """A tracker with a dict for a store."""

    def __init__(self, **options: object) -> None:
        self.blobs: dict[str, bytes] = {}
        self.puts = 0
        self.tracker = FileTracker(self.put, **options)  # type: ignore[arg-type]
        self.tracker.start()

    def put(self, digest: str, data: bytes) -> None:
        self.blobs[digest] = data
        self.puts += 1

    def content(self, state: FileState) -> bytes:
        return b"".join(self.blobs[d] for d, _ in state.chunks)

    def now(self, path: Path) -> FileState:
        return self.tracker.state()[os.path.realpath(path)]

    def before(self, path: Path) -> FileState:
        return self.tracker.initial()[str(path)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = Path(os.path.realpath(tmp_path))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def record(here: Path) -> Iterator[Record]:
    made = Record()
    yield made
    made.tracker.stop()


def test_a_written_file_is_known_with_its_content(record: Record, here: Path) -> None:
    Path("a.txt").write_text("one")
    state = record.now(here / "a.txt")
    assert (state.kind, state.size, record.content(state)) == ("file", 3, b"one")
    assert state.mtime_ns == os.stat("a.txt").st_mtime_ns
    assert record.before(here / "a.txt").kind == "absent"


@pytest.mark.parametrize("how", ["w", "a", "r+", "rename over", "remove", "truncate", "os.open", "memmap", "replace"])
def test_what_was_there_before_the_run_is_kept(here: Path, how: str) -> None:
    (here / "old").write_bytes(b"before the run!!")
    (here / "new").write_bytes(b"other")
    record = Record()
    if how in ("w", "a", "r+"):
        with open("old", how) as file:
            file.write("x")
    elif how == "rename over":
        os.rename("new", "old")
    elif how == "replace":
        Path("new").replace("old")
    elif how == "remove":
        Path("old").unlink()
    elif how == "truncate":
        os.truncate("old", 2)
    elif how == "os.open":
        os.close(os.open("old", os.O_WRONLY | os.O_TRUNC))
    else:
        np.memmap("old", "uint8", "r+")[:] = 0
    state = record.now(here / "old")
    record.tracker.stop()
    before = record.before(here / "old")
    assert (before.kind, record.content(before)) == ("file", b"before the run!!")
    assert state.kind == ("absent" if how == "remove" else "file")
    if state.kind == "file":
        assert record.content(state) == Path("old").read_bytes()


@pytest.mark.parametrize("kind", ["str", "Path", "jit", "jit module", "legacy", "package"])
def test_torch_writers_are_noted_though_they_raise_no_audit_event(record: Record, here: Path, kind: str) -> None:
    name = "m.pt"
    if kind == "str":
        torch.save(torch.ones(3), name)
    elif kind == "Path":
        torch.save(torch.ones(3), Path(name))
    elif kind == "legacy":
        torch.save(torch.ones(3), name, _use_new_zipfile_serialization=False)
    elif kind == "package":
        from torch.package import PackageExporter

        with PackageExporter(name) as package:
            package.save_text("a", "b.txt", "text")
    else:
        scripted = torch.jit.script(torch.nn.Linear(2, 2))
        scripted.save(name) if kind == "jit module" else torch.jit.save(scripted, name)
    assert record.content(record.now(here / name)) == Path(name).read_bytes()


def test_torch_save_writes_the_same_bytes_and_classes_keep_their_meaning(here: Path) -> None:
    torch.save({"w": torch.ones(3)}, "plain.pt")
    plain = Path("plain.pt").read_bytes()
    writer = torch._C.PyTorchFileWriter
    record = Record()
    torch.save({"w": torch.ones(3)}, "plain.pt")
    assert Path("plain.pt").read_bytes() == plain
    assert issubclass(torch._C.PyTorchFileWriter, writer)
    with pytest.raises(RuntimeError, match="Parent directory nowhere does not exist"):
        torch.save(1, "nowhere/x.pt")
    record.tracker.stop()
    assert torch._C.PyTorchFileWriter is writer


def test_other_writers_are_noted(record: Record, here: Path) -> None:
    np.save("a.npy", np.arange(3))
    np.savez("b.npz", x=np.arange(3))
    np.savetxt("c.txt", np.arange(3))
    np.arange(3).tofile("d.bin")
    handler = logging.FileHandler("e.log")
    handler.emit(logging.LogRecord("x", 20, "", 0, "message", None, None))
    handler.close()
    base = sqlite3.connect("f.db")
    base.execute("create table t(a)")
    base.close()
    shutil.copy("d.bin", "g.bin")
    state = record.tracker.state()
    for name in ("a.npy", "b.npz", "c.txt", "d.bin", "e.log", "f.db", "g.bin"):
        assert record.content(state[str(here / name)]) == Path(name).read_bytes(), name


def test_folders_links_renames_and_removals(record: Record, here: Path) -> None:
    os.makedirs("out/a")
    Path("out/a/x").write_text("x")
    os.symlink("a/x", "out/latest")
    os.rename("out", "moved")
    state = record.tracker.state()
    kinds = {path[len(str(here)) + 1 :]: s.kind for path, s in state.items()}
    assert kinds == {
        "out": "absent", "out/a": "absent", "out/a/x": "absent", "out/latest": "absent",
        "moved": "dir", "moved/a": "dir", "moved/a/x": "file", "moved/latest": "link",
    }  # fmt: skip
    assert state[str(here / "moved/latest")].target == "a/x"
    shutil.rmtree("moved")
    assert {s.kind for s in record.tracker.state().values()} == {"absent"}


def test_a_file_reached_through_a_link_is_noted_under_its_own_name(record: Record, here: Path) -> None:
    os.mkdir("real")
    os.symlink("real", "way")
    Path("way/x").write_text("1")
    os.chdir("way")
    with open("../real/y", "wb", buffering=0) as file:
        file.write(b"2")
        assert {str(here / "real/x"), str(here / "real/y")} <= set(record.tracker.state())
    assert str(here / "way/x") not in record.tracker.state()


def test_unchanged_files_are_not_read_again(record: Record, here: Path) -> None:
    Path("a").write_bytes(b"a" * 100)
    old = os.stat("a").st_mtime_ns - 10**10 + 1
    os.utime("a", ns=(old, old))
    first = record.now(here / "a")
    reads: list[str] = []
    look = record.tracker._look
    record.tracker._look = lambda path, *rest: reads.append(path) or look(path, *rest)  # type: ignore[func-returns-value,method-assign]
    assert record.now(here / "a") is first and reads == []
    Path("a").write_bytes(b"b" * 100)
    os.utime("a", ns=(old, old))
    assert record.content(record.now(here / "a")) == b"b" * 100 and reads


def test_a_change_within_one_tick_of_the_clock_is_seen(record: Record, here: Path) -> None:
    with open("a", "wb", buffering=0) as file:
        for step in range(200):
            file.seek(0)
            file.write(b"%4d" % step)
            assert record.content(record.now(here / "a")) == b"%4d" % step


def test_memory_maps_are_read_at_every_snapshot(record: Record, here: Path) -> None:
    array = np.memmap("m", "float32", "w+", shape=(4,))
    record.tracker.state()
    old = os.stat("m").st_mtime_ns - 10**10
    for value in (1.0, 2.0):
        array[:] = value
        os.utime("m", ns=(old, old))
        state = record.now(here / "m")
        assert record.content(state) == array.tobytes()


def test_a_growing_log_costs_its_growth(record: Record, here: Path) -> None:
    with open("log", "w") as log:
        for step in range(300):
            log.write(f"step {step} " + "x" * 1000 + "\n")
            log.flush()
            state = record.now(here / "log")
            assert record.content(state) == Path("log").read_bytes()
            assert len(state.chunks) <= 66
    stored = sum(len(b) for b in record.blobs.values())
    assert stored < 5 * os.stat("log").st_size


def test_a_change_in_the_middle_of_a_large_file(record: Record, here: Path) -> None:
    data = bytearray(os.urandom(3 << 20))
    for cut in (3 << 20, (3 << 20) - 5, (1 << 20) + 7):
        Path("big").write_bytes(data[:cut])
        assert record.content(record.now(here / "big")) == data[:cut]
    data[5] ^= 1
    Path("big").write_bytes(data)
    assert record.content(record.now(here / "big")) == data


def test_content_over_the_caps_is_a_named_loss(here: Path) -> None:
    record = Record(max_file=1000, max_total=1500)
    Path("a").write_bytes(b"a" * 1001)
    Path("b").write_bytes(b"b" * 900)
    Path("c").write_bytes(b"c" * 900)
    states = record.tracker.state()
    record.tracker.stop()
    assert states[str(here / "a")].lost == "larger than the cap of 1000 bytes per file"
    assert states[str(here / "b")].lost is None
    assert states[str(here / "c")].lost == "over the cap of bytes kept of files in one run"
    assert set(record.tracker.losses) == {str(here / "a"), str(here / "c")}


def test_unflushed_text_is_not_in_the_state(record: Record, here: Path) -> None:
    with open("log", "w") as log:
        log.write("kept in the buffer")
        assert record.now(here / "log").size == 0
    assert record.now(here / "log").size == 18


def test_files_that_are_none_of_the_scripts_are_left_out(here: Path) -> None:
    record = Record(ignore=(str(here / ".flor"),))
    os.mkdir(".flor")
    Path(".flor/journal").write_text("ours")
    with open("/dev/null", "w") as null:
        null.write("x")
    Path(f"/proc/{os.getpid()}/comm").read_text()
    os.mkdir("__pycache__")
    Path("__pycache__/m.pyc").write_text("python's own")
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    with open("pipe", "w") as pipe:
        pipe.write("x")
    os.close(reader)
    states = record.tracker.state()
    record.tracker.stop()
    assert set(states) <= {str(here / ".flor")}


def test_temporary_files_of_random_names_are_forgotten_once_gone(record: Record, here: Path) -> None:
    with tempfile.NamedTemporaryFile() as file:
        assert os.path.realpath(file.name) in record.tracker.state()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "x").write_text("x")
    Path("own").write_text("x")
    Path("own").unlink()
    assert set(record.tracker.state()) == {str(here / "own")}


def test_files_opened_for_reading_are_inputs(record: Record, here: Path) -> None:
    record.tracker.stop()
    Path("data.csv").write_text("1,2")
    record.tracker.start()
    for _ in range(3):
        Path("data.csv").read_text()
    Path("out").write_text("x")
    Path("out").read_text()
    assert record.tracker.inputs == {str(here / "data.csv"): (3, os.stat("data.csv").st_mtime_ns)}


def test_the_script_sees_nothing_of_it(record: Record, here: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        open("nowhere/x", "w")
    assert caught.value.filename == "nowhere/x"
    with pytest.raises(FileNotFoundError):
        os.remove("none")
    with pytest.raises(ValueError):
        open("a\0b", "w")
    Path("x").write_text("x")
    times = os.stat("x")
    record.tracker.state()
    assert os.stat("x").st_mtime_ns == times.st_mtime_ns
    assert not any("a\0b" in path for path in record.tracker.state())


def test_threads_are_followed_and_forked_children_are_not(record: Record, here: Path) -> None:
    thread = threading.Thread(target=lambda: Path("t").write_text("t"))
    thread.start()
    thread.join()
    child = os.fork()
    if child == 0:
        Path("c").write_text("c")
        os._exit(len([p for p in record.tracker.state() if p.endswith("/c")]))
    assert os.waitpid(child, 0)[1] == 0
    assert set(record.tracker.state()) == {str(here / "t")}


def test_states_survive_json(record: Record, here: Path) -> None:
    Path("x").write_text("x")
    os.symlink("x", "l")
    for state in record.tracker.state().values():
        assert FileState.from_json(json.loads(json.dumps(state.as_json()))) == state


def test_nothing_heavy_is_imported_by_it() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "from flor_trace.runtime import files, sources\n"
        "t = files.FileTracker(lambda d, b: None); t.start()\n"
        "print(*(set(sys.modules) - before))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "tempfile", "shutil", "random", "datetime", "xxhash"} & set(out)
