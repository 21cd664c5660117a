from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flor_trace.cli import main
from flor_trace.query import cleanup, text
from flor_trace.query.loops import main_loop, totals
from flor_trace.state.graph import Graph, RootEntry
from flor_trace.store import layout, writer
from flor_trace.store.blobs import digest_of
from flor_trace.store.reader import open_run


def graph_with_a_lock() -> bytes:
    graph = Graph()
    graph.nodes[7] = ("opaque", None, ("_thread.lock", None), (), None)
    graph.roots.append(RootEntry("module", "__main__", ("lock",), ((7,),)))
    return graph.encode()[0]


def record(store: Path, *, status: str | int | None = 0, name: str | None = None, script: str = "train.py") -> str:
    run = writer.create(str(store), script=script, argv=["--lr", "0.1"], name=name, tags={"k": "v"}, cwd="/home/me")
    run.event("start", argv=[script], cwd="/home/me", python=[3, 11, 7], versions={"torch": "2.13"}, env={}, seed=7)
    run.event("versions", versions={"numpy": "2.4"})
    source = run.source("/home/me/train.py", b"...\n")
    loops = [{"index": 0, "key": "m::0", "lineno": 3, "end_lineno": 9, "is_while": False}]
    run.event("module", name="__main__", path="/home/me/train.py", source=source, loops=loops, functions=[])
    for epoch in range(3):
        run.event("output", stream="stdout", text=f"epoch {epoch}\n", at=[["m::0", 0, epoch]], line="train.py:5")
        inner = {"started": 0.0, "seconds": 1.0, "iterations": 100, "exit": "exhausted"}
        run.event("activation", loop="m::1", entry=epoch, parent=["m::0", 0, epoch], **inner)
        blobs = [os.urandom(1000), graph_with_a_lock()]
        digests = [digest_of(content) for content in blobs]
        for digest, content in zip(digests, blobs, strict=True):
            run.put_blob(digest, content)
        run.commit_snapshot({"id": epoch, "at": ["m::0", 0, epoch], "stall": 0.002, "graph": digests[1]}, digests)
    run.event("output", stream="stderr", text="wärning \udcff\n", at=[], line="train.py:9")
    run.event("activation", loop="m::0", entry=0, parent=None, started=0.0, seconds=3.1, iterations=3, exit="exhausted")
    run.event("activation", loop="m::2", entry=0, parent=None, started=3.1, seconds=0.2, iterations=50, exit="break")
    run.close(status)
    return run.run_id


