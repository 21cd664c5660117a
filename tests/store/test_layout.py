from __future__ import annotations

import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flor_trace.errors import CorruptRecord, FormatTooNew, RunNotFound, StoreUnreadable
from flor_trace.store import journal, layout, liveness, writer
from flor_trace.store.reader import Run, find_run, open_run


def make(store: Path, script: str = "train.py", name: str | None = None, **more: object) -> str:
    run = writer.create(str(store), script=script, argv=[script], name=name, **more)  # type: ignore[arg-type]
    run.close("ok")
    return run.run_id


def test_ids_sort_by_time_and_are_never_given_twice(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: layout.create_run_folder(str(tmp_path))[0], range(200)))
    assert len(set(ids)) == 200
    assert all(re.fullmatch(r"\d{8}-\d{6}-\d{6}-[0-9a-f]{4}", run_id) for run_id in ids)
    time.sleep(0.002)
    assert layout.new_run_id() > max(ids)
    assert (tmp_path / ".gitignore").read_text() == "*\n"
    # The manifest holds the environment.
    assert os.stat(tmp_path / "runs" / ids[0]).st_mode & 0o077 == 0


def test_a_taken_id_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter(["a", "a", "b"])
    monkeypatch.setattr(layout, "new_run_id", lambda: next(given))
    assert [layout.create_run_folder(str(tmp_path))[0] for _ in range(2)] == ["a", "b"]


def test_a_run_is_found_by_what_the_user_writes(tmp_path: Path) -> None:
    first = make(tmp_path, name="baseline")
    second = make(tmp_path, name="baseline")
    third = make(tmp_path)
    store = str(tmp_path)
    assert layout.run_ids(store) == [first, second, third]
    assert layout.resolve(store, "@last") == third
    assert layout.resolve(store, "@last~2") == first
    assert layout.resolve(store, first) == first
    assert layout.resolve(store, second[:-1]) == second
    assert layout.resolve(store, "baseline") == second
    for reference, message in (
        ("@last~3", "holds 3"),
        ("@first", "no run"),
        ("@last~x", "write @last"),
        (first[:4], "3 runs begin with"),
        ("nonsense", "no run in .* has the id or name nonsense"),
        ("", "no run in"),
    ):
        with pytest.raises(RunNotFound, match=message):
            layout.resolve(store, reference)


def test_a_store_that_is_not_there_or_not_a_folder(tmp_path: Path) -> None:
    with pytest.raises(RunNotFound, match="no run is recorded"):
        open_run(str(tmp_path / "none"))
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnreadable, match="is a file"):
        open_run(str(tmp_path / "file"))


def test_where_there_is_no_run_the_user_is_told_where_it_was_looked_for_and_where_there_are_some(tmp_path: Path) -> None:
    (tmp_path / "project" / "sub").mkdir(parents=True)
    store, script = tmp_path / "project" / ".flor", tmp_path / "project" / "train.py"
    make(store, "train.py", cwd=str(tmp_path / "project"))
    told = f"{store} holds runs, so give --store {store}, or work in {tmp_path}/project"
    below = tmp_path / "project" / "sub" / ".flor"
    with pytest.raises(RunNotFound, match=re.escape(f"no run is recorded in {below}, which does not exist: {told}")):
        open_run(str(below))
    with pytest.raises(RunNotFound, match=re.escape(told)):  # beside the store: only the script's folder tells
        find_run(str(tmp_path / "elsewhere" / ".flor"), str(script))
    with pytest.raises(RunNotFound, match=re.escape(told)):  # the project's folder given as the store
        open_run(str(tmp_path / "project"))
    with pytest.raises(RunNotFound, match="work in the folder that the script was recorded from, or give --store DIR"):
        open_run(str(tmp_path / "elsewhere" / ".flor"))
    other = tmp_path / "other" / ".flor"
    make(other, "other.py", cwd=str(tmp_path))
    with pytest.raises(RunNotFound, match=re.escape(f"holds 1 run of other scripts; {store} holds one: give --store {store}")):
        find_run(str(other), str(script))


