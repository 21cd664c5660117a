"""Random sequences of file operations, done plainly and guarded: the same answers, the same errors, nothing touched."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flor_trace.runtime import guard
from flor_trace.runtime.files import FileState, FileTracker
from flor_trace.runtime.overlay import Overlay

PATHS = ["a", "b", "d", "d/a", "d/e", "d/e/b", "way", "way/a", "new", "new/a", "d/../a", "way/../b", "./d"]
OPERATIONS = [
    "write", "append", "read", "remove", "mkdir", "rmdir", "rename", "symlink", "link", "list", "scan", "stat", "lstat",
    "rmtree", "walk", "truncate", "exclusive", "update", "copy", "real", "makedirs", "chdir", "cwd",
]  # fmt: skip

steps = st.lists(st.tuples(st.sampled_from(OPERATIONS), st.sampled_from(PATHS), st.sampled_from(PATHS)), max_size=14)


def make_folder() -> Path:
    folder = Path(os.path.realpath(tempfile.mkdtemp())) / "user"
    (folder / "d/e").mkdir(parents=True)
    for name in ("a", "d/a", "d/e/b"):
        (folder / name).write_text(name)
    (folder / "way").symlink_to("d")
    return folder


def do(operation: str, path: str, other: str) -> Any:
    """One operation's answer."""
    if operation in ("write", "append", "exclusive", "update"):
        with open(path, {"write": "w", "append": "a", "exclusive": "x", "update": "r+"}[operation]) as file:
            return file.write(operation)
    if operation == "read":
        return Path(path).read_text()
    if operation in ("stat", "lstat"):
        found = getattr(os, operation)(path)
        return found.st_mode, found.st_size if os.path.isfile(path) else 0
    if operation == "scan":
        return sorted((e.name, e.path, e.is_dir(), e.is_file(), e.is_symlink()) for e in os.scandir(path))
    if operation == "walk":
        return sorted((top, sorted(folders), sorted(files)) for top, folders, files in os.walk(path))
    if operation == "list":
        return sorted(os.listdir(path))
    if operation in ("rename", "symlink", "link"):
        return getattr(os, operation)(path, other)
    if operation == "copy":
        return shutil.copyfile(path, other)
    if operation == "real":
        return os.path.realpath(path), os.path.exists(path), os.path.lexists(path), os.path.isdir(path)
    if operation == "truncate":
        return os.truncate(path, 2)
    if operation == "rmtree":
        return shutil.rmtree(path)
    if operation == "cwd":
        return os.getcwd(), sorted(os.listdir())
    return getattr(os, operation)(path)


def answer(step: tuple[str, str, str], folder: Path) -> Any:
    """What an operation answers or raises, the folder's own name left out."""
    try:
        return repr(do(*step)).replace(str(folder), "HERE")
    except OSError as error:
        if step[0] == "rmtree":
            # shutil has two implementations, which meet the same obstacles with different errors.
            return "refused"
        if step[0] in ("rename", "symlink", "link", "copy"):
            # Which of two obstacles on two paths is met first is the kernel's affair; test_guard has the single ones.
            return "refused", str((error.filename, error.filename2)).replace(str(folder), "HERE")
        return type(error).__name__, error.errno, str((error.filename, error.filename2)).replace(str(folder), "HERE")
    except shutil.SameFileError as error:
        return str(error)


def contents(folder: Path) -> Any:
    """Everything in a folder, without following links."""
    found = []
    for top, folders, files in os.walk(folder):
        for name in sorted(folders + files):
            path = os.path.join(top, name)
            kind = os.readlink(path) if os.path.islink(path) else Path(path).read_text() if os.path.isfile(path) else "/"
            found.append((path[len(str(folder)) :], kind))
    return sorted(found)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_guarded_operations_answer_as_plain_ones(sequence: list[tuple[str, str, str]]) -> None:
    cwd = os.getcwd()
    plain, guarded = make_folder(), make_folder()
    before = contents(guarded)
    try:
        os.chdir(plain)
        expected = [answer(step, plain) for step in sequence]
        os.chdir(plain)
        left = contents(plain)
        os.chdir(guarded)
        guard.install(Overlay(guarded.parent / "scratch"))
        try:
            assert [answer(step, guarded) for step in sequence] == expected
            assert contents(guarded) == left
        finally:
            guard.uninstall()
        assert contents(guarded) == before
    finally:
        os.chdir(cwd)
        shutil.rmtree(plain.parent)
        shutil.rmtree(guarded.parent)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(steps, st.data())
def test_a_recorded_state_is_shown_after_any_operations(sequence: list[tuple[str, str, str]], data: st.DataObject) -> None:
    cwd = os.getcwd()
    folder = make_folder()
    blobs: dict[str, bytes] = {}
    states: list[dict[str, FileState]] = []
    looks = []
    tracker = FileTracker(lambda digest, content: blobs.update({digest: content}))
    try:
        os.chdir(folder)
        tracker.start()
        for step in sequence:
            states.append(tracker.state())
            looks.append(contents(folder))
            answer(step, folder)
        tracker.stop()
        initial = tracker.initial()
        overlay = Overlay(folder.parent / "scratch")
        today = contents(folder)
        guard.install(overlay)
        try:
            for _ in range(4 if states else 0):
                index = data.draw(st.integers(0, len(states) - 1))
                overlay.install_state(states[index], initial, blobs.__getitem__)
                assert contents(folder) == looks[index]
        finally:
            guard.uninstall()
        assert contents(folder) == today
    finally:
        tracker.stop()
        os.chdir(cwd)
        shutil.rmtree(folder.parent)
