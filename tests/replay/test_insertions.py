"""Insertions into recorded files: put where they belong, or refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xxhash import xxh3_128

from flor_trace.replay.hindsight_files import gather

RECORDED = b"one\ntwo\nthree\n"
KEY = "/cwd/log"


def recorded(key: str) -> Iterator[bytes] | str | None:
    return {KEY: iter([RECORDED[:5], b"", RECORDED[5:]]), "/cwd/gone": None, "/cwd/large": "it was too large"}[key]


def unit(replay: Path, number: int, added: dict[int, str], key: str = KEY, before: bytes = RECORDED, **more: Any) -> None:
    """What a worker would put aside of a unit that adds lines at places of the recorded content."""
    folder = replay / "pieces" / str(number)
    folder.mkdir(parents=True)
    (folder / "0").write_text("".join(added.values()))
    places = [[place, len(text), xxh3_128(before[:place]).hexdigest(), 0] for place, text in added.items()]
    told = {"files": {key: {"file": "0", "places": places}} if added else {}, **more}
    (folder / "manifest.json").write_text(json.dumps({"pieces": {}, "seen": [], "listed": [], "inserted": told}))


def result(replay: Path, units: int, isolated: bool = False) -> tuple[bytes | None, list[str]]:
    found = gather(replay, "/cwd", range(units), isolated, recorded, ["x.py:7"])
    path = replay / "files" / "log"
    assert found.count == path.exists()
    return path.read_bytes() if path.exists() else None, found.unkept


def test_all_units_in_one_file(tmp_path: Path) -> None:
    unit(tmp_path, 1, {8: "c", 14: "d"})
    unit(tmp_path, 0, {0: "a", 4: "b"})
    assert result(tmp_path, 2) == (b"aone\nbtwo\ncthree\nd", [])


def test_what_was_added_before_the_file_was_made_anew_is_gone(tmp_path: Path) -> None:
    unit(tmp_path, 0, {0: "a", 4: "b"})
    unit(tmp_path, 1, {8: "c"}, anew=[KEY])
    assert result(tmp_path, 2) == (b"one\ntwo\ncthree\n", [])
    unit(tmp_path, 2, {}, anew=[KEY])
    assert result(tmp_path, 3) == (None, [])


@pytest.mark.parametrize(
    ("added", "before"),
    [({4: "b"}, b"ONE\ntwo\n"), ({15: "b"}, RECORDED + b"four\n")],
    ids=["other content", "beyond the end"],
)
def test_what_does_not_belong_there_is_refused_and_named(tmp_path: Path, added: dict[int, str], before: bytes) -> None:
    unit(tmp_path, 0, added, before=before)
    text, unkept = result(tmp_path, 1)
    sentence = "what x.py:7 wrote to log, which recorded code has opened, is not kept: recorded code has changed what precedes it"
    assert (text, unkept) == (None, [sentence])


def test_places_that_go_back_are_refused(tmp_path: Path) -> None:
    unit(tmp_path, 0, {8: "c"})
    unit(tmp_path, 1, {4: "b"})
    assert result(tmp_path, 2)[0] is None


def test_what_could_not_be_followed_is_named(tmp_path: Path) -> None:
    unit(tmp_path, 0, {4: "b"}, lost={KEY: 0})
    text, unkept = result(tmp_path, 1)
    assert text is None
    assert unkept[0].endswith("is not kept: it was not written at its end")


def test_files_that_are_gone_or_not_known(tmp_path: Path) -> None:
    unit(tmp_path, 0, {4: "b"}, key="/cwd/gone")
    unit(tmp_path, 1, {4: "b"}, key="/cwd/large")
    text, unkept = result(tmp_path, 2)
    assert (text, unkept) == (None, ["what x.py:7 wrote to large, which recorded code has opened, is not kept: it was too large"])


def test_isolated_statements_add_nothing(tmp_path: Path) -> None:
    unit(tmp_path, 0, {4: "b"})
    text, unkept = result(tmp_path, 1, isolated=True)
    assert (text, unkept) == (None, ["what new statements wrote to log is not kept: --isolate has undone it"])
