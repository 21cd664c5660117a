"""Files are shown again as they were before a statement that must not matter."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from runtime.test_guard_random import answer, contents, make_folder, steps

from flor_trace.errors import NotRestorable
from flor_trace.runtime import guard
from flor_trace.runtime.kept_files import KeptFiles
from flor_trace.runtime.overlay import Overlay


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(steps, steps)
def test_any_operations_are_undone(before: list[tuple[str, str, str]], after: list[tuple[str, str, str]]) -> None:
    cwd = os.getcwd()
    folder = make_folder()
    try:
        os.chdir(folder)
        overlay = Overlay(folder.parent / "scratch")
        guard.install(overlay)
        try:
            for step in before:
                answer(step, folder)
            looks = contents(folder), os.getcwd()
            kept = KeptFiles(overlay)
            for step in after:
                answer(step, folder)
            kept.put_back()
            assert (contents(folder), os.getcwd()) == looks
        finally:
            guard.uninstall()
    finally:
        os.chdir(cwd)
        shutil.rmtree(folder.parent)


@pytest.fixture
def overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    folder = tmp_path / "user"
    folder.mkdir()
    monkeypatch.chdir(folder)
    made = Overlay(tmp_path / "scratch")
    guard.install(made)
    yield made
    guard.uninstall()


@pytest.mark.parametrize("mode", ["w", "a", "wb"])
def test_what_was_written_at_the_end_of_an_open_file_is_cut_off(overlay: Overlay, mode: str) -> None:
    text, more = (b"one", b"two") if "b" in mode else ("one", "two")
    with open("log", mode) as file:
        file.write(text)
        file.flush()
        kept = KeptFiles(overlay)
        file.write(more)
        kept.put_back()
        assert Path("log").read_text() == "one"
        file.write(more)
    assert Path("log").read_text() == "onetwo"


def test_what_was_overwritten_in_an_open_file_is_refused(overlay: Overlay) -> None:
    Path("table").write_text("0123456789")
    with open("table", "r+") as file:
        file.seek(3)
        kept = KeptFiles(overlay)
        file.write("xyz")
        file.flush()
        with pytest.raises(NotRestorable, match="overwritten"):
            kept.put_back()


def test_a_write_through_a_bare_descriptor_is_refused(overlay: Overlay) -> None:
    descriptor = os.open("raw", os.O_CREAT | os.O_WRONLY)
    kept = KeptFiles(overlay)
    os.write(descriptor, b"more")
    os.close(descriptor)
    with pytest.raises(NotRestorable, match="before"):
        kept.put_back()
