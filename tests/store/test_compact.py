from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flor_trace.errors import CorruptRecord, FormatTooNew, UsageError
from flor_trace.query import check, cleanup
from flor_trace.store import blobs, compact, layout, locks, shuffled, writer
from flor_trace.store.blobs import digest_of
from flor_trace.store.reader import Run

pytest.importorskip("zstandard")
NOISE = random.Random(1).randbytes(70_000)
FLOATS = np.random.default_rng(0).normal(size=40_000).astype(np.float32)


def record(store: Path, *, end: bool = True) -> Path:
    """Three snapshots of arrays that change a little, and the blob of one that was never committed."""
    run = writer.create(str(store), script="train.py", argv=["train.py"], name="n")
    for number in range(3):
        digests = []
        for content in (np.float32(FLOATS * (1 + number / 100)).tobytes(), NOISE, b"text " * 2000, b"", b"x"):
            digests.append(digest_of(content))
            run.put_blob(digests[-1], content)
        run.source(f"/p/{number}.py", b"print(%d)\n" % number)
        run.event("output", stream="stdout", text=f"epoch {number}\n")
        run.commit_snapshot({"at": ["m", 0, number], "id": number}, digests)
    lost = b"never committed" * 1000
    run.put_blob(digest_of(lost), lost)
    run.flush()
    if end:
        run.close(0)
    return Path(run.folder)


def contents(folder: Path) -> dict[str, Any]:
    """All that a reader gets."""
    run = Run(str(folder))
    snapshots = run.snapshots(verify=True)
    needed = sorted({digest for record in snapshots for digest in record["blobs"]})
    records = [record for record in run.events() if record["kind"] not in ("manifest", "blobs")]
    manifest = {key: value for key, value in run.manifest.items() if key not in ("format", "compacted")}
    return {"blobs": [run.blob(digest) for digest in needed], "records": records, "manifest": manifest, "sources": run.sources}


def test_a_compacted_run_says_the_same_in_less_space(tmp_path: Path) -> None:
    folder = record(tmp_path)
    before, told = contents(folder), os.stat(folder / "journal").st_mtime_ns
    sizes = compact.compact(str(folder))
    assert contents(folder) == before
    assert sizes[1] < 0.93 * sizes[0]
    assert sizes[1] == Run(str(folder)).disk_bytes()
    assert check.verify(Run(str(folder)))["damaged"] == []
    assert digest_of(b"never committed" * 1000) not in Run(str(folder)).index
    assert os.stat(folder / "journal").st_mtime_ns == told
    assert cleanup.collect_garbage(str(tmp_path)) == ([], [])
    assert layout.resolve(str(tmp_path), "n") == folder.name
    # Nothing is left to do.
    names = os.listdir(folder / "packs")
    assert compact.compact(str(folder)) == (sizes[1], sizes[1])
    assert os.listdir(folder / "packs") == names


def test_the_format_is_told_before_the_packs_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = record(tmp_path)
    assert layout.read_manifest(str(folder))["format"] == layout.FORMAT
    compact.compact(str(folder))
    monkeypatch.setattr(layout, "COMPACTED_FORMAT", layout.FORMAT)  # as an earlier version has it
    with pytest.raises(FormatTooNew, match="upgrade"):
        Run(str(folder))
    (folder / "manifest.json").unlink()
    with pytest.raises(FormatTooNew, match="upgrade"):
        Run(str(folder))


DISK_WORK = ("write", "fsync", "fdatasync", "replace", "unlink", "open")


