"""Streams in memory and files open for reading stand where they stood."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from state.world import World

from flor_trace.errors import NotRestorable


class Log(io.StringIO):
    lines = 0

    def write(self, text: str) -> int:
        self.lines += 1
        return super().write(text)


def test_streams_in_memory_are_set_in_place_and_built_anew() -> None:
    w = World(text=io.StringIO("a\nb"), data=io.BytesIO(b"12345"), log=Log(newline="\r\n"), new=None, old=io.StringIO())
    v = w.v
    kept = v["text"], v["data"], v["log"]
    v["data"].seek(2)
    entry = w.snap()
    v["text"].seek(0, 2)
    v["text"].write("ümläut\udc80")
    v["data"].read(2)
    v["log"].write("x\n")
    v["new"] = io.BytesIO(b"new")
    v["new"].read(1)
    v["old"].close()
    target = w.snap()
    v["new"], v["old"] = None, io.StringIO()
    w.replay(w.snap(), entry)
    assert v["text"].getvalue() == "a\nb" and v["data"].read() == b"345" and v["log"].getvalue() == ""
    w.replay(w.snap(), target)
    assert (v["text"], v["data"], v["log"]) == kept and v["new"].read() == b"ew" and v["old"].closed
    assert v["text"].getvalue() == "a\nbümläut\udc80" and v["data"].tell() == 4
    assert v["log"].getvalue() == "x\r\n" and v["log"].lines == 1
    v["text"].write("!")
    assert v["text"].getvalue().endswith("!") and w.compare(target).verdict == "diverged"


@pytest.mark.parametrize("how", [{"mode": "r", "encoding": "utf-8"}, {"mode": "rb"}, {"mode": "rb", "buffering": 0}])
def test_files_open_for_reading_are_repositioned(tmp_path: Path, how: dict[str, Any]) -> None:
    (tmp_path / "data").write_text("".join(f"líne {i}\n" for i in range(5000)), encoding="utf-8")
    with open(tmp_path / "data", **how) as file:
        w = World(f=file)
        file.readline()
        entry = w.snap()
        for _ in range(30):
            file.readline()
        target = w.snap()
        truth = file.readline()
        w.replay(w.snap(), entry)
        w.replay(entry, target)
        assert file.readline() == truth


def test_a_text_file_that_is_iterated_over_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("1\n2\n3\n")
    with open(tmp_path / "data") as file:
        w = World(f=file, x=0)
        entry = w.snap()
        next(file)
        target = w.snap()
        file.seek(0)
        with pytest.raises(NotRestorable, match="iterated"):
            w.replay(entry, target)


def test_a_log_that_is_appended_to_does_not_matter(tmp_path: Path) -> None:
    with open(tmp_path / "log", "a") as file:
        w = World(f=file, x=0)
        entry = w.snap()
        file.write("more")
        w.v["x"] = 1
        target = w.snap()
        w.v["x"] = 0
        w.replay(entry, target)
        assert w.v["x"] == 1
