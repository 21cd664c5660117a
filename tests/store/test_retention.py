from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flor_trace.cli import main
from flor_trace.config import CleanupOptions
from flor_trace.errors import UsageError
from flor_trace.store import layout, locks, writer
from flor_trace.store.retention import Rules, StoredRun, choose

DAY = 86400.0


def runs(*sizes: int, protected: tuple[int, ...] = ()) -> list[StoredRun]:
    """Runs of these sizes, the last of today, each a day older than the next."""
    count = len(sizes)
    return [
        StoredRun(str(place), -DAY * (count - 1 - place), size, "it is being recorded" if place in protected else None)
        for place, size in enumerate(sizes)
    ]


def going(stored: list[StoredRun], rules: Rules) -> list[str]:
    return [run.id for run, _ in choose(stored, rules, now=0.0).going]


def test_each_rule_by_itself() -> None:
    stored = runs(10, 20, 30, 40)
    assert going(stored, Rules(keep=1)) == ["0", "1", "2"]
    assert going(stored, Rules(keep=0)) == ["0", "1", "2", "3"]
    assert going(stored, Rules(keep=9)) == []
    assert going(stored, Rules(older_than=1.5 * DAY)) == ["0", "1"]
    assert going(stored, Rules(max_size=70)) == ["0", "1"]
    assert going(stored, Rules(max_size=100)) == []
    assert not Rules()
    assert Rules(keep=0)


def test_keep_protects_from_the_others() -> None:
    stored = runs(10, 20, 30, 40)
    assert going(stored, Rules(keep=3, older_than=0.5 * DAY)) == ["0"]
    choice = choose(stored, Rules(keep=2, max_size=50), now=0.0)
    assert [run.id for run, _ in choice.going] == ["0", "1"]
    assert choice.excess == 20


def test_age_comes_before_size() -> None:
    # What goes for its age makes room.
    assert going(runs(50, 20, 30, 40), Rules(older_than=2.5 * DAY, max_size=90)) == ["0"]


def test_protected_runs_stay_and_count() -> None:
    stored = runs(10, 20, 30, 40, protected=(0, 2))
    assert going(stored, Rules(keep=0)) == ["1", "3"]
    assert choose(stored, Rules(max_size=0), now=0.0).excess == 40
    # A protected run does not take the place of one of the newest.
    assert going(stored, Rules(keep=2)) == ["1"]


def test_options_are_understood() -> None:
    told = CleanupOptions({"keep": "5", "older_than": "36h", "max_size": "1.5 GiB"}, environ={})
    assert (told.keep, told.older_than, told.max_size, told.dry_run) == (5, 129600.0, 3 << 29, False)
    assert CleanupOptions({"max_size": "10GB"}, environ={}).max_size == 10**10
    assert CleanupOptions({"max_size": "1000"}, environ={}).max_size == 1000
    for name, value in (("keep", "-1"), ("keep", "many"), ("older_than", "30"), ("older_than", "nand"), ("max_size", "10 parsecs")):
        with pytest.raises(UsageError, match="must be"):
            CleanupOptions({name: value}, environ={})


def record(store: Path, status: int | None = 0) -> str:
    run = writer.create(str(store), script="train.py", argv=["train.py"])
    run.event("output", text="x" * 5000)
    run.close(status)
    return run.run_id


def test_gc_keeps_what_it_was_told_and_what_is_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(tmp_path)
    ids = [record(tmp_path) for _ in range(4)] + [record(tmp_path, status=None)]
    past = time.time() - 40 * DAY
    for run_id in ids[:2]:
        os.utime(tmp_path / "runs" / run_id / "journal", (past, past))
    words = ["gc", "--store", store, "--older-than", "30d"]
    assert main([*words, "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("would remove runs/") == 2
    assert f"run {ids[4]} stays: it is being recorded" in captured.err
    assert layout.run_ids(store) == ids
    assert main(words) == 0
    assert f"removed runs/{ids[0]}" in capsys.readouterr().out
    assert layout.run_ids(store) == ids[2:]
    with locks.Hold(layout.run_folder(store, ids[2])):
        assert main(["gc", "--store", store, "--keep", "0"]) == 0
        assert f"run {ids[2]} stays: it is being used" in capsys.readouterr().err
    assert layout.run_ids(store) == [ids[2], ids[4]]
    assert main(["gc", "--store", store, "--max-size", "1kB"]) == 0
    assert "more than --max-size: the other runs are protected" in capsys.readouterr().err
    assert layout.run_ids(store) == [ids[4]]


def test_gc_takes_its_rules_from_the_configuration_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "setup.cfg").write_text("[flor_trace]\nkeep = 1\n")
    kept = [record(tmp_path / ".flor") for _ in range(3)][-1]
    assert main(["gc"]) == 0
    assert layout.run_ids(str(tmp_path / ".flor")) == [kept]


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    program = f"from flor_trace.store.locks import Hold; import sys; h = Hold({str(tmp_path)!r}); print(1, flush=True); sys.stdin.read()"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert locks.in_use(str(tmp_path))
        with locks.Hold(str(tmp_path)):
            process.kill()
            process.wait()
            assert locks.in_use(str(tmp_path))
        assert not locks.in_use(str(tmp_path))