def killed_at(folder: Path, step: int) -> bool:
    """Compact in a child that is killed before its `step`-th disk operation; whether it was."""
    child = os.fork()
    if child == 0:
        left = step

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **keywords: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **keywords)

            return call

        for name in DISK_WORK:
            setattr(os, name, counted(getattr(os, name)))
        try:
            compact.compact(str(folder))
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_crash_at_any_step_loses_nothing(tmp_path: Path) -> None:
    folder = record(tmp_path)
    before = contents(folder)
    step = 1
    while killed_at(folder, step):
        assert contents(folder) == before
        assert check.verify(Run(str(folder)))["damaged"] == []
        cleanup.collect_garbage(str(tmp_path))
        assert contents(folder) == before
        if Run(str(folder)).manifest.get("compacted") and Run(str(folder)).index[digest_of(NOISE)][1] > 0:
            folder = record(tmp_path)  # killed behind the step that counts: another one
            before = contents(folder)
        step += 1
    assert step > 20
    assert contents(folder) == before


def test_a_manifest_that_came_before_its_journal_is_no_reason_to_stop(tmp_path: Path) -> None:
    folder = record(tmp_path)
    manifest = layout.read_manifest(str(folder))
    layout.write_manifest(str(folder), {**manifest, "format": layout.COMPACTED_FORMAT, "compacted": True})
    before, after = compact.compact(str(folder))
    assert after < before


def test_what_may_not_be_compacted(tmp_path: Path) -> None:
    running = record(tmp_path, end=False)
    with pytest.raises(UsageError, match="is being recorded"):
        compact.compact(str(running))
    used = record(tmp_path)
    # Another descriptor is another holder, in this process too.
    with locks.Hold(str(used)), pytest.raises(UsageError, match="is being recorded, replayed or verified"):
        compact.compact(str(used))
    damaged = record(tmp_path)
    pack = damaged / "packs" / "0000.pack"
    data = bytearray(pack.read_bytes())
    data[5000] ^= 1
    pack.write_bytes(data)
    files = sorted(os.listdir(damaged / "packs"))
    with pytest.raises(CorruptRecord):
        compact.compact(str(damaged))
    assert sorted(os.listdir(damaged / "packs")) == files
    done, notes = cleanup.compact(str(tmp_path), [])
    assert [item["run"] for item in done] == [used.name]
    assert len(notes) == 2


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = record(tmp_path)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(UsageError, match="compacting needs the package zstandard: pip install zstandard"):
        compact.compact(str(folder))
    monkeypatch.undo()
    compact.compact(str(folder))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(UsageError, match="pip install zstandard"):
        _ = Run(str(folder)).index


@pytest.mark.parametrize("width", shuffled.WIDTHS)
@pytest.mark.parametrize("size", [0, 1, 7, 8, 4099, 100_001])
def test_pieces_come_back(monkeypatch: pytest.MonkeyPatch, width: int, size: int) -> None:
    monkeypatch.setattr(shuffled, "_best_width", lambda piece: width)
    piece = (FLOATS.tobytes() + b"\x00" * 10)[:size]
    body = shuffled.squeeze(memoryview(piece))
    assert body[0] == width
    assert shuffled.unsqueeze(body, size) == piece


def test_the_width_of_the_numbers_is_found() -> None:
    for dtype, width in ((np.float32, 4), (np.float64, 8)):
        assert shuffled.squeeze(memoryview(FLOATS.astype(dtype).tobytes()))[0] % width == 0


def test_damage_of_a_squeezed_piece_is_found(tmp_path: Path) -> None:
    folder = record(tmp_path)
    compact.compact(str(folder))
    (name,) = os.listdir(folder / "packs")
    whole = (folder / "packs" / name).read_bytes()
    good = {digest: Run(str(folder)).blob(digest) for digest in Run(str(folder)).index}
    dice = random.Random(5)
    noticed = 0
    for _ in range(300):
        flipped = bytearray(whole)
        bit = dice.randrange(len(blobs.PACK_MAGIC) * 8, len(whole) * 8)
        flipped[bit // 8] ^= 1 << bit % 8
        (folder / "packs" / name).write_bytes(flipped)
        run = Run(str(folder))
        for digest, content in good.items():
            try:
                assert run.blob(digest) == content
            except CorruptRecord:
                noticed += 1
    assert noticed > 290