def test_a_folder_that_is_still_being_made_is_no_run(tmp_path: Path) -> None:
    layout.create_run_folder(str(tmp_path))
    run_id = make(tmp_path)
    assert layout.run_ids(str(tmp_path)) == [run_id]


def test_the_last_run_of_a_script_is_found_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "s"
    old = make(store, "train.py", cwd=str(tmp_path))
    new = make(store, str(tmp_path / "train.py"), cwd="/")
    make(store, "other.py", cwd=str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert find_run(str(store), "train.py").id == new
    assert find_run(str(store), "./x/../train.py").id == new
    with pytest.raises(RunNotFound, match=f"no run of moved/train.py .*{new} is of .*/train.py: give --run {new}"):
        find_run(str(store), "moved/train.py")
    with pytest.raises(RunNotFound, match=r"there is no file unknown.py, and no run of .* holds 3 runs of other scripts"):
        find_run(str(store), "unknown.py")
    (store / "runs" / new / "manifest.json").write_text("{")
    assert find_run(str(store), "train.py").id == new
    assert old != new


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    run_id = make(tmp_path)
    folder = layout.run_folder(str(tmp_path), run_id)
    manifest = layout.read_manifest(folder)
    layout.write_manifest(folder, {**manifest, "format": layout.COMPACTED_FORMAT + 1})
    with pytest.raises(FormatTooNew, match="upgrade"):
        Run(folder)


def test_a_damaged_manifest_is_replaced_by_its_copy_in_the_journal(tmp_path: Path) -> None:
    run_id = make(tmp_path, name="n")
    folder = layout.run_folder(str(tmp_path), run_id)
    path = Path(folder) / "manifest.json"
    whole = path.read_bytes()
    manifest = layout.read_manifest(folder)
    for bit in range(0, len(whole) * 8, 7):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        run = Run(folder)
        assert run.manifest == manifest
        # White space around values carries nothing; a flip of it to other white space is harmless.
        assert run.damage or json.loads(flipped) == json.loads(whole)
    path.unlink()
    assert Run(folder).manifest == manifest
    os.truncate(Path(folder) / "journal", 0)
    with pytest.raises(CorruptRecord):
        Run(folder)


def test_liveness_is_told_by_more_than_the_pid() -> None:
    me = liveness.identity()
    assert liveness.is_alive(me) is True
    assert liveness.is_alive({**me, "started": 1}) is False
    assert liveness.is_alive({**me, "boot": "earlier"}) is False
    assert liveness.is_alive({**me, "boot": "other", "host": "elsewhere"}) is None
    assert liveness.is_alive({**me, "namespace": "pid:[1]"}) is None
    child = os.fork()
    if child == 0:
        os._exit(0)
    zombie = {**me, "pid": child}
    time.sleep(0.05)
    assert liveness.is_alive(zombie) is False
    os.waitpid(child, 0)


def test_a_folder_whose_journal_ends_within_its_first_record_is_no_run(tmp_path: Path) -> None:
    run_id = make(tmp_path)
    folder = Path(layout.run_folder(str(tmp_path), run_id))
    whole = (folder / "journal").read_bytes()
    first = journal.HEADER_SIZE + len(next(journal.payloads(whole, [])))
    (folder / "manifest.json").unlink()
    for length in (0, 1, 20, first - 1):
        (folder / "journal").write_bytes(whole[:length])
        assert layout.run_ids(str(tmp_path)) == []
    (folder / "journal").write_bytes(whole[:first])
    assert layout.run_ids(str(tmp_path)) == [run_id]
    # Damage is no reason to overlook a run.
    (folder / "journal").write_bytes(b"\x00" + whole[1:])
    assert layout.run_ids(str(tmp_path)) == [run_id]


def test_a_run_killed_between_journal_and_manifest_is_not_damaged(tmp_path: Path) -> None:
    run_id = make(tmp_path)
    folder = Path(layout.run_folder(str(tmp_path), run_id))
    (folder / "manifest.json").unlink()
    assert [damage.cut for damage in Run(str(folder)).damage] == [True]
    assert "the copy in the journal is used" in str(Run(str(folder)).damage)
