from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flor_trace.errors import StoreUnreadable
from flor_trace.store import files, writer
from flor_trace.store.blobs import digest_of
from flor_trace.store.reader import Run, open_run
from flor_trace.store.writer import RunWriter


def begin(store: Path, **more: object) -> RunWriter:
    return writer.create(str(store), script="train.py", argv=["--lr", "0.1"], **more)  # type: ignore[arg-type]


def snapshot(run: RunWriter, number: int, content: bytes) -> str:
    digest = digest_of(content)
    run.put_blob(digest, content)
    run.commit_snapshot({"id": number, "at": ["main", 0, number]}, [digest])
    return digest


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 20 s"
        time.sleep(0.01)


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = begin(tmp_path / "s", name="first", tags={"k": "v"}, python="3.11")
    position = ["main", 0, 1]
    run.event("output", stream="stdout", text="loss 0.5\n", at=position)
    position[2] = 99  # encoded before
    source = run.source("/p/train.py", b"print(1)\n")
    assert run.source("/p/copy.py", b"print(1)\n") == source
    digest = snapshot(run, 0, os.urandom(100_000))
    assert run.has_blob(digest)
    assert not run.has_blob("0" * 32)
    run.close(0)

    read = open_run(str(tmp_path / "s"), "first")
    assert read.manifest["argv"] == ["--lr", "0.1"]
    assert read.manifest["tags"] == {"k": "v"}
    assert read.manifest["python"] == "3.11"
    (output,) = read.events("output")
    assert (output["text"], output["at"]) == ("loss 0.5\n", ["main", 0, 1])
    (taken,) = read.snapshots(verify=True)
    assert (taken["id"], taken["blobs"]) == (0, [digest])
    assert digest_of(read.blob(digest)) == digest
    assert read.sources == {"/p/train.py": source, "/p/copy.py": source}
    assert read.source("/p/train.py") == b"print(1)\n"
    assert read.end is not None
    assert read.end["status"] == 0
    assert (read.status, read.damage) == ("finished", [])


def test_equal_bytes_are_stored_once(tmp_path: Path) -> None:
    run = begin(tmp_path)
    content = os.urandom(1_000_000)
    for number in range(5):
        snapshot(run, number, content)
    run.close("ok")
    read = open_run(str(tmp_path))
    assert len(read.snapshots()) == 5
    assert read.disk_bytes() < 1_100_000


def test_events_reach_the_file_soon_without_being_asked(tmp_path: Path) -> None:
    run = begin(tmp_path)
    run.event("output", text="one")
    wait_for(lambda: Run(run.folder).count("output") == 1)
    run.event("output", text="two")
    wait_for(lambda: Run(run.folder).count("output") == 2)
    assert Run(run.folder).status == "running"
    run.close()
    assert Run(run.folder).end is None


def test_flush_makes_everything_readable_and_the_run_goes_on(tmp_path: Path) -> None:
    run = begin(tmp_path)
    for number in range(3):
        snapshot(run, number, os.urandom(2_000_000))
        run.event("output", text=str(number))
        run.flush()
        read = Run(run.folder)
        assert (len(read.snapshots(verify=True)), read.count("output")) == (number + 1, number + 1)
        assert run.backlog_bytes == 0
    run.close("ok")


def test_events_of_many_threads_all_arrive(tmp_path: Path) -> None:
    run = begin(tmp_path)

    def work(number: int) -> None:
        for place in range(300):
            run.event("output", thread=number, place=place)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        run.flush()
    for thread in threads:
        thread.join()
    run.close("ok")
    seen = [(record["thread"], record["place"]) for record in Run(run.folder).events("output")]
    assert len(seen) == 1800
    for number in range(6):
        assert [place for thread, place in seen if thread == number] == list(range(300))


def test_the_thread_is_not_among_the_scripts(tmp_path: Path) -> None:
    before, system = threading.active_count(), len(os.listdir("/proc/self/task"))
    run = begin(tmp_path)
    run.event("output", text="x")
    wait_for(lambda: len(os.listdir("/proc/self/task")) == system + 1)
    assert threading.active_count() == before
    run.close("ok")


