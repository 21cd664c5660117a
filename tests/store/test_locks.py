from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from flor_trace.cli import main
from flor_trace.errors import UsageError
from flor_trace.query import cleanup
from flor_trace.store import compact, layout, locks, writer
from flor_trace.store.blobs import digest_of
from flor_trace.store.reader import Run


def begun(store: Path) -> writer.RunWriter:
    """A run that is being recorded and has one snapshot."""
    made = writer.create(str(store), script="x.py", argv=[])
    data = bytes(100_000)
    made.put_blob(digest_of(data), data)
    made.commit_snapshot({"at": ["l", 0, 0], "graph": digest_of(data)}, [digest_of(data)])
    made.flush()
    return made


def test_a_run_is_in_use_until_its_recording_ends(tmp_path: Path) -> None:
    recording = begun(tmp_path)
    assert locks.in_use(recording.folder)
    with pytest.raises(UsageError, match="is being recorded"):
        compact.compact(recording.folder)
    recording.close(0)
    assert not locks.in_use(recording.folder)


def test_a_child_that_outlives_the_recording_does_not_keep_the_lock(tmp_path: Path) -> None:
    recording = begun(tmp_path)
    there, here = os.pipe()
    runs, running = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(here)
        os.write(running, b"1")
        os.read(there, 1)
        os._exit(0)
    program = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert locks.in_use(recording.folder)  # the child lets go of its own copy only
    os.read(runs, 1)
    recording.close(0)
    still = locks.in_use(recording.folder)
    os.close(here)
    os.waitpid(child, 0)
    program.communicate(b"\n")
    assert not still


def test_who_only_looks_whether_a_run_is_in_use_disturbs_nobody(tmp_path: Path) -> None:
    asking = threading.Event()
    done = threading.Event()

    def look() -> None:
        with locks.Hold(str(tmp_path), alone=True):
            asking.set()
            time.sleep(0.05)
        done.set()

    thread = threading.Thread(target=look)
    thread.start()
    asking.wait()
    with locks.Hold(str(tmp_path)):
        assert done.wait(5)
    thread.join()


def test_what_was_deleted_meanwhile_is_not_taken_for_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with locks.Hold(str(folder), alone=True):
        started = threading.Event()
        told: list[str] = []

        def wait() -> None:
            started.set()
            try:
                locks.Hold(str(folder), patience=5.0)
            except UsageError as error:
                told.append(str(error))

        thread = threading.Thread(target=wait)
        thread.start()
        started.wait()
        time.sleep(0.05)
        folder.rename(tmp_path / "aside")
    thread.join()
    assert told == ["run run has been deleted"]
    with pytest.raises(UsageError, match="run run has been deleted"):
        locks.Hold(str(folder))


def test_a_script_that_closes_every_descriptor_keeps_what_it_opens_in_their_places(tmp_path: Path) -> None:
    closed = locks.Hold(str(tmp_path))
    os.close(closed._descriptor)
    closed.release()
    taken = locks.Hold(str(tmp_path))
    number = taken._descriptor
    with open(os.devnull) as file:
        os.dup2(file.fileno(), number)
    taken.release()
    assert os.read(number, 1) == b""
    os.close(number)


def test_replay_and_verify_wait_for_nobody_who_changes_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = begun(tmp_path)
    recording.close(0)
    with locks.Hold(recording.folder, alone=True):
        for words in (["verify"], ["verify", "--deep"], ["replay", "--run", recording.run_id]):
            assert main([words[0], "--store", str(tmp_path), *words[1:]]) == 2
            assert "is being compacted or deleted: try again" in capsys.readouterr().err
    assert main(["verify", "--store", str(tmp_path)]) == 0


def test_a_run_that_was_compacted_before_it_was_held_is_read_again(tmp_path: Path) -> None:
    pytest.importorskip("zstandard")
    recording = begun(tmp_path)
    recording.close(0)
    run = Run(recording.folder)
    with locks.Using(run) as same:
        assert same is run
        assert layout.run_ids(str(tmp_path)) == [run.id]
        with pytest.raises(UsageError, match="is being used"):
            cleanup.remove(str(tmp_path), [run.id])
    compact.compact(recording.folder)
    digest = digest_of(bytes(100_000))
    with locks.Using(run) as new:
        assert new is not run
        assert new.blob(digest) == bytes(100_000)
