"""What is left of a run when the power fails: only bytes and names that were synced, and every committed snapshot is among them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from flor_trace.errors import StoreUnreadable
from flor_trace.store import blobs, journal, layout, writer
from flor_trace.store.blobs import digest_of
from flor_trace.store.reader import open_run
from flor_trace.store.sink import RunSink
from flor_trace.store.writer import RunWriter


class Disk:
    """Knows of all files below a folder what a disk that keeps nothing else would hold: a file's bytes when it was last synced, and a
    folder's names when it was."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.bytes: dict[int, bytes] = {}
        self.names: dict[int, dict[str, int]] = {}
        self.folders = {root.stat().st_ino}
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._synced(getattr(os, name)))

    def _synced(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def sync(descriptor: int) -> None:
            real(descriptor)
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            found = os.fstat(descriptor)
            if stat.S_ISDIR(found.st_mode):
                self.folders.add(found.st_ino)
                self.names[found.st_ino] = {child.name: child.stat().st_ino for child in path.iterdir()}
                self.folders.update(child.stat().st_ino for child in path.iterdir() if child.is_dir())
            else:
                self.bytes[found.st_ino] = path.read_bytes()

        return sync

    def after_power_loss(self, target: Path) -> Path:
        """Make a copy of what the disk holds."""
        self._copy(self.root.stat().st_ino, target)
        return target

    def _copy(self, folder: int, target: Path) -> None:
        target.mkdir()
        for name, inode in self.names.get(folder, {}).items():
            if inode in self.folders:
                self._copy(inode, target / name)
            else:
                (target / name).write_bytes(self.bytes.get(inode, b""))


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    (tmp_path / "disk").mkdir()
    return Disk(tmp_path / "disk", monkeypatch)


def begin(disk: Disk) -> RunWriter:
    return writer.create(str(disk.root / "a/.flor"), script="train.py", argv=[])


def snapshot(run: RunWriter, number: int, *contents: bytes) -> None:
    for content in contents:
        run.put_blob(digest_of(content), content)
    run.commit_snapshot({"id": number}, [digest_of(content) for content in contents])


def check(disk: Disk, tmp_path: Path, committed: int) -> None:
    """All committed snapshots survive, with the manifest and the sources."""
    run = open_run(str(disk.after_power_loss(tmp_path / f"lost-{committed}") / "a/.flor"))
    assert [record["id"] for record in run.snapshots(verify=True)] == list(range(committed))
    assert all(run.source(path) for path in run.sources)
    assert run.damage == []


def test_committed_snapshots_survive(disk: Disk, tmp_path: Path) -> None:
    run = begin(disk)
    for number in range(3):
        run.source("train.py", b"print(%d)" % number)
        snapshot(run, number, os.urandom(3000), b"constant")
        while run.committed <= number:
            assert run.failed is None
        check(disk, tmp_path, number + 1)
    run.close(0)


def test_snapshots_in_a_second_pack_survive(disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "_PACK_LIMIT", 20_000)
    run = begin(disk)
    for number in range(5):
        snapshot(run, number, os.urandom(8000))
    run.flush()
    assert len(os.listdir(os.path.join(run.folder, layout.PACKS))) > 1
    check(disk, tmp_path, 5)
    run.close(0)


def test_what_a_killed_writer_left_survives_with_the_first_commit_after_it(disk: Disk, tmp_path: Path) -> None:
    store = str(disk.root / "a/.flor")
    run_id, folder = layout.create_run_folder(store)
    killed = RunSink(folder, {"format": layout.FORMAT, "id": run_id})
    blob = b"stored by one, committed by the other"
    source = b"print(1)"
    items = (
        ("source", digest_of(source), source),
        ("frame", journal.frame({"kind": "source", "path": "train.py", "digest": digest_of(source), "size": 8})),
        ("blob", digest_of(blob), blob),
    )
    for item in items:
        list(killed.perform(item))
    killed.write_index()
    killed.close()
    sink = RunSink.resume(folder, killed.journal_size)
    list(sink.perform(("commit", journal.payload_of({"kind": "snapshot", "id": 0}), [digest_of(blob)], [], 0)))
    check(disk, tmp_path, 1)
    again = b"in a pack of the second's own"
    list(sink.perform(("blob", digest_of(again), again)))
    list(sink.perform(("commit", journal.payload_of({"kind": "snapshot", "id": 1}), [digest_of(again)], [], 0)))
    check(disk, tmp_path, 2)
    sink.close()


def test_a_writer_that_took_over_syncs_the_name_of_its_pack(disk: Disk, tmp_path: Path) -> None:
    run_id, folder = layout.create_run_folder(str(disk.root / "a/.flor"))
    first = RunSink(folder, {"format": layout.FORMAT, "id": run_id})
    list(first.perform(("blob", digest_of(b"x"), b"x")))
    list(first.perform(("commit", journal.payload_of({"kind": "snapshot", "id": 0}), [digest_of(b"x")], [], 0)))
    first.sync()
    first.close()
    second = RunSink.resume(folder)
    list(second.perform(("blob", digest_of(b"y"), b"y")))
    list(second.perform(("commit", journal.payload_of({"kind": "snapshot", "id": 1}), [digest_of(b"y")], [], 0)))
    check(disk, tmp_path, 2)
    second.close()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_file_system_that_cannot_sync_folders_is_recorded_on_and_one_that_fails_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    store = str(tmp_path / "a/.flor")
    if number == errno.EIO:
        with pytest.raises(StoreUnreadable, match="Input/output error"):
            writer.create(store, script="train.py", argv=[])
        return
    run = writer.create(store, script="train.py", argv=[])
    snapshot(run, 0, b"x")
    run.close(0)
    assert run.failed is None
    assert len(open_run(store).snapshots(verify=True)) == 1