def json_of(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    status = main([*words, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = record(tmp_path, name="base")
    second = record(tmp_path, status=1, script="/x/other.py")
    third = record(tmp_path, status=None)
    assert main(["runs", "--store", str(tmp_path)]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["id", "name", "script", "status", "when", "took", "snapshots", "size"]
    assert [row.split()[0] for row in rows] == [first, second, third]
    assert rows[0].split()[1:4] == ["base", "train.py", "finished"]
    assert "other.py  finished (exit status 1)" in rows[1]
    assert "running" in rows[2]
    _, listed = json_of(capsys, "runs", "--store", str(tmp_path))
    assert [(info["id"], info["exit_status"], info["snapshots"]) for info in listed] == [(first, 0, 3), (second, 1, 3), (third, None, 3)]


def test_an_empty_store_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert json_of(capsys, "runs", "--store", str(tmp_path / "none")) == (0, [])
    assert main(["runs", "--store", str(tmp_path / "none")]) == 0
    assert "no run is recorded" in capsys.readouterr().err


def test_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = record(tmp_path)
    assert main(["show", "--store", str(tmp_path), run_id]) == 0
    page = capsys.readouterr().out
    for line in ("command    train.py --lr 0.1", "versions   numpy 2.4, torch 2.13", "seed       7", "tags       k=v"):
        assert line in page
    assert "snapshots  3, 6 ms of stall" in page
    assert re.search(r"opaque +lock \(_thread.lock\)\n +\(cannot be stored", page)
    (row,) = [line for line in page.splitlines() if "main loop" in line]
    assert row.split() == ["m::0", "train.py:3", "1", "3", "3.10", "main", "loop"]
    status, info = json_of(capsys, "show", "--store", str(tmp_path))
    assert (status, info["main_loop"], info["snapshots"], info["python"]) == (0, "m::0", 3, "3.11.7")
    assert {loop["key"]: loop["iterations"] for loop in info["loops"]} == {"m::0": 3, "m::1": 300, "m::2": 51}


def test_a_loop_that_goes_round_once_is_not_the_main_loop(tmp_path: Path) -> None:
    run = writer.create(str(tmp_path), script="t.py", argv=["t.py"])
    run.event("activation", loop="steps", entry=0, parent=["restarts", 0, 0], seconds=9.0, iterations=1000)
    run.event("activation", loop="restarts", entry=0, parent=None, seconds=9.1, iterations=1)
    run.close(0)
    loops = totals(open_run(str(tmp_path)))
    assert main_loop(loops) == "steps"
    assert main_loop({}) is None
    loops["steps"].seconds = 1.0
    assert main_loop(loops) == "restarts"


def test_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path)
    raw = io.BytesIO()
    with monkeypatch.context() as patch:
        stream = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
        patch.setattr(sys, "stdout", stream)
        assert main(["logs", "--store", str(tmp_path), "@last"]) == 0
    assert raw.getvalue() == b"epoch 0\nepoch 1\nepoch 2\nw\xc3\xa4rning \xff\n"
    assert main(["logs", "--store", str(tmp_path), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["stream"] for line in lines] == ["stdout"] * 3 + ["stderr"]
    assert lines[1]["at"] == [["m::0", 0, 1]]


def test_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = record(tmp_path)
    assert main(["verify", "--store", str(tmp_path), run_id]) == 0
    assert f"run {run_id}: intact (" in capsys.readouterr().out
    pack = tmp_path / "runs" / run_id / "packs" / "0000.pack"
    data = bytearray(pack.read_bytes())
    data[200] ^= 1
    pack.write_bytes(data)
    assert main(["verify", "--store", str(tmp_path), run_id]) == 1
    out = capsys.readouterr().out
    assert "damaged: packs/0000.pack at byte 16: blob" in out
    assert "1 places are damaged, 1 of 3 snapshots lost" in out
    status, result = json_of(capsys, "verify", "--store", str(tmp_path))
    assert (status, result["snapshots"], result["snapshots_lost"]) == (1, 3, 1)
    assert [item["file"] for item in result["damaged"]] == ["packs/0000.pack"]


def test_a_record_that_a_killed_run_did_not_finish_is_no_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = record(tmp_path, status=None)
    with open(tmp_path / "runs" / run_id / "journal", "ab") as file:
        file.write(writer.journal.frame({"kind": "output"})[:-3])
    assert main(["verify", "--store", str(tmp_path)]) == 0
    assert "unfinished: journal at byte" in capsys.readouterr().out


def dead(store: Path, run_id: str) -> None:
    folder = layout.run_folder(str(store), run_id)
    manifest = layout.read_manifest(folder)
    layout.write_manifest(folder, {**manifest, "process": {**manifest["process"], "started": 1}})


def test_rm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = (record(tmp_path, name=name) for name in "abc")
    running = record(tmp_path, status=None)
    store = str(tmp_path)
    assert main(["rm", "--store", store, first, running]) == 2
    assert "is being recorded" in capsys.readouterr().err
    assert main(["rm", "--store", store, first, "nonsense"]) == 2
    assert len(layout.run_ids(store)) == 4
    status, removed = json_of(capsys, "rm", "--store", store, first, "c")
    assert (status, [item["run"] for item in removed]) == (0, [first, third])
    assert layout.run_ids(store) == [second, running]
    assert os.listdir(tmp_path / "trash") == []
    dead(tmp_path, running)
    assert main(["rm", "--store", store, running]) == 0
    assert layout.run_ids(store) == [second]


def test_gc(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(tmp_path)
    kept = record(tmp_path)
    killed = record(tmp_path, status=None)
    runs = tmp_path / "runs"
    assert json_of(capsys, "gc", "--store", store) == (0, [])
    young, old = layout.create_run_folder(store)[0], layout.create_run_folder(store)[0]
    os.utime(runs / old, (time.time() - 7200,) * 2)
    (tmp_path / "trash" / "x").mkdir(parents=True)
    (tmp_path / "trash" / "x" / "journal").write_bytes(b"12345")
    for run_id in (kept, killed):
        (runs / run_id / "manifest.json.12.tmp").write_bytes(b"abc")
        (runs / run_id / "packs" / "0007.pack").write_bytes(b"never indexed")
    _, removed = json_of(capsys, "gc", "--store", store)
    paths = {item["path"]: item["bytes"] for item in removed}
    # The run without an end is this process's, which is alive.
    expected = {"trash/x": 5, f"runs/{old}": 0, f"runs/{kept}/manifest.json.12.tmp": 3, f"runs/{kept}/packs/0007.pack": 13}
    assert paths == expected
    assert (runs / young).exists()
    dead(tmp_path, killed)
    _, removed = json_of(capsys, "gc", "--store", store)
    assert len(removed) == 2
    assert main(["verify", "--store", store, kept]) == main(["verify", "--store", store, killed]) == 0
    assert cleanup.collect_garbage(store) == ([], [])


def test_units_are_readable() -> None:
    assert [text.duration(seconds) for seconds in (None, 0, 59.94, 59.96, 245, 3600, 7980, 86400 * 3 + 14400)] == [
        "-", "0.0s", "59.9s", "1m00s", "4m05s", "1h00m", "2h13m", "3d04h",
    ]  # fmt: skip
    assert [text.size(count) for count in (None, 0, 1023, 1024, 1536, 1 << 20, 3 << 30, 5 << 40)] == [
        "-", "0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "3.0 GiB", "5.0 TiB",
    ]  # fmt: skip
