from __future__ import annotations

import os
from pathlib import Path

import pytest

from flor_trace.config import RecordOptions, ReplayOptions
from flor_trace.errors import UsageError


def test_defaults(tmp_path: Path) -> None:
    options = RecordOptions(cwd=str(tmp_path), environ={})
    assert options.as_dict() == {
        "store": str(tmp_path / ".flor"),
        "name": None,
        "tag": {},
        "overhead": 0.01,
        "every": None,
        "max_disk": None,
        "replay_latency": None,
        "instrument": (),
        "quiet": False,
    }
    assert set(options.origin.values()) == {"default"}
    replay = ReplayOptions({"file": "train.py"}, cwd=str(tmp_path), environ={})
    assert (replay.file, replay.run, replay.workers, replay.iterations) == ("train.py", None, None, None)
    assert (replay.show, replay.init) == ("new", "jump")
    assert not (replay.dry_run or replay.json or replay.accept_changes)


def test_the_nearest_source_wins_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "setup.cfg").write_text("[flor_trace]\noverhead = 0.04\nevery = 7\ninstrument = a, b\nname = 50%\n")
    (tmp_path / "pyproject.toml").write_text('[tool.flor_trace]\noverhead = 0.03\nstore = "runs"\nquiet = true\ntag = {a = 1}\n')
    environ = {"FLOR_TRACE_OVERHEAD": "0.02", "FLOR_TRACE_STORE": "", "FLOR_TRACE_UNRELATED": "x"}
    options = RecordOptions({"every": "2", "name": None}, cwd=str(tmp_path), environ=environ)
    assert (options.every, options.origin["every"]) == (2, "command line")
    assert (options.overhead, options.origin["overhead"]) == (0.02, "FLOR_TRACE_OVERHEAD")
    assert (options.store, options.origin["store"]) == (str(tmp_path / "runs"), "pyproject.toml")
    assert (options.quiet, options.tag) == (True, {"a": "1"})
    assert (options.instrument, options.origin["instrument"]) == (("a", "b"), "setup.cfg")
    assert options.name == "50%"


def test_an_absolute_store_stays(tmp_path: Path) -> None:
    assert RecordOptions({"store": "/data/flor"}, cwd=str(tmp_path), environ={}).store == "/data/flor"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("overhead", "2", "--overhead must be a share of the run's time such as 0.01, not '2'"),
        ("overhead", "nan", "--overhead must be"),
        ("every", "0", "--every must be a whole number from 1 on, or auto"),
        ("tag", ["lr"], "--tag must be K=V"),
    ],
)
def test_a_bad_record_value_is_told_with_its_place(tmp_path: Path, name: str, value: object, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        RecordOptions({name: value}, cwd=str(tmp_path), environ={})
    assert message in str(caught.value)


def test_a_bad_value_elsewhere_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="quiet in FLOR_TRACE_QUIET must be yes or no, not 'maybe'"):
        RecordOptions(cwd=str(tmp_path), environ={"FLOR_TRACE_QUIET": "maybe"})
    (tmp_path / "pyproject.toml").write_text("[tool.flor_trace]\nworkers = true\n")
    with pytest.raises(UsageError, match=r"workers in pyproject.toml must be a whole number"):
        ReplayOptions(cwd=str(tmp_path), environ={})
    (tmp_path / "pyproject.toml").write_text("[tool.flor_trace]\noverhed = 1\nrun = 'x'\n")
    with pytest.raises(UsageError, match=r"pyproject.toml sets overhed, run for flor_trace, which knows no such setting"):
        RecordOptions(cwd=str(tmp_path), environ={})
    (tmp_path / "pyproject.toml").write_text("[tool.flor_trace\n")
    with pytest.raises(UsageError, match=r"pyproject.toml cannot be read"):
        RecordOptions(cwd=str(tmp_path), environ={})
    os.unlink(tmp_path / "pyproject.toml")
    (tmp_path / "setup.cfg").write_text("[flor_trace\n")
    with pytest.raises(UsageError, match=r"setup.cfg cannot be read"):
        RecordOptions(cwd=str(tmp_path), environ={})


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("not [ toml, but not ours either")
    (tmp_path / "setup.cfg").write_text("[options]\ninstall_requires =\n    flor_trace\n")
    assert RecordOptions(cwd=str(tmp_path), environ={}).overhead == 0.01


@pytest.mark.parametrize(
    ("written", "meant"),
    [("2:5", (2, 5)), (":5", (None, 5)), ("2:", (2, None)), (":", (None, None)), ("3", (3, 4)), ("0:1", (0, 1))],
)
def test_iterations(tmp_path: Path, written: str, meant: tuple[int | None, int | None]) -> None:
    assert ReplayOptions({"iterations": written}, cwd=str(tmp_path), environ={}).iterations == meant


@pytest.mark.parametrize("written", ["5:2", "2:2", "-1:3", "a:b", "", "1:2:3", ":0"])
def test_impossible_iterations(tmp_path: Path, written: str) -> None:
    with pytest.raises(UsageError, match="--iterations must be A:B"):
        ReplayOptions({"iterations": written}, cwd=str(tmp_path), environ={})


@pytest.mark.parametrize(("name", "value"), [("show", "some"), ("init", "hard"), ("workers", "0")])
def test_a_bad_replay_value(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"--{name} must be"):
        ReplayOptions({name: value}, cwd=str(tmp_path), environ={})