def test_a_backlog_is_told_and_a_hopeless_one_ends_the_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    real = files.write_all
    monkeypatch.setattr(files, "write_all", lambda *args: (gate.wait(20), real(*args))[1])
    gate.set()
    reasons: list[str] = []
    run = begin(tmp_path, backlog_limit=1_000_000, on_failure=reasons.append)
    gate.clear()
    assert run.has_room(500_000)
    snapshot(run, 0, os.urandom(900_000))
    assert not run.has_room(500_000)
    for number in range(5):
        snapshot(run, number, os.urandom(900_000))
    assert len(reasons) == 1
    assert "the disk is too slow" in reasons[0]
    assert run.failed == reasons[0]
    gate.set()
    run.close("ok")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_failing_disk_stops_the_recording_with_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    reasons: list[str] = []
    run = begin(tmp_path, on_failure=reasons.append)
    kept = snapshot(run, 0, os.urandom(50_000))
    run.flush()

    real = os.write
    written = 0

    def full(descriptor: int, data: bytes) -> int:
        nonlocal written
        if written > 100_000:
            raise OSError(number, os.strerror(number))
        written += len(data)
        return real(descriptor, bytes(data)[:70_000])

    monkeypatch.setattr(os, "write", full)
    for count in range(1, 5):
        snapshot(run, count, os.urandom(60_000))
        run.event("output", text="after")
    run.flush()
    wait_for(lambda: run.failed)
    run.event("output", text="ignored")
    snapshot(run, 9, b"ignored")
    run.close("ok")
    monkeypatch.undo()
    assert reasons == [os.strerror(number)[0].lower() + os.strerror(number)[1:]]

    read = Run(run.folder)
    assert {record["id"] for record in read.snapshots(verify=True)} in ({0}, {0, 1})
    assert digest_of(read.blob(kept)) == kept
    assert read.end is None


def test_a_run_whose_recording_stopped_says_so(tmp_path: Path) -> None:
    reasons: list[str] = []
    run = begin(tmp_path, on_failure=reasons.append)
    snapshot(run, 0, b"good")
    run.flush()
    run.event("output", text=object())
    run.close("ok")
    assert len(reasons) == 1
    assert "output record cannot be written" in reasons[0]
    read = Run(run.folder)
    assert read.status == "stopped"
    assert next(read.events("stopped"))["reason"] == reasons[0]
    assert len(read.snapshots()) == 1


def test_a_recording_that_its_owner_stops_keeps_what_it_has(tmp_path: Path) -> None:
    reasons: list[str] = []
    run = begin(tmp_path, on_failure=reasons.append)
    snapshot(run, 0, b"good")
    run.stop("the walk failed")
    snapshot(run, 1, b"late")
    run.close("ok")
    read = Run(run.folder)
    assert [record["id"] for record in read.snapshots(verify=True)] == [0]
    assert (read.status, reasons) == ("stopped", [])
    assert next(read.events("stopped"))["reason"] == "the walk failed"


def test_a_snapshot_of_unknown_blobs_is_not_committed(tmp_path: Path) -> None:
    run = begin(tmp_path)
    run.commit_snapshot({"id": 0}, ["ab" * 16])
    run.close("ok")
    assert run.failed is not None
    assert "never stored" in run.failed
    assert Run(run.folder).count("snapshot") == 0


def test_a_store_that_cannot_be_written_is_refused_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnreadable, match=r"cannot record into .*file"):
        begin(tmp_path / "file")

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "mkdir", read_only)
    with pytest.raises(StoreUnreadable, match="Read-only file system"):
        begin(tmp_path / "s")


def test_descriptors_closed_by_the_script_end_the_recording_and_spoil_no_file(tmp_path: Path) -> None:
    reasons: list[str] = []
    run = begin(tmp_path / "s", on_failure=reasons.append)
    run.flush()
    mine = run._sink._journal._file._descriptor
    assert mine >= 60
    os.close(mine)
    victim = os.open(tmp_path / "victim", os.O_WRONLY | os.O_CREAT)
    os.dup2(victim, mine)
    run.event("output", text="x")
    run.close("ok")
    assert (tmp_path / "victim").read_bytes() == b""
    assert len(reasons) == 1
    assert "closed by the script" in reasons[0]
    os.close(victim)
    os.close(mine)


def test_closing_twice_and_using_a_closed_run_is_harmless(tmp_path: Path) -> None:
    run = begin(tmp_path)
    run.event("end", status=3, seconds=1.0)
    run.close(7)
    run.close(8)
    run.event("output", text="late")
    snapshot(run, 0, b"late")
    run.flush()
    read = Run(run.folder)
    assert [record["status"] for record in read.events("end")] == [3]
    assert read.count("output") == read.count("snapshot") == 0
