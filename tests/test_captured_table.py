"""The table of what is captured is true: each row's test exists, and what is refused really is, in the words of the table."""

from __future__ import annotations

import ast
import queue
import re
import socket
import sqlite3
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from state.world import World
from torch.utils.data import DataLoader

from flor_trace.errors import NotRestorable

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "flor_trace" / "CAPTURED.md").read_text()
SECTIONS = ("Captured", "Re-created", "Approximate", "Refused")


def rows(section: str) -> list[tuple[str, str, str]]:
    """What, how, and the test, of each row of one section."""
    text = PAGE.split(f"\n## {section}:", 1)[1].split("\n## ", 1)[0]
    found = [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in text.splitlines() if line.startswith("| ")]
    assert all(len(row) == 3 for row in found), found
    return [(row[0], row[1], row[2].rstrip(" |").strip("`")) for row in found[1:]]


ROWS = [(section, *row) for section in SECTIONS for row in rows(section)]


@pytest.mark.parametrize(("section", "what", "how", "test"), ROWS)
def test_each_row_names_a_test_that_exists(section: str, what: str, how: str, test: str) -> None:
    path, _, name = test.partition("::")
    file = ROOT / path
    assert file.is_file(), f"{what}: {path} does not exist"
    if path.startswith("tests/scripts/"):
        assert re.search(r"^\s*#\+\w+ ", file.read_text(), re.MULTILINE), f"{path} has no probe"
        return
    functions = {node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}
    assert name in functions if name else any(function.startswith("test_") for function in functions), f"{what}: {test}"


def test_the_page_has_all_sections_and_is_shipped() -> None:
    assert [section for section in SECTIONS if len(rows(section)) < 5] == []
    assert "CAPTURED.md" in (ROOT / "setup.cfg").read_text()


def test_the_messages_are_those_of_the_code() -> None:
    code = "".join(path.read_text() for path in (ROOT / "flor_trace").rglob("*.py"))
    for what, message, _ in rows("Refused"):
        assert message.strip("`") in code, what


def with_process() -> Any:
    """An iterator over a loader with a worker process."""
    return iter(DataLoader([1, 2, 3], num_workers=1, generator=torch.Generator()))


class Key:
    """Hashes by user code."""

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        return self is other


Step = Callable[[Any], Any]
NOTHING: Step = lambda x: None  # noqa: E731
REFUSED: list[tuple[str, Callable[[], Any], Step, Step]] = [
    # the message, what is there at first, what it becomes, and what undoes that before the restore
    ("did not exist at the point restored from", lambda: None, lambda x: zlib.compressobj(), NOTHING),
    ("did not exist at the point restored from", lambda: None, lambda x: socket.socket(), NOTHING),
    ("did not exist at the point restored from", lambda: None, lambda x: threading.Thread(target=print), NOTHING),
    ("did not exist at the point restored from", lambda: None, lambda x: sqlite3.connect(":memory:"), NOTHING),
    ("did not exist at the point restored from", lambda: None, lambda x: with_process(), NOTHING),
    ("stands elsewhere than recorded", lambda: with_process(), lambda x: (next(x), x)[1], lambda x: vars(x).update(_num_yielded=0)),
    ("keeps its state where it cannot be seen", zlib.compressobj, lambda x: x, NOTHING),
    ("does not tell where it stands", lambda: open(__file__), lambda x: (next(x), x)[1], lambda x: x.seek(0)),
    ("cannot be seen", queue.SimpleQueue, lambda x: (x.put(1), x)[1], lambda x: x.get()),
    ("another thread holds this lock", threading.RLock, lambda x: (x.acquire(), x)[1], lambda x: (x.release(), elsewhere(x.acquire))),
    ("does not exist yet", lambda: None, lambda x: type("Born", (), {"__module__": "user_script"}), NOTHING),
    ("would run user code", lambda: None, lambda x: {Key(): 1}, NOTHING),
]


def elsewhere(function: Callable[[], Any]) -> None:
    """Call a function in another thread."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


@pytest.mark.parametrize(("message", "before", "change", "undo"), REFUSED)
def test_refused(message: str, before: Callable[[], Any], change: Step, undo: Step) -> None:
    assert message in "".join(row[1] for row in rows("Refused"))
    live = before()
    w = World(x=live, other=0)
    entry = w.snap()
    made = w.v["x"] = change(live)
    w.v["other"] = 1
    target = w.snap()
    w.v["x"], w.v["other"] = live, 0
    undo(live)
    try:
        with pytest.raises(NotRestorable, match=re.escape(message)):
            w.replay(entry, target)
        assert w.v["x"] is live and w.v["other"] == 0
    finally:
        for thing in (live, made):
            if hasattr(thing, "close"):
                thing.close()
