"""What a reader makes of damaged runs: an earlier snapshot, never a wrong one."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from flor_trace.errors import CorruptRecord
from flor_trace.query import check
from flor_trace.store import catalog, layout, writer
from flor_trace.store.blobs import digest_of
from flor_trace.store.reader import Run

CONTENTS = [random.Random(number).randbytes(3000) for number in range(4)]


def record(store: Path, *, end: bool = True) -> str:
    run = writer.create(str(store), script="train.py", argv=["train.py"])
    run.source("/p/train.py", b"for epoch in range(4): pass\n" * 30)
    shared = b"frozen layer" * 300
    for number, content in enumerate(CONTENTS):
        run.event("output", stream="stdout", text=f"epoch {number}\n")
        for part in (shared, content):
            run.put_blob(digest_of(part), part)
        run.commit_snapshot({"id": number}, [digest_of(shared), digest_of(content)])
    run.close("ok" if end else None)
    return run.folder


def test_snapshots_with_damaged_blobs_are_left_out(tmp_path: Path) -> None:
    folder = record(tmp_path)
    run = Run(folder)
    entry = run.index[digest_of(CONTENTS[2])]
    with open(f"{folder}/packs/0000.pack", "r+b") as file:
        file.seek(entry[2] + 64 + 1000)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 4]))
    assert len(run.snapshots()) == 4  # only a read can tell
    with pytest.raises(CorruptRecord, match=r"damaged in packs/0000.pack at byte"):
        run.blob(digest_of(CONTENTS[2]))
    assert [snapshot["id"] for snapshot in run.snapshots()] == [0, 1, 3]
    assert [damage.file for damage in run.damage] == ["packs/0000.pack"]
    assert [snapshot["id"] for snapshot in Run(folder).snapshots(verify=True)] == [0, 1, 3]


def test_a_cut_pack_costs_only_what_was_behind_the_cut(tmp_path: Path) -> None:
    folder = record(tmp_path)
    os.truncate(f"{folder}/packs/0000.pack", Run(folder).index[digest_of(CONTENTS[3])][2] + 10)
    run = Run(folder)
    assert [snapshot["id"] for snapshot in run.snapshots()] == [0, 1, 2]
    assert "is damaged or missing" in str(run.damage[0])


def test_unknown_blobs_and_sources_are_refused(tmp_path: Path) -> None:
    run = Run(record(tmp_path))
    with pytest.raises(CorruptRecord, match="is not in run"):
        run.blob("0" * 32)
    with pytest.raises(CorruptRecord, match="cannot be read"):
        run.source("/p/other.py")


@pytest.mark.parametrize("name", ["manifest.json", "journal", "packs/0000.pack", "sources"])
def test_any_flipped_bit_is_named_and_nothing_wrong_is_read(tmp_path: Path, name: str) -> None:
    folder = Path(record(tmp_path))
    sound = Run(str(folder))
    expected = {snapshot["id"]: [sound.blob(digest) for digest in snapshot["blobs"]] for snapshot in sound.snapshots()}
    outputs = [event["text"] for event in sound.events("output")]
    assert check.verify(sound)["damaged"] == []
    path = folder / name if name != "sources" else next((folder / "sources").iterdir())
    whole = path.read_bytes()
    draw = random.Random(name)
    for _ in range(60):
        bit = draw.randrange(128 if "pack" in name else 0, len(whole) * 8)
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        run = Run(str(folder))
        result = check.verify(run)
        found = run.snapshots(verify=True)
        # Some flips leave all that is read as it was: in JSON's white space, or between two lz4 encodings of the same bytes.
        harmless = name in ("manifest.json", "packs/0000.pack") and len(found) == 4 and run.manifest == sound.manifest
        assert harmless or [item["file"] for item in result["damaged"]], f"bit {bit} of {name}"
        for snapshot in found:
            assert [run.blob(digest) for digest in snapshot["blobs"]] == expected[snapshot["id"]]
        seen = [event["text"] for event in run.events("output")]
        assert seen == [text for text in outputs if text in seen]
        assert run.manifest == sound.manifest


def test_a_journal_cut_anywhere_gives_the_snapshots_before_the_cut(tmp_path: Path) -> None:
    folder = record(tmp_path, end=False)
    path = Path(folder, "journal")
    whole = path.read_bytes()
    counts = []
    for length in range(len(whole), 0, -37):
        path.write_bytes(whole[:length])
        run = Run(folder)
        ids = [snapshot["id"] for snapshot in run.snapshots(verify=True)]
        assert ids == list(range(len(ids)))
        counts.append(len(ids))
        assert check.verify(run)["damaged"] == []
    assert counts[0] == 4
    assert counts[-1] == 0
    assert counts == sorted(counts, reverse=True)


def test_a_finished_run_with_a_cut_record_is_damaged(tmp_path: Path) -> None:
    folder = record(tmp_path)
    with open(f"{folder}/journal", "ab") as file:
        file.write(writer.journal.frame({"kind": "output"})[:20])
    result = check.verify(Run(folder))
    assert [item["file"] for item in result["damaged"]] == ["journal"]


def test_replays_get_folders_of_their_own(tmp_path: Path) -> None:
    folder = record(tmp_path)
    before = {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    folders = [Run(folder).new_replay_folder() for _ in range(3)]
    assert [os.path.relpath(path, folder) for path in folders] == ["replays/1", "replays/2", "replays/3"]
    shutil.rmtree(folders[0])
    assert Run(folder).new_replay_folder().endswith("replays/4")
    assert before == {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


# -- the catalog --------------------------------------------------------------------------------------------------------


def test_the_catalog_is_only_a_cache(tmp_path: Path) -> None:
    store = str(tmp_path)
    ids = [os.path.basename(record(tmp_path)) for _ in range(3)]
    truth = catalog.list_runs(store)
    assert [summary["id"] for summary in truth] == ids
    assert [summary["snapshots"] for summary in truth] == [4, 4, 4]
    path = tmp_path / layout.CATALOG
    assert path.exists()
    assert catalog.list_runs(store) == truth
    for ruin in (b"", b"not a database" * 100, path.read_bytes()[:3000]):
        path.write_bytes(ruin)
        assert catalog.list_runs(store) == truth
        assert catalog.list_runs(store) == truth
    path.unlink()
    path.mkdir()  # cannot be opened at all
    assert catalog.list_runs(store) == truth


def test_the_catalog_notices_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = str(tmp_path)
    folder = record(tmp_path)
    gone = record(tmp_path)
    open_ended = record(tmp_path, end=False)
    catalog.list_runs(store)
    shutil.rmtree(gone)
    with open(f"{folder}/journal", "ab") as file:
        file.write(b"junk")
    first, second = catalog.list_runs(store)
    assert (first["damaged"], second["id"]) == (True, os.path.basename(open_ended))
    assert second["status"] == "running"
    with sqlite3.connect(tmp_path / layout.CATALOG) as database:
        rows = {row[0] for row in database.execute("SELECT id FROM runs")}
    database.close()
    assert rows == {os.path.basename(folder)}
    # What is in the catalog is not read again.
    read: list[str] = []
    monkeypatch.setattr(catalog, "summarise", lambda run: read.append(run.id) or {"id": run.id, "status": "running"})
    assert len(catalog.list_runs(store)) == 2
    assert read == [os.path.basename(open_ended)]


def test_an_unreadable_run_is_listed(tmp_path: Path) -> None:
    folder = record(tmp_path)
    for name in ("manifest.json", "journal"):
        Path(folder, name).write_bytes(b"junk")
    (summary,) = catalog.list_runs(str(tmp_path))
    assert (summary["status"], summary["damaged"]) == ("unreadable", True)
