from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from flor_trace.cli import main
from flor_trace.store import writer


@pytest.fixture
def store(tmp_path: Path) -> str:
    run = writer.create(str(tmp_path), script="train.py", argv=[], name="base", tags={}, cwd="/home/me")
    run.event("start", argv=["train.py"], cwd="/home/me", python=[3, 11, 7], versions={}, env={}, seed=7)
    for epoch in range(4):
        text = f"epoch {epoch} loss {1 / (epoch + 1)}\n"
        run.event("output", stream="stdout", text=text, at=[["m::0", 0, epoch]], line="train.py:5")
    run.event("output", stream="stdout", text="worst nan\n", at=[], line="train.py:7")
    run.close(0)
    return str(tmp_path)


def test_the_words_are_listed(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", "--store", store]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1:] == [
        ["epoch", "4", "0", "3", "0", "3"], ["loss", "4", "1", "0.25", "0.25", "1"], ["worst", "1", "nan", "nan", "nan", "nan"],
    ]  # fmt: skip


@pytest.mark.parametrize("words", [["loss"], ["base", "loss"], ["@last", "LOSS"], ["loss", "epoch"]])
def test_a_drawing_in_the_terminal(store: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", "--store", store, *words]) == 0
    out = capsys.readouterr().out
    assert "▞▞ loss" in out and (("1.00┤" in out and "0.25┤" in out) or "▞▞ epoch" in out) and "iteration of the outermost loop" in out
    assert "\x1b" not in out  # no colours where no terminal is


def test_json(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", "--store", store, "--json", "base", "loss"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"name": "loss", "values": [1.0, 0.5, 1 / 3, 0.25], "iterations": [0, 1, 2, 3]}]


def test_a_picture(store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "loss.png"
    assert main(["plot", "--store", store, "base", "loss", "epoch", "--to", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["plot", "--store", store, "base", "loss", "--to", str(tmp_path / "loss.nonsense")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_what_cannot_be_drawn_is_said(store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["plot", "--store", store, "base", "worst"]) == 2
    assert "nothing to draw" in capsys.readouterr().err
    assert main(["plot", "--store", store, "nobody", "loss"]) == 2
    said = capsys.readouterr().err
    assert "no numbers after 'nobody'" in said and "has the id or name nobody" in said
    monkeypatch.setitem(sys.modules, "plotext", None)
    assert main(["plot", "--store", store, "base", "loss"]) == 2
    assert "pip install 'flor_trace[plot]'" in capsys.readouterr().err
